"""Two cells that differ in exactly one entry of their identity: no reader of results takes them for
one, but where that entry is the seed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.stats._cells import finished
from unibench import frame
from unibench.analysis.sweep import sweep
from unibench.comparison.compare import compare
from unibench.comparison.recommend import recommend
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import CANDIDATE, QUESTIONS, cell_of
from unibench.inference.row import Row, read_row
from unibench.plots import scores
from unibench.report import grid
from unibench.report.cells import details
from unibench.store.lines import line_of

RIGHT, FEW = [1.0] * 8 + [0.0] * 2, [1.0] * 4 + [0.0] * 6  # drops of 20 and 60, 40 on average
METHOD = ("method=fastv", "ratio=0.889")
TASKS = ("synthvqa", "pope")  # asked by unibench itself, and by a harness
Leaf = tuple[str, ...]


def leaves(value: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """The entries of an identity, those in entries too."""
    if not isinstance(value, dict) or not value:
        yield path
        return
    for key, entry in value.items():
        yield from leaves(entry, (*path, key))


def of_task(task: str) -> list[Any]:
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", f"task={task}", *METHOD], sweep=False)
    found = list(leaves(cell_of(config).identity))
    if task == "pope":  # the other entries are those of synthvqa once more
        found = [leaf for leaf in found if leaf[0] in QUESTIONS]
    often = {
        leaf[0]: leaf for leaf in reversed(found)
    }.values()  # the first of each group of entries
    return [
        pytest.param(
            (task, leaf),
            id=f"{task}-{'.'.join(leaf)}",
            marks=[] if leaf in often and task == TASKS[0] else [pytest.mark.slow],
        )
        for leaf in found
    ]


PAIRS = [pair for task in TASKS for pair in of_task(task)]


def kind(leaf: Leaf) -> str:
    """What an entry belongs to."""
    if leaf == ("seed",):
        return "seed"
    if leaf[0] in CANDIDATE or leaf == ("code", "method"):
        return "candidate"
    return "questions" if leaf[0] in QUESTIONS or leaf == ("code", "task") else "condition"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store of vanilla and a method for each task."""
    found = {task: tmp_path_factory.mktemp(task) for task in TASKS}
    for task, out in found.items():
        finished(out, [1.0] * 10, "method=vanilla", task=task)
        finished(out, RIGHT, *METHOD, task=task)
    return found


@pytest.fixture
def pair(
    bases: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[Path, Leaf]:
    """A store of a method and its vanilla, and of both once more with one entry changed; the method
    then answers fewer questions right.
    """
    task, leaf = request.param
    out = tmp_path / "out"
    shutil.copytree(bases[task], out)
    for file in list(out.rglob("metrics.json")):
        vanilla = json.loads(file.read_text())["method"] == "vanilla"
        if not vanilla or kind(leaf) in ("condition", "questions"):
            _copied(file.parent, leaf, [1.0] * 10 if vanilla else FEW)
    return out, leaf


def _copied(folder: Path, leaf: Leaf, right: list[float]) -> None:
    identity = json.loads((folder / "identity.json").read_text())
    entry = identity
    for key in leaf[:-1]:
        entry = entry[key]
    entry[leaf[-1]] = _other(entry[leaf[-1]])
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    other = shutil.copytree(folder, folder.parent / key)
    row = json.loads((other / "metrics.json").read_text())
    score = sum(right) / len(right)
    row |= {"key": key, "score": score, "score_100": 100 * score}
    if leaf == ("seed",):
        row["seed"] = identity["seed"]
    lines = [json.loads(line) for line in (other / "samples.jsonl").read_text().splitlines()]
    scored = [line | {"score": score} for line, score in zip(lines, right, strict=True)]
    (other / "identity.json").write_text(json.dumps(identity))
    (other / "metrics.json").write_text(json.dumps(row))
    (other / "samples.jsonl").write_bytes(b"".join(map(line_of, scored)))
    (other / "manifest.json").unlink(missing_ok=True)


def _other(value: Any) -> Any:
    if isinstance(value, (bool, type(None))):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, list):
        return [*value, "x"]
    return {"other": 1} if isinstance(value, dict) else f"{value}x"


def joined(out: Path) -> pd.DataFrame:
    return frame.over_seeds(frame.load(out))


def rows(out: Path) -> list[Row]:
    return [read_row(file.parent) for file in sorted(out.rglob("metrics.json"))]


