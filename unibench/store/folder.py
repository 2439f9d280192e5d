"""The folder of one cell.

=====================  =======================================================
config.yaml            the resolved configuration
identity.json          all that the key hashes
samples-<w>.jsonl      while the cell is worked on: one file per writer, its environment in
                       the first line, then one line per answered sample; only appended to
samples.jsonl          all samples in the order of the task, once the cell is complete
env.json               machine and package versions of every run that added samples
status.json            running, done or failed (with the traceback); replaced atomically
manifest.json          size and SHA-256 of each file of a finished cell
metrics.json           the row of the tables, written last
run.log                what was logged
claim-*, done-*,       who works on which part, which parts are done, and in how many the
split                  cell is split: :mod:`unibench.store.claim`
=====================  =======================================================

No two processes ever write to one file of samples, so nothing depends on locks or on atomic
appends. A sample that two files hold counts once.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unibench.credentials import hidden, written
from unibench.errors import UsageError
from unibench.identity import Cell
from unibench.store import manifest, versions
from unibench.store.data import (
    UnreadableError,
    is_nested,
    read_bytes,
    read_mapping,
    shown,
)
from unibench.store.files import disk_errors, no_link, read_json, refuse_links, replace
from unibench.store.index import sweep_once
from unibench.store.lines import (
    UNKNOWN,
    Shape,
    checked,
    environment_of,
    is_environment,
    line_of,
    parsed,
    sound,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_READ = ("id", "ability", "group", "index", "score")
SYNC_SECONDS = 2.0  # a power cut costs at most this much; a killed process costs nothing
_DAMAGED = (
    "{} is damaged. Nothing is lost: `python -m unibench store repair {}` sets the line aside, and"
    " the same run then answers that sample again"
)
PARSED = 1 << 20  # bytes of samples that a look at a cell parses
# a line as :func:`line_of` writes it, with its checksum of blanks or without
_WRITTEN = re.compile(rb'^\{"id":"([^"\\\n]*)",.*\}[ \t]*$', re.MULTILINE)
BLOCK = 1 << 20  # bytes of a long file that are looked at together
SAMPLES = 1 << 31  # bytes of a file of samples, at most


class DamagedError(UsageError):
    """A file of a cell cannot be read."""


@dataclass(frozen=True)
class Sealed:
    """What a finished cell was asked, in the order of its task, and the scores."""

    ids: tuple[str, ...]
    abilities: tuple[str, ...]
    groups: tuple[str, ...]
    scores: npt.NDArray[np.float64]


class CellFolder:
    """Reads and writes one cell.

    Args:
        cell: whose folder it is; the folder is created on the first write.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.path = cell, cell.folder
        self._descriptor: int | None = None
        self._synced = 0.0

    # -- reading

    def samples(self) -> dict[str, dict[str, Any]]:
        """Answered samples by id, in the order of the task.

        A last line without its end was torn by a kill and does not count.

        Raises:
            DamagedError: another line is no sample; nothing is thrown away.
        """
        return read_samples(self.path)[0]

    def environments(self) -> list[dict[str, Any]]:
        """Of the runs that added samples; ``sample["run"]`` counts them."""
        return read_samples(self.path)[1]

    def row(self) -> dict[str, Any] | None:
        """The finished cell's row, or None; a damaged one is written again from the samples."""
        return read_row(self.path)

    def failure(self) -> dict[str, Any] | None:
        """``error`` and ``traceback`` of the last attempt, if it failed."""
        status = read_json(self.path / "status.json")
        return status if isinstance(status, dict) and status.get("state") == "failed" else None

    # -- writing

    def open(self) -> None:
        """Create the folder with what says which cell it is.

        Raises:
            DiskError: the disk is full or the folder cannot be written.
        """
        refuse_links(Path(self.cell.config.out), self.path)
        with disk_errors(self.path):
            if not self.path.exists():
                sweep_once(Path(self.cell.config.out))
            self.path.mkdir(parents=True, exist_ok=True)
            # a kill between two writes leaves one of them out
            if read_json(self.path / "identity.json") != self.cell.identity or not _is_yaml(
                self.path / "config.yaml"
            ):
                replace(
                    self.path / "config.yaml",
                    yaml.safe_dump(
                        written(asdict(self.cell.config)), sort_keys=False, allow_unicode=True
                    ),
                )
                replace(
                    self.path / "identity.json",
                    json.dumps(self.cell.identity, indent=1, sort_keys=True),
                )
                manifest.begin(self.path)

    @contextmanager
    def appending(self, environment: Mapping[str, Any]) -> Iterator[int]:
        """Open for new samples, in a file of this writer alone; yields the writer's number.

        Raises:
            DiskError: the disk is full or the folder cannot be written.
            UsageError: as :meth:`check_versions`.
        """
        self.open()
        self.check_versions(versions.named(environment))
        self.status("running")
        with disk_errors(self.path):
            number, self._descriptor = _new_writer(self.path)
        try:
            # inside the try, so that the descriptor is closed where the disk is full
            self._write({"environment": dict(environment)})
            yield number
        finally:
            descriptor, self._descriptor = self._descriptor, None
            with disk_errors(self.path):
                os.fsync(descriptor)
                os.close(descriptor)

    def check_versions(self, now: Mapping[str, str]) -> None:
        """Refuse to continue under other releases of packages that decide an answer.

        Args:
            now: see :func:`unibench.store.versions.named`.

        Raises:
            UsageError: samples that are there were answered under others.
        """
        if not now or not sample_files(self.path):
            return
        for environment in self.environments():
            if apart := versions.differing(versions.named(environment), now):
                raise UsageError(
                    f"{self.path}: samples were answered with {apart}, and a cell is never"
                    " continued under other releases: finish it there, or remove the folder to"
                    " begin anew"
                )

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Everything that unibench logs inside the block also goes to ``run.log``."""
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handler = _Log(self.path / "run.log", encoding="utf-8")
        handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        # a full disk is told by the samples
        handler.handleError = lambda record: None  # type: ignore[method-assign]
        logger = logging.getLogger("unibench")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            with disk_errors(self.path):
                handler.close()

    def note(self, **more: Any) -> None:
        """Add to the environment of the samples of this writer what is known only at the end."""
        self._write({"environment": more})

    def append(self, sample: Mapping[str, Any]) -> None:
        """Add an answered sample.

        Raises:
            DiskError: the disk is full; the samples before are safe.
        """
        self._write(sample)

    def status(self, state: str, **more: Any) -> None:
        """Replace ``status.json``."""
        with disk_errors(self.path):
            text = {
                "state": state,
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "pid": os.getpid(),
                **{name: _harmless(value) for name, value in more.items()},
            }
            replace(self.path / "status.json", checked(json.dumps(text)))

    def merge(self) -> None:
        """Join the writers' files to ``samples.jsonl`` and ``env.json``.

        A kill between any two steps leaves every sample in at least one file.
        """
        samples, environments = read_samples(self.path)
        with disk_errors(self.path):
            # before the samples, whose run numbers count its entries
            replace(self.path / "env.json", checked(json.dumps(environments, indent=1)))
            replace(self.path / "samples.jsonl", b"".join(map(line_of, samples.values())))
            for file in _writers(self.path):
                file.unlink(missing_ok=True)

    def finish(self, row: Mapping[str, Any]) -> None:
        """Write the row of a complete cell, which counts as finished from then on."""
        content = json.dumps(row, indent=1).encode()
        with disk_errors(self.path):
            (self.path / "job.json").unlink(missing_ok=True)  # what a harness's process was told
            self.status("done", n=row["n"])
            # before the row: finished cells without a manifest pass for those of earlier versions
            manifest.write(self.path, {"metrics.json": content})
            replace(self.path / "metrics.json", content)
            forget_parts(self.path)

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._descriptor is not None, "open the folder with appending()"
        content = line_of(line)
        with disk_errors(self.path):
            # a short write is how a full disk shows itself on some systems
            if os.write(self._descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, "written in part")
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()


class _Lines(logging.Formatter):
    """Lines of a log, without secrets that an error may quote."""

    def format(self, record: logging.LogRecord) -> str:
        return hidden(super().format(record))


def _harmless(value: Any) -> Any:
    return hidden(value) if isinstance(value, str) else value


class _Log(logging.FileHandler):
    """A log that is no link to another file."""

    def _open(self) -> Any:
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors="backslashreplace",
            opener=no_link,
        )


def read_row(folder: Path) -> dict[str, Any] | None:
    """The row in a cell's folder; None if there is none or it is damaged."""
    row = read_json(folder / "metrics.json")
    return row if isinstance(row, dict) and isinstance(row.get("n"), int) else None


