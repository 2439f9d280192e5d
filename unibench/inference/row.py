"""From the samples of a cell to its row."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from unibench.benchmark import VERSIONS
from unibench.harness import Verdict
from unibench.identity import Cell
from unibench.stats import mean_interval

MILLISECONDS = ("vision_ms", "prefill_ms", "method_ms")


def row_of(
    cell: Cell,
    samples: Sequence[dict[str, Any]],
    environments: Sequence[dict[str, Any]],
    vanilla: dict[str, Any] | None,
    metric: str,
    verdict: Verdict | None = None,
) -> dict[str, Any]:
    """The row of a complete cell.

    Args:
        cell: which one.
        samples: all of its samples.
        environments: of its runs.
        vanilla: row of the unpruned cell, None for that cell itself.
        metric: name of the task's score.
        verdict: of the harness that asked.

    Returns:
        Column -> value; times are None where ``timing=false``. ``score`` is the task's own number;
        ``score_100`` the same out of 100. ``drop_pct`` is relative: 100 (vanilla - score) /
        vanilla.
    """
    score, score_100, low, high = (
        _mean(samples) if verdict is None else _judged(samples, metric, verdict)
    )
    reference = score if vanilla is None else float(vanilla["score"])
    kept = [sample["kept"] for sample in samples]
    config = cell.config
    return {
        **_named(cell),
        "metric": metric,
        "n": len(samples),
        "score": score,
        "score_100": score_100,
        "vanilla_100": score_100 if vanilla is None else vanilla["score_100"],
        "drop_pct": 100 * (reference - score) / reference if reference else None,
        "retention_pct": 100 * score / reference if reference else None,
        "ci_low": low,
        "ci_high": high,
        "abilities": _by_ability(samples),
        **_costs(samples, kept),
        **(_times(samples) if config.timing else dict.fromkeys(_times([]))),
        "batch": min(environment.get("batch", config.batch_size) for environment in environments),
        "dtype": config.model.dtype,
        "attn": config.model.attn,
        "device": " + ".join(
            dict.fromkeys(str(environment["device"]) for environment in environments)
        ),
        "peak_mib": max(
            (
                environment["peak_mib"]
                for environment in environments
                if environment.get("peak_mib")
            ),
            default=None,
        ),
        "pixels": config.pixels,
        "max_new_tokens": config.generation.max_new_tokens,
        "notes": sorted({note for sample in samples for note in sample["notes"]})
        + _out_of_memory(environments),
        **_harness(cell, verdict),
        "weights": cell.identity["model"]["weights"],
        "code": environments[-1]["code"],
        "key": cell.key,
        "folder": str(cell.folder),
    }


def _named(cell: Cell) -> dict[str, Any]:
    """What a row is of."""
    config = cell.config
    return {
        "model": config.model.name,
        "family": config.model.family,
        "method": cell.method,
        "variant": cell.variant,
        "method_options": {
            key: value for key, value in cell.identity["method"].items() if key != "name"
        },
        "ratio": cell.budget.ratio if cell.method != "vanilla" else 0.0,
        "budget": cell.budget.label if cell.method != "vanilla" else "0",
        "budget_mode": config.budget.mode,
        "budget_scope": config.budget.scope,
        "seed": config.seed,
        "task": config.task.name,
    }


def _mean(samples: Sequence[dict[str, Any]]) -> tuple[float, float, float | None, float | None]:
    """Score, the same out of 100, and its interval: the mean over samples."""
    scores = [float(sample["score"]) for sample in samples]
    interval = mean_interval(scores, [sample["group"] for sample in samples])
    return fmean(scores), 100 * fmean(scores), 100 * interval.low, 100 * interval.high


def _judged(
    samples: Sequence[dict[str, Any]], metric: str, verdict: Verdict
) -> tuple[float, float, float | None, float | None]:
    """The same of a harness, with an interval where its number is the mean over samples."""
    own = verdict.metrics[metric]
    low, high = _mean(samples)[2:] if own["mean"] else (None, None)
    return own["score"], own["score_100"], low, high


def _harness(cell: Cell, verdict: Verdict | None) -> dict[str, Any]:
    """Who asked and scored."""
    if verdict is None:
        return {"harness": "none", "judge": None, "data": cell.identity["data"]}
    own = cell.identity["harness"]
    return {
        "harness": own["name"],
        "harness_version": VERSIONS[own["name"]],
        "harness_task": own["task"],
        "wrapper": own["wrapper"],
        "convention": own["convention"],
        "metrics": verdict.metrics,
        "prompts": verdict.prompts,
        "generation": verdict.generation,
        "judge": verdict.judge,
        "judged": verdict.judged,
        "data": verdict.data,
    }


def _costs(samples: Sequence[dict[str, Any]], kept: Sequence[int]) -> dict[str, Any]:
    layers = list(zip(*(sample["processed"] for sample in samples), strict=True))
    full = fmean(sample["tflops_full"] for sample in samples)
    tflops = fmean(sample["tflops"] for sample in samples)
    return {
        "tokens_in": fmean(sample["visual_tokens"] for sample in samples),
        "text_tokens": fmean(sample["text_tokens"] for sample in samples),
        "kept_mean": fmean(kept),
        "kept_min": min(kept),
        "kept_max": max(kept),
        "tokens_per_layer": [round(fmean(layer), 3) for layer in layers],
        "equiv_tokens": fmean(fmean(sample["processed"]) for sample in samples),
        "tflops": tflops,
        "method_tflops": fmean(sample["method_tflops"] for sample in samples),
        "tflops_ratio": tflops / full if full else None,
        "kv_mib": fmean(sample["kv_mib"] for sample in samples),
    }


def _times(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    decoded = [sample for sample in samples if sample["new_tokens"] > 1]
    steps = sum(sample["new_tokens"] - 1 for sample in decoded)
    return {
        "total_s": sum(sample["total_ms"] for sample in samples) / 1000,
        **{
            name: median(sample[name] for sample in samples) if samples else None
            for name in MILLISECONDS
        },
        "decode_ms_per_token": sum(sample["decode_ms"] for sample in decoded) / steps
        if steps
        else None,
    }


def _out_of_memory(environments: Sequence[dict[str, Any]]) -> list[str]:
    """A remark where a batch did not fit: times of such rows are those of two batch sizes."""
    halved = {
        (environment["out_of_memory_at"], environment["batch"])
        for environment in environments
        if "out_of_memory_at" in environment
    }
    return [
        f"out of memory at batch {asked}: went on with {taken}" for asked, taken in sorted(halved)
    ]


def _by_ability(samples: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        if sample["score"] is not None:
            found.setdefault(sample["ability"], []).append(sample)
    return {ability: _scored(own) for ability, own in found.items()}


def _scored(samples: Sequence[dict[str, Any]]) -> dict[str, float]:
    scores = [float(sample["score"]) for sample in samples]
    interval = mean_interval(scores, [sample["group"] for sample in samples])
    return {
        "n": len(scores),
        "score_100": 100 * fmean(scores),
        "ci_low": 100 * interval.low,
        "ci_high": 100 * interval.high,
    }
