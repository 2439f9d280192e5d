"""The digest of a task's documents is one of what they hold."""

from __future__ import annotations

import pytest
from datasets import Dataset, concatenate_datasets

from unibench.harness.child.documents import ROWS, contents

DOCUMENTS = [{"question": f"{number}?", "answer": [str(number)]} for number in range(ROWS + 9)]


@pytest.fixture(scope="module")
def whole() -> str:
    return contents(Dataset.from_list(DOCUMENTS))


def test_how_a_table_was_made_is_not_in_its_digest(whole: str) -> None:
    parts = [Dataset.from_list(DOCUMENTS[:7]), Dataset.from_list(DOCUMENTS[7:])]
    assert contents(concatenate_datasets(parts)) == whole
    assert contents(DOCUMENTS) == whole
    more = Dataset.from_list([*DOCUMENTS, {"question": "", "answer": []}])
    assert contents(more.filter(lambda row: bool(row["answer"]))) == whole


@pytest.mark.parametrize("place", [0, ROWS - 1, ROWS, len(DOCUMENTS) - 1])
def test_whatever_changes_in_any_row_changes_the_digest(place: int, whole: str) -> None:
    changed = [*DOCUMENTS]
    changed[place] = {**changed[place], "answer": ["something else"]}
    assert contents(changed) != whole


def test_order_and_number_of_rows_are_in_the_digest(whole: str) -> None:
    assert len({whole, contents(DOCUMENTS[::-1]), contents(DOCUMENTS[:-1])}) == 3
