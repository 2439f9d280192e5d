"""One's own results as papers set theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.report.results import frame_of
from tests.report.test_grid import result
from tests.stats._cells import finished
from unibench import frame
from unibench.cli import main
from unibench.errors import UsageError
from unibench.report import Names, Table, arranged, grid

N = 40


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vanilla 36 of 40 right; at each of two budgets one method is best beyond doubt, the others
    are not told apart.
    """
    folder = tmp_path_factory.mktemp("results")
    cells = {
        ("vanilla", "0.889"): 36,
        ("divprune", "0.889"): 35,
        ("fastv", "0.889"): 20,
        ("dart", "0.889"): 19,
        ("divprune", "0.5"): 36,
        ("fastv", "0.5"): 35,
    }
    for (method, ratio), right in cells.items():
        words = [] if method == "vanilla" else [f"ratio={ratio}"]
        finished(folder, [1.0] * right + [0.0] * (N - right), f"method={method}", *words)
    return folder


def table(out: Path, **options: object) -> Table:
    cells = frame.over_seeds(frame.load(out), intervals=False)
    return arranged(grid(cells)[0], **options)  # type: ignore[arg-type]


def marked(one: Table) -> dict[tuple[str, ...], tuple[str, bool, bool]]:
    found = {}
    for block in one.blocks:
        for line in block.lines:
            first = line.entries[0]
            found[block.label, line.labels[0]] = first.text, first.bold, first.underline
    return found


def test_each_budget_is_a_block_from_the_mildest_on(out: Path) -> None:
    assert [block.label for block in table(out).blocks] == [
        "tiny_qwen2_5_vl",
        "tiny_qwen2_5_vl, ratio 0.5",
        "tiny_qwen2_5_vl, ratio 0.889",
    ]


def test_numbers_kept_follow_shares_removed_and_stand_from_many_to_few() -> None:
    cells = [
        result("divprune", budget, "one", 50.0) for budget in ("keep8", "7/9", "keep64", "0.5")
    ]
    labels = [block.label for block in arranged(grid(frame_of(cells))[0], marks=False).blocks]
    assert labels == [
        "tiny, ratio 0.5",
        "tiny, ratio 7/9",
        "tiny, 64 tokens kept",
        "tiny, 8 tokens kept",
    ]


def test_the_best_is_bold_only_where_its_interval_leaves_out_the_next(out: Path) -> None:
    found = marked(table(out))
    assert found["tiny_qwen2_5_vl, ratio 0.889", "divprune"] == ("87.5", True, False)
    assert found["tiny_qwen2_5_vl, ratio 0.889", "fastv"] == ("50.0", False, False)  # dart is near
    assert found["tiny_qwen2_5_vl, ratio 0.5", "divprune"] == ("90.0", False, False)


def test_lines_are_sorted_by_a_column(out: Path) -> None:
    def methods(sort: str) -> list[str]:
        return [line.labels[0] for line in table(out, sort=sort, marks=False).blocks[2].lines]

    assert methods("synthvqa") == ["divprune", "fastv", "dart"]
    assert methods("-average") == ["dart", "fastv", "divprune"]
    assert methods("method") == ["dart", "divprune", "fastv"]
    with pytest.raises(UsageError, match=r"unknown column 'averag'. Did you mean average\?"):
        table(out, sort="averag")


def test_interval_and_drop_stand_behind_the_score(out: Path) -> None:
    one = table(out, show=("interval", "drop"), sort="average", marks=False)
    shown = one.blocks[2].lines[0].entries[0].text
    score, interval, drop = shown.split(" [")[0], shown.split("[")[1].split("]")[0], shown[-8:]
    low, high = map(float, interval.split(", "))
    assert score == "87.5" and low < 87.5 < high
    assert drop == "(-2.8 %)"


def test_names_are_written_as_a_file_says(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text("methods: {divprune: DivPrune (ours)}\nmodels: {tiny_qwen2_5_vl: Tiny}\n")
    one = table(out, names=Names.of(str(file)), marks=False)
    assert one.blocks[1].label == "Tiny, ratio 0.5"
    assert {line.labels[0] for line in one.blocks[1].lines} == {"DivPrune (ours)", "fastv"}
    papers = table(out, names=Names.of("paper"), marks=False)
    assert {line.labels[0] for line in papers.blocks[1].lines} == {"DivPrune", "FastV"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("method: {a: b}", "Did you mean methods?"),
        ("methods: [a]", "each name a text"),
        ("- a", "a mapping with methods"),
        ("{", "names="),
    ],
)
def test_a_file_of_names_that_is_none_is_refused(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        Names.of(str(file))
    assert told in str(caught.value)


def plain(text: str) -> str:
    """What a terminal shows, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize(
    "words",
    [
        ["report"],
        ["report", "show=interval,drop"],
        ["report", "view=abilities"],
        ["compare", "divprune", "fastv", "dart", "vanilla"],
        ["recommend", "--metric", "tflops", "--max-drop", "90"],
        ["report", "paper=idpruner", "table=1"],
    ],
    ids=" ".join,
)
def test_every_table_fits_into_eighty_columns(
    words: list[str], out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    words = words if "paper=idpruner" in words else [*words, f"out={out}"]
    assert main(words) == 0
    narrow = plain(capsys.readouterr().out)
    assert max(len(line) for line in narrow.splitlines()) <= 80
    assert main([*words, "--wide"]) == 0
    wide = plain(capsys.readouterr().out)
    assert max(len(line) for line in wide.splitlines()) > 80
    numbers = {word for word in wide.split() if word.replace(".", "", 1).isdigit()}
    assert numbers <= set(narrow.split())


def test_a_filter_of_samples_takes_the_abilities_of_a_cell_along(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "view=abilities", f"out={out}"]
    assert main(words) == 0
    whole = capsys.readouterr().out
    assert main([*words, f"n={N}"]) == 0
    assert capsys.readouterr().out == whole
    lines = frame.load(out)
    assert set(lines["n"]) != {N} and len(frame.selected(lines, {"n": str(N)}, out)) == len(lines)
