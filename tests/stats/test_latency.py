"""Settings within a budget of time and memory, on profiles and results whose answer is known."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stats._cells import finished
from unibench import frame
from unibench.cli import main, profiling
from unibench.comparison.latency import Setting, code_of, priced, profiles, within
from unibench.errors import UsageError
from unibench.profile import Request
from unibench.profile.measure import Table

N = 40
SAME = {"image": "336x336", "batch": 1, "text_tokens": 20, "new_tokens": 8, "protocol": "unibench"}
COSTS = {  # prefill ms, peak MiB
    ("vanilla", "0"): (100.0, 900.0),
    ("divprune", "0.889"): (40.0, 300.0),
    ("divprune", "0.5"): (60.0, 500.0),
    ("fastv", "0.889"): (35.0, 700.0),
}
RIGHT = {  # of 40, vanilla 40
    ("divprune", "0.889"): 36,
    ("divprune", "0.5"): 39,
    ("fastv", "0.889"): 38,
    ("dart", "0.889"): 40,  # never profiled
}


def profiled(out: Path, costs: Mapping[tuple[str, str], tuple[float, float]], **more: Any) -> None:
    cells = frame.load(out)
    place = {name: str(cells.iloc[0][name]) for name in ("model", "dtype", "attn", "pixels")}
    rows = [
        {
            **{"method": method, "budget": budget, "peak_mib": peak, **SAME, **place, **more},
            "prefill_ms": {"median": prefill, "low": prefill, "high": prefill},
        }
        for (method, budget), (prefill, peak) in costs.items()
    ]
    (out / "profile").mkdir(exist_ok=True)
    number = len(list((out / "profile").iterdir()))
    table = {"title": "made up", "rows": rows, "environment": {"device": "a GPU"}}
    (out / "profile" / f"{number}.json").write_text(json.dumps(table))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    # the clock of these runs says nothing: all took as long
    finished(folder, [1.0] * N, "method=vanilla", milliseconds=1)
    for (method, budget), right in RIGHT.items():
        scores = [1.0] * right + [0.0] * (N - right)
        finished(folder, scores, f"method={method}", f"ratio={budget}", milliseconds=1)
    profiled(folder, COSTS)
    return folder


@pytest.mark.parametrize(
    ("limits", "most", "best"),
    [
        ({"prefill_ms": 70.0}, 6.0, ("divprune", "0.5")),  # 2.5 % below vanilla
        ({"prefill_ms": 50.0}, 6.0, ("fastv", "0.889")),  # 5 %
        ({"prefill_ms": 50.0, "peak_mib": 400.0}, 12.0, ("divprune", "0.889")),  # 10 %
        ({"prefill_ms": 50.0, "peak_mib": 400.0}, 6.0, None),
        ({"prefill_ms": 30.0}, 100.0, None),
    ],
)
def test_the_least_drop_within_the_budget_is_recommended(
    out: Path, limits: dict[str, float], most: float, best: tuple[str, str] | None
) -> None:
    (found,) = within(frame.load(out), profiles(out), limits, most)
    chosen = found.best
    assert (None if chosen is None else (chosen.name, chosen.budget)) == best
    assert found.unprofiled == ("dart at 0.889",)


def test_where_the_unpruned_model_fits_nothing_has_to_be_pruned(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recommend", "--max", "prefill_ms=100", "--max-drop", "6", f"out={out}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "the unpruned model has prefill_ms <= 100: nothing has to be pruned" in said
    assert "recommended" not in said and "unibench.prune" not in said
    (full,) = [line.split() for line in said.splitlines() if line.strip().startswith("vanilla")]
    assert full[-1] == "yes"
    assert main([*words, "--max", "peak_mib=899"]) == 0
    said = capsys.readouterr().out
    assert "recommended within prefill_ms <= 100, peak_mib <= 899: divprune at 0.5" in said


def test_the_command_ends_with_the_code_that_uses_it(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recommend", "--max", "prefill_ms=50", "--max-drop", "6", f"out={out}"]
    assert main(words) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert sum(line.rstrip().endswith("no: drop") for line in lines) == 1  # divprune 0.889
    assert any(line.rstrip().endswith("no: prefill_ms") for line in lines)
    assert lines[-3:] == [
        "import unibench",
        'with unibench.prune(model, "fastv", processor=processor, ratio=0.889):',
        "    generated = model.generate(**inputs)",
    ]
    assert main([*words, "--max", "peak_mib=400"]) == 1
    assert "none has prefill_ms <= 50, peak_mib <= 400" in capsys.readouterr().out


def test_the_code_of_a_setting_is_python_and_runs_nothing_that_a_store_says() -> None:
    def code(method: str, params: dict[str, Any], budget: str, mode: str = "at_stage") -> str:
        return code_of(Setting(method, method, params, budget, mode, 1, 0.0, {}, True))

    for made in (
        code("fastv", {"layer": "3"}, "7of9"),
        code("fastv", {}, "keep64", "layer_average"),
        code('x"); print(1); ("', {}, "0.889"),
        code("fastv", {"layer=1); print(1); f(x": "3"}, "0.889"),
        code("fastv", {}, "0.5); print(1"),
        code("fastv", {}, "0.5", 'at_stage"); print(1'),
    ):
        calls = [one.func for one in ast.walk(ast.parse(made)) if isinstance(one, ast.Call)]
        assert {ast.unparse(one) for one in calls} <= {"unibench.prune", "model.generate"}


@pytest.mark.parametrize("number", ["1" + "0" * 400, "Infinity", "NaN", '"1"', "null"])
def test_a_profile_that_is_none_is_left_out(number: str, out: Path, tmp_path: Path) -> None:
    (profile,) = (out / "profile").iterdir()
    (tmp_path / "profile").mkdir()
    whole = profile.read_text()
    (tmp_path / "profile" / "whole.json").write_text(whole)
    for name in ("batch", "peak_mib"):
        table = json.loads(whole)
        table["rows"][0][name] = "here"
        text = json.dumps(table).replace('"here"', number)
        (tmp_path / "profile" / f"{name}.json").write_text(text)
    (tmp_path / "profile" / "gone.json").symlink_to(tmp_path / "nothing")
    assert {(one.method, one.budget) for one in profiles(tmp_path)} == COSTS.keys()


def test_profiles_of_other_inputs_stay_apart(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, [1.0] * N, "method=vanilla")
    finished(tmp_path, [1.0] * N, "method=divprune", "ratio=0.889")
    profiled(tmp_path, COSTS)
    slow = {name: (10 * prefill, peak) for name, (prefill, peak) in COSTS.items()}
    profiled(tmp_path, slow, batch=8)
    found = within(frame.load(tmp_path), profiles(tmp_path), {"prefill_ms": 50.0}, 2.0)
    assert {one.inputs.batch: one.best is not None for one in found} == {1: True, 8: False}
    quick = {name: (prefill / 2, peak) for name, (prefill, peak) in COSTS.items()}
    profiled(tmp_path, quick, dtype="float16")  # another model, as far as times go
    assert len(within(frame.load(tmp_path), profiles(tmp_path), {"prefill_ms": 50.0}, 2.0)) == 2


def test_a_plot_takes_its_costs_from_a_profile(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined = frame.over_seeds(frame.whole(frame.load(out)), intervals=False)
    lines = priced(joined, profiles(out), None)
    shown = lines.set_index(["method", "budget"])["prefill_ms"].to_dict()
    assert shown == {name: prefill for name, (prefill, _) in COSTS.items()}
    with pytest.raises(UsageError, match=r"inputs=2: there are 1: tiny_qwen2_5_vl: 336x336"):
        priced(joined, profiles(out), 2)
    words = ["plot", "pareto", "cost=prefill_ms", "inputs=1", f"out={out}"]
    assert main([*words, f"to={tmp_path}/p.svg"]) == 0
    assert (tmp_path / "p.svg").stat().st_size > 1000
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max", "prefil_ms=1"], "Did you mean prefill_ms?"),
        (["--max", "prefill_ms"], "a cost and its limit"),
        (["--max", "prefill_ms=-1"], "more than 0"),
        (["--max-latency", "100"], "unknown option --max-latency. Did you mean --max prefill_ms="),
    ],
)
def test_a_limit_that_is_none_is_refused(
    words: list[str], told: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", *words, f"out={out}"]) == 2
    assert told in capsys.readouterr().err


def test_without_a_profile_nothing_is_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, [1.0] * N, "method=vanilla")
    finished(tmp_path, [1.0] * N, "method=divprune", "ratio=0.889")
    assert main(["recommend", "--max", "prefill_ms=50", f"out={tmp_path}"]) == 2
    assert "costs are taken from one alone: python -m unibench profile" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_profile_joins_real_results_and_fits_into_eighty_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, [1.0] * N, "method=vanilla")
    finished(tmp_path, [1.0] * N, "method=divprune", "ratio=0.889")
    words = ["model=tiny_qwen2_5_vl", "method=divprune", "ratio=0.889", "image=112x112"]
    small = ["new_tokens=2", "text_tokens=6", "repeats=1", "warmup=0"]
    assert main(["profile", *words, *small, f"out={tmp_path}"]) == 0
    assert "| samples/s | tokens/s |" in capsys.readouterr().out
    (found,) = within(frame.load(tmp_path), profiles(tmp_path), {"prefill_ms": 1e6}, 2.0)
    assert found.best is not None and found.best.name == "divprune"
    assert found.vanilla["prefill_ms"] > 0
    (file,) = (tmp_path / "profile").glob("*.json")
    other = ["model=tiny_qwen2_5_vl", "method=l2norm", "ratio=0.889", "image=112x112"]
    assert main(["profile", *other, *small, f"out={tmp_path}"]) == 0
    names = {one.method for one in profiles(tmp_path)}
    assert {"divprune", "l2norm"} <= names, "a profile of other methods takes no place of this one"
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    profiling.show(Request(), Table(**json.loads(file.read_text())), "the command")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "tokens/s" in plain and max(map(len, plain.splitlines())) <= 80
