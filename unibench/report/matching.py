"""Which of our results stands where a paper prints a number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unibench import registry
from unibench.errors import UsageError
from unibench.report.average import best
from unibench.report.published import Column, Row

SAME_RATIO = 6e-4  # papers round shares to three or four digits
HARNESSES = {"VLMEvalKit": "vlmevalkit", "LMMs-Eval": "lmms_eval"}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "importance: VisionSelector": {"*": {"importance": "visionselector"}},
    **{f"lambda={x}": {"idpruner": {"mmr_lambda": x}, "naive_hybrid": {"weight": x}} for x in (0.1, 0.3, 0.5, 0.7, 0.9)},
    **{f"N1={x}N": {"*": {"n1": x}} for x in (0.7, 0.75, 0.8, 0.9)},
    **{f"cross-modal metric={name}": {"*": {"align": value}} for name, value in (("MI", "mi"), ("L_2", "l2"), ("cos", "cos"))},
    **{f"intra-modal metric={name}": {"*": {"intra": value}} for name, value in (("L_2", "l2"), ("cos", "cos"))},
    "ablation1: intra-modal stage before cross-modal": {"*": {"order": "repmax_first"}},
    "ablation2: cross-modal stage only": {"*": {"order": "align_only"}},
    "ablation3: intra-modal stage only": {"*": {"order": "repmax_only"}},
}
METRICS = {
    ("mme", "mme_0_100"): "mme_sum",
    ("mme", "perception"): "mme_perception",
    ("mme", "score"): "mme_perception",
    ("pope", "F1"): "pope_f1_score",
    ("pope", "precision"): "pope_precision",
    ("pope", "acc"): "pope_accuracy",
}
GIGABYTE = 2**20 / 1e9  # in MiB


@dataclass(frozen=True)
class StandIn:
    """What runs in place of the paper's model or benchmarks, as ``model=`` and ``task=`` of the experiment."""

    model: str | None = None
    task: str | None = None

    @property
    def overrides(self) -> str:
        return "".join(f" {key}={value}" for key, value in (("model", self.model), ("task", self.task)) if value)


def config_name(model: str) -> str:
    """Name under ``configs/model``.

    >>> config_name("qwen2.5-vl-7b")
    'qwen2_5_vl_7b'
    """
    return model.replace("-", "_").replace(".", "_")


def method_of(row: Row) -> tuple[str, dict[str, Any]]:
    """Our method and the parameters that set a printed line apart."""
    if "+" in row.method:
        pre, _, intra = row.method.partition("+")
        return "two_stage", {"pre": pre, "intra": intra}
    if row.method == "divprune_star":
        return "trimtokenator", {"stage2": "divprune"}
    wanted: dict[str, Any] = {}
    for text in row.setting:
        choices = SETTINGS[text]
        wanted.update(choices.get(row.method) or choices["*"])
    return row.method, wanted


class Results:
    """Our results, looked up by the lines and columns of a paper's table.

    Args:
        frame: finished cells with seeds joined, the columns of ``unibench.frame``.
        lines: of the table: parameters that tell lines of one method apart must be at their
            defaults where a line does not set them.
        standin: model or task that takes the paper's place.
    """

    def __init__(self, frame: pd.DataFrame, lines: Sequence[Row], standin: StandIn) -> None:
        self.standin = standin
        self.frame = frame[frame["ability"] == "all"]
        self.apart: dict[str, set[str]] = {}
        for row in lines:
            method, wanted = method_of(row)
            self.apart.setdefault(method, set()).update(wanted)

    def find(self, row: Row, column: Column) -> pd.Series | None:
        """The result that belongs to a printed number, or None.

        Raises:
            UsageError: several do, which differ in budget mode, judge or another setting.
        """
        found = self._line(row)
        task, metric = column
        found = found[found["task"] == (self.standin.task or task)]
        named = None if self.standin.task else METRICS.get(column)
        found = found[found["metric"] == named] if named in set(found["metric"]) else found[found["main"]] if named is None else found[:0]
        if len(found) > 1:
            raise _ambiguous(row, task, found)
        return found.iloc[0] if len(found) else None

    def score(self, row: Row, column: Column) -> float | None:
        """Our number on the paper's scale."""
        found = self.find(row, column)
        return None if found is None else self.scaled(float(found["score_100"]), column)

    def scaled(self, hundredths: float, column: Column) -> float:
        """A score out of 100 on the paper's scale."""
        return hundredths if self.standin.task else hundredths * best(*column) / 100

    def cost(self, row: Row, column: Column) -> float | None:
        """Our number where the paper prints a cost; over all benchmarks where it names none."""
        benchmark, metric = column
        found = self._line(row)
        found = found[found["main"]]
        if self.standin.task or benchmark != "efficiency":
            found = found[found["task"] == (self.standin.task or benchmark)]
        values = [value for _, line in found.iterrows() if (value := _cost(line, metric)) is not None]
        return sum(values) / len(values) if values else None

    def _line(self, row: Row) -> pd.DataFrame:
        method, wanted = method_of(row)
        frame = self.frame[(self.frame["model"] == (self.standin.model or config_name(row.model))) & (self.frame["method"] == method)]
        if not self.standin.task:
            frame = frame[frame["harness"] == HARNESSES[row.harness]]
        if method == "vanilla":
            return frame
        defaults = {key: value for key, value in registry.method(method).parameters.items() if key in self.apart[method]}
        fits = [_fits(line, {**defaults, **wanted}) and _same_budget(line, row) for _, line in frame.iterrows()]
        return frame[pd.Series(fits, index=frame.index, dtype=bool)]


def _fits(line: pd.Series, wanted: Mapping[str, Any]) -> bool:
    given = json.loads(line["params"])
    return all(given.get(key) == value for key, value in wanted.items())


def _same_budget(line: pd.Series, row: Row) -> bool:
    if not row.retention:
        return True  # the paper matches FLOPs and states no number of tokens; the experiment sets it
    return line["budget"] == f"keep{row.kept}" or abs(line["ratio"] - (1 - float(row.retention))) < SAME_RATIO


def _ambiguous(row: Row, task: str, found: pd.DataFrame) -> UsageError:
    apart = [name for name in ("budget_mode", "budget_scope", "judge", "pixels", "variant", "budget", "dtype", "attn", "batch", "n", "setting") if name in found]
    differ = [name for name in apart if found[name].astype(str).nunique() > 1]
    told = ", ".join(f"{name}={'|'.join(sorted(set(found[name].astype(str))))}" for name in differ)
    return UsageError(f"{len(found)} results for {row.method} {row.retention} on {task} must not share a table: {told}. Choose one, such as {differ[0]}=..."
                      if differ else f"{len(found)} results for {row.method} {row.retention} on {task}; choose one with key=...")  # fmt: skip


def _cost(line: pd.Series, metric: str) -> float | None:
    """A cost in the paper's unit; None for what is no measurement of ours."""
    seconds, n = float(line["total_s"]), float(line["n"])
    values = {
        "total_s": seconds,
        "prefill_s": float(line["prefill_ms"]) * n / 1000,
        "method_s": float(line["method_ms"]) * n / 1000,
        "prefill_ms": float(line["prefill_ms"]),
        "latency_ms": 1000 * seconds / n,
        "e2e_latency_ms": 1000 * seconds / n,
        "peak_memory_gb": math.nan if line["peak_mib"] is None else float(line["peak_mib"]) * GIGABYTE,
        "tflops": float(line["tflops"]),
        "flops_ratio_pct_printed": 100 * float(line["tflops_ratio"]),
    }
    value = values.get(metric, math.nan)
    return None if math.isnan(value) else value
