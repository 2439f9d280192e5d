"""Files of questions of one's own: JSONL, CSV, TSV, parquet, and what ``datasets`` saves.

Each is read as data: no loading script, no pickle, and no file but the one that is named is opened.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unibench.errors import UsageError, unknown

Format = Literal["jsonl", "csv", "tsv", "parquet", "arrow"]
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
LETTERS = "ABCDEFGHIJKLMNOP"
# VLMEvalKit's rule: a shorter value in the place of a picture is the index of the row that has it
SHORTEST_BASE64 = 64
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "index"),
    "image": ("image", "image_path", "images", "video", "video_path"),
    "question": ("question",),
    "answer": ("answer", "answers"),
    "ability": ("ability", "category"),
    "options": ("options", "choices"),
    "hint": ("hint",),
    "box": ("box",),
}
"""What a question consists of, and the columns that hold it where ``columns=`` names no other."""


@dataclass(frozen=True)
class Source:
    """Where questions stand.

    Attributes:
        files: that hold them, in order.
        format: of the files.
        folder: from which their pictures are named.
    """

    files: tuple[Path, ...]
    format: Format
    folder: Path


@dataclass(frozen=True)
class Entry:
    """A question as its file has it.

    Attributes:
        file: it stands in.
        number: of its line or row, from 1; of a CSV or TSV without its header.
        values: by what they are, see :data:`COLUMNS`, and by column for the options A, B, ...
    """

    file: Path
    number: int
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        """For messages."""
        return _where(self.file, self.number)


def _where(file: Path, number: int) -> str:
    return f"{file} {'line' if file.suffix == '.jsonl' else 'row'} {number}"


def source_of(data: Path, split: str | None = None) -> Source:
    """The files that a name means: a file, or a folder with one of questions.

    Args:
        data: ``mine.tsv``; a folder with ``questions.jsonl`` (``.csv``, ``.tsv``, ``.parquet``); or
            one that ``datasets.Dataset.save_to_disk`` wrote, or that holds the parquet files of a
            repository of the hub.
        split: of a folder with several.

    Raises:
        UsageError: there is nothing of the kind, or several.
    """
    if data.is_dir():
        return _in_folder(data, split)
    if not data.exists():
        raise UsageError(f"task.data={data}: there is no such file or folder")
    if not data.is_file():  # to read a pipe would wait for a writer, and a device has no end
        raise UsageError(f"task.data={data} is no plain file")
    if data.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"task.data={data}: no format of questions; one of {known}, or a folder")
    return Source((data,), SUFFIXES[data.suffix], data.parent)


def _in_folder(folder: Path, split: str | None) -> Source:
    found = [folder / f"questions{suffix}" for suffix in SUFFIXES]
    found = [file for file in found if file.is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise UsageError(f"task.data={folder} holds {names}; name the file itself")
    if found:
        return Source((found[0],), SUFFIXES[found[0].suffix], folder)
    splits = _splits(folder)
    if not splits:
        raise UsageError(
            f"task.data={folder}: there is no questions.jsonl in it, nor .csv, .tsv or .parquet,"
            " nor a saved dataset; a file may be named itself"
        )
    if split is None and len(splits) > 1:
        raise UsageError(
            f"task.data={folder} has the splits {', '.join(splits)}; choose one with"
            f" task.split={next(iter(splits))}"
        )
    name = split or next(iter(splits))
    if name not in splits:
        raise unknown(f"split of {folder}", name, splits)
    return splits[name]


def _splits(folder: Path) -> dict[str, Source]:
    """The splits of a saved dataset, or of a folder of parquet files as on the hub."""
    several = folder / "dataset_dict.json"
    if several.is_file():
        names = _json(several).get("splits")
        named = [name for name in names if _is_name(name)] if isinstance(names, list) else []
        parts = {name: _saved(folder / name) for name in named}
        return {name: source for name, source in parts.items() if source is not None}
    saved = _saved(folder)
    if saved is not None:
        return {"all": saved}
    splits: dict[str, list[Path]] = {}
    for file in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        name = re.sub(r"-\d+-of-\d+$", "", file.stem)  # train-00000-of-00002
        splits.setdefault(name, []).append(file)
    return {name: Source(tuple(files), "parquet", folder) for name, files in splits.items()}


def _saved(folder: Path) -> Source | None:
    """A dataset that ``save_to_disk`` wrote."""
    if not (folder / "state.json").is_file():
        return None
    listed = _json(folder / "state.json").get("_data_files")
    parts = listed if isinstance(listed, list) else []
    names = [entry.get("filename") for entry in parts if isinstance(entry, Mapping)]
    files = tuple(folder / str(name) for name in names if _is_name(name))
    return Source(files, "arrow", folder) if files else None


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    return found if isinstance(found, dict) else {}


def _is_name(name: Any) -> bool:
    """Whether it is the name of something in the folder itself."""
    return isinstance(name, str) and name != ".." and Path(name).name == name


def entries(source: Source, columns: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """The questions of a source, unchecked but for their form.

    Args:
        source: of :func:`source_of`.
        columns: column by what it holds, over :data:`COLUMNS`.

    Raises:
        UsageError: a file is damaged, or lacks a column; the message names the line.
    """
    given = columns or {}
    for name in given:
        if name not in COLUMNS:
            raise unknown("name in columns", name, COLUMNS, "columns={question: prompt}")
    readers = {
        "jsonl": _of_json,
        "csv": _of_text,
        "tsv": _of_text,
        "parquet": _of_parquet,
        "arrow": _of_arrow,
    }
    number = 0
    for file in source.files:
        start = number
        for number, record in readers[source.format](file):
            number += start if source.format in ("parquet", "arrow") else 0
            yield Entry(file, number, _named(file, number, record, given))


def _named(
    file: Path, number: int, record: Mapping[str, Any], given: Mapping[str, str]
) -> dict[str, Any]:
    """The values of a record by what they are."""
    values: dict[str, Any] = {
        letter: record[letter] for letter in LETTERS if record.get(letter) not in (None, "")
    }
    for name, usual in COLUMNS.items():
        if name in given:
            if given[name] not in record:
                kind = f"column for {name} in {_where(file, number)}"
                raise unknown(kind, given[name], map(str, record))
            values[name] = record[given[name]]
            continue
        present = [column for column in usual if column in record]
        # of two columns for one thing, tables leave one empty
        filled = [column for column in present if record[column] not in ("", None)]
        if present:
            values[name] = record[(filled or present)[0]]
    return values


# -- formats


def _of_json(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # only a line feed ends a line: U+2028 or U+0085 inside of a question is part of it
    for number, content in enumerate(_text(file).split("\n"), 1):
        if not content.strip():
            continue
        try:
            entry = json.loads(content)
            text = json.dumps(entry, ensure_ascii=False)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} line {number} is not JSON: {error}") from None
        if re.search("[\ud800-\udfff]", text):
            raise UsageError(
                f"{file} line {number} holds half of a surrogate pair, which is no character"
            )
        yield number, entry if isinstance(entry, Mapping) else {}


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{file} line {number} is not UTF-8; save the file as UTF-8") from None


def _of_text(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    delimiter = "\t" if file.suffix == ".tsv" else ","
    csv.field_size_limit(sys.maxsize)  # pictures in base64 are longer than its default
    # without newline="", line ends inside quotes would be others
    lines = io.StringIO(_text(file), newline="")
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    rows: list[dict[str | Any, Any]] = []
    try:
        rows.extend(reader)  # as far as it goes
    except csv.Error as error:
        said = f"{error}; a quotation mark that is part of a text is written twice, inside quotes"
        raise UsageError(f"{file} row {len(rows) + 1}: {said}") from None
    heads = reader.fieldnames or []
    if twice := [name for name in heads if heads.count(name) > 1]:
        raise UsageError(f"{file} has two columns {twice[0]!r}")
    shared = {row.get("index"): row.get("image") for row in rows}
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            found = len(row.get(None) or ()) + sum(value is not None for value in row.values())
            raise UsageError(
                f"{file} row {number} has {found - (None in row)} values, and the header names"
                f" {len(heads)}; a value with {delimiter!r} in it needs quotes"
            )
        yield number, _picture_columns(row, shared)


def _picture_columns(row: Mapping[str, str], shared: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of a table with its pictures as a list of names, or of their bytes."""
    made: dict[str, Any] = dict(row)
    image = row.get("image", "")
    # a picture that an earlier row holds is given by that row's index
    if 0 < len(image) <= SHORTEST_BASE64 and len(shared.get(image) or "") > SHORTEST_BASE64:
        image = shared[image]
    for name, text in (("image", image), ("image_path", row.get("image_path", ""))):
        if name in row:
            made[name] = [_decoded(one) for one in _listed(text)] if text else None
    if row.get("box"):
        made["box"] = _listed(row["box"])
    if "options" in row or "choices" in row:
        made |= {name: _listed(row[name]) for name in ("options", "choices") if row.get(name)}
    return made


