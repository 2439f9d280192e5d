"""Numbers that a method takes from a model and a few samples: VTW's layer, FitPrune's recipe,
MustDrop's thresholds, D2Pruner's positional prior.

Every function runs prefills only and leaves the model as it was. ``samples`` are keyword arguments
of the model, one prompt each; tune on other samples than those a table is made of.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from unibench.api import prune
from unibench.budget import Budget, Number
from unibench.cost.accounting import equivalent_tokens
from unibench.errors import UsageError
from unibench.methods._prior import Prior
from unibench.methods.fitprune import attention_flow
from unibench.methods.mustdrop import MustDrop
from unibench.methods.vtw import VTW
from unibench.pruning import Method, Needs, Stage, StageContext
from unibench.pruning.record import PromptRecord

Samples = Iterable[Mapping[str, Any]]
MISSED = 0.1  # of the wanted mean
Flow = tuple[
    Tensor, Tensor
]  # attention that each visual token receives from the text, and from visual tokens


@dataclass(frozen=True)
class Withdrawal:
    """Where VTW may withdraw.

    Attributes:
        layer: the first layer whose mean divergence is at most ``eta``.
        first: the first layer tried.
        divergences: mean over samples, of each layer from ``first`` on.
        eta: the threshold.
    """

    layer: int
    first: int
    divergences: tuple[float, ...]
    eta: float

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the method, as a configuration takes them."""
        return {"layer": self.layer}


