"""One answered sample: a line of ``samples.jsonl``, and the only place where its columns are named.

Nothing here imports torch: the tables read records too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

from unibench.errors import UsageError


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
        known: dict[str, Any] = {}
        for column, (kinds, required) in _FORMS.items():
            if column not in values:
                if required:
                    raise RecordError(f"the record of sample {name} lacks {column}")
                continue
            value = _frozen(values[column])
            if not isinstance(value, kinds):
                raise RecordError(f"the record of sample {name} has {column}={str(value)[:60]!r}")
            known[column] = value
        return cls(**known)

    def as_json(self) -> dict[str, Any]:
        """The columns of a line; numbers with six digits after the point."""
        return {
            column: round(value, 6) if isinstance(value, float) else value
            for column, value in vars(self).items()
        }

    def untimed(self) -> Record:
        """The record without its times, for cells that are not measured (``timing=false``)."""
        return replace(self, **dict.fromkeys(TIMES))


def parse(line: bytes | str) -> Record | None:
    """The record of a line of ``samples.jsonl``; None if the line is damaged or no record."""
    try:
        return Record.from_json(json.loads(line))
    except (ValueError, RecursionError, RecordError):
        return None


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


def _frozen(value: Any) -> Any:
    """Lists as tuples, lists in lists too."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, NoneType),
    "int": (int,),
    "float": (int, float),  # JSON has 1 for 1.0
    "float | None": (int, float, NoneType),
}
_FORMS: dict[str, tuple[tuple[type, ...], bool]] = {
    field.name: (_KINDS.get(str(field.type), (tuple,)), field.default is MISSING)
    for field in fields(Record)
}  # what each column may hold, and whether a line must have it
COLUMNS = tuple(_FORMS)
TIMES = tuple(column for column in COLUMNS if column.endswith("_ms"))
