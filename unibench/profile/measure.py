"""Every method in turn on the same inputs, again and again: rows of medians."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from unibench.config import RunConfig
from unibench.identity import cell_of, vanilla_of
from unibench.inference.environment import environment
from unibench.inference.session import method_of
from unibench.models import LoadedModel, load
from unibench.profile.inputs import fixed_inputs
from unibench.profile.passes import Contender, Facts, KeepAll, Times, facts, steps_to_the_end, timed
from unibench.profile.request import Request
from unibench.pruning._transformers import attention_of

SPANS = tuple(field.name for field in fields(Times))


@dataclass(frozen=True)
class Table:
    """The rows of one model at one batch size.

    Attributes:
        title: model, picture, tokens.
        rows: vanilla first.
        environment: where.
    """

    title: str
    rows: list[dict[str, Any]]
    environment: dict[str, Any]


def profile(
    request: Request, cells: Sequence[RunConfig], tell: Callable[[str], None] = lambda line: None
) -> Iterator[Table]:
    """A table for each model and batch size, as soon as it is measured.

    Args:
        request: inputs and repetitions.
        cells: models, methods and budgets.
        tell: is told what is being done.

    Raises:
        UsageError: a model or method that cannot be had, or does not fit the other.
    """
    for group in _by_model(cells):
        contenders = _contenders(group)
        loaded = load(group[0].model, group[0].pixels)
        for contender in contenders:
            contender.session(loaded)  # what cannot be attached is told before anything is measured
        for batch in request.batch:
            yield _table(request, group[0], loaded, contenders, batch, tell)


def _by_model(cells: Sequence[RunConfig]) -> list[list[RunConfig]]:
    groups: dict[str, list[RunConfig]] = {}
    for cell in cells:
        groups.setdefault(
            json.dumps([vars(cell.model), cell.pixels], sort_keys=True, default=str), []
        ).append(cell)
    return list(groups.values())


def _contenders(cells: Sequence[RunConfig]) -> list[Contender]:
    """Vanilla and a session that keeps everything, then the methods; one of each."""
    vanilla = vanilla_of(cell_of(cells[0]))
    found = {
        "vanilla": Contender("vanilla", "0", vanilla, method_of(vanilla)),
        "keep-all": Contender("keep-all", "0", vanilla, KeepAll()),
    }
    for cell in map(cell_of, cells):
        if cell.method != "vanilla":
            name = f"{cell.method} {cell.variant}".strip()
            found[cell.key] = Contender(name, cell.budget.label, cell, method_of(cell))
    return list(found.values())


def _table(
    request: Request,
    config: RunConfig,
    loaded: LoadedModel,
    contenders: Sequence[Contender],
    batch: int,
    tell: Callable[[str], None],
) -> Table:
    rule = request.rule
    samples, repeats = request.samples or rule.samples, request.repeats or rule.repeats
    batches = [
        fixed_inputs(loaded, request.image, request.text_tokens, batch, number)
        for number in range(samples)
    ]
    tell(
        f"{config.model.name}, batch {batch}: {len(contenders)} methods, counting FLOPs and memory"
    )
    known = [facts(loaded, contender, batches[0], request.new_tokens) for contender in contenders]
    steps = request.new_tokens
    if rule.equal_steps:
        steps = min(
            steps_to_the_end(loaded, contender, batches, request.new_tokens)
            for contender in contenders
        )
    times: list[list[Times]] = [[] for _ in contenders]
    for number in range(request.warmup + repeats):
        tell(f"{config.model.name}, batch {batch}: pass {number + 1} of {request.warmup + repeats}")
        for taken, contender in zip(
            times, contenders, strict=True
        ):  # in turn: a slow minute slows them all
            passed = timed(loaded, contender, batches, steps)
            if number >= request.warmup:
                taken.append(passed)
    common = _common(request, config, loaded, batch, steps, samples, repeats)
    rows = [
        _row(*each, times[0], known[0]) | common
        for each in zip(contenders, times, known, strict=True)
    ]
    model = (
        f"{config.model.name} ({config.model.weights} weights, {common['layers']} decoder layers)"
    )
    title = f"{model}, {common['image']} {config.pixels}, batch {batch}, {steps} new tokens"
    return Table(title, rows, environment(loaded.device))


def _common(
    request: Request,
    config: RunConfig,
    loaded: LoadedModel,
    batch: int,
    steps: int,
    samples: int,
    repeats: int,
) -> dict[str, Any]:
    """What all rows of a table share."""
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters())
    return {
        "model": config.model.name,
        "family": config.model.family,
        "weights": config.model.weights,
        "weights_mib": weights / 2**20,
        "layers": len(loaded.family.text_model.layers),
        "dtype": config.model.dtype,
        "attn": attention_of(loaded.family.text_model),
        "pixels": config.pixels,
        "image": Path(request.image).name
        if isinstance(request.image, str)
        else "x".join(map(str, request.image)),
        "batch": batch,
        "new_tokens": steps,
        "samples": samples,
        "warmup": request.warmup,
        "repeats": repeats,
        "protocol": request.protocol,
    }


def _row(
    contender: Contender,
    times: Sequence[Times],
    known: Facts,
    vanilla: Sequence[Times],
    full: Facts,
) -> dict[str, Any]:
    record = known.record
    spans = {span: summary([1000 * getattr(passed, span) for passed in times]) for span in SPANS}
    before, after = (found.vision_tflops + found.tflops for found in (full, known))
    return {
        "method": contender.name,
        "budget": contender.label,
        "tokens_in": record.visual_tokens,
        "kept": record.kept,
        "text_tokens": record.text_tokens,
        **{f"{span}_ms": found for span, found in spans.items()},
        "speedup": _ratio(vanilla, times, "total"),
        "prefill_speedup": _ratio(vanilla, times, "prefill"),
        "predicted_speedup": before / after,
        "tflops": known.tflops,
        "tflops_ratio": known.tflops / full.tflops,
        "method_tflops": known.method_tflops,
        "vision_tflops": known.vision_tflops,
        "peak_mib": known.peak_mib,
        "kv_mib": known.kv_mib,
        "scores": reads(contender),
        "timing_depends_on_data": contender.method.data_timed,
        "notes": list(known.notes),
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles.

    >>> summary([3.0, 1.0, 2.0])
    {'median': 2.0, 'low': 1.5, 'high': 2.5}
    """
    low, _, high = (
        quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    )
    return {"median": median(values), "low": low, "high": high}


def _ratio(vanilla: Sequence[Times], times: Sequence[Times], span: str) -> dict[str, float]:
    """Vanilla's time over the method's, repeat by repeat."""
    return summary(
        [
            getattr(base, span) / getattr(passed, span)
            for base, passed in zip(vanilla, times, strict=True)
        ]
    )


def reads(contender: Contender) -> str:
    """What a method computes of attention beside the model's kernel."""
    needs = [stage.needs for stage in contender.method.stages(32)]
    if any(need.llm_attention or need.entering for need in needs):
        return "language model"
    return (
        "vision tower"
        if any(need.vit_attention or need.saliency or need.object_attention for need in needs)
        else "none"
    )
