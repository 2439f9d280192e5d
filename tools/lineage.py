"""Let the digests of this code stand for those of an earlier commit, once the tests have passed.

    python -m tools.lineage COMMIT

The key of a cell holds digests of code, so an edit makes new cells. Where an edit was meant to
change no number, this command runs the golden tests (equal to the official code on stored tensors)
and the tests of the engine (its invariants), in which every method takes part. Only if all of them
pass, ``unibench/lineage.yaml`` gets an entry for each digest that differs from COMMIT's: the
earlier one then stands for it, and stores of COMMIT are continued. Nothing is recorded for code
that is not committed. What the tests do not see, ``store rekey`` asks a user's own cells.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "unibench" / "lineage.yaml"
TESTS = ("tests/golden", "tests/engine")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.lineage", description=__doc__)
    parser.add_argument("commit", nargs="?", help="whose stores are to be continued")
    parser.add_argument("--digests", action="store_true", help="print the digests of this code")
    options = parser.parse_args(arguments)
    if options.digests:
        print(json.dumps(digests()))
        return 0
    if options.commit is None:
        parser.error("which commit?")
    if changed := _git("status", "--porcelain", "--untracked-files=no", "--", "*.py"):
        print(f"commit these first, their digests would be nobody's:\n{changed}", file=sys.stderr)
        return 2
    commit = _git("rev-parse", "--short", options.commit)
    with tempfile.TemporaryDirectory() as folder:
        _git("worktree", "add", "--detach", folder, commit)
        try:
            earlier = _digests_in(Path(folder))
        finally:
            _git("worktree", "remove", "--force", folder)
    here = _digests_in(ROOT)
    if not differing(earlier, here):
        print(f"no digest differs from {commit}'s")
        return 0
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "", *TESTS], cwd=ROOT)
    if tests.returncode:
        print("the tests do not pass: nothing is recorded", file=sys.stderr)
        return 1
    entries = record(FILE, earlier, here, commit)
    print(f"{len(entries)} digests stand for those of {commit}: {FILE}")
    return 0


def digests() -> dict[str, tuple[str, str]]:
    """The digest of each part of the installed code, and the one that stands for it in keys."""
    from unibench import identity, lineage, registry
    from unibench.code.closure import Code

    roots = {"engine": [*identity.ENGINE]}
    roots |= {f"harness {name}": [*names] for name, names in identity.HARNESSES.items()}
    for kind, cards in (("method", registry.methods()), ("family", registry.families())):
        for name, card in cards.items():
            roots[f"{kind} {name}"] = [f"{card.module}:{card.class_name}"]
    roots |= {f"task {name}": [card.target] for name, card in registry.tasks().items()}
    code = Code(outside=identity.OUTSIDE)
    told = {name: code.digest(names) for name, names in roots.items()}
    return {name: (digest, lineage.canonical(digest)) for name, digest in told.items()}


Digests = Mapping[str, Sequence[str]]  # by part: the digest, and the one that stands for it


def differing(earlier: Digests, here: Digests) -> dict[str, tuple[str, str]]:
    """By part: this code's digest, and the earlier one that is to stand for it."""
    pairs = {name: (here[name][0], earlier[name][1]) for name in here if name in earlier}
    return {name: pair for name, pair in pairs.items() if here[name][1] != earlier[name][1]}


def record(file: Path, earlier: Digests, here: Digests, commit: str) -> dict[str, Any]:
    """Add what differs to the file; returns what was added, by digest."""
    text = file.read_text(encoding="utf-8")
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    entries: dict[str, Any] = yaml.safe_load(text) or {}
    added: dict[str, Any] = {}
    for name, (digest, first) in differing(earlier, here).items():
        added[digest] = {"is": first, "of": name, "since": commit, "shown": " ".join(TESTS)}
    kept = yaml.safe_dump({**entries, **added}, sort_keys=False, width=100)
    file.write_text(head + kept, encoding="utf-8")
    return added


def _digests_in(tree: Path) -> dict[str, list[str]]:
    """The digests of a checkout, told by its own code."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, str(Path(__file__).resolve()), "--digests"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tree} cannot tell its digests: {done.stderr.strip().splitlines()[-1]}")
    told: dict[str, list[str]] = json.loads(done.stdout)
    return told


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
