"""Finished cells with given answers, as the runner leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unibench.compose import compose_cells
from unibench.identity import cell_of, vanilla_of
from unibench.inference.row import row_of
from unibench.store import CellFolder

ENVIRONMENT = {"device": "cpu", "code": "test"}


def finished(
    out: Path,
    scores: Sequence[float],
    *overrides: str,
    milliseconds: float = 10.0,
    per_picture: int = 1,
    task: str = "synthvqa",
    more: Mapping[str, Any] | None = None,
) -> Path:
    """The folder of a cell of the tiny model whose samples have these scores, and ``more``; answers
    are right or wrong words.

    Vanilla must be there before its drop can be taken: give it first.
    """
    (config,) = compose_cells(
        ["model=tiny_qwen2_5_vl", f"task={task}", f"out={out}", *overrides], sweep=False
    )
    cell = cell_of(config)
    samples = [
        _sample(i, score, milliseconds, per_picture) | (more or {})
        for i, score in enumerate(scores)
    ]
    folder = CellFolder(cell)
    with folder.appending(ENVIRONMENT):
        for sample in samples:
            folder.append(sample)
    folder.merge()
    vanilla = None if cell.method == "vanilla" else CellFolder(vanilla_of(cell)).row()
    folder.finish(row_of(cell, samples, [ENVIRONMENT], vanilla, "accuracy"))
    return folder.path


def _sample(number: int, score: float, milliseconds: float, per_picture: int) -> dict[str, Any]:
    spans = dict.fromkeys(
        ("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"), milliseconds
    )
    return {
        "id": f"s{number:04d}",
        "ability": "counting" if number % 2 else "reading",
        "group": f"picture{number // per_picture}",
        "truth": "yes",
        "answer": "Yes." if score else "no",
        "score": float(score),
        "text_tokens": 10,
        "visual_tokens": 100,
        "kept": 10,
        "processed": [100, 10],
        "new_tokens": 2,
        **spans,
        "tflops": 1.0,
        "tflops_full": 2.0,
        "method_tflops": 0.0,
        "kv_mib": 1.0,
        "notes": [],
        "run": 0,
    }
