"""The README tells the truth: generated parts are fresh, its commands parse, its code runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools.documents import CARDS, README, TABLES, cards, filled
from unibench.cli import main
from unibench.cli.main import RUN, VERBS
from unibench.cli.parser import Parser
from unibench.compose import compose_cells

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.name)
def test_generated_tables_are_fresh(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(page, text) == text, "run: python -m tools.documents"


def test_the_page_of_each_method_is_fresh() -> None:
    pages = cards()
    assert set(CARDS.glob("*.md")) == set(pages), "run: python -m tools.documents"
    stale = [page.stem for page, text in pages.items() if page.read_text("utf-8") != text]
    assert not stale, "run: python -m tools.documents"


LINES = [
    line for line in TEXT.splitlines() if line.strip().startswith(".venv/bin/python -m unibench ")
]
COMMANDS = [line.split("#")[0].split("-m unibench", 1)[1].split() for line in LINES]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_understood(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_pictures").mkdir()
    (tmp_path / "my_pictures" / "questions.jsonl").write_text(
        '{"image": "a.png", "question": "What?", "answer": "x"}\n'
    )
    (tmp_path / "keep_first.py").write_text(own_method())
    monkeypatch.chdir(tmp_path)
    if words[0] in ("list", "show") or words[:2] == ["report", "paper=idpruner"]:
        assert main(words) == 0
        return
    verb = VERBS.get(words[0], RUN)
    parser = Parser("", "")
    verb.arguments(parser)
    options = parser.read(words[words[0] in VERBS :])
    assert not options.mistakes
    if parser.overrides:
        grid = words[0] == "profile" or "-m" in words
        names = [word for word in options.words if "=" in word]
        assert compose_cells(names, sweep=grid)


def own_method() -> str:
    """The code under the heading on methods of one's own."""
    (code,) = re.findall(r"    # keep_first\.py\n(.*?)\n\n    \.venv", TEXT, flags=re.DOTALL)
    return "\n".join(line.removeprefix("    ") for line in code.splitlines())


def test_the_method_of_ones_own_runs(tmp_path: Path) -> None:
    (tmp_path / "keep_first.py").write_text(own_method())
    assert (
        main(
            [
                f"method={tmp_path}/keep_first.py:KeepFirst",
                "ratio=0.889",
                "task.limit=2",
                f"out={tmp_path}",
            ]
        )
        == 0
    )


def test_a_method_is_the_same_inside_the_repository_and_outside(tmp_path: Path) -> None:
    copied = tmp_path / "keep_borders.py"
    copied.write_text((README.parent / "methods" / "keep_borders.py").read_text())
    out = tmp_path / "out"
    for name in ("keep_borders", f"{copied}:KeepBorders"):
        assert main([f"method={name}", "ratio=0.889", "task.limit=3", f"out={out}"]) == 0
    answers = [file.read_text() for file in out.rglob("keep*/*/samples.jsonl")]
    kept = [[json.loads(line)["answer"] for line in text.splitlines()] for text in answers]
    assert len(kept) == 2 and kept[0] == kept[1]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"make ([a-z][a-z-]+)", TEXT))
    makefile = (README.parent / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
