"""What is printed without results loads nothing that results need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"pandas", "numpy", "torch", "scipy", "transformers", "pyarrow"}


@pytest.mark.parametrize(
    "words",
    [
        ["report", "paper=uniprunebench", "table=1"],
        ["report", "paper=idpruner", "table=2", "format=tex"],
        ["report", "paper=uniprunbench"],
        ["report", "paper=idpruner", "table=99"],
    ],
)
def test_a_table_of_a_paper_and_its_refusals_load_no_library_of_numbers(words: list[str]) -> None:
    code = (
        f"import sys; from unibench.cli import main; main({words!r});"
        f" sys.exit(', '.join({HEAVY!r} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
