"""What a harness made of a cell's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

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
    """

    metrics: Mapping[str, Metric]
    scores: Mapping[str, float]
    raw: Mapping[str, Any]
    data: str
    prompts: str
    generation: Mapping[str, Any]
    judge: str
    judged: int

    @classmethod
    def from_json(cls, values: Any) -> Verdict:
        """The verdict that :meth:`as_json` wrote.

        Raises:
            UsageError: it is damaged.
        """
        try:
            metrics = {name: Metric(**number) for name, number in values["metrics"].items()}
            # a file with other fields is another version's, and refused by the constructor
            return cls(**{**values, "metrics": metrics})
        except (TypeError, KeyError, AttributeError):
            raise UsageError("the result of the harness is damaged; run the cell again") from None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
