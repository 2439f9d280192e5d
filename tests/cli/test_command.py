"""The command has two names, and hints say the one that was typed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("typed", "named"), [("unibench", "unibench"), ("x.py", "python -m unibench")]
)
def test_a_hint_says_the_command_as_it_was_typed(typed: str, named: str) -> None:
    code = (
        f"import sys; sys.argv[0] = '/somewhere/bin/{typed}';"
        " from unibench.cli import main; sys.exit(main(['nonsense']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and f"({named} --help" in ran.stderr
