"""The digest of a task's documents is one of what they hold; a document is read once."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets

from unibench.harness.child.documents import ROWS, Latest, contents, late

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


class Counted(Sequence[dict[str, Any]]):
    """Documents that remember which of them were read."""

    def __init__(self) -> None:
        self.read = list[int]()

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: Any) -> Any:
        self.read.append(number)
        return {"question": f"{number}?", "image": object()}


def test_a_document_is_read_once_for_all_who_ask_in_turn() -> None:
    documents = Counted()
    latest = Latest(documents)
    first, again = latest[1], latest[1]
    assert first["image"] is again["image"] and documents.read == [1]
    first["question"] = "changed by one of them"
    assert latest[1]["question"] == "1?"
    assert latest[2]["question"] == "2?" and latest[1]["question"] == "1?"
    assert documents.read == [1, 2, 1]


def test_a_scoring_reads_the_pictures_that_it_looks_at_and_no_others() -> None:
    documents = Counted()
    told = [{"question": f"{number}?"} for number in range(3)]
    task = SimpleNamespace(eval_docs=documents, eval_docs_no_media=told)
    late(task)
    (_, first), (number, second) = task.doc_iterator(rank=0, limit=2, world_size=1, offset=0)
    assert (number, dict(second)) == (1, {"question": "1?"}) and not documents.read
    assert second["image"] is not None and documents.read == [1]
    with pytest.raises(KeyError):
        first["answer"]
    assert len(list(task.doc_iterator(limit=None))) == 3
