"""What a benchmark needs and this machine lacks, in one line with the ways to get it."""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from PIL import Image

from unibench.benchmark import Benchmark
from unibench.errors import UsageError, shown
from unibench.harness.needs import not_here
from unibench.hub import trouble
from unibench.pictures import PictureError, guarded

log = logging.getLogger(__name__)

BASE64 = re.compile(r"[A-Za-z0-9+/]{65,}={0,2}")  # as VLMEvalKit tells pictures from names


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
        raise not_here(task, benchmark, reason_of(error)) from None


def reason_of(error: BaseException) -> str:
    """The first line of what really happened; tenacity hides it in its own error."""
    attempt = getattr(error, "last_attempt", None)
    error = (attempt and attempt.exception()) or error
    if (said := trouble(error)) is not None:
        return said
    said = str(error).strip().partition("\n")[0].rstrip(".")
    # a plain Exception's name says nothing
    return said if type(error) is Exception else f"{type(error).__name__}: {said}"


def check_table(table: Any, name: str) -> None:
    """Refuse a table of one's own whose rows VLMEvalKit would mix up or score against nothing.

    Args:
        table: of VLMEvalKit, read.
        name: of the data set.

    Raises:
        UsageError: names the rows.
    """
    repeated = table["index"][table["index"].duplicated()]
    if len(repeated):
        raise UsageError(
            f"{name}.tsv: the index {repeated.iloc[0]} stands there more than once; VLMEvalKit"
            " would give both rows one answer"
        )
    check_truths(truths_of(table), f"{name}.tsv")
    if "image" in table:
        for index, text in zip(table["index"], table["image"], strict=True):
            _check_pictures(str(text), f"{name}.tsv index {shown(index)}")


def check_truths(truths: Mapping[str, Any], where: str) -> None:
    """Refuse questions of one's own that have no answer to score against.

    Args:
        truths: by sample.
        where: they stand.

    Raises:
        UsageError: says how many, and names one.
    """
    without = [sample for sample, truth in truths.items() if is_missing(truth)]
    if without:
        raise UsageError(
            f"{where}: {len(without)} of {len(truths)} rows have no answer to score against, for"
            f" example index {without[0]}"
        )


def _check_pictures(text: str, place: str) -> None:
    """Refuse pictures in a table that Pillow would take for something else, see
    :func:`unibench.pictures.guarded`; a shorter text names a row or a file.
    """
    for piece in BASE64.findall(text):
        try:
            with guarded():
                Image.open(io.BytesIO(base64.b64decode(piece)))
        except PictureError as error:
            raise PictureError(f"{place}: {error}") from None
        except Exception as error:  # whatever Pillow makes of a broken file
            said = shown(str(error).partition("\n")[0] or type(error).__name__)
            raise PictureError(f"{place}: a picture is broken inside: {said}") from None


def truths_of(table: Any) -> dict[str, Any]:
    """The answers of a table of VLMEvalKit by row; empty where a judge scores without any."""
    column = next((name for name in ("answer", "answers") if name in table), None)
    if column is None:
        return {}
    return dict(zip(map(str, table["index"]), table[column], strict=True))


def is_missing(truth: Any) -> bool:
    """Whether nothing can be equal to a truth: an empty cell, or a list of them.

    >>> [is_missing(truth) for truth in (None, " ", float("nan"), [], ["", None], 0, ["a", ""])]
    [True, True, True, True, True, False, False]
    """
    if isinstance(truth, (list, tuple)):
        return all(is_missing(one) for one in truth)
    if truth is None or (isinstance(truth, float) and truth != truth):
        return True
    return isinstance(truth, str) and not truth.strip()


def remarks_on(truths: Mapping[str, Any], rows: int) -> tuple[str, ...]:
    """What the row of a published table says of questions that cannot be right, which a harness
    counts all the same.

    Args:
        truths: by sample; one of several rows with the same name.
        rows: of the table.
    """
    without = sum(map(is_missing, truths.values()))
    remarks = []
    if 0 < without < len(truths):  # where none has one, a judge scores
        remarks.append(f"{without} of {rows} questions have no answer to score against")
    if truths and len(truths) < rows:
        remarks.append(
            f"{rows - len(truths)} of {rows} questions repeat the index of another and are given"
            " its answer"
        )
    return tuple(remarks)
