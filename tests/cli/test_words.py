"""What a shell offers, and words that stand for several."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from unibench.cli import main
from unibench.cli.completing import SCRIPTS, words
from unibench.cli.parser import Parser
from unibench.cli.parsers import work
from unibench.errors import UsageError


def gpus(text: str) -> list[str]:
    parser = Parser("work", "several workers")
    work(parser)
    found: list[str] = parser.read(["--gpus", text]).gpus
    return found


def test_a_range_of_gpus_is_each_of_them() -> None:
    assert gpus("0-3") == ["0", "1", "2", "3"]
    assert gpus("0,2-3,7") == ["0", "2", "3", "7"]


@pytest.mark.parametrize("text", ["3-1", "0-1,1", "a", "0-", "-1"])
def test_what_is_no_gpu_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        gpus(text)


def test_all_gpus_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert gpus("all") == ["4", "6"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UsageError, match="no GPU"):
        gpus("all")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("unibench re", {"recommend", "report"}),
        ("unibench store sh", {"show"}),
        ("unibench report sor", {"sort="}),
        ("unibench report format=", {f"format={form}" for form in ("md", "tex", "html", "csv")}),
        ("unibench -m method=divprune,fast", {"method=divprune,fastv"}),
        ("unibench compare --w", {"--wide"}),
        ("unibench show met", {"method"}),
        ("unibench 'open", set()),
    ],
)
def test_a_shell_offers_what_may_follow(line: str, offered: set[str]) -> None:
    assert offered <= set(words(line))
    assert all(word.startswith(line.rsplit(" ", 1)[1]) for word in words(line))


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one_that_its_shell_reads(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    file = tmp_path / "script"
    file.write_text(capsys.readouterr().out)
    if (program := shutil.which(shell)) is not None:
        assert subprocess.run([program, "-n", str(file)], check=False).returncode == 0
