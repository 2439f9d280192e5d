"""What a benchmark needs and this machine lacks, in one line with the ways to get it."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unibench.benchmark import Benchmark
from unibench.errors import UsageError
from unibench.harness.child.workdir import USER

log = logging.getLogger(__name__)

HOMES = {
    "vlmevalkit": ("LMUData", Path.home() / "LMUData"),
    "lmms_eval": ("HF_HOME", Path.home() / ".cache" / "huggingface"),
}


@contextmanager
def fetching(task: str, benchmark: Benchmark) -> Iterator[None]:
    """Whatever a harness raises inside, while it looks for published data, becomes a sentence for
    the user.

    Args:
        task: its name here.
        benchmark: its name there.

    Raises:
        UsageError: the data is not on this machine and cannot be fetched.
    """
    try:
        yield
    except UsageError:
        raise
    # downloads raise errors of many libraries
    except Exception as error:
        log.exception("fetching %s", benchmark.card.name)
        variable, usual = HOMES[benchmark.harness]
        where = f"${variable} ({USER[variable] or usual})"
        raise UsageError(
            f"task={task}: the data of {benchmark.card.name} ({benchmark.harness}) is not below"
            f" {where} and cannot be fetched: {reason_of(error)}. Fetch it where there is a network"
            f" with `python -m unibench prefetch task={task} harness={benchmark.harness}` and set"
            f" {variable} to that folder, or give task.data=<folder> with tables of your own"
        ) from None


def reason_of(error: BaseException) -> str:
    """The first line of what really happened; tenacity hides it in its own error."""
    attempt = getattr(error, "last_attempt", None)
    error = (attempt and attempt.exception()) or error
    said = str(error).strip().partition("\n")[0].rstrip(".")
    # a plain Exception's name says nothing
    return said if type(error) is Exception else f"{type(error).__name__}: {said}"


def check_requirements(task: str, benchmark: Benchmark) -> None:
    """Refuse a benchmark whose scoring needs a program or package that is not here, before it is
    asked.

    Raises:
        UsageError: names it.
    """
    for need in benchmark.card.requires:
        if shutil.which(need) is None and importlib.util.find_spec(need) is None:
            raise UsageError(
                f"task={task}: {benchmark.harness} needs {need} to score {benchmark.card.name}, and"
                " it is not installed"
            )


def check_table(table: Any, name: str) -> None:
    """Refuse a table of one's own whose rows VLMEvalKit would mix up or score against nothing.

    Raises:
        UsageError: names the rows.
    """
    repeated = table["index"][table["index"].duplicated()]
    if len(repeated):
        raise UsageError(
            f"{name}.tsv: the index {repeated.iloc[0]} stands there more than once; VLMEvalKit"
            " would give both rows one answer"
        )
    if "answer" in table and table["answer"].isna().any():
        missing = table["index"][table["answer"].isna()].tolist()
        raise UsageError(
            f"{name}.tsv: {len(missing)} of {len(table)} rows have no answer to score against, for"
            f" example index {missing[0]}"
        )
