"""What the documents of a task of lmms-eval hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import datasets

ROWS = 256  # in memory at once


def contents(documents: datasets.Dataset | Sequence[dict[str, Any]]) -> str:
    """A hash of all that documents hold, their pictures too.

    A fingerprint of the library `datasets` says where they came from and what was done to them, so
    two machines, or two versions of the library, have different ones for the same documents.
    """
    if not isinstance(documents, datasets.Dataset):
        documents = datasets.Dataset.from_list(list(documents))
    documents = documents.with_format("arrow")  # pictures stay the bytes that they are
    state = hashlib.blake2b(digest_size=8)
    for start in range(0, len(documents), ROWS):
        for document in documents[start : start + ROWS].to_pylist():
            _feed(state, document)
    return state.hexdigest()


class Latest(Sequence[dict[str, Any]]):
    """Documents of which the last one read is kept: what is asked of it is asked in turn by
    unibench and by a class of lmms-eval, and each reading decodes its pictures.
    """

    def __init__(self, documents: Sequence[dict[str, Any]]) -> None:
        self._documents = documents
        self._last: tuple[int, dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, number: Any) -> Any:
        if self._last is None or self._last[0] != number:
            self._last = number, self._documents[number]
        return dict(self._last[1])


class Unread(dict[str, Any]):
    """A document without its pictures, as lmms-eval's own command gives it to a scoring; one that
    looks at them all the same has them read.

    Args:
        told: the document without pictures.
        whole: reads it with them.
    """

    def __init__(self, told: Mapping[str, Any], whole: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(told)
        self._whole = whole

    def __missing__(self, key: str) -> Any:
        return self._whole()[key]


def late(task: Any) -> None:
    """Have a task of lmms-eval read a document's pictures for its scoring only if this looks at
    them.
    """

    def doc_iterator(*, limit: int | None = None, **_: Any) -> Iterator[tuple[int, Unread]]:
        told, whole = task.eval_docs_no_media, task.eval_docs
        for number in range(min(limit or len(told), len(told))):
            yield number, Unread(told[number], partial(whole.__getitem__, number))

    task.doc_iterator = doc_iterator


def _feed(state: hashlib.blake2b, value: Any) -> None:
    """Add a value so that no two different ones add the same."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else value
        state.update(b"%d(" % len(value))
        for part in parts:
            _feed(state, part)
    elif isinstance(value, tuple):
        for part in value:
            _feed(state, part)
    else:
        content = value if isinstance(value, bytes) else repr(value).encode()
        state.update(b"%d:" % len(content))
        state.update(content)
