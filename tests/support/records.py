"""A line of samples with every field, for tests that make up answers."""

from __future__ import annotations

from typing import Any


def record(name: str, **more: Any) -> dict[str, Any]:
    """What a run writes of a sample, with ``more`` in place of what is made up."""
    times = dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"), 1.0)
    return {
        "id": name,
        "ability": "all",
        "group": name,
        "answer": "yes",
        "score": 1.0,
        "text_tokens": 10,
        "visual_tokens": 2,
        "kept": 1,
        "processed": [2, 1],
        "new_tokens": 2,
        **times,
        "tflops": 1.0,
        "tflops_full": 2.0,
        "method_tflops": 0.0,
        "kv_mib": 1.0,
        "notes": [],
        **more,
    }
