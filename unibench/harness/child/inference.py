"""The samples of a cell on their way between a harness, the model and the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL.Image import Image
from transformers import GenerationConfig
from xxhash import xxh3_64_hexdigest

from unibench.identity import Cell
from unibench.inference.ask import (
    Generation,
    Question,
    asking,
    controller_of,
    forwards,
    under,
)
from unibench.inference.environment import environment
from unibench.inference.record import Record
from unibench.inference.session import session_of
from unibench.models import LoadedModel, Piece
from unibench.pictures import read_otherwise


@dataclass
class Answering:
    """A question that is being answered.

    Attributes:
        text: the answer; set inside the block of :meth:`CellInference.asking`.
        frames: numbers of the frames that were read of each video; set there too.
    """

    text: str = ""
    frames: tuple[tuple[int, ...], ...] = ()

    def rounds(self, *, plain: bool = False) -> Iterator[None]:
        """How often the question is put: in each round the caller has the model answer it, by one
        ``generate``, and sets ``text``.

        Args:
            plain: the text is that of the tokens, and nothing of it is cut.
        """
        yield


class CellInference:
    """Answers the samples of one cell: those that the store has are not asked again.

    Args:
        cell: method, budget and decoding.
        loaded: the model and its processor.
        known: records by sample.
        say: sends an event to the parent.
        otherwise: what :meth:`look_at` has found already, by sample.

    Attributes:
        control: changes what our own model object is asked; None without one.
    """

    def __init__(
        self,
        cell: Cell,
        loaded: LoadedModel,
        known: Mapping[str, Record],
        say: Callable[[dict[str, Any]], None],
        otherwise: Mapping[str, int] | None = None,
    ) -> None:
        benchmark = cell.benchmark
        # an entry prepares videos itself
        own = benchmark is not None and benchmark.convention.entry is None
        settings = benchmark.convention.video if benchmark is not None and own else {}
        self.cell, self.loaded = cell, loaded.showing(settings)
        self._session = session_of(cell, self.loaded)
        self.control = controller_of(cell)
        self._known, self._say = dict(known), say
        # answers in the store may be of more samples than this limit asks
        self._prompts: dict[str, str] = {}  # of the samples used, in the order of the task
        self._total: int | None = None
        self._otherwise = dict(otherwise or {})

    @property
    def _about(self) -> dict[str, Any]:
        """What else is said when it begins."""
        return {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Prune whatever the model reads inside the block."""
        with self._session.installed():
            yield

    def decoding(self, max_new_tokens: int) -> GenerationConfig:
        """How our own model object decodes.

        Args:
            max_new_tokens: the harness's; the cell's own setting goes first.
        """
        settings = self.settings(max_new_tokens)
        return self.loaded.generation_config(
            settings["max_new_tokens"], settings["repetition_penalty"]
        )

    def settings(self, max_new_tokens: int) -> dict[str, Any]:
        """The same for the row."""
        decoding = self.cell.config.generation
        return {
            "max_new_tokens": decoding.max_new_tokens or max_new_tokens,
            "do_sample": False,
            "repetition_penalty": decoding.penalty,
        }

    def begin(self, total: int) -> None:
        """Say how many samples there will be."""
        self._total = total
        device = self.loaded.device
        self._say(
            {
                "event": "cell",
                # the parent counts on from here
                "done": len(self._known),
                "total": total,
                "environment": environment(device),
                **self._about,
            }
        )
        if device.type == "cuda":
            # the model stays loaded from cell to cell, the peak is of this one
            torch.cuda.reset_peak_memory_stats(device)

    def knows(self, sample: str) -> bool:
        """Whether a sample, by its name in the harness, has been answered."""
        return sample in self._known

    @contextmanager
    def asking(self, question: Question) -> Iterator[Answering]:
        """Inside the block, the model answers a question by one ``generate`` of one prompt: a model
        object of the harness, or our own under its prompt rules.
        """
        answering = Answering()
        with asking(self.loaded, self._session, [question]) as asked:
            with forwards(self.loaded) as ends:
                yield answering
            # the first forward ends with the first token
            decoded = ends[-1] if len(ends) > 1 else None
            asked.generation = Generation([answering.text], [len(ends)], decoded)
        record = replace(asked.records[0], frames=answering.frames)
        self._known[question.id] = record
        self._say({"event": "sample", "record": record.as_json()})

    @property
    def turns(self) -> bool:
        """Whether our own model object is asked what :meth:`prompted` says, and nothing else."""
        return self.control is not None

    def prompted(
        self, question: Question, pieces: list[Piece], max_new_tokens: int
    ) -> tuple[Question, LoadedModel, list[Piece]]:
        """What our own model object is asked, outside of any time: the question, who reads it and
        the pieces of the user turn, as a control changes them.

        Args:
            question: about what is shown.
            pieces: of the user turn.
            max_new_tokens: the harness's.
        """
        if self.control is None:
            return question, self.loaded, pieces
        changed = self.control(self.loaded, pieces)
        return under(changed, question), changed.loaded, changed.pieces

    def all_asked(self) -> None:
        """The harness has asked everything, and is about to score."""

    def answer(self, sample: str) -> str:
        """The answer to a sample, which is now used."""
        record = self._known[sample]
        self._prompts[sample] = str(record.prompt)
        # told here and not after scoring, which may take long and no GPU
        if len(self._prompts) == self._total:
            self.end()
        return record.answer

    def look_at(self, sample: str, pictures: Iterable[Image]) -> None:
        """Note which pictures of a sample, as its data set has them, are not shown to the model as
        unibench's own loader would show them.
        """
        if sample not in self._otherwise:
            self._otherwise[sample] = sum(map(read_otherwise, pictures))

    def is_settled(self, sample: str) -> bool:
        """Whether a sample has been answered and looked at: nothing of it has to be read."""
        return self.knows(sample) and sample in self._otherwise

    @property
    def otherwise(self) -> Mapping[str, int]:
        """What :meth:`look_at` has found, by sample."""
        return self._otherwise

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks for the row."""
        count = sum(self._otherwise.values())
        if not count:
            return ()
        verb = "is" if count == 1 else "are"
        return (
            f"{count} of the pictures {verb} read otherwise by the harness than by unibench, which"
            " turns as EXIF says, puts transparent ones on white and scales 16 bits",
        )

    def question(
        self,
        sample: str,
        truth: str,
        text: str | None,
        pictures: int,
        first_picture: bytes,
        kind: Any = None,
    ) -> Question:
        """A question of this cell's task; samples with the same first picture share a group.

        Args:
            sample: its name in the harness.
            truth: the accepted answer, for a reader.
            text: of the prompt.
            pictures: pictures and videos in the prompt.
            first_picture: its content, or the name of a video.
            kind: what the card's ``by`` says of it, for scores by kind.
        """
        return Question(
            id=sample,
            index=len(self._prompts),
            ability=str(kind) if kind is not None else self.cell.config.task.ability or "all",
            group=xxh3_64_hexdigest(first_picture),
            truth=truth,
            text=text,
            pictures=pictures,
        )

    def end(self) -> None:
        """Say, once, that every sample is there."""
        if self._total is None:
            return
        self._total = None
        device = self.loaded.device
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
        self._say({"event": "answered", "peak_mib": peak})

    @property
    def prompts(self) -> str:
        """A hash of the prompts of all samples used."""
        digest = hashlib.blake2b(digest_size=8)
        # sorted: a resumed run uses its samples in the same order, but a table may be reordered
        for sample in sorted(self._prompts):
            digest.update(f"{sample}\0{self._prompts[sample]}\0".encode())
        return digest.hexdigest()
