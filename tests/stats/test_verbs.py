"""``compare`` and ``recommend`` on folders whose answer is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stats._cells import finished
from unibench import frame
from unibench.cli import main
from unibench.comparison.recommend import recommend

N = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vanilla 36 of 40 right; good 35, bad 20, random 24 and 26; good costs more than bad, slow
    more than both.
    """
    out: Path = tmp_path_factory.mktemp("whole")
    finished(out, [1.0] * 36 + [0.0] * 4, "method=vanilla", milliseconds=100)
    finished(out, [1.0] * 35 + [0.0] * 5, "method=divprune", "ratio=0.889", milliseconds=40)
    finished(out, [1.0] * 20 + [0.0] * 20, "method=fastv", "ratio=0.889", milliseconds=30)
    finished(out, [1.0] * 35 + [0.0] * 5, "method=dart", "ratio=0.889", milliseconds=60)
    for seed, right in ((0, 24), (1, 26)):
        finished(
            out,
            [1.0] * right + [0.0] * (N - right),
            "method=random_pre",
            "ratio=0.889",
            f"seed={seed}",
            milliseconds=20,
        )
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path, dirs_exist_ok=True))


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["compare", *words, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_two_cells_of_two_budgets_are_shown_with_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, [1.0] * 36 + [0.0] * 4, "method=vanilla")
    words = []
    for method, budget, right in (("divprune", "0.889", 35), ("fastv", "0.5", 20)):
        scores = [1.0] * right + [0.0] * (N - right)
        words.append(str(finished(tmp_path, scores, f"method={method}", f"ratio={budget}")))
    (found,) = compared(capsys, *words, f"out={tmp_path}")
    assert found["budget"] == "0.889 / 0.5"
    assert (found["first_budget"], found["second_budget"]) == ("0.889", "0.5")
    assert main(["compare", *words, f"out={tmp_path}"]) == 0
    pairs, sides = capsys.readouterr().out.split("against vanilla")
    assert "0.889 / 0.5" in " ".join(pairs.split())
    (fastv,) = [line for line in sides.splitlines() if "fastv" in line]
    assert "0.5" in fastv and "0.889" not in fastv


