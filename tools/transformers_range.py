"""The engine under other releases: ``python -m tools.transformers_range [VERSION ..] [--whole]``.

Without versions: both ends of the range that ``pyproject.toml`` declares (its lowest release and
the newest that the index serves) and the pin. Each release lives in an environment of its own
below ``.venv-transformers``, over the packages of this one, so that torch is not installed again.
The conformance command is run on a model of each shape, and the tests of what transformers keeps
private; ``--whole`` runs all tests of the engine and of the methods instead, which takes an hour a
release. The table goes to ``results/transformers_range.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv-transformers"
PAGE = ROOT / "results" / "transformers_range.md"
WHOLE = ("tests/engine", "tests/families", "tests/intra", "tests/golden", "tests/methods")
TESTS = ("tests/engine/test_transformers.py", "tests/families/test_decoders.py")
# a tower with a CLS token, one with windows, one that shuffles; decoders with full attention, with
# windows, with states, with shared keys; the last two have classes in newer releases alone
MODELS = (
    "llava_1_5_7b",
    "llava_onevision_7b",
    "qwen2_5_vl_7b",
    "qwen3_vl_8b",
    "internvl3_1b",
    "gemma3_4b",
    "gemma4_e2b",
    "qwen3_5_9b",
    "minicpm_v_4_6",
    "molmo2_8b",
)


@dataclass(frozen=True)
class Outcome:
    """What the tests said under one release.

    Attributes:
        release: of transformers.
        passed, failed, skipped: tests and rules; errors count as failed.
        seconds: of the clock.
        failures: names of the tests, and lines of the rules, that failed.
    """

    release: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    failures: tuple[str, ...]


def releases() -> list[str]:
    """The lowest release that is declared, the pin, and the newest in the range on the index."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = declared["project"]["dependencies"]
    (wanted,) = (line for line in lines if re.match(r"transformers\b", line))
    lowest, below = re.findall(r">=([\d.]+),<(\d+)", wanted)[0]
    command = [sys.executable, "-m", "pip", "index", "versions", "transformers"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    served = re.findall(r"\d+\.\d+\.\d+", listed.partition("Available versions:")[2])
    inside = [release for release in served if _number(release) < (int(below),)]
    first = min((release for release in inside if _number(release) >= _number(lowest)), key=_number)
    return list(dict.fromkeys([first, version("transformers"), max(inside, key=_number)]))


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def environment(release: str) -> Path:
    """The interpreter of an environment with this release over the packages of this one."""
    place = PLACE / release
    python = place / "bin" / "python"
    if python.exists():
        return python
    venv.create(place, with_pip=True)
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    Path(own, "base.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = [python, "-m", "pip", "install", "-q", f"transformers=={release}"]
    subprocess.run(install, check=True)
    return python


def run(release: str, whole: bool) -> Outcome:
    """Try a release.

    Args:
        release: of transformers.
        whole: all tests of the engine and of the methods instead of the conformance command.
    """
    python, start = environment(release), time.monotonic()
    passed, failed, skipped, failures = _tested(python, WHOLE if whole else TESTS)
    if not whole:
        command = [python, "-m", "unibench", "check", f"model={','.join(MODELS)}", "attn=sdpa"]
        said = _said(command)
        found = re.search(r"(\d+) rules hold, (\d+) do not", said.stdout)
        if found is None:
            failed, failures = failed + 1, [*failures, said.stderr.strip().splitlines()[-1][:200]]
        else:
            passed, failed = passed + int(found[1]), failed + int(found[2])
            lines = said.stdout.splitlines()
            failures += [line for line in lines if ": failed: " in line]
            skipped += sum(": left out: " in line for line in lines)
    return Outcome(release, passed, failed, skipped, time.monotonic() - start, tuple(failures))


def _tested(python: Path, tests: tuple[str, ...]) -> tuple[int, int, int, list[str]]:
    """Tests that passed, failed and were skipped, and the names of those that failed."""
    said = _said([python, "-m", "pytest", "-rf", "-p", "no:cacheprovider", *tests])
    out = said.stdout
    summary = out.strip().splitlines()[-1] if out.strip() else said.stderr[-300:]
    count = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", summary)}
    failures = re.findall(r"^FAILED (\S+)", out, re.M)
    lost = count.get("failed", 0) + count.get("error", 0) + count.get("errors", 0)
    if said.returncode not in (0, 1):
        lost, failures = lost + 1, [*failures, f"pytest ended with {said.returncode}: {summary}"]
    return count.get("passed", 0), lost, count.get("skipped", 0), failures


def _said(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a command over this checkout, whatever the environment has installed."""
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def page(outcomes: list[Outcome]) -> str:
    """The table."""
    lines = [
        "# The engine under other releases of transformers",
        "",
        f"Tests ({', '.join(TESTS)}) and the conformance command on {', '.join(MODELS)}; made by"
        " `make test-transformers`.",
        "",
        "| transformers | passed | failed | skipped | seconds |",
        "|---|---|---|---|---|",
    ]
    for one in outcomes:
        numbers = f"{one.passed} | {one.failed} | {one.skipped} | {one.seconds:.0f}"
        lines.append(f"| {one.release} | {numbers} |")
    for one in outcomes:
        lines += [f"\n{one.release}:\n" + "\n".join(f"- {f}" for f in one.failures)] * bool(
            one.failures
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run and write the page; 1 if a test failed under a release."""
    parser = argparse.ArgumentParser(prog="python -m tools.transformers_range", description=__doc__)
    parser.add_argument("versions", nargs="*", help="releases instead of the range's ends")
    parser.add_argument("--whole", action="store_true", help="all tests instead: an hour each")
    options = parser.parse_args()
    outcomes = [run(release, options.whole) for release in options.versions or releases()]
    PAGE.write_text(page(outcomes), encoding="utf-8")
    print(page(outcomes))
    return int(any(one.failed for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
