"""What every document of an lmms-eval stand-in has."""

from __future__ import annotations

from tests.harness.standins._questions import Asked

Row = dict[str, object]


def file_of(asked: Asked) -> Row:
    """A picture as a data set's column of pictures holds it."""
    return {"bytes": asked.png, "path": None}


def row_of(asked: Asked, **more: object) -> Row:
    return {"image": file_of(asked), "question": asked.text, "answer": asked.answer, **more}
