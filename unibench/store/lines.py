"""The lines of a file of samples: a sample, or what is known of the machine that answered them.

Every reader goes by these functions. A line that lacks a field, or has one of another type, is
damage: ``store repair`` sets it aside, and the same run asks its sample again. The last entry of a
line is the CRC-32 of what stands before it; lines of earlier versions have none.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import eq
from typing import Any

from unibench.store.data import parsed_json

LARGEST = 1e15  # of a number: what is larger is damage, and would overflow in a mean
RUNS = 100_000  # of one cell; a larger number would make as many environments in memory
CHECKSUM = "crc32"
ENVIRONMENT_BEGINS = b'{"environment":'
_MARK, _END = f',"{CHECKSUM}":"'.encode(), b'"}'
_TAIL = len(_MARK) + 8 + len(_END)
_ALIKE = 8  # signs of the mark, of 12, that no line without a checksum has in their places
UNKNOWN = {
    "device": "unknown",
    "code": "unknown",
}  # of samples whose writer's first line was damaged

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _time(value: Any) -> bool:
    return value is None or (_number(value) and value >= 0)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _layers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_number, value))


def _list(value: Any) -> bool:
    return isinstance(value, list)


# the columns of unibench.inference.record.Record, which lies above; a test compares the two
REQUIRED: dict[str, Check] = {
    "id": lambda value: _text(value) and bool(value),
    **dict.fromkeys(("ability", "group", "truth", "answer", "last"), _text),
    "layout": _list,
    **dict.fromkeys(("text_tokens", "visual_tokens", "kept", "new_tokens"), _count),
    "processed": _layers,
    "score": lambda value: value is None or _number(value),
    "notes": _texts,
    **dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"), _time),
    **dict.fromkeys(("tflops", "tflops_full", "method_tflops", "kv_mib"), _number),
}
OPTIONAL: dict[str, Check] = {
    **dict.fromkeys(("question", "prompt"), lambda value: value is None or _text(value)),
    **dict.fromkeys(("prompt_digest", "pixel_digest"), _text),
    "uncounted": _texts,
    "seen": _list,
    "index": _count,
    "run": lambda value: _count(value) and value < RUNS,
}
ENVIRONMENT: dict[str, Check] = {
    **dict.fromkeys(("device", "code"), _text),
    **dict.fromkeys(("batch", "out_of_memory_at"), _count),
    "peak_mib": _time,
}


def parsed(line: bytes) -> dict[str, Any] | None:
    """The sample of a line, or None if it is none."""
    content = sound(line)
    try:
        sample = None if content is None else parsed_json(content)
    except ValueError:
        return None
    if not isinstance(sample, dict) or not _is_sample(sample):
        return None
    # written again by other software, with spaces or in another order
    kept = sample.pop(CHECKSUM, None)
    return None if kept is not None and _checksum(_text_of(sample)) != kept else sample


@dataclass(frozen=True)
class Shape:
    """What the lines of one cell have in common.

    Attributes:
        layers: decoder layers that a sample tells of, as most lines say.
        scored: whether every sample has a score; a harness scores the whole later, and some never.
    """

    layers: int
    scored: bool

    @classmethod
    def of(cls, samples: Iterable[Mapping[str, Any]], identity: Any) -> Shape:
        """The shape of a cell with these samples and this ``identity.json``."""
        counts = Counter(len(sample["processed"]) for sample in samples)
        asker = identity.get("harness") if isinstance(identity, dict) else None
        return cls(counts.most_common(1)[0][0] if counts else 0, asker == "none")

    def fits(self, sample: Mapping[str, Any]) -> bool:
        """Whether a sample is one of the cell: another is damage, sound as each field may be."""
        unscored = self.scored and sample["score"] is None
        return len(sample["processed"]) == self.layers and not unscored


def environment_of(line: bytes) -> dict[str, Any] | None:
    """The environment that a line adds, or None if it adds none."""
    if not line.startswith(ENVIRONMENT_BEGINS):
        return None
    content = sound(line)
    try:
        header = None if content is None else parsed_json(content)
    except ValueError:
        return None
    environment = header.get("environment") if isinstance(header, dict) else None
    return environment if is_environment(environment) else None


def is_environment(value: Any) -> bool:
    """Whether a value says what is known of a machine; a later line may add to it."""
    return isinstance(value, dict) and all(
        name not in value or check(value[name]) for name, check in ENVIRONMENT.items()
    )


def line_of(entry: Mapping[str, Any]) -> bytes:
    """One line of a file of samples, with its checksum.

    >>> line_of({"id": "a"})
    b'{"id":"a","crc32":"62ba96e5"}\\n'
    """
    content = _text_of(entry)
    return content + _MARK + _checksum(content).encode() + _END + b"\n"


def _text_of(entry: Mapping[str, Any]) -> bytes:
    """An entry as a line has it, without its last brace."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()[:-1]


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


def sound(line: bytes) -> bytes | None:
    """A line without its checksum, or None if the two do not belong together.

    >>> sound(b'{"id":"a","crc32":"62ba96e5"}'), sound(b'{"id":"b","crc32":"62ba96e5"}')
    (b'{"id":"a"}', None)
    >>> sound(b'{"id":"a"}')
    b'{"id":"a"}'
    """
    content, tail = line[:-_TAIL], line[-_TAIL:]
    mark, digits, end = tail[: len(_MARK)], tail[len(_MARK) : -len(_END)], tail[-len(_END) :]
    if mark == _MARK and end == _END:
        return content + b"}" if _checksum(content).encode() == digits else None
    # a checksum whose own mark was damaged must not pass as a line that has none
    alike = sum(map(eq, mark + end, _MARK + _END))
    return None if len(digits) == 8 and alike > _ALIKE else line


def _is_sample(entry: Mapping[str, Any]) -> bool:
    whole = all(name in entry and check(entry[name]) for name, check in REQUIRED.items())
    fitting = all(name not in entry or check(entry[name]) for name, check in OPTIONAL.items())
    return whole and fitting
