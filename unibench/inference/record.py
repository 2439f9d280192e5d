"""One answered sample: the columns of a line of ``samples.jsonl``, with their units. What a column
may hold is checked in :mod:`unibench.store.lines`, where lines are read.

Nothing here imports torch: the tables read records too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from unibench.diagnostics import Diagnosis, TokenScores
from unibench.errors import UsageError
from unibench.store.lines import OPTIONAL, REQUIRED, parsed


class RecordError(UsageError):
    """A stored line that is no record."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answered sample. Times are milliseconds, in a batch the batch's divided by its size; they
    are None with ``timing=false`` and where an engine does not measure them.

    Attributes:
        id: the sample's name, unique within its task and the same in every run.
        index: its place in the task, from 0.
        ability: what the question tests.
        group: the picture's name; samples that share it are not independent.
        truth: the accepted answer, for a reader.
        question: the user's text; None in lines of schema 2, and where a harness's own model object
            builds it.
        prompt: the text that the model read, chat template included, each run of visual tokens as
            one; None in lines of schema 2 of embedded tasks.
        answer: what the model said.
        score: of the answer, in [0, 1]; None until a harness has scored the whole.
        text_tokens: tokens of the prompt that are not visual.
        visual_tokens: visual tokens of the prompt before pruning.
        kept: visual tokens that entered the last decoder layer.
        processed: visual tokens that entered each decoder layer.
        last: bitmask of those that entered the last one, see
            :func:`unibench.pruning.record.packed`.
        layout: how the visual tokens lie (pictures, tiles, frames), see
            :func:`unibench.pruning.layout.written`.
        seen: the part of each picture that the processor hands on: left, top, right, bottom as
            shares of its sides.
        frames: of each video, the numbers of its frames in the file or clip.
        new_tokens: tokens of the answer, its end token included.
        total_ms: from pictures and text to the answer's text.
        vision_ms: vision tower and projector.
        prefill_ms: from pixels to the first logits; contains vision and method.
        method_ms: scoring, choosing and cutting.
        decode_ms: all tokens after the first.
        tflops: teraflops of the pruned prefill of the language model and of the selection.
        tflops_full: teraflops of the unpruned prefill.
        method_tflops: teraflops of the selection alone, extra attention included.
        uncounted: operators of the selection whose teraflops are not counted.
        kv_mib: keys and values of the prompt, in MiB.
        notes: remarks of the method, for example that a substitute was used for a signal.
        prompt_digest: hash of the prompt's token ids.
        pixel_digest: hash of the pixels that the vision tower was given.
        beside: bitmask of the cells that the model answered it in together (``fuse=cells``), itself
            included, over the keys in ``fused`` of the run's environment; empty where it was alone.
        pixel_shapes: of the pixels of each picture or video, as the tower was given them.
        diagnosis: what the choice of tokens is like; None in lines of before there was one.
        scores: by which the first cut chose, with ``scores=true`` and of methods that score tokens.
        run: number of the run that answered it, an index into ``env.json``.
    """

    id: str
    index: int = 0
    ability: str
    group: str
    truth: str
    question: str | None = None
    prompt: str | None = None
    answer: str
    score: float | None
    text_tokens: int
    visual_tokens: int
    kept: int
    processed: tuple[int, ...]
    last: str
    layout: tuple[Any, ...]
    seen: tuple[tuple[float, ...], ...] = ()
    frames: tuple[tuple[int, ...], ...] = ()
    new_tokens: int
    total_ms: float | None
    vision_ms: float | None
    prefill_ms: float | None
    method_ms: float | None
    decode_ms: float | None
    tflops: float
    tflops_full: float
    method_tflops: float
    uncounted: tuple[str, ...] = ()
    kv_mib: float
    notes: tuple[str, ...]
    prompt_digest: str = ""
    pixel_digest: str = ""
    beside: str = ""
    pixel_shapes: tuple[tuple[int, ...], ...] = ()
    diagnosis: Diagnosis | None = None
    scores: TokenScores | None = None
    run: int = 0

    @classmethod
    def from_json(cls, values: Any) -> Record:
        """The record of a parsed line; a line of schema 2, which lacks the columns that have a
        default here, is one too. Columns of a later schema are passed over.

        Raises:
            RecordError: a column is missing, or holds what it cannot.
        """
        if not isinstance(values, Mapping):
            raise RecordError(f"a record wanted, not {str(values)[:60]!r}")
        name = values.get("id")
        for column, check in {**REQUIRED, **OPTIONAL}.items():
            if column not in values and column in REQUIRED:
                raise RecordError(f"the record of sample {name} lacks {column}")
            if column in values and not check(values[column]):
                shown = str(values[column])[:60]
                raise RecordError(f"the record of sample {name} has {column}={shown!r}")
        # readers of many lines check while they parse, see parse()
        return of_checked(values)

    def as_json(self) -> dict[str, Any]:
        """The columns of a line; numbers with six digits after the point."""
        return {
            # six digits are below any clock's, and halve the line
            column: round(value, 6) if isinstance(value, float) else _listed(value)
            for column, value in vars(self).items()
        } | {
            "diagnosis": None if self.diagnosis is None else self.diagnosis.as_json(),
            "scores": None if self.scores is None else self.scores.as_json(),
        }

    def untimed(self) -> Record:
        """The record without its times, for cells that are not measured (``timing=false``)."""
        return replace(
            self, total_ms=None, vision_ms=None, prefill_ms=None, method_ms=None, decode_ms=None
        )


def parse(line: bytes) -> Record | None:
    """The record of a line of ``samples.jsonl``; None if the line is damaged or no record."""
    values = parsed(line)
    return None if values is None else of_checked(values)


def stored(folder: Path, lines: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The records of a cell's parsed lines.

    Raises:
        RecordError: a line is no record; the message says how to mend the cell.
    """
    try:
        return [Record.from_json(line) for line in lines]
    except RecordError as error:
        raise RecordError(
            f"{folder}: {error}. Nothing is lost: `python -m unibench store repair {folder}` sets"
            " the line aside, and the same run then answers that sample again"
        ) from None


def of_checked(values: Mapping[str, Any]) -> Record:
    """The record of values that were checked, as a line is when it is parsed."""
    known = {name: values[name] for name in COLUMNS if name in values}
    for name, value in known.items():
        if isinstance(value, list):  # few are, and a store has millions of values
            known[name] = frozen(value)
    if known.get("diagnosis") is not None:
        known["diagnosis"] = Diagnosis.from_json(known["diagnosis"])
    if known.get("scores") is not None:
        known["scores"] = TokenScores.from_json(known["scores"])
    return Record(**known)


def frozen(value: Any) -> Any:
    """Lists as tuples, lists in lists too."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return list(map(_listed, value)) if isinstance(value, tuple) else value


COLUMNS = tuple(field.name for field in fields(Record))
TIMES = tuple(column for column in COLUMNS if column.endswith("_ms"))