def texts(out: Path) -> list[str]:
    """Every entry of the tables of a report."""
    blocks = [block for table in grid(joined(out)) for block in table.blocks]
    return [entry.text for block in blocks for line in block.lines for entry in line.entries]


every_pair = pytest.mark.parametrize("pair", PAIRS, indirect=True)
apart = pytest.mark.parametrize(
    "pair", [pair for pair in PAIRS if kind(pair.values[0][1]) != "seed"], indirect=True
)


@apart
def test_one_entry_apart_is_never_one_result(pair: tuple[Path, Leaf]) -> None:
    out, leaf = pair
    lines = frame.whole(joined(out))
    assert sorted(lines[lines["method"] == "fastv"]["score_100"]) == [40, 80]
    assert (lines["seeds"] == 1).all() and lines["std"].isna().all()
    assert not [table for table in details(rows(out)) if table.name.endswith("_seeds")]
    if kind(leaf) == "questions":
        with pytest.raises(UsageError, match="never mixed"):
            grid(joined(out))
    else:
        shown = texts(out)
        assert {"40.0", "80.0"} <= set(shown) and "60.0" not in shown and "±" not in str(shown)


@apart
def test_one_entry_apart_is_never_compared_as_one(pair: tuple[Path, Leaf]) -> None:
    out, leaf = pair
    if kind(leaf) == "candidate":
        with pytest.raises(UsageError, match="never pooled"):
            compare(frame.load(out), ["fastv", "vanilla"])
    else:
        found = compare(frame.load(out), ["fastv", "vanilla"])
        assert sorted(one.result.first for one in found) == [0.4, 0.8]
        assert {len(one.first.folders) for one in found} == {1}
    if kind(leaf) != "condition":
        with pytest.raises(UsageError, match="never mixes 2"):
            recommend(frame.load(out), max_drop=100, metric="tflops")
    else:
        given = recommend(frame.load(out), max_drop=100, metric="tflops")
        assert sorted(one.nearest.drop.value for one in given) == pytest.approx([20, 60])
        assert len({one.model for one in given}) == 2
    for draw in (lambda lines: scores.by_ratio(lines, str(lines["task"].iloc[0])), sweep):
        with pytest.raises(UsageError, match="never mixes 2"):
            draw(joined(out))


@every_pair
def test_an_entry_of_the_setting_brings_its_own_vanilla(pair: tuple[Path, Leaf]) -> None:
    out, leaf = pair
    lines = frame.whole(joined(out))
    settings = 2 if kind(leaf) in ("condition", "questions") else 1
    assert lines["setting"].nunique() == len(frame.vanillas(lines)) == settings
    conditions = 2 if kind(leaf) == "condition" else 1
    assert lines["condition"].nunique() == len(list(frame.conditions(lines))) == conditions


@pytest.mark.parametrize("pair", [(task, ("seed",)) for task in TASKS], indirect=True, ids=TASKS)
def test_seeds_are_one_result_everywhere(pair: tuple[Path, Leaf]) -> None:
    out, _ = pair
    lines = frame.whole(joined(out))
    line = lines[lines["method"] == "fastv"].iloc[0]
    assert line["score_100"] == pytest.approx(60) and sorted(line["seed"]) == [0, 1]
    assert lines[lines["method"] == "vanilla"]["seeds"].tolist() == [1]
    assert any(text.startswith("60.0 ±") for text in texts(out))
    (table,) = [table for table in details(rows(out)) if table.name.endswith("_seeds")]
    ((shown,),) = [block.lines for block in table.blocks]
    assert shown.labels == ("fastv", "0.889")
    assert [entry.text for entry in shown.entries] == ["60.0", "28.3", "2"]
    (found,) = compare(frame.load(out), ["fastv", "vanilla"])
    assert len(found.first.folders) == 2
    (given,) = recommend(frame.load(out), max_drop=100, metric="tflops")
    assert given.nearest.drop.value == pytest.approx(40)


def test_two_versions_of_vanilla_are_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(bases["synthvqa"], out)
    (vanilla,) = [file.parent for file in out.rglob("metrics.json") if "fastv" not in str(file)]
    _copied(vanilla, ("code", "method"), [1.0] * 10)
    with pytest.raises(UsageError, match="2 versions"):
        compare(frame.load(out), ["fastv", "vanilla"])
    with pytest.raises(UsageError, match="2 versions"):
        recommend(frame.load(out), max_drop=100, metric="tflops")