def _listed(text: str) -> list[Any]:
    """The values of a list in a cell, as pandas writes one; of anything else itself."""
    if text.startswith("[") and text.endswith("]"):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return [text]
        return list(found) if isinstance(found, list) else [text]
    return [text]


def _decoded(text: Any) -> Any:
    """The bytes of a picture in base64; a shorter text is the name of a file."""
    if not isinstance(text, str) or len(text) <= SHORTEST_BASE64:
        return text
    if not re.fullmatch(r"[A-Za-z0-9+/\s]+=*\s*", text):
        return text
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return text


def _of_parquet(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow.parquet as pq

    with _arrow_errors(file), pq.ParquetFile(_plain_file(file)) as opened:
        yield from _of_batches(opened.iter_batches(batch_size=256))


def _of_arrow(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa

    with _arrow_errors(file), pa.memory_map(str(_plain_file(file))) as mapped:
        with pa.ipc.open_stream(mapped) as opened:
            yield from _of_batches(opened)


def _of_batches(batches: Iterable[Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    for batch in batches:
        # of a stream the offsets are believed unseen, and lead outside of its memory
        batch.validate(full=True)
        for record in batch.to_pylist():
            number += 1
            yield number, {name: _picture(value) for name, value in record.items()}


def _plain_file(file: Path) -> Path:
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is no plain file")
    return file


@contextmanager
def _arrow_errors(file: Path) -> Iterator[None]:
    """What a damaged file ends in becomes one line: an error of Arrow, a text that is no UTF-8, a
    time beyond the years of Python.
    """
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{file} cannot be read: {said}") from None


def _picture(value: Any) -> Any:
    """A value of a record; a picture, which ``datasets`` keeps as ``{bytes, path}``, as bytes or a
    name.
    """
    if isinstance(value, Mapping) and value.keys() == {"bytes", "path"}:
        return value["path"] if value["bytes"] is None else value["bytes"]
    return [_picture(one) for one in value] if isinstance(value, list) else value


def pictures_named(data: Path, columns: Mapping[str, str] | None, split: str | None) -> list[str]:
    """Names of the picture files of a source; of one that cannot be read, none."""
    try:
        source = source_of(data, split)
        images = [entry.values.get("image") for entry in entries(source, columns)]
    except UsageError:
        return []
    lists: list[Sequence[Any]] = [one if isinstance(one, list) else [one] for one in images]
    return [name for names in lists for name in names if isinstance(name, str)]
