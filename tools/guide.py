"""The pages of the guide as programs: their blocks are run in order, in an empty folder.

    python -m tools.guide docs/guide/quickstart.md     # run it, and write what it prints
    python -m tools.guide --check docs/guide/*.md      # run it, and compare

A block of ``bash`` or ``python`` is run; a block of ``text`` right behind it holds what it prints.
Numbers, keys and paths may differ from machine to machine and are not compared; a block of
``text title="Yours will differ"`` is only shown. Blocks of ``console`` need a GPU, the network or
a second terminal; they are read by nobody but people.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FREE = "Yours will differ"
MASKS = (
    (re.compile(r"/[\w./-]+"), "/"),
    (re.compile(r"\b[0-9a-f]{8,}\b"), "#"),
    (re.compile(r"[-+]?\d+(?:[.,:]\d+)*"), "#"),
    (re.compile(r"[-─━]{2,}"), "--"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        kind: the language behind the fence.
        more: what stands behind it, such as a title.
        text: its lines.
        span: where the text stands in the page.
    """

    kind: str
    more: str
    text: str
    span: tuple[int, int]


@dataclass(frozen=True)
class Step:
    """A block that is run, with the block that shows what it prints; None where none does."""

    code: Block
    shown: Block | None


def steps(page: str) -> Iterator[Step]:
    """The blocks of a page that are run, in order."""
    found = list(FENCE.finditer(page))
    blocks = [Block(each[1], each[2].strip(), each[3], each.span(3)) for each in found]
    for place, block in enumerate(blocks):
        if block.kind not in ("bash", "python"):
            continue
        after = blocks[place + 1] if place + 1 < len(blocks) else None
        # words between the two belong to the output; another block does not
        shown = after if after is not None and after.kind == "text" else None
        yield Step(block, shown)


def run(step: Step, folder: Path) -> str:
    """What a block prints on its standard output.

    Raises:
        RuntimeError: it failed.
    """
    if step.code.kind == "bash":
        command = ["bash", "-euo", "pipefail", "-c", step.code.text]
    else:
        command = [sys.executable, "-c", step.code.text]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{step.code.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def environment() -> dict[str, str]:
    """The environment of a reader who has installed unibench: its command is on the path."""
    here = Path(sys.executable).parent
    found = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "110"}
    found["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **found}


def skeleton(text: str) -> list[str]:
    """The words of an output, without what differs from machine to machine."""
    for pattern, mark in MASKS:
        lines = [pattern.sub(mark, line) for line in text.splitlines()]
        text = "\n".join(lines)
    return [line.strip() for line in text.splitlines() if line.strip()]


def executed(page: str) -> str:
    """A page with what its blocks print now."""
    pieces, end = [], 0
    with tempfile.TemporaryDirectory(prefix="guide-") as folder:
        for step in steps(page):
            printed = run(step, Path(folder))
            if step.shown is None:
                continue
            start, stop = step.shown.span
            tidy = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
            pieces += [page[end:start], f"{tidy}\n"]
            end = stop
    return "".join([*pieces, page[end:]])


def differences(page: str, again: str) -> list[str]:
    """The outputs that are no longer as the page shows them."""
    pairs = zip(steps(page), steps(again), strict=True)
    return [
        f"{old.code.text}shows\n{old.shown.text}but prints\n{new.shown.text}"
        for old, new in pairs
        if old.shown is not None
        and new.shown is not None
        and FREE not in old.shown.more
        and skeleton(old.shown.text) != skeleton(new.shown.text)
    ]


def main(words: Sequence[str]) -> int:
    """Run pages; with ``--check`` nothing is written."""
    check, wrong = "--check" in words, 0
    for name in [word for word in words if word != "--check"]:
        file = Path(name)
        page = file.read_text(encoding="utf-8")
        again = executed(page)
        if check:
            found = differences(page, again)
            wrong += len(found)
            print("\n".join([f"{name}: {len(found)} outputs differ", *found]))
        else:
            file.write_text(again, encoding="utf-8")
            print(name)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