def read_samples(folder: Path) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Samples of a cell's folder by id in the order of the task, and the environments that their
    ``run`` counts.

    Raises:
        DamagedError: a line is no sample.
    """
    # the writers' files first: one that merge() removes meanwhile is then found in samples.jsonl
    written = [(file, lines) for file in _writers(folder) if (lines := _lines(file)) is not None]
    merged = [
        _sample(folder / "samples.jsonl", *line)
        for line in enumerate(_lines(folder / "samples.jsonl") or [], 1)
    ]
    stored = read_json(folder / "env.json")
    environments = [
        {**UNKNOWN, **entry} if is_environment(entry) else UNKNOWN
        for entry in (stored if isinstance(stored, list) else [])
    ]
    environments += [UNKNOWN] * (
        max((sample.get("run", 0) for sample in merged), default=-1) + 1 - len(environments)
    )
    found: dict[str, dict[str, Any]] = {}
    for sample in merged:
        found.setdefault(sample["id"], sample)
    for file, lines in written:
        headers = {
            number: header
            for number, line in enumerate(lines, 1)
            if (header := environment_of(line)) is not None
        }
        samples = [
            _sample(file, number, line)
            for number, line in enumerate(lines, 1)
            if number not in headers
        ]
        environment = dict(UNKNOWN)
        for header in headers.values():
            environment |= header
        if samples and environment not in environments:
            environments.append(environment)
        for sample in samples:
            # a writer's own numbers mean nothing here: runs count the joined list
            found.setdefault(sample["id"], {**sample, "run": environments.index(environment)})
    shape = Shape.of(found.values(), read_json(folder / "identity.json"))
    for name, sample in found.items():
        if not shape.fits(sample):
            raise DamagedError(_DAMAGED.format(f"{folder} sample {shown(name)}", folder))
    return dict(sorted(found.items(), key=lambda entry: entry[1].get("index", 0))), environments


def sealed_scores(folder: Path) -> Sealed | None:
    """The scores of a finished cell each of whose lines has its checksum, without the rest of its
    samples, which takes several times as long to read; None of any other cell, of which
    :func:`read_samples` has to judge.
    """
    if _writers(folder):
        return None
    texts = []
    for line in _lines(folder / "samples.jsonl") or []:
        content = sound(line)
        if content is None or content is line:  # damaged, or of an earlier version
            return None
        # the reader below dies of a line that is null; of the others read_samples judges
        if content[:1] != b"{" or b"\\ud" in content.lower() or is_nested(content):
            return None
        texts.append(content)
    return _columns_of(b"\n".join(texts)) if texts else None


def _columns_of(text: bytes) -> Sealed | None:
    """Scores from lines of JSON; None where they are not those of samples in their order."""
    import pyarrow as pa
    from pyarrow import json as table

    try:
        text.decode()
        found = table.read_json(pa.BufferReader(text), *_reading())
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return None
    if len(found) != text.count(b"\n") + 1 or any(column.null_count for column in found.columns):
        return None
    ids, abilities, groups, places, scores = (found[name] for name in _READ)
    names = ids.to_pylist()
    if len(set(names)) < len(names) or (places.to_numpy()[1:] < places.to_numpy()[:-1]).any():
        return None
    texts = tuple(names), tuple(abilities.to_pylist()), tuple(groups.to_pylist())
    return Sealed(*texts, scores.to_numpy())


@cache
def _reading() -> tuple[Any, Any]:
    """How :data:`_READ` are read from lines of JSON."""
    import pyarrow as pa  # a third of a second, of which a worker has no need
    from pyarrow import json as table

    types = {"index": pa.int64(), "score": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in _READ])
    parsing = table.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return table.ReadOptions(use_threads=False, block_size=1 << 24), parsing


def count_samples(folder: Path) -> int:
    """Answered samples of a cell, for looks that need no more: of a long cell the lines are counted
    and not parsed.

    Raises:
        DamagedError: a line is no sample; in a long cell, one that has another beginning or end.
    """
    files = sample_files(folder)
    if sum(file.lstat().st_size for file in files) <= PARSED:
        return len(read_samples(folder)[0])
    # hashes of the names, in parts of which one at a time is looked through: a cell may be long
    parts = [array("q") for _ in range(64)]
    for file in files:
        before = 0
        for block in _blocks(file):
            names, lines = _WRITTEN.findall(block), block.count(b"\n")
            if len(names) != lines:
                names = list(_names(file, before, block))
            for name in map(hash, names):
                parts[name & 63].append(name)
            before += lines
    return sum(len(set(part)) for part in parts)


def _names(file: Path, before: int, block: bytes) -> Iterator[bytes]:
    """The names of the samples in lines of which some have another form than the usual one."""
    for number, line in enumerate(block.split(b"\n")[:-1], before + 1):
        if (whole := _WRITTEN.fullmatch(line)) is not None:
            yield whole[1]
        elif environment_of(line) is None:
            yield json.dumps(_sample(file, number, line)["id"]).encode()[1:-1]


def _blocks(file: Path) -> Iterator[bytes]:
    """The whole lines of a file of samples, some at a time.

    Raises:
        DamagedError: it is a link or no plain file.
    """
    if file.is_symlink() or not file.is_file():
        raise DamagedError(f"{shown(file)} is a link or no plain file")
    with open(file, "rb", opener=no_link) as stream:
        # to the end of a line: what is carried over to the next block would be copied twice
        while block := stream.read(BLOCK) + stream.readline():
            if not block.endswith(b"\n"):  # torn by a kill
                block = block[: block.rfind(b"\n") + 1]
            yield block


def forget_parts(folder: Path) -> None:
    """Remove the marks of done parts, and in how many the cell was split."""
    for file in (*folder.glob("done-*"), folder / "split"):
        file.unlink(missing_ok=True)


def sample_files(folder: Path) -> list[Path]:
    """Every file of samples in a cell's folder."""
    return [*_writers(folder), *folder.glob("samples.jsonl")]


