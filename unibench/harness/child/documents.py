"""What the documents of a task of lmms-eval hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
