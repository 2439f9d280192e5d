"""Whatever a file of questions holds, it is questions or one named line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unibench.errors import UsageError
from unibench.tasks.folder import FILE, Folder

GOOD = {"image": "a.png", "question": "What is it?", "answer": "yes"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["a.png", ".", "..", "/dev/zero", "/etc/passwd", "a.png\0", "~", "-", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
LINES = st.one_of(
    st.just(json.dumps(GOOD).encode()),
    st.builds(
        lambda field, value: json.dumps({**GOOD, field: value}).encode(),
        st.sampled_from(["image", "question", "answer", "id", "ability", "other"]),
        VALUES,
    ),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=30),
    st.integers(1, 5000).map(lambda depth: b"[" * depth),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("data")
    Image.new("RGB", (8, 8), "red").save(place / "a.png")
    return place


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    lines=st.lists(LINES, max_size=4), end=st.sampled_from([b"\n", b"\r\n", b"\xe2\x80\xa8", b""])
)
def test_any_file_of_questions_is_read_or_refused_in_one_line(
    lines: list[bytes], end: bytes, folder: Path
) -> None:
    (folder / FILE).write_bytes(end.join(lines))
    check(folder)


@pytest.mark.parametrize(
    "line",
    [{**GOOD, "image": value} for value in (None, 3, "..", "/dev/zero", "a.png\0", ["a.png", 2])]
    + [{**GOOD, "answer": value} for value in (None, [], {"a": 1})]
    + [{**GOOD, "id": value} for value in (None, ["a"], "\ud800")]
    + [[], "text", None],
)  # fmt: skip
def test_a_line_that_is_no_question_is_refused_in_one_line(line: Any, folder: Path) -> None:
    (folder / FILE).write_text(json.dumps(line) + "\n")
    check(folder)


def check(folder: Path) -> None:
    refusal, samples = "", []
    try:
        samples = list(Folder(data=str(folder)).samples())
    except UsageError as error:
        refusal = str(error)
    assert "\n" not in refusal
    for sample in samples:
        json.dumps([sample.id, sample.question, *sample.answers], ensure_ascii=False).encode()
