"""Which of our results stands where a paper prints a number."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unibench import registry
from unibench.errors import UsageError
from unibench.frame import difference
from unibench.inference.row import ALL
from unibench.report.average import best
from unibench.report.layout import Layout
from unibench.report.published import Column, Row

SAME_RATIO = 6e-4  # papers round shares to three or four digits
HARNESSES = {"VLMEvalKit": "vlmevalkit", "LMMs-Eval": "lmms_eval"}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "importance: VisionSelector": {"*": {"importance": "visionselector"}},
    **{
        f"lambda={x}": {"idpruner": {"mmr_lambda": x}, "naive_hybrid": {"weight": x}}
        for x in (0.1, 0.3, 0.5, 0.7, 0.9)
    },
    **{f"N1={x}N": {"*": {"n1": x}} for x in (0.7, 0.75, 0.8, 0.9)},
    **{
        f"cross-modal metric={name}": {"*": {"align": value}}
        for name, value in (("MI", "mi"), ("L_2", "l2"), ("cos", "cos"))
    },
    **{
        f"intra-modal metric={name}": {"*": {"intra": value}}
        for name, value in (("L_2", "l2"), ("cos", "cos"))
    },
    "ablation1: intra-modal stage before cross-modal": {"*": {"order": "repmax_first"}},
    "ablation2: cross-modal stage only": {"*": {"order": "align_only"}},
    "ablation3: intra-modal stage only": {"*": {"order": "repmax_only"}},
}
METRICS = {  # names on the task cards, where a paper does not print a card's first metric
    ("mme", "mme_0_100"): "mme_sum",
    ("mme", "perception"): "mme_perception",
    ("mme", "score"): "mme_perception",
    ("pope", "F1"): "f1",
    ("pope", "score"): "f1",  # VLMEvalKit's overall number
    ("pope", "precision"): "precision",
    ("coco_cap", "ROUGE-L"): "rouge_l",
    **{("coco_cap", f"BLEU-{n}"): f"bleu_{n}" for n in (1, 2, 3, 4)},
    ("seedbench", "all"): "accuracy_all",
}
# : Shares kept that follow from printed FLOPs where a paper states no number of tokens
# (docs/published.md).
UNSTATED = {"divprune": (0.098,), "stp": (0.098,), "vtw": (0.098,), "fastv": (0.001, 0.022)}
GIGABYTE = 2**20 / 1e9  # in MiB

Record = dict[Hashable, Any]  # one line of the frame


@dataclass(frozen=True)
class StandIn:
    """What runs in place of the paper's model or benchmarks, as ``model=`` and ``task=`` of the
    experiment.
    """

    model: str | None = None
    task: str | None = None

    @property
    def overrides(self) -> str:
        return "".join(
            f" {key}={value}"
            for key, value in (("model", self.model), ("task", self.task))
            if value
        )


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
        layout: of the table; None where every task has the name of its benchmark.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        lines: Sequence[Row],
        standin: StandIn,
        layout: Layout | None = None,
    ) -> None:
        self.standin = standin
        self._tasks = {} if layout is None else layout.tasks
        self._cells: dict[tuple[str, str], list[Record]] = {}
        self._settings: dict[tuple[str, str], Record] = {}  # the first result used of each column
        for record in frame[frame["ability"] == ALL].to_dict("records"):
            params = json.loads(record["params"])
            self._cells.setdefault((record["model"], record["method"]), []).append(
                {**record, "params": params}
            )
        varied = {} if layout is None else layout.defaults
        self._apart = {method: set(names) for method, names in varied.items()}
        for row in lines:
            method, wanted = method_of(row)
            self._apart.setdefault(method, set()).update(wanted)

    def find(self, row: Row, column: Column) -> Record | None:
        """The result that belongs to a printed number, or None.

        Raises:
            UsageError: several do; or the result is of another setting than those of other lines,
                for example of another checkpoint or other data.
        """
        task = self.standin.task or self._tasks.get(column[0], column[0])
        found = [record for record in self._line(row) if record["task"] == task]
        named = None if self.standin.task else METRICS.get(column)
        found = [
            record
            for record in found
            if (record["main"] if named is None else record["metric"] == named)
        ]
        return self._single(row, task, found)

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
        task = self.standin.task or (
            None if benchmark == "efficiency" else self._tasks.get(benchmark, benchmark)
        )
        tasks: dict[str, list[Record]] = {}
        for record in self._line(row):
            if record["main"] and task in (None, record["task"]):
                tasks.setdefault(record["task"], []).append(record)
        found = [self._single(row, name, records) for name, records in tasks.items()]
        costs = [None if record is None else _cost(record, metric) for record in found]
        values = [value for value in costs if value is not None]
        return sum(values) / len(values) if values else None

    def averaged(self, row: Row) -> bool:
        """Whether a line's budget is an average over layers."""
        return any(record["budget_mode"] == "layer_average" for record in self._line(row))

    def _single(self, row: Row, task: str, found: Sequence[Record]) -> Record | None:
        """The one result, of the same setting as those of the other lines in its column."""
        if not found:
            return None
        first = self._settings.setdefault((found[0]["model"], task), found[0])
        if len(found) > 1 or found[0]["setting"] != first["setting"]:
            raise _ambiguous(row, task, found if len(found) > 1 else [first, *found])
        return found[0]

    def _line(self, row: Row) -> list[Record]:
        method, wanted = method_of(row)
        found = self._cells.get((self.standin.model or config_name(row.model), method), [])
        if not self.standin.task:
            found = [record for record in found if record["harness"] == HARNESSES[row.harness]]
        if method == "vanilla":
            return found
        defaults = {
            key: value
            for key, value in registry.method(method).parameters.items()
            if key in self._apart[method]
        }
        fitting = {**defaults, **wanted}
        return _as_published(
            [record for record in found if _has(record, fitting) and _same_budget(record, row)]
        )


def _has(record: Record, params: Mapping[str, Any]) -> bool:
    return all(record["params"].get(key) == value for key, value in params.items())


def _same_budget(record: Record, row: Row) -> bool:
    shares = (float(row.retention),) if row.retention else UNSTATED.get(row.method, ())
    return record["budget"] == f"keep{row.kept}" or any(
        abs(1 - record["ratio"] - share) < SAME_RATIO for share in shares
    )


def _as_published(found: list[Record]) -> list[Record]:
    """Budgets at the stage, as papers mean them, where there are others as well."""
    at_stage = [record for record in found if record["budget_mode"] == "at_stage"]
    return at_stage or found


def _ambiguous(row: Row, task: str, found: Sequence[Record]) -> UsageError:
    return UsageError(
        f"{len(found)} results for {row.method} {row.retention} on {task} must not share a table:"
        f" choose one with {difference(pd.DataFrame(found))}"
    )


def _cost(line: Record, metric: str) -> float | None:
    """A cost in the paper's unit; None for what is no measurement of ours."""
    seconds, n = float(line["total_s"]), float(line["n"])
    values = {
        "total_s": seconds,
        "prefill_s": float(line["prefill_ms"]) * n / 1000,
        "method_s": float(line["method_ms"]) * n / 1000,
        "prefill_ms": float(line["prefill_ms"]),
        "latency_ms": 1000 * seconds / n,
        "e2e_latency_ms": 1000 * seconds / n,
        "peak_memory_gb": (
            math.nan if line["peak_mib"] is None else float(line["peak_mib"]) * GIGABYTE
        ),
        "tflops": float(line["tflops"]),
        "flops_ratio_pct_printed": 100 * float(line["tflops_ratio"]),
    }
    value = values.get(metric, math.nan)
    return None if math.isnan(value) else value