def _sample(file: Path, number: int, line: bytes) -> dict[str, Any]:
    sample = parsed(line)
    if sample is None:
        raise DamagedError(_DAMAGED.format(f"{file} line {number}", file.parent))
    return sample


def _writers(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)  # several times as fast as glob, and readers ask for every cell
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableError(f"{shown(folder)} cannot be read: {error.strerror}") from None
    numbered = [name for name in names if name.startswith("samples-") and name.endswith(".jsonl")]
    found = [folder / name for name in numbered if _number(folder / name) >= 0]
    return sorted(found, key=_number)


def _number(file: Path) -> int:
    number = file.stem.removeprefix("samples-")
    # of other digits, such as the superscript two, int() makes no number
    return int(number) if number.isascii() and number.isdecimal() else -1


def _new_writer(folder: Path) -> tuple[int, int]:
    """Number and descriptor of a file that did not exist."""
    number = max(map(_number, _writers(folder)), default=-1) + 1
    while True:
        try:
            return number, os.open(
                folder / f"samples-{number}.jsonl",
                os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND,
                0o666,
            )
        except FileExistsError:
            number += 1


def _lines(file: Path) -> list[bytes] | None:
    """The whole lines; None if there is no such file.

    Raises:
        DamagedError: it is a link or no plain file.
    """
    try:
        return read_bytes(file, SAMPLES).split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    except UnreadableError as error:
        raise DamagedError(f"{error}. `python -m unibench store verify` has more") from None


def _is_yaml(file: Path) -> bool:
    try:
        return bool(read_mapping(file))
    except UnreadableError:
        return False
