"""Every verb has a page of its own; what the pages and the documentation show is understood."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from unibench import frame, report
from unibench.cli import main, parsers
from unibench.cli.main import ACTIONS, AUTHORS, EVERY, RUN, SERVERS, VERBS
from unibench.cli.parser import COMMAND, Options, Parser
from unibench.cluster import ENGINES
from unibench.compose import CONFIGS, cell_overrides, options
from unibench.profile import PROTOCOLS
from unibench.registry import ROOT

TOP = ROOT.parent
PAGES = [name for name in EVERY if name != "store"] + [f"store {name}" for name in ACTIONS]
DOCUMENTS = [
    TOP / "README.md",
    *sorted((TOP / "docs").glob("*.md")),
    *sorted((TOP / "docs" / "guide").glob("*.md")),
]
HEADERS = sorted(CONFIGS.rglob("*.yaml"))


def parser_of(verb: str) -> Parser:
    table, name = (ACTIONS, verb.split()[1]) if verb.startswith("store ") else (EVERY, verb)
    found = table.get(name, RUN)
    parser = Parser(verb, found.summary)
    found.arguments(parser)
    return parser


def understood(line: str) -> Options:
    """The options of a documented command, all of whose words its verb knows."""
    words = shlex.split(line)
    verb, rest = "", words
    if words and words[0] in EVERY:
        length = 2 if words[0] == "store" else 1
        verb, rest = " ".join(words[:length]), words[length:]
    given = parser_of(verb).read(rest)
    assert not given.mistakes, [str(mistake) for mistake in given.mistakes]
    return given


@pytest.mark.parametrize("verb", PAGES)
def test_a_page_of_help_has_the_usage_and_examples(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: {COMMAND} {verb} ")
    examples = re.findall(rf"^  {COMMAND} (.*)$", page.partition("examples:\n")[2], re.MULTILINE)
    assert 2 <= len(examples) <= 3
    for line in examples:
        assert line.startswith(verb)
        understood(line.replace("vtw|fitprune|mustdrop", "vtw"))


def test_help_before_a_verb_is_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["plot"], ["store", "list"], ["store"], []):
        assert main([*verb, "--help"]) == main(["help", *verb]) == 0
        page = capsys.readouterr().out
        assert page[: len(page) // 2] == page[len(page) // 2 :]
    assert main(["help", "compar"]) == 2
    assert "Did you mean compare?" in capsys.readouterr().err


def test_the_first_page_fits_a_screen_and_names_every_verb(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    assert all(any(line.startswith(f"  {verb} ") for line in lines) for verb in VERBS)
    assert f"  {', '.join(AUTHORS)}  for authors of methods: docs/authors.md" in lines
    assert f"  {', '.join(SERVERS)}  for serving engines: docs/serving.md" in lines


@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["plot", "--help"]])
def test_a_page_of_help_loads_nothing(words: list[str]) -> None:
    slow = {"torch", "transformers", "hydra", "omegaconf", "pandas", "matplotlib", "rich"}
    code = (
        f"import sys; from unibench.cli import main; main({words!r});"
        f" sys.exit(bool({slow!r} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def documented() -> list[str]:
    """The commands of the documentation, each once."""
    lines: dict[str, None] = {}
    for file in DOCUMENTS:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        grid = re.search(r'G="(.*)"', text)
        # from a checkout, or as installed behind a prompt
        named = r"(?:python -m |^\$ )unibench (?!\.\.\.)([^`\n]*)"
        for line in re.findall(named, text, re.MULTILINE):
            line = re.sub(r"\s+#.*", "", line).replace("$G", grid[1] if grid else "")
            lines[re.sub(r"\[(--\w+)\]", r"\1", line).rstrip(" .,")] = None
    return list(lines)


@pytest.mark.parametrize("line", documented())
def test_every_command_of_the_documentation_is_understood(line: str) -> None:
    understood(line.partition(" fills them")[0])


@pytest.mark.parametrize("file", HEADERS, ids=lambda file: file.stem)
def test_the_command_in_the_first_line_of_a_file_is_understood(file: Path) -> None:
    text = file.read_text(encoding="utf-8").partition("\n")[0]
    line = text.removeprefix(f"# {COMMAND} ").partition("  ")[0].strip()
    assert line != text.strip()
    given = understood(line)
    words = [word for word in given.words if "=" in word and "<" not in word]
    assert list(cell_overrides(words, sweep=False))


def test_closed_sets_of_words_are_those_of_the_library() -> None:
    assert set(parsers.FORMATS) == set(report.WRITERS)
    assert parsers.ENGINES == ENGINES
    assert set(parsers.FILTERS) - {"ratio"} <= set(frame.COLUMNS)
    assert set(parsers.CALIBRATED) <= set(options("method"))
    for protocol in PROTOCOLS:
        assert not understood(f"profile protocol={protocol}").mistakes
