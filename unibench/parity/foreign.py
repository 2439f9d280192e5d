"""The lines of somebody else's run.

One JSON object a sample and line (``docs/reproduce.md``)::

    {"id": "test-1", "visual_tokens": 144, "kept": [3, 17, 40], "answer": "yes"}

Optional: ``score`` from 0 to 1, ``layer`` whose input is cut (0), ``new_tokens`` of the answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unibench.errors import UsageError, shown, unknown

NEEDED = ("id", "visual_tokens", "kept", "answer")
KNOWN = (*NEEDED, "score", "layer", "new_tokens")
LARGEST = 1 << 30  # bytes of a file
MOST = 10**9  # of a number; a line of samples with a much larger one would count as damaged


@dataclass(frozen=True)
class Line:
    """A sample of the run.

    Attributes:
        id: the sample's name.
        visual_tokens: of its prompt.
        kept: indices of those that go on, rising.
        answer: what the model said.
        score: from 0 to 1; None where the file has none.
        layer: the decoder layer whose input is cut.
        new_tokens: of the answer; None where the file does not say.
    """

    id: str
    visual_tokens: int
    kept: tuple[int, ...]
    answer: str
    score: float | None = None
    layer: int = 0
    new_tokens: int | None = None


@dataclass(frozen=True)
class Foreign:
    """A run of somebody else's code.

    Attributes:
        file: that it was read from.
        digest: of the file.
        lines: by the name of the sample.
    """

    file: Path
    digest: str
    lines: Mapping[str, Line]


def read(file: Path) -> Foreign:
    """The run in a file.

    Raises:
        UsageError: it cannot be read; the message names the line and what is wrong with it.
    """
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file")
    if file.stat().st_size > LARGEST:
        raise UsageError(f"{file} is larger than {LARGEST >> 30} GiB")
    content = file.read_bytes()
    lines: dict[str, Line] = {}
    for number, text in enumerate(content.splitlines(), 1):
        if text.strip():
            line = _line(text, f"{file} line {number}")
            if line.id in lines:
                raise UsageError(f"{file} line {number}: sample {shown(line.id)} comes twice")
            lines[line.id] = line
    if not lines:
        raise UsageError(f"{file} holds no sample; a line is {{{', '.join(NEEDED)}}}")
    return Foreign(file, hashlib.blake2b(content, digest_size=8).hexdigest(), lines)


def _line(text: bytes, where: str) -> Line:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{where} is no JSON") from None
    if not isinstance(values, dict):
        raise UsageError(f"{where} is no object; a line is {{{', '.join(NEEDED)}}}")
    for name in values:
        if name not in KNOWN:
            raise unknown(f"entry of {where}", shown(name), KNOWN)
    for name in NEEDED:
        if name not in values:
            raise UsageError(f"{where} lacks {name}; a line is {{{', '.join(NEEDED)}}}")
    wrong = next((said for said in _wrong(values)), None)
    if wrong is not None:
        raise UsageError(f"{where}: {wrong}")
    return Line(**{**values, "kept": tuple(sorted(values["kept"]))})


def _wrong(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of a line."""
    found = [f"{name} is no text" for name in ("id", "answer") if not _is_text(values[name])]
    for name in ("visual_tokens", "layer", "new_tokens"):
        if not _is_count(values.get(name, 0)):
            found.append(f"{name}={shown(values[name])} is no whole number from 0 to {MOST:,}")
    kept, score = values["kept"], values.get("score")
    if not isinstance(kept, list) or not all(map(_is_count, kept)):
        found.append("kept is no list of whole numbers from 0; a mask is written as its indices")
    elif not found:
        if len(set(kept)) < len(kept):
            found.append("kept names a token twice")
        if kept and max(kept) >= values["visual_tokens"]:
            found.append(
                f"kept has {max(kept)}, but the prompt has {values['visual_tokens']} visual tokens,"
                " counted from 0"
            )
    if score is not None and not (type(score) in (int, float) and 0 <= score <= 1):
        found.append(f"score={shown(score)} is outside 0 to 1")
    return found


def _is_text(value: Any) -> bool:
    """Whether a value is a text that can be stored: half of a surrogate pair cannot."""
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST
