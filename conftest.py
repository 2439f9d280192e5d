"""How tests are found and dealt out, so that little is done twice."""

from __future__ import annotations

import gc
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from _pytest.doctest import DoctestModule

# what collecting imports lives as long as the process: nothing of it need be looked for in between
gc.disable()
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


def pytest_collection_finish() -> None:
    """Modules and classes, millions of objects, are no part of later collections of garbage."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``-n 2`` deals out whole files: what a module's fixtures make is made in one worker."""
    gc.enable()  # this process collects nothing itself
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    # in the order of collection: files of few tests are not the quick ones
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