@dataclass(frozen=True)
class Recipe:
    """How many visual tokens FitPrune deletes after each layer.

    Attributes:
        recipe: share of the original tokens, of each decoder layer.
        alpha: share of the attention of a layer that its deletions may cost.
        average: share of the original tokens that a layer processes, mean over layers and samples.
    """

    recipe: tuple[float, ...]
    alpha: float
    average: float

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the method, as a configuration takes them."""
        return {"recipe": self.recipe}


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of MustDrop.

    Attributes:
        threshold: of both its filters.
        average: tokens that a layer processes, mean over layers and samples.
        wanted: what was asked for.
    """

    threshold: float
    average: float
    wanted: float

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the method, as a configuration takes them."""
        return {"global_threshold": self.threshold, "individual_threshold": self.threshold}


def withdrawal_layer(
    model: Any, samples: Samples, *, eta: float = 0.003, first: int = 5
) -> Withdrawal:
    """The layer from which the visual tokens are no longer needed, by the divergence of the next
    token (VTW's findk).

    Args:
        model: with ``depth`` decoder layers.
        samples: published: 20 of the task.
        eta: published: 0.003 (LLaVA-1.5-7B and others), 0.0005 (1.5-13B), 0.0001 (1.6-7B).
        first: the first layer tried; no earlier one is returned.

    Raises:
        UsageError: no layer is good enough.
    """
    depth = len(model.model.language_model.layers)
    if first >= depth:
        raise UsageError(
            f"first={first}: no layer to try, the model has {depth} (0 to {depth - 1})"
        )
    rows = []
    for inputs in samples:
        full = _last_logits(model, inputs)
        rows.append(
            divergences(
                full,
                torch.stack([_withdrawn(model, inputs, layer) for layer in range(first, depth)]),
            )
        )
    if not rows:
        raise UsageError("withdrawal_layer needs samples")
    return found(torch.stack(rows), eta, first)


def divergences(full: Tensor, withdrawn: Tensor) -> Tensor:
    """``KL(withdrawn || full)`` of next-token distributions, float32.

    Args:
        full: logits ``[V]``.
        withdrawn: logits ``[layers, V]``.

    Returns:
        ``[layers]``.
    """
    log_full, log_withdrawn = full.float().log_softmax(-1), withdrawn.float().log_softmax(-1)
    return (log_withdrawn.exp() * (log_withdrawn - log_full)).sum(-1)


def found(divergence: Tensor, eta: float, first: int) -> Withdrawal:
    """The first layer whose mean over samples of ``divergence [samples, layers]`` is at most
    ``eta``.

    Raises:
        UsageError: there is none.
    """
    means = divergence.mean(0).tolist()
    for offset, mean in enumerate(means):
        if mean <= eta:
            return Withdrawal(first + offset, first, tuple(means), eta)
    raise UsageError(
        f"eta={eta}: no layer from {first} to {first + len(means) - 1} comes that close; the least"
        f" is {min(means):.3g}"
    )


def removal_recipe(model: Any, samples: Samples, *, ratio: Number, width: float = 0.01) -> Recipe:
    """FitPrune's recipe for a mean share of tokens processed per layer: one prefill for each
    sample.

    Args:
        model: whose attention is looked at.
        samples: a few dozen.
        ratio: share REMOVED on average over layers. (The official code counts projected FLOPs.)
        width: of the interval of ``alpha`` at which the search ends.

    Raises:
        UsageError: no samples, or the layers before the first deletion alone process more.
    """
    flows = []
    for inputs in samples:
        watch = _Watch()
        with prune(model, watch), torch.no_grad():
            model(**copy.copy(dict(inputs)), use_cache=False)
        flows.append([watch.seen[layer] for layer in sorted(watch.seen)])
    if not flows or not all(flows):
        raise UsageError("removal_recipe needs samples with visual tokens")
    retention = Budget.parse(ratio=ratio).retention
    assert retention is not None
    return fit_recipe(flows, float(1 - retention), width)


def fit_recipe(flows: Sequence[Sequence[Flow]], ratio: float, width: float = 0.01) -> Recipe:
    """The smallest ``alpha``, to ``width``, whose deletions bring the mean of processed tokens to
    the target.

    After a layer, tokens go that belong both to the least that the text looks at and to the least
    that visual tokens look at, each as long as ``1 - alpha`` of what the unpruned layer gives to
    all of them is left. Statistics are those of the unpruned pass, of the tokens still present.
    Once the target is in sight, with nothing more deleted, deeper layers delete nothing.

    Args:
        flows: for each sample, of every decoder layer but the last, ``[N]`` from the text and from
            visual tokens.
        ratio: share removed on average over layers, the last one included.
        width: see above.
    """
    low, high, best = 0.0, 1.0, _deletions(flows, 1.0, 1 - ratio)
    if best.average > 1 - ratio:
        raise UsageError(
            f"ratio={ratio:g}: layer 0 processes everything, so that no recipe removes more than"
            f" {1 - best.average:.3f} on average"
        )
    while high - low > width:
        middle = (low + high) / 2
        tried = _deletions(flows, middle, 1 - ratio)
        if tried.average <= 1 - ratio:
            high, best = middle, tried
        else:
            low = middle
    return best


def thresholds(
    model: Any, samples: Samples, *, ratio: Number, steps: int = 14, method: MustDrop | None = None
) -> Thresholds:
    """One threshold for both filters of MustDrop, whose mean of processed tokens is nearest to the
    budget's.

    Args:
        model: to run.
        samples: a split of their own; the result says what was reached on it.
        ratio: share REMOVED.
        steps: halvings of the search on a logarithmic scale from 1e-6 to 1.
        method: whose other parameters are used.

    Raises:
        UsageError: no threshold comes within a tenth.
    """
    cases, budget, plain = list(samples), Budget.parse(ratio=ratio), method or MustDrop()

    def measured(threshold: float) -> Thresholds:
        tuned = replace(plain, global_threshold=threshold, individual_threshold=threshold)
        records = _records(model, tuned, cases)
        wanted = fmean(budget.keep(record.visual_tokens) for record in records)
        return Thresholds(
            threshold, fmean(equivalent_tokens(record.processed) for record in records), wanted
        )

    low, high = math.log(1e-6), 0.0
    tried = [measured(1.0)]
    for _ in range(steps):
        tried.append(measured(math.exp((low + high) / 2)))
        if tried[-1].average > tried[-1].wanted:
            low = (low + high) / 2
        else:
            high = (low + high) / 2
    best = min(tried, key=lambda one: (abs(one.average - one.wanted), one.threshold))
    if abs(best.average - best.wanted) > MISSED * best.wanted:
        raise UsageError(
            f"ratio={ratio}: mustdrop comes no nearer to {best.wanted:.1f} tokens per layer than"
            f" {best.average:.1f}; if that is fewer, windows alone remove too much (raise"
            " similarity), if more, cut earlier or lower key_share"
        )
    return best


def positional_prior(model: Any, samples: Samples, *, layer: int = 1) -> Prior:
    """D2Pruner's prior: the attention of the last prompt token by place, mean over samples.

    Args:
        model: whose attention is looked at.
        samples: published: 1,000 pictures of COCO, with one general question.
        layer: of the decoder; the method's cut is at the input of the next.

    Returns:
        One grid for each size seen. Tiles of one size are averaged: the prior knows a token's place
        in its tile, not the tile.

    Raises:
        UsageError: no samples with visual tokens.
    """
    gaze, count = _Gaze(layer), 0
    for inputs in samples:
        with prune(model, gaze), torch.no_grad():
            model(**copy.copy(dict(inputs)), use_cache=False, logits_to_keep=1)
        count += 1
    if not gaze.sums:
        raise UsageError("positional_prior needs samples with visual tokens")
    grids = {size: total / gaze.counts[size] for size, total in gaze.sums.items()}
    return Prior(grids, {"layer": str(layer), "samples": str(count)})


@dataclass(frozen=True)
class _Gaze(Method):
    """Keeps everything and sums what the last prompt token attends to, by size of grid."""

    layer: int
    sums: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    counts: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def uses_budget(self) -> bool:
        return False

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(self.layer + 1, self._look, Needs(llm_attention=(self.layer,)))]

    def _look(self, ctx: StageContext) -> None:
        seen = ctx.attention(self.layer)[:, 0].mean(0)
        for grid in ctx.grids():
            if not grid.separators:
                size = grid.height, grid.width
                values = seen[grid.rows].view(size).cpu()
                self.sums[size] = self.sums.get(size, torch.zeros(size)) + values
                self.counts[size] = self.counts.get(size, 0) + 1


@dataclass(frozen=True)
class _Watch(Method):
    """Keeps everything and notes the attention that visual tokens receive at every layer but the
    last.
    """

    seen: dict[int, Flow] = field(default_factory=dict)

    @property
    def uses_budget(self) -> bool:
        return False

    def stages(self, depth: int) -> Sequence[Stage]:
        return [
            Stage(layer, self._look, Needs(llm_attention=(layer - 1,))) for layer in range(1, depth)
        ]

    def _look(self, ctx: StageContext) -> None:
        cross, own = attention_flow(ctx, ctx.layer - 1)
        self.seen[ctx.layer - 1] = cross.cpu(), own.cpu()


def _deletions(flows: Sequence[Sequence[Flow]], alpha: float, target: float) -> Recipe:
    depth = len(flows[0]) + 1
    present = [torch.ones(len(sample[0][0]), dtype=torch.bool) for sample in flows]
    recipe, entered = [0.0] * depth, 1.0  # everything enters layer 0
    share = 1.0
    for layer in range(depth - 1):
        if (entered + share * (depth - 1 - layer)) / depth > target:
            gone = [
                _least(*sample[layer], kept, alpha)
                for sample, kept in zip(flows, present, strict=True)
            ]
            recipe[layer] = fmean(float(rows.sum()) / len(rows) for rows in gone)
            present = [kept & ~rows for kept, rows in zip(present, gone, strict=True)]
            share = fmean(float(kept.float().mean()) for kept in present)
        entered += share
    return Recipe(tuple(recipe), alpha, entered / depth)


def _least(cross: Tensor, own: Tensor, present: Tensor, alpha: float) -> Tensor:
    """``[N]`` True on present tokens that both kinds of attention can do without."""
    gone = present.clone()
    for given in (cross, own):
        order = torch.where(present, given, torch.inf).argsort(stable=True)[: int(present.sum())]
        left = given[present].sum() - given[order].cumsum(0)
        spared = int((left >= (1 - alpha) * given.sum()).sum())
        few = torch.zeros_like(present)
        few[order[: max(0, spared - 1)]] = True  # one fewer, as the official code has it
        gone &= few
    return gone


def _last_logits(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**copy.copy(dict(inputs)), use_cache=False, logits_to_keep=1).logits
    return logits[0, -1]


def _withdrawn(model: Any, inputs: Mapping[str, Any], layer: int) -> Tensor:
    with prune(model, VTW(layer)):
        return _last_logits(model, inputs)


def _records(model: Any, method: Method, samples: Samples) -> list[PromptRecord]:
    with prune(model, method) as session, torch.no_grad():
        for inputs in samples:
            model(**copy.copy(dict(inputs)), logits_to_keep=1)
    return session.take_records()
