"""Where doctests are looked for: in files that hold some."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule

Collectors = list[pytest.Collector]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, Collectors, Collectors]:
    """``--doctest-modules`` imports every module and reads the source of all that it defines, in
    each worker; a file without an example is left alone.
    """
    collectors = yield
    if file_path.suffix == ".py" and ">>> " not in file_path.read_text(encoding="utf-8"):
        return [each for each in collectors if not isinstance(each, DoctestModule)]
    return collectors
