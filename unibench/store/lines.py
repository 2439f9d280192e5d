"""The lines of a file of samples: a sample, or what is known of the machine that answered them.

Every reader goes by these two functions. A line that lacks a field, or has one of another type, is
damage: ``store repair`` sets it aside, and the same run asks its sample again.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from unibench.store.data import parsed_json

LARGEST = 1e15  # of a number: what is larger is damage, and would overflow in a mean
RUNS = 100_000  # of one cell; a larger number would make as many environments in memory
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


REQUIRED: dict[str, Check] = {
    "id": lambda value: _text(value) and bool(value),
    **dict.fromkeys(("ability", "group", "answer"), _text),
    **dict.fromkeys(("text_tokens", "visual_tokens", "kept", "new_tokens"), _count),
    "processed": _layers,
    "notes": _texts,
    **dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"), _time),
    **dict.fromkeys(("tflops", "tflops_full", "method_tflops", "kv_mib"), _number),
}
OPTIONAL: dict[str, Check] = {
    **dict.fromkeys(("truth", "last", "prompt"), _text),
    **dict.fromkeys(("layout", "seen"), _list),
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
    try:
        sample = parsed_json(line)
    except ValueError:
        return None
    return sample if isinstance(sample, dict) and _is_sample(sample) else None


def layers_of(samples: Iterable[Mapping[str, Any]]) -> int:
    """The number of decoder layers that samples of one cell tell of: what most of them say.

    A line with another number is damage, though each of its fields is sound.
    """
    counts = Counter(len(sample["processed"]) for sample in samples)
    return counts.most_common(1)[0][0] if counts else 0


def environment_of(line: bytes) -> dict[str, Any] | None:
    """The environment that a line adds, or None if it adds none."""
    if not line.startswith(b'{"environment":'):
        return None
    try:
        header = parsed_json(line)
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
    """One line of a file of samples."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _is_sample(entry: Mapping[str, Any]) -> bool:
    whole = all(name in entry and check(entry[name]) for name, check in REQUIRED.items())
    fitting = all(name not in entry or check(entry[name]) for name, check in OPTIONAL.items())
    # a harness, whose lines hold the prompt, scores the whole later, and some samples never
    score = entry.get("score", math.nan)
    return whole and fitting and (_number(score) or (score is None and "prompt" in entry))