def test_two_methods_are_compared_on_the_same_samples(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = compared(capsys, "divprune", "fastv", f"out={out}")
    assert (found["first"], found["second"], found["test"], found["n"]) == (
        "divprune",
        "fastv",
        "McNemar",
        N,
    )
    assert (found["first_100"], found["second_100"], found["difference"]) == (87.5, 50.0, -37.5)
    assert (
        (found["won"], found["lost"]) == (0, 15)
        and found["p"] == pytest.approx(2 / 2**15)
        and found["p_holm"] == found["p"]
    )
    assert found["low"] < -37.5 < found["high"] < 0
    assert found["second_drop_pct"][0] == pytest.approx(100 * 16 / 36)
    assert found["second_loyalty"][0] == pytest.approx(24 / N) and found["second_flips"] == {
        "lost": 0.4,
        "won": 0.0,
    }


def test_seeds_are_averaged_before_the_test(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = compared(capsys, "divprune", "random_pre", f"out={out}")
    assert (found["second_seeds"], found["second_100"], found["test"]) == (2, 62.5, "sign flips")


def test_vanilla_meets_every_budget_and_p_values_are_corrected_together(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(capsys, "vanilla", "divprune", "fastv", f"out={out}")
    assert [(one["first"], one["second"]) for one in found] == [
        ("vanilla", "divprune"),
        ("vanilla", "fastv"),
        ("divprune", "fastv"),
    ]
    assert found[0]["p"] == 1 and all(one["p_holm"] >= one["p"] for one in found)
    assert found[2]["p_holm"] == pytest.approx(2 * found[2]["p"])


def test_cells_are_named_by_key_or_folder(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = frame.load(out).drop_duplicates("key").set_index("method")
    (by_key,) = compared(
        capsys, cells.loc["divprune", "key"], cells.loc["fastv", "key"], f"out={out}"
    )
    (by_folder,) = compared(
        capsys, cells.loc["divprune", "folder"], cells.loc["fastv", "folder"], f"out={out}"
    )
    assert by_key["difference"] == by_folder["difference"] == -37.5


def test_variants_are_told_apart(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(out, [1.0] * 30 + [0.0] * 10, "method=fastv", "method.layer=3", "ratio=0.889")
    (found,) = compared(capsys, "fastv", "fastv+layer=3", f"out={out}")
    assert found["difference"] == 25.0
    assert main(["compare", "divprune", "fastv+layer=4", f"out={out}"]) == 2
    assert "Did you mean fastv+layer=3?" in capsys.readouterr().err


def test_ranks_need_and_get_two_tasks(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "divprune", "fastv", "dart", f"out={out}"]) == 0
    assert (
        "no ranks: ranks need at least 3 methods and 2 tasks, not 3 and 1"
        in capsys.readouterr().out
    )
    for name, right in (("divprune", 33), ("fastv", 30), ("dart", 31)):
        finished(out, [1.0] * right + [0.0] * (N - right), f"method={name}", "ratio=0.5")
    assert main(["compare", "divprune", "fastv", "dart", f"out={out}"]) == 0
    assert "not 3 and 1" in capsys.readouterr().out, "two budgets are not two tasks"
    for name, right in (("divprune", 30), ("fastv", 10), ("dart", 29)):
        finished(
            out,
            [1.0] * right + [0.0] * (N - right),
            f"method={name}",
            "ratio=0.889",
            "+task.options.seed=1",
        )
    assert main(["compare", "divprune", "fastv", "dart", f"out={out}"]) == 0
    assert "Friedman over 2 tasks" in capsys.readouterr().out


def test_the_front_holds_what_nothing_beats_in_drop_and_cost(out: Path) -> None:
    (found,) = recommend(frame.load(out), max_drop=50, metric="prefill_ms")
    assert [(one.name, one.cost.value) for one in found.front] == [
        ("random_pre", 20.0),
        ("divprune", 40.0),
    ]  # dart is slower, fastv worse
    assert (found.admissible, found.tried, found.vanilla.value) == (4, 4, 100.0)
    drop = found.front[1].drop
    assert drop.value == pytest.approx(100 / 36) and drop.low <= drop.value <= drop.high


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("prefill_ms", 40),
        ("vision_ms", 40),
        ("method_ms", 40),
        ("total_s", 1.6),
        ("decode_ms_per_token", 40),
        ("tflops", 1),
        ("kv_mib", 1),
    ],
)
def test_every_cost_is_the_row_s(out: Path, metric: str, expected: float) -> None:
    (found,) = recommend(frame.load(out), max_drop=5, metric=metric)
    names = {one.name: one.cost for one in found.front}
    assert names["divprune"].value == pytest.approx(expected)
    row = frame.load(out).query("method == 'divprune' and ability == 'all'").iloc[0]
    assert row[metric] == pytest.approx(names["divprune"].value)


def test_the_mean_over_tasks_counts_and_gaps_are_named(out: Path) -> None:
    finished(out, [1.0] * N, "method=vanilla", task="pope", milliseconds=100)
    half = [1.0] * 20 + [0.0] * 20
    finished(out, half, "method=divprune", "ratio=0.889", task="pope", milliseconds=80)
    (found,) = recommend(frame.load(out), max_drop=100, metric="prefill_ms")
    (one,) = found.front
    assert (
        one.tasks == 2
        and one.cost.value == 60
        and one.drop.value == pytest.approx(np.mean([100 / 36, 50]))
    )
    assert set(found.incomplete) == {"fastv 0.889", "dart 0.889", "random_pre 0.889"}


def test_nothing_is_said_of_drops_where_vanilla_answers_nothing_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, [0.0] * N, "method=vanilla")
    for method in ("divprune", "fastv"):
        finished(tmp_path, [0.0] * N, f"method={method}", "ratio=0.889")
    (found,) = compared(capsys, "divprune", "fastv", f"out={tmp_path}")
    assert found["first_drop_pct"] is found["second_drop_pct"] is None
    assert found["first_loyalty"][0] == 1
    for words in (["compare", "divprune", "fastv"], ["report"], ["report", "format=csv"]):
        assert main([*words, f"out={tmp_path}"]) == 0
        assert "nan" not in capsys.readouterr().out
    assert main(["recommend", "--metric", "tflops", f"out={tmp_path}"]) == 2
    assert "vanilla answers nothing right on synthvqa" in capsys.readouterr().err


def test_a_metric_that_was_not_measured_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"))
    finished(tmp_path, [1.0] * N, "method=vanilla", more=none)
    finished(tmp_path, [1.0] * N, "method=divprune", "ratio=0.889", more=none)
    assert main(["recommend", "--metric", "prefill_ms", f"out={tmp_path}"]) == 2
    assert "prefill_ms was not measured in all of these results" in capsys.readouterr().err
    assert main(["recommend", "--metric", "method_ms", f"out={tmp_path}"]) == 2


def test_a_cost_of_vanilla_that_is_zero_has_no_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, [1.0] * N, "method=vanilla", more={"method_ms": 0.0})
    finished(tmp_path, [1.0] * N, "method=divprune", "ratio=0.889")
    assert main(["recommend", "--metric", "method_ms", f"out={tmp_path}"]) == 0
    assert "recommended: divprune" in capsys.readouterr().out


def test_recommend_prints_the_front_and_says_when_nothing_is_good_enough(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", "--max-drop", "5", "--metric", "prefill_ms", f"out={out}"]) == 0
    assert "recommended: divprune at 0.889" in capsys.readouterr().out
    assert main(["recommend", "--max-drop=1", f"out={out}"]) == 0
    assert "none of 4 loses so little; the least is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "divprune"], "compare what?"),
        (["compare", "divprune", "fastw"], "unknown method or cell 'fastw'. Did you mean fastv?"),
        (
            ["compare", "divprune", "fastv", "modle=x"],
            "unknown setting 'modle'. Did you mean model?",
        ),
        (["compare", "divprune", "fastv", "ratio=0.5"], "unknown budget '0.5'"),
        (["compare", "divprune", "fastv", "--jsno"], "unknown option --jsno. Did you mean --json?"),
        (["recommend", "--max-drop", "little"], "--max-drop little: a number is wanted"),
        (["recommend", "--max-drop"], "--max-drop needs a value"),
        (["recommend", "--metric", "prefil_ms"], "Did you mean prefill_ms?"),
        (["recommend", "divprune"], "recommend takes no 'divprune'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    out: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"out={out}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_methods_that_never_met_say_where_they_were(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(out, [1.0] * N, "method=gprune", "ratio=0.5")
    assert main(["compare", "divprune", "gprune", f"out={out}"]) == 2
    error = capsys.readouterr().err
    assert (
        "no setting and budget in common" in error
        and "gprune: tiny_qwen2_5_vl x synthvqa x 0.5" in error
    )


def test_what_is_asked_without_a_picture_meets_every_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["method=vanilla"], ["method=divprune", "ratio=0.889"], ["control=blind"]):
        finished(tmp_path, [1.0] * N, *words)
    (found,) = compared(capsys, "divprune", "blind", f"out={tmp_path}")
    assert (found["first"], found["second"], found["budget"]) == ("divprune", "blind", "0.889")
