"""Measures again what ``results/`` says of the tiny models: runs the commands that its pages name.

    python -m tools.results                   # every page that is about them
    python -m tools.results tiny_grid videos  # some
    python -m tools.results --list            # which there are, and their commands

A page's commands are its indented lines, as a reader would type them in the root of the repository;
what they write below ``results/`` is the page's tables and figures. Cells that are finished in
``outputs/`` are not answered again. What a page says about its tables is somebody's to read again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
TOY = re.compile(r"\b(tiny|toy)", re.IGNORECASE)
COMMAND = re.compile(r"(?m)^    ((?:\S+/)?python3? -m (?:.*\\\n)*.*)$")
ELSEWHERE = ("gpu/", "<environment>")  # what another machine or an environment of one's own takes


def pages() -> dict[str, Path]:
    """The pages with commands, by name: ``tiny_grid`` has its README, ``bench/sharing`` a file."""
    files = sorted(RESULTS.rglob("*.md"), key=lambda file: (len(file.parts), file))
    found = {}
    for file in files:
        name = str(file.relative_to(RESULTS).with_suffix("")).removesuffix("/README")
        if commands(file) and not name.startswith(ELSEWHERE):
            found[name] = file
    return found


def commands(file: Path) -> list[str]:
    """What a page has one type, line by line."""
    found = COMMAND.findall(file.read_text(encoding="utf-8"))
    return [line for line in found if not any(word in line for word in ELSEWHERE)]


def about_toys(found: dict[str, Path]) -> Iterator[str]:
    """The pages that another checkpoint changes; a command belongs to the first that names it."""
    known = set[str]()
    for name, file in found.items():
        lines = commands(file)
        if TOY.search(file.read_text(encoding="utf-8")) and not known.issuperset(lines):
            yield name
        known.update(lines)


def measured(name: str, file: Path) -> bool:
    """Whether all commands of a page ended well; the first that does not is the last."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in commands(file):
        print(f"{name}: {line}", flush=True)
        start = time.monotonic()
        code = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env={**os.environ, "PATH": path}, check=False
        ).returncode
        print(f"{name}: exit {code} after {time.monotonic() - start:.0f} s", flush=True)
        if code:
            return False
    return True


def main(words: Sequence[str] | None = None) -> int:
    """Run the pages named, or all that are about the tiny models."""
    parser = argparse.ArgumentParser(prog="python -m tools.results")
    parser.add_argument("pages", nargs="*", help="as --list names them")
    parser.add_argument("--list", action="store_true", help="the pages and their commands")
    given = parser.parse_args(words)
    found = pages()
    if unknown := [name for name in given.pages if name not in found]:
        parser.error(f"no page with commands {unknown[0]!r}; there are {', '.join(found)}")
    chosen = given.pages or list(about_toys(found))
    if given.list:
        for name in chosen:
            print(name, *(f"    {line}" for line in commands(found[name])), sep="\n")
        return 0
    failed = [name for name in chosen if not measured(name, found[name])]
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
