"""What a harness made of a cell's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unibench.errors import UsageError


@dataclass(frozen=True)
class Metric:
    """A number that a harness computed.

    Attributes:
        score: as the harness says it.
        score_100: the same out of 100.
        mean: whether it is the mean over the samples' scores.
    """

    score: float
    score_100: float
    mean: bool = False


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How many frames of a video a harness asks for, and who takes them.

    Attributes:
        frames: of a video.
        fps: frames a second instead.
        reader: who reads the file, see :class:`~unibench.config.VideoConfig`; or the class of the
            model object.
        most, thin: of frames taken by ``fps``, at most so many, and how many of them are shown.
        min_pixels, max_pixels, total_pixels: bounds of a frame, and of all together.
        shown: ``frames`` (cut by the harness and shown as pictures), ``video`` (taken by the model
            object), or ``own`` (taken by unibench, evenly spaced from the first to the last).
    """

    frames: int | None
    fps: float | None
    shown: Literal["frames", "video", "own"]
    reader: str | None = None
    most: int | None = None
    thin: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A harness's scores of a cell: the content of ``harness.json``.

    Attributes:
        metrics: by the card's name.
        scores: of the first metric, by sample, out of 1; empty if the harness scores only the
            whole.
        raw: the harness's whole result, flat.
        data: what was asked: ``published:...`` or ``local:...`` with a digest.
        prompts: hash of all prompts.
        generation: settings of decoding.
        judge: who scored what rules could not.
        judged: questions that the judge answered.
        remarks: on the questions, for the row: what of a published table cannot be scored.
        sampling: of videos, None for pictures.
    """

    metrics: Mapping[str, Metric]
    scores: Mapping[str, float]
    raw: Mapping[str, Any]
    data: str
    prompts: str
    generation: Mapping[str, Any]
    judge: str
    judged: int
    remarks: tuple[str, ...] = ()
    sampling: Sampling | None = None

    @classmethod
    def from_json(cls, values: Any) -> Verdict:
        """The verdict that :meth:`as_json` wrote.

        Raises:
            UsageError: it is damaged.
        """
        try:
            metrics = {name: Metric(**number) for name, number in values["metrics"].items()}
            # earlier results have neither
            remarks = tuple(map(str, values.get("remarks", ())))
            sampling = values.get("sampling")
            told = None if sampling is None else Sampling(**sampling)
            more = {"metrics": metrics, "remarks": remarks, "sampling": told}
            # a file with other fields is another version's, and refused by the constructor
            return cls(**{**values, **more})
        except (TypeError, KeyError, AttributeError):
            raise UsageError("the result of the harness is damaged; run the cell again") from None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
