"""Which methods are worth using: those that no other beats in both accuracy and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from unibench import frame
from unibench.comparison.against import APART, BLIND, CONTROLS
from unibench.errors import UsageError, unknown
from unibench.inference.record import TIMES
from unibench.inference.row import columns
from unibench.stats import drop, estimate
from unibench.stats.interval import Array, Estimate, picture_sums


def _total(*sums: Array, axis: int = -1) -> Any:
    return sums[0].sum(axis) / sums[-1].sum(axis)


def _seconds(*sums: Array, axis: int = -1) -> Any:
    return sums[0].sum(axis) / 1000


def _per_step(times: Array, steps: Array, _: Array, axis: int = -1) -> Any:
    return times.sum(axis) / steps.sum(axis)


def _median(values: Array, _: Array, axis: int = -1) -> Any:
    return np.median(values, axis)


def _column(name: str) -> Callable[[pd.DataFrame], list[pd.Series[float]]]:
    return lambda samples: [samples[name].astype(float)]


def _decoding(samples: pd.DataFrame) -> list[pd.Series[float]]:
    steps = samples["new_tokens"].astype(float) - 1
    return [samples["decode_ms"].astype(float).where(steps > 0, 0.0), steps]


def _processed(samples: pd.DataFrame) -> list[pd.Series[float]]:
    return [samples["processed"].map(np.mean).astype(float)]


COSTS: Mapping[str, tuple[Callable[[pd.DataFrame], list[pd.Series[float]]], Callable[..., Any]]] = {
    "prefill_ms": (_column("prefill_ms"), _median),
    "vision_ms": (_column("vision_ms"), _median),
    "method_ms": (_column("method_ms"), _median),
    "total_s": (_column("total_ms"), _seconds),
    "decode_ms_per_token": (_decoding, _per_step),
    "tflops": (_column("tflops"), _total),
    "kv_mib": (_column("kv_mib"), _total),
    "equiv_tokens": (_processed, _total),
}
"""Column of the frame -> what it takes of each sample, and how samples make the column; lower is
better."""
columns(*COSTS)


@dataclass(frozen=True)
class Candidate:
    """A method at one budget, over the tasks of a folder.

    Attributes:
        name: method and parameters.
        budget: as written, with its mode.
        tasks: number of them.
        drop: mean over tasks, per cent.
        cost: mean over tasks, in the unit of the metric.
        control: whether it is no method but a control, see :mod:`unibench.controls`.
    """

    name: str
    budget: str
    tasks: int
    drop: Estimate
    cost: Estimate
    control: bool = False


@dataclass(frozen=True)
class Rival:
    """A control that costs no more than a candidate of the front, which is not better than it
    beyond doubt.

    Attributes:
        candidate: of the front.
        control: the rival of the least drop.
        low, high: 95 % interval of the control's drop minus the candidate's, paired, in per cent
            of vanilla.
    """

    candidate: Candidate
    control: Candidate
    low: float
    high: float


@dataclass(frozen=True)
class Recommendation:
    """The answer for one model on one device.

    Attributes:
        model: its name, and its condition where it has several.
        device: on which costs were measured.
        vanilla: cost of the unpruned model.
        front: admissible candidates that no other admissible one beats in drop and cost, cheapest
            first.
        admissible, tried: numbers of candidates.
        nearest: the candidate of the least drop, for the case that none is admissible.
        incomplete: candidates left out because they were not run on all tasks.
        rivals: of the methods of the front, those that do not beat a control.
        controlled: whether any control was run on all tasks.
    """

    model: str
    device: str
    vanilla: Estimate
    front: list[Candidate]
    admissible: int
    tried: int
    nearest: Candidate
    incomplete: list[str]
    rivals: list[Rival]
    controlled: bool

    @property
    def best(self) -> Candidate | None:
        """The cheapest of the front; the unpruned model, unless it has no such cost at all, beats
        one that costs no less and answers no better.
        """
        full = self.vanilla.value
        worth = (
            one for one in self.front if not full or one.cost.value < full or one.drop.value < 0
        )
        return next(worth, None)


def recommend(cells: pd.DataFrame, *, max_drop: float, metric: str) -> list[Recommendation]:
    """For each model, condition and device, the front of drop and cost among candidates that lose
    no more than ``max_drop`` per cent.

    Args:
        cells: a frame of :func:`unibench.frame.load`.
        max_drop: relative, mean over tasks.
        metric: one of :data:`COSTS`.

    Raises:
        UsageError: an unknown metric, or one that was not measured; nothing to choose from; vanilla
            answers nothing right, so that no drop is defined; or several data sets of a task or
            versions of a method, which are never mixed.
    """
    if metric not in COSTS:
        raise unknown("metric", metric, COSTS)
    lines = frame.whole(cells)
    found = [
        _recommendation(name, str(device), group, max_drop, metric)
        for name, part in frame.conditions(lines)
        for device, group in part.groupby("device", sort=False)
        if {"vanilla"} < set(group["method"])
    ]
    if not found:
        raise UsageError(
            "nothing to recommend: no model has vanilla and another method among the finished cells"
        )
    return found


def _recommendation(
    model: str, device: str, lines: pd.DataFrame, max_drop: float, metric: str
) -> Recommendation:
    joined = frame.over_seeds(lines, intervals=False)
    frame.check_alike(joined, "a recommendation")
    vanilla = frame.vanillas(joined)
    tables = {setting: _samples(folder) for setting, folder in vanilla["folder"].items()}
    for task, table in zip(vanilla["task"], tables.values(), strict=True):
        if not table["score"].any():
            raise UsageError(
                f"nothing to recommend: vanilla answers nothing right on {task}, so a drop relative"
                " to it is not defined; leave that task out with task="
            )
    groups = list(
        joined[(joined["method"] != "vanilla") & joined["setting"].isin(vanilla.index)].groupby(
            "candidate", sort=False
        )
    )
    complete = [group for _, group in groups if set(group["setting"]) == set(vanilla.index)]
    if not complete:
        raise UsageError(
            f"{model}: no method was run on all of the {len(vanilla)} tasks that vanilla was run"
            " on; choose with task="
        )
    full = _mean([cost(table, metric) for table in tables.values()])
    contenders = [_candidate(group, tables, metric) for group in complete]
    # a floor is no way to answer, and a blurred picture costs what the whole one does
    candidates = [one for one in contenders if one.name not in (*BLIND, "resize_blur")]
    if not candidates:
        raise UsageError(f"{model}: nothing but vanilla and floors was run; add a method")
    if not all(isfinite(one.cost.value) for one in candidates) or not isfinite(full.value):
        raise UsageError(
            f"{metric} was not measured in all of these results (timing=false); take one that is"
            " counted: tflops, kv_mib or equiv_tokens"
        )
    good = [one for one in candidates if one.drop.value <= max_drop]
    front = [one for one in good if not any(_beats(other, one) for other in good)]
    controls = [one for one in contenders if one.control]
    missing = [group.iloc[0] for _, group in groups if set(group["setting"]) != set(vanilla.index)]
    return Recommendation(
        model=model,
        device=device,
        vanilla=full,
        front=sorted(front, key=lambda one: one.cost.value),
        admissible=len(good),
        tried=len(candidates),
        nearest=min(candidates, key=lambda one: one.drop.value),
        incomplete=[f"{first['method']} {first['budget']}" for first in missing],
        rivals=[rival for one in front if (rival := _rival(one, controls)) is not None],
        controlled=bool(controls),
    )


def _rival(one: Candidate, controls: Sequence[Candidate]) -> Rival | None:
    """The strongest control that a method of the front does not beat at its own cost."""
    found = []
    for control in () if one.control else controls:
        if control.cost.value > one.cost.value:
            continue
        # both drops were drawn with one seed over the same pictures, so the draws are pairs
        low, high = np.nanquantile(control.drop.draws - one.drop.draws, [0.025, 0.975])
        if not low > 0:
            found.append(Rival(one, control, float(low), float(high)))
    return min(found, key=lambda rival: rival.control.drop.value, default=None)


def _candidate(group: pd.DataFrame, vanilla: Mapping[Any, pd.DataFrame], metric: str) -> Candidate:
    drops, costs = [], []
    for _, line in group.iterrows():
        full, pruned = vanilla[line["setting"]], _samples(line["folder"])
        both = full.join(pruned["score"], how="inner", rsuffix="_pruned")
        if both.empty:
            raise frame.no_common_sample("vanilla", line["folder"])
        drops.append(
            drop(both["score"].tolist(), both["score_pruned"].tolist(), both["group"].tolist())
        )
        costs.append(cost(pruned, metric))
    first = group.iloc[0]
    name = "+".join(part for part in (first["method"], first["variant"]) if part)
    budget = (
        first["budget"]
        if first["budget_mode"] == "at_stage"
        else f"{first['budget']} {first['budget_mode']}"
    )
    control = first["method"] in (*CONTROLS, *APART)
    return Candidate(name, budget, len(group), _mean(drops), _mean(costs), control)


def cost(samples: pd.DataFrame, metric: str) -> Estimate:
    """One cost of a cell with its interval. Samples are drawn for times, whatever picture they
    share: they are taken one by one.
    """
    columns, statistic = COSTS[metric]
    sums = picture_sums(
        [column.tolist() for column in columns(samples)], [str(name) for name in samples.index]
    )
    return estimate(sums, statistic)


def _samples(folders: Sequence[str]) -> pd.DataFrame:
    """Samples of a cell; of several seeds, the means of their numbers."""
    tables = [frame.samples(folder) for folder in folders]
    first = tables[0].copy()
    for name in ("score", *TIMES, "new_tokens", "tflops", "kv_mib"):
        if len(tables) == 1:
            first[name] = first[name].astype(float)
            continue
        first[name] = pd.concat(
            [table[name].astype(float) for table in tables], axis=1, join="inner"
        ).mean(axis=1)
    return first


def _mean(parts: Sequence[Estimate]) -> Estimate:
    """The mean over tasks; tasks are drawn independently of each other."""
    draws = np.mean([part.draws for part in parts], axis=0)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Estimate(float(np.mean([part.value for part in parts])), float(low), float(high), draws)


def _beats(one: Candidate, other: Candidate) -> bool:
    """No worse in both, better in one."""
    no_worse = one.drop.value <= other.drop.value and one.cost.value <= other.cost.value
    return no_worse and (one.drop.value < other.drop.value or one.cost.value < other.cost.value)
