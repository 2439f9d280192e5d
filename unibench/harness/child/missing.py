"""What a benchmark needs and this machine lacks, in one line with the ways to get it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unibench.benchmark import Benchmark
from unibench.errors import UsageError
from unibench.harness.needs import not_here

log = logging.getLogger(__name__)


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
    except Exception as error:
        log.exception("fetching %s", benchmark.card.name)
        raise not_here(task, benchmark, reason_of(error)) from None


def reason_of(error: BaseException) -> str:
    """The first line of what really happened; tenacity hides it in its own error."""
    attempt = getattr(error, "last_attempt", None)
    error = (attempt and attempt.exception()) or error
    said = str(error).strip().partition("\n")[0].rstrip(".")
    return said if type(error) is Exception else f"{type(error).__name__}: {said}"


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
