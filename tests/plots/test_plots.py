"""Plots show the numbers of the frame: read back from the axes, and from the files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tests.support.frames import identified
from tests.support.turns import some_of
from unibench.errors import UsageError
from unibench.plots import canvas, costs, ranks, scores, studies

METHODS = ("vanilla", "divprune", "fastv", "random_pre")
RATIOS = (0.667, 0.778, 0.889)
ABILITIES = ("all", "reading", "counting", "existence")
TASKS = ("mme", "pope", "ocrbench")


def drawn(line: Line2D) -> tuple[list[Any], list[Any]]:
    """Where a line goes."""
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata(), dtype=float).tolist()


def frame() -> pd.DataFrame:
    """Results of one model: four methods, three ratios, three tasks, four abilities."""
    lines = []
    for task_number, task in enumerate(TASKS):
        for number, method in enumerate(METHODS):
            for ratio in (0.0,) if method == "vanilla" else RATIOS:
                for extra, ability in enumerate(ABILITIES):
                    score = 90.0 - 30 * ratio * number - 2 * extra - task_number
                    lines.append(
                        {
                            "model": "tiny_x", "task": task, "method": method, "variant": "", "ratio": ratio, "budget": f"{ratio:g}",
                            "budget_mode": "at_stage", "main": True, "ability": ability, "score_100": score, "low": score - 3,
                            "high": score + 2, "retention_pct": score / 0.9, "drop_pct": 100 - score / 0.9,
                            "prefill_ms": 100 - 60 * ratio + number, "vision_ms": 30.0, "method_ms": float(number),
                            "total_s": 9.0, "tflops": 2 - ratio, "kv_mib": 50 - 40 * ratio,
                            "peak_mib": np.nan,
                        }
                    )  # fmt: skip
    return identified(pd.DataFrame(lines))


def test_a_curve_is_the_scores_of_its_method_against_the_ratio() -> None:
    figure = scores.by_ratio(frame(), "pope")
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert set(panels) == set(ABILITIES)
    curves: dict[str, Any] = {
        str(container.get_label()): container for container in panels["reading"].containers
    }
    line = curves["fastv"].lines[0]
    assert drawn(line)[0] == list(RATIOS)
    wanted = frame().query("task == 'pope' and ability == 'reading' and method == 'fastv'")[
        "score_100"
    ]
    np.testing.assert_allclose(drawn(line)[1], wanted)
    (bars,) = curves["fastv"].lines[2]
    ends = np.array(bars.get_segments(), dtype=float)[:, :, 1]
    np.testing.assert_allclose(ends, np.stack([wanted - 3, wanted + 2], 1))
    assert canvas.TOY in figure.get_suptitle()


def test_a_heat_map_writes_every_number() -> None:
    figure = scores.heat_map(frame(), "drop_pct")
    panel = figure.axes[0]
    written = {text.get_text() for text in panel.texts}
    wanted = frame().query("ability == 'all' and method != 'vanilla'")["drop_pct"]
    assert written == {f"{number:.1f}" for number in wanted} and len(panel.texts) == len(wanted)


def test_a_radar_closes_and_holds_each_task() -> None:
    panel = scores.radar(frame(), "0.889").axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == sorted(TASKS)
    for line in panel.lines:
        heights = drawn(line)[1]
        assert heights[0] == heights[-1] and len(heights) == len(TASKS) + 1


def test_a_radar_shows_scores_above_vanilla_whole() -> None:
    panel = scores.radar(frame().assign(retention_pct=150.0), "0.889").axes[0]
    assert panel.get_ylim()[1] > 150


def test_a_radar_over_abilities_leaves_the_whole_out() -> None:
    panel = scores.radar(frame(), "0.889", spokes="ability").axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == sorted(
        set(ABILITIES) - {"all"}
    )


def test_sizes_stand_in_the_order_given() -> None:
    both = identified(pd.concat([frame().assign(model="large"), frame().assign(model="small")]))
    panel = scores.sizes(both, ["small", "large", "absent"], "0.889").axes[0]
    assert all(drawn(line)[0] == ["small", "large"] for line in panel.lines) and len(
        panel.lines
    ) == len(METHODS)


def test_sizes_are_compared_on_the_tasks_that_all_have() -> None:
    both = pd.concat(
        [frame().assign(model="large"), frame().query("task != 'mme'").assign(model="small")]
    )
    table = scores.size_table(both, ["small", "large"], "0.889")
    assert table["small"].tolist() == table["large"].tolist()
    with pytest.raises(UsageError, match="no task is finished for every"):
        scores.size_table(
            both.query("model == 'small' or task == 'mme'"), ["small", "large"], "0.889"
        )


def test_the_front_holds_what_no_other_point_beats() -> None:
    points = pd.DataFrame(
        {"prefill_ms": [1.0, 2.0, 2.0, 3.0, 4.0], "score_100": [10.0, 30.0, 20.0, 25.0, 40.0]}
    )
    assert costs.front(points, "prefill_ms")["score_100"].tolist() == [10.0, 30.0, 40.0]


def test_memory_that_was_not_measured_is_said_so() -> None:
    with pytest.raises(UsageError, match="peak_mib was not measured"):
        costs.pareto(frame(), "mme", "peak_mib")
    with pytest.raises(UsageError, match="Did you mean prefill_ms"):
        costs.pareto(frame(), "mme", "prefil_ms")


def test_no_budget_covers_another_and_the_front_bears_its_own() -> None:
    crowded = frame().assign(tflops=1.0)
    crowded.loc[crowded["method"] == "vanilla", "tflops"] = 3.0
    panel = costs.pareto(crowded, "mme", "tflops").axes[0]
    boxes = [text.get_window_extent() for text in panel.texts]
    assert boxes and not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    points = crowded.query("task == 'mme' and ability == 'all'")
    best = points.loc[points.query("tflops == 1")["score_100"].idxmax()]
    assert (str(best["budget"]), (1.0, best["score_100"])) in [
        (text.get_text(), text.xy) for text in panel.texts
    ]


def test_times_that_were_not_measured_are_no_bars() -> None:
    with pytest.raises(UsageError, match="prefill_ms was not measured"):
        costs.bars(frame().assign(prefill_ms=float("nan")), "mme")


def test_bars_add_up_to_the_prefill() -> None:
    figure = costs.bars(frame(), "mme")
    last: Any = figure.axes[0].containers[-1]
    tops = [patch.get_y() + patch.get_height() for patch in last]
    np.testing.assert_allclose(
        tops, frame().query("task == 'mme' and ability == 'all'")["prefill_ms"]
    )
    assert "KV cache" in figure.axes[1].get_ylabel()


def test_budgets_of_two_kinds_are_never_in_one_plot() -> None:
    mixed = identified(pd.concat([frame(), frame().assign(budget_mode="layer_average")]))
    for plot in (
        lambda: scores.by_ratio(mixed, "mme"),
        lambda: costs.pareto(mixed, "mme"),
        lambda: ranks.critical_difference(mixed, "0.889"),
    ):
        with pytest.raises(UsageError, match=r"at_stage and layer_average.*budget\.mode"):
            plot()


def test_nothing_to_plot_is_one_line() -> None:
    with pytest.raises(UsageError, match="no finished cell"):
        scores.by_ratio(frame(), "gqa")
    with pytest.raises(UsageError, match="only vanilla"):
        scores.heat_map(frame().query("method == 'vanilla'"))
    with pytest.raises(UsageError, match="three methods"):
        ranks.critical_difference(frame().query("method != 'fastv'"), "0.889")


def test_a_sweep_is_ordered_by_its_value() -> None:
    lines = pd.DataFrame(
        {"value": [0.9, 0.1, 0.5], "curve": "all", "budget": "0.889", "score_100": [3.0, 1.0, 2.0]}
    )
    (line,) = studies.sweep(lines, "mmr_lambda", "tiny_x").axes[0].lines
    assert drawn(line) == ([0.1, 0.5, 0.9], [1.0, 2.0, 3.0])


DRAWN: dict[str, Callable[[], Figure]] = {
    "by_ratio": lambda: scores.by_ratio(frame(), "mme"),
    "heat_map": lambda: scores.heat_map(frame()),
    "radar": lambda: scores.radar(frame(), "0.778"),
    "pareto": lambda: costs.pareto(frame(), "mme", "tflops"),
    "bars": lambda: costs.bars(frame(), "mme"),
    "critical_difference": lambda: ranks.critical_difference(frame(), "0.889"),
}


@some_of("name", DRAWN, 3)
def test_a_plot_is_written_the_same_twice_in_every_format(name: str, tmp_path: Path) -> None:
    first, second = (
        canvas.save(DRAWN[name](), tmp_path / folder / f"{name}.svg").read_bytes()
        for folder in ("a", "b")
    )
    assert first == second
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert canvas.save(DRAWN[name](), tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert canvas.save(DRAWN[name](), tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Known: pdf, png, svg"):
        canvas.save(DRAWN["bars"](), tmp_path / "x.gif")


def test_vanilla_looks_the_same_beside_any_methods() -> None:
    found = [canvas.looks(["vanilla", *methods]) for methods in (["fastv"], ["aim", "dart"])]
    assert found[0]["vanilla"] == found[1]["vanilla"]
    assert all(
        one["vanilla"] not in [one[name] for name in one if name != "vanilla"] for one in found
    )
