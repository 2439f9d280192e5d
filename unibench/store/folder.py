"""The folder of one cell.

=================  ===========================================================
config.yaml        the resolved configuration
identity.json      all that the key hashes
env.json           machine and package versions of every run that added samples
samples.jsonl      one line per answered sample, only ever appended to
status.json        running, done or failed; replaced atomically
metrics.json       the row of the tables, written when all samples are there
run.log            what was logged
=================  ===========================================================
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import yaml

from unibench.errors import UsageError
from unibench.identity import Cell

SYNC_SECONDS = 2.0  # a power cut costs at most this much; a killed process costs nothing


class DamagedError(UsageError):
    """A file of a cell cannot be read."""


class CellFolder:
    """Reads and writes one cell.

    Args:
        cell: whose folder it is; the folder is created on the first write.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.path = cell, cell.folder
        self._stream: IO[bytes] | None = None
        self._synced = 0.0

    # -- reading

    def samples(self) -> dict[str, dict[str, Any]]:
        """Answered samples by id, in the order in which they were answered.

        A last line without its end was torn by a kill and does not count.

        Raises:
            DamagedError: another line is no sample; nothing is thrown away.
        """
        file = self.path / "samples.jsonl"
        found: dict[str, dict[str, Any]] = {}
        if not file.exists():
            return found
        for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
            sample = parsed(line)
            if sample is None:
                raise DamagedError(
                    f"{file} line {number} is damaged. Nothing is lost: `python -m unibench store repair {self.path}` sets the line aside, "
                    "and the same run then answers that sample again"
                )
            found.setdefault(sample["id"], sample)
        return found

    def row(self) -> dict[str, Any] | None:
        """The finished cell's row, or None."""
        try:
            row: dict[str, Any] = json.loads((self.path / "metrics.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None  # a damaged one is written again from the samples
        return row

    # -- writing

    @contextmanager
    def appending(self, environment: Mapping[str, Any]) -> Iterator[int]:
        """Open for new samples; yields the number of this run in ``env.json``.

        Raises:
            UsageError: the disk is full or the folder cannot be written.
        """
        with _disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "config.yaml").exists():
                _replace(self.path / "config.yaml", yaml.safe_dump(asdict(self.cell.config), sort_keys=False, allow_unicode=True))
                _replace(self.path / "identity.json", json.dumps(self.cell.identity, indent=1, sort_keys=True))
            runs = self._runs()
            if not runs or runs[-1] != dict(environment):
                runs.append(dict(environment))
                _replace(self.path / "env.json", json.dumps(runs, indent=1))
            self.status("running")
            self._stream = _open_whole(self.path / "samples.jsonl")
        try:
            yield len(runs) - 1
        finally:
            stream, self._stream = self._stream, None
            with _disk_errors(self.path):
                os.fsync(stream.fileno())
                stream.close()

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Everything that unibench logs inside the block also goes to ``run.log``."""
        with _disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(self.path / "run.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("unibench")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()

    def append(self, sample: Mapping[str, Any]) -> None:
        """Add an answered sample.

        Raises:
            UsageError: the disk is full; the samples before are safe.
        """
        assert self._stream is not None, "open the folder with appending()"
        with _disk_errors(self.path):
            self._stream.write(json.dumps(sample, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            self._stream.flush()
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._stream.fileno())
                self._synced = time.monotonic()

    def status(self, state: str, **more: Any) -> None:
        """Replace ``status.json``."""
        with _disk_errors(self.path):
            text = {"state": state, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "pid": os.getpid(), **more}
            _replace(self.path / "status.json", json.dumps(text))

    def finish(self, row: Mapping[str, Any]) -> None:
        """Write the row of a complete cell."""
        with _disk_errors(self.path):
            _replace(self.path / "metrics.json", json.dumps(row, indent=1))
        self.status("done", n=row["n"])

    def _runs(self) -> list[dict[str, Any]]:
        try:
            runs: list[dict[str, Any]] = json.loads((self.path / "env.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return []
        return runs


def parsed(line: bytes) -> dict[str, Any] | None:
    """The sample of a line, or None if it is none."""
    try:
        sample = json.loads(line)
    except ValueError:
        return None
    return sample if isinstance(sample, dict) and isinstance(sample.get("id"), str) and "score" in sample else None


def repair(folder: Path) -> int:
    """Set damaged lines of ``samples.jsonl`` aside in ``samples.damaged``; returns how many.

    Raises:
        UsageError: the folder holds no samples.
    """
    file = folder / "samples.jsonl"
    if not file.is_file():
        raise UsageError(f"{folder} has no samples.jsonl; give the folder of a cell, outputs/<model>/<task>/<method>/<key>")
    lines = file.read_bytes().split(b"\n")
    whole, torn = lines[:-1], lines[-1:]
    bad = [line for line in whole if parsed(line) is None] + [line for line in torn if line]
    if bad:
        with (folder / "samples.damaged").open("ab") as aside:
            aside.write(b"\n".join(bad) + b"\n")
            os.fsync(aside.fileno())
        good = [line for line in whole if parsed(line) is not None]
        _replace(file, b"".join(line + b"\n" for line in good))
        (folder / "metrics.json").unlink(missing_ok=True)
    return len(bad)


def _open_whole(file: Path) -> IO[bytes]:
    """Open for appending after the last whole line."""
    stream = file.open("ab+")
    size = stream.seek(0, os.SEEK_END)
    if size:
        stream.seek(0)
        end = stream.read().rfind(b"\n") + 1
        if end != size:
            stream.truncate(end)
        stream.seek(0, os.SEEK_END)
    return stream


def _replace(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            reason = "the folder cannot be written; set out=<folder>"
        else:
            reason = str(error)
        raise UsageError(f"{path}: {reason}. Every answered sample is safe; the same command continues") from None
