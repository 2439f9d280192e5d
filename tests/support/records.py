"""Records and rows made up for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from unibench.identity import Cell
from unibench.inference.record import Record
from unibench.inference.row import Row


def record(**values: Any) -> Record:
    """A record of a picture of 100 tokens, of which 10 are kept; ``values`` say what is special."""
    usual: dict[str, Any] = {
        "id": "s0",
        "ability": "reading",
        "group": "picture0",
        "truth": "yes",
        "answer": "yes",
        "score": 1.0,
        "text_tokens": 10,
        "visual_tokens": 100,
        "kept": 10,
        "processed": (100, 10),
        "last": "",
        "layout": (),
        "new_tokens": 2,
        **dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"), 10.0),
        "tflops": 1.0,
        "tflops_full": 2.0,
        "method_tflops": 0.0,
        "kv_mib": 1.0,
        "notes": (),
    }
    return Record(**usual | values)


def line(**values: Any) -> dict[str, Any]:
    """The same record as a line of samples has it."""
    parsed: dict[str, Any] = json.loads(json.dumps(record(**values).as_json()))
    return parsed


def row(cell: Cell, records: Sequence[Record], vanilla: Row | None, **values: Any) -> Row:
    """A row of a cell without intervals, which take long; ``values`` say what is special."""
    config = cell.config
    score = sum(float(sample.score or 0.0) for sample in records) / len(records)
    usual: dict[str, Any] = {
        "model": config.model.name,
        "family": config.model.family,
        "task": config.task.name,
        "pixels": config.pixels,
        "dtype": config.model.dtype,
        "attn": config.model.attn,
        "batch": config.batch_size,
        "max_new_tokens": config.generation.max_new_tokens,
        "weights": cell.identity["model"]["weights"],
        "method": cell.method,
        "variant": cell.variant,
        "method_options": {},
        "ratio": cell.budget.ratio,
        "budget": "0" if cell.method == "vanilla" else cell.budget.label,
        "budget_mode": config.budget.mode,
        "budget_scope": config.budget.scope,
        "seed": config.seed,
        "metric": "accuracy",
        "n": len(records),
        "score": score,
        "score_100": 100 * score,
        "vanilla_100": 100 * (score if vanilla is None else vanilla.score),
        "abilities": {},
        "kept_min": 10,
        "kept_max": 10,
        "tokens_per_layer": (),
        "notes": (),
        "device": "cpu",
        "harness": "none",
        "judge": None,
        "data": cell.identity["data"],
        "code": "test",
        "key": cell.key,
        "folder": str(cell.folder),
        "identity": cell.identity,
    }
    counted = ("tokens_in", "text_tokens", "kept_mean", "equiv_tokens", "tflops", "method_tflops")
    unknown = ("ci_low", "ci_high", "drop_pct", "retention_pct", "tflops_ratio")
    times = ("total_s", "vision_ms", "prefill_ms", "method_ms", "decode_ms_per_token", "peak_mib")
    usual |= dict.fromkeys((*counted, "kv_mib"), 1.0) | dict.fromkeys((*unknown, *times))
    return Row(**usual | values)
