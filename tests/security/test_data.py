"""Whatever a file of questions holds, it is questions or one named line."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unibench import tables
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


def stream(file: Path, column: pa.Array, name: str = "question") -> Path:
    """A dataset as ``save_to_disk`` leaves it, with one column of these values."""
    table = pa.table({"image": ["a.png"], "answer": ["yes"], name: column})
    with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_stream(opened, table.schema) as writer:
        writer.write_table(table)
    return file


def texts(content: bytes, *ends: int) -> pa.Array:
    """Texts of these bytes, which nothing has looked at."""
    offsets = pa.py_buffer(np.array([0, *ends], dtype=np.int32).tobytes())
    return pa.Array.from_buffers(pa.string(), len(ends), [None, offsets, pa.py_buffer(content)])


SAVED = {
    "parts that are no list": {"state.json": {"_data_files": 3}},
    "a part that is no entry": {"state.json": {"_data_files": ["data.arrow"]}},
    "a part outside": {"state.json": {"_data_files": [{"filename": "../data.arrow"}]}},
    "the folder above as a part": {"state.json": {"_data_files": [{"filename": ".."}]}},
    "a part with a zero in its name": {"state.json": {"_data_files": [{"filename": "a\0"}]}},
    "a part that is not there": {"state.json": {"_data_files": [{"filename": "gone.arrow"}]}},
    "splits that are no list": {"dataset_dict.json": {"splits": 3}},
    "splits by name": {"dataset_dict.json": {"splits": {"train": 1}}},
    "the folder above as a split": {"dataset_dict.json": {"splits": [".."]}},
    "no mapping": {"dataset_dict.json": []},
}


@pytest.mark.parametrize("files", SAVED.values(), ids=SAVED.keys())
def test_a_saved_dataset_that_is_none_is_refused_in_one_line(
    files: dict[str, Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    whole = {"_data_files": [{"filename": "data.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(whole))  # of somebody else
    stream(tmp_path / "data.arrow", pa.array(["What?"]))
    for name, content in files.items():
        (data / name).write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        Folder(data=str(data))
    assert "\n" not in str(caught.value)


TABLES = {
    "no UTF-8": (texts(b"\xff\xfe?", 3), "question"),
    "an end outside of the bytes": (texts(b"What?", 5), "question"),
    "a time that no calendar has": (pa.array([1 << 62], pa.timestamp("s")), "hint"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_whose_values_are_none_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    file = stream(tmp_path / "data.arrow", *TABLES[kind])
    if "outside" in kind:  # which pyarrow itself does not write
        content, ends = file.read_bytes(), struct.pack("<2i", 0, 5)
        assert ends in content
        file.write_bytes(content.replace(ends, struct.pack("<2i", 0, 1 << 30)))
    with pytest.raises(UsageError, match=r"data\.arrow cannot be read") as caught:
        Folder(data=str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv", "mine.parquet"])
def test_a_pipe_or_a_device_of_questions_does_not_hang(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe_{name}")
    (tmp_path / f"endless_{name}").symlink_to("/dev/zero")
    for kind in ("pipe", "endless"):
        with pytest.raises(UsageError, match="is no plain file"):
            Folder(data=str(tmp_path / f"{kind}_{name}"))


def test_a_table_of_a_benchmark_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "MME.tsv")
    assert tables.mistakes(tmp_path / "MME.tsv") == (f"{tmp_path / 'MME.tsv'} is no plain file",)


def test_a_line_as_deep_as_python_goes_is_a_question_or_refused(folder: Path) -> None:
    for depth in range(900, 1000, 9):
        deep = json.dumps(GOOD)[:-1] + f', "x": {"[" * depth}{"]" * depth}}}'
        (folder / FILE).write_text(deep + "\n")
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
