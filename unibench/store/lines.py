"""The lines of a file of samples: a sample, or what is known of the machine that answered them.

Every reader goes by these functions. A line that lacks a field, or has one of another type, is
damage: ``store repair`` sets it aside, and the same run asks its sample again.

A line ends with the CRC-32 of its JSON, written in white space: to every reader of JSON the line is
the sample and nothing else, and lines that differ in times alone are told so by their entries.
Lines of earlier versions have none.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unibench.diagnostics import is_diagnosis, is_token_scores
from unibench.store.data import parsed_json

LARGEST = 1e15  # of a number: what is larger is damage, and would overflow in a mean
RUNS = 100_000  # of one cell; a larger number would make as many environments in memory
ENVIRONMENT_BEGINS = b'{"environment":'
_SIGNS = b" \t"
_BITS = bytes.maketrans(b"01", _SIGNS)
UNKNOWN = {
    "device": "unknown",
    "code": "unknown",
}  # of samples whose writer's first line was damaged

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    # type() and not isinstance: True is an int
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
DIGESTS = ("prompt_digest", "pixel_digest")  # of what a sample was asked with
OPTIONAL: dict[str, Check] = {
    **dict.fromkeys(("question", "prompt"), lambda value: value is None or _text(value)),
    **dict.fromkeys((*DIGESTS, "beside"), _text),
    "uncounted": _texts,
    **dict.fromkeys(("seen", "frames", "pixel_shapes"), _list),
    "diagnosis": lambda value: value is None or is_diagnosis(value),
    "scores": lambda value: value is None or is_token_scores(value),
    "index": _count,
    "run": lambda value: _count(value) and value < RUNS,
}
ENVIRONMENT: dict[str, Check] = {
    **dict.fromkeys(("device", "code"), _text),
    **dict.fromkeys(("batch", "out_of_memory_at", "left_out"), _count),
    "peak_mib": _time,
    "fused": _texts,
}


def parsed(line: bytes) -> dict[str, Any] | None:
    """The sample of a line, or None if it is none."""
    content = sound(line)
    try:
        sample = None if content is None else parsed_json(content)
    except ValueError:
        return None
    return sample if isinstance(sample, dict) and _is_sample(sample) else None


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


def hashed_alike(before: str, now: str) -> bool:
    """Whether two digests are of one hash, whose name may begin them: only then do other digests
    mean other contents. One of nothing is of any.

    >>> hashed_alike("xxh3:a", "xxh3:b"), hashed_alike("a", "xxh3:a"), hashed_alike("xxh3:a", "")
    (True, False, True)
    """
    return len({digest.rpartition(":")[0] for digest in (before, now) if digest}) < 2


def line_of(entry: Mapping[str, Any]) -> bytes:
    """One line of a file of samples, with its checksum.

    >>> line_of({"id": "a"}).rstrip()
    b'{"id":"a"}'
    """
    return checked(json.dumps(entry, ensure_ascii=False, separators=(",", ":"))) + b"\n"


def checked(text: str) -> bytes:
    """A JSON text with its checksum."""
    content = text.encode()
    return content + _checksum(content)


def sound(line: bytes) -> bytes | None:
    """A line without its checksum, or None if the two do not belong together.

    >>> line = line_of({"id": "a"})[:-1]
    >>> sound(line), sound(line.replace(b"a", b"b")), sound(b'{"id":"a"}')
    (b'{"id":"a"}', None, b'{"id":"a"}')
    >>> sound(b'{"id":"a"}' + b"\\r") is None
    True
    """
    line = line.removesuffix(b"\n")
    # JSON ends in no white space, so what follows is the checksum
    content = line.rstrip(_SIGNS)
    if content != line.rstrip():  # a tab of the checksum is a bit away from a carriage return
        return None
    tail = line[len(content) :]
    return content if not tail or tail == _checksum(content) else None


def _checksum(content: bytes) -> bytes:
    """The 32 bits of the CRC-32, a space or a tab each."""
    return f"{zlib.crc32(content):032b}".encode().translate(_BITS)


def _is_sample(entry: Mapping[str, Any]) -> bool:
    whole = all(name in entry and check(entry[name]) for name, check in REQUIRED.items())
    fitting = all(name not in entry or check(entry[name]) for name, check in OPTIONAL.items())
    return whole and fitting
