"""Who works on what: claims that need no locks, no clock that is right, and no clean death of their
holder.

A claim is a file ``claim-<part>.<generation>`` made by exclusive create. Its holder counts up a
number in it every few seconds. Whoever wants the part while the number moves leaves it alone; when
it has not moved for ``expiry`` seconds *of the observer's own monotonic clock*, the observer takes
over by making the next generation, which only one can. Wall clocks are never compared, so a clock
that jumps steals nothing. A holder that was stopped for long finds the next generation and stops
writing.

A claim saves work and protects no data: every writer appends to a file of its own, and samples
count once. So on a network file system that lies about exclusive creation two workers may answer
the same sample; the results stay right.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unibench.store.data import MIB, UnreadableError, parsed_json, read_bytes

BEAT_SECONDS = 3.0
EXPIRY_SECONDS = 60.0  # longer than a loading model may keep the interpreter


@dataclass
class Watch:
    """What one observer has seen of other workers' claims.

    Attributes:
        expiry: seconds without a heartbeat after which a holder counts as dead.
    """

    expiry: float = EXPIRY_SECONDS
    _seen: dict[Path, tuple[bytes, float]] = field(default_factory=dict)

    def dead(self, file: Path, content: bytes) -> bool:
        """Whether the holder of a claim is gone: its process is, or it has not moved for
        ``expiry``.
        """
        if _process_gone(content):
            return True
        # the content as a whole: token and count, so that a claim made anew moves too
        before, since = self._seen.get(file, (None, 0.0))
        if before != content:
            self._seen[file] = (content, time.monotonic())
            return False
        return time.monotonic() - since > self.expiry


class Claim:
    """A claim that is held; its heart beats until :meth:`close`."""

    def __init__(self, file: Path, descriptor: int, older: list[Path], beat: float) -> None:
        self.file, self._descriptor, self._older = file, descriptor, older
        stem, _, generation = file.name.rpartition(".")
        self._next = file.with_name(f"{stem}.{int(generation) + 1}")
        self._end = threading.Event()
        # a thread beats while the main one is inside torch, which lets go of the interpreter
        self._thread = threading.Thread(target=self._beat, args=(beat,), daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """False when somebody took over, thinking this process dead, or the folder was removed."""
        return self.file.exists() and not self._next.exists()

    def close(self) -> None:
        """Let others have the part."""
        if self.held:
            # before the newest: while an old one is there, so is this one
            for file in self._older:
                file.unlink(missing_ok=True)
            self.withdraw()
        else:
            self._stop()

    def withdraw(self) -> None:
        """Undo the claim alone; what it was to take over stays."""
        self._stop()
        self.file.unlink(missing_ok=True)

    def _stop(self) -> None:
        self._end.set()
        self._thread.join()
        os.close(self._descriptor)

    def _beat(self, seconds: float) -> None:
        count = 0
        while not self._end.wait(seconds):
            count += 1
            try:
                # in place and of one length, so that a reader sees a whole number
                os.pwrite(self._descriptor, b"%012d" % count, 0)
                os.fsync(self._descriptor)
            except OSError:
                return  # a full or vanished disk: appending will say so


def acquire(folder: Path, part: str, watch: Watch, *, beat: float = BEAT_SECONDS) -> Claim | None:
    """Claim a part of a cell.

    Args:
        folder: of the cell; exists.
        part: any name without a dot.
        watch: what this worker has seen so far; use one for all calls.
        beat: seconds between heartbeats.

    Returns:
        The claim, or None while somebody else holds it. A dead holder is only told from a slow one
        after a while, so ask again.

    Raises:
        OSError: the folder cannot be written.
    """
    older = _generations(folder, part)
    top = older[-1] if older else None
    before = None if top is None else _content(top)
    if top is not None and (before is None or not watch.dead(top, before)):
        return None
    generation = 0 if top is None else int(top.suffix[1:]) + 1
    claim = _created(folder / f"claim-{part}.{generation}", older, beat)
    # between the look and the claim the holder may have come back to life, or another taker have
    # come and gone
    if claim is not None and (
        (top is not None and _content(top) != before)
        or _generations(folder, part)[-1:] != [claim.file]
    ):
        claim.withdraw()
        return None
    return claim


def _created(file: Path, older: list[Path], beat: float) -> Claim | None:
    """The claim whose file did not exist yet, or None."""
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    try:
        os.write(descriptor, b"%012d\n" % 0 + json.dumps(_self()).encode())
    except OSError:
        os.close(descriptor)
        file.unlink(missing_ok=True)
        raise
    return Claim(file, descriptor, older, beat)


def holder(folder: Path, watch: Watch) -> str | None:
    """``host:process`` of somebody who holds a part of the cell, None if nobody does or all are
    dead.
    """
    for file in sorted(folder.glob("claim-*.*")):
        content = _content(file)
        if content is None or _generations(
            folder, file.name.removeprefix("claim-").rpartition(".")[0]
        )[-1:] != [file]:
            continue
        if not watch.dead(file, content):
            about = _about(content)
            return f"{about.get('host', '?')}:{about.get('pid', '?')}"
    return None


def _generations(folder: Path, part: str) -> list[Path]:
    """The files of a claim, oldest first."""
    prefix = f"claim-{part}."
    named = [file for file in folder.glob("claim-*.*") if file.name.startswith(prefix)]
    # of other digits, such as the superscript two, int() makes no number
    found = [file for file in named if file.suffix[1:].isascii() and file.suffix[1:].isdecimal()]
    return sorted(found, key=lambda file: int(file.suffix[1:]))


def _content(file: Path) -> bytes | None:
    try:
        return read_bytes(file, MIB)
    except (FileNotFoundError, UnreadableError):
        return None


def _self() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "token": secrets.token_hex(8),
        "host": platform.node(),
        "pid": pid,
        "kernel": _kernel(),
        "born": _born(pid),
    }


def _about(content: bytes) -> dict[str, Any]:
    try:
        about = parsed_json(content.partition(b"\n")[2])
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}  # of a damaged claim nothing is known


def _process_gone(content: bytes) -> bool:
    """Whether the holder ran under this very kernel and name space, and its process is no more."""
    about = _about(content)
    if (
        about.get("kernel") is None
        or about["kernel"] != _kernel()
        or type(about.get("pid")) is not int
        or about["pid"] <= 0
    ):
        return False
    try:
        # signal 0 only asks whether the process is there
        os.kill(about["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False  # another user's process, which /proc may hide
    return _born(about["pid"]) not in (None, about.get("born"))


def _kernel() -> str | None:
    """Boot and process name space, within which a process id means something; None where Linux does
    not tell.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process started, in ticks since the boot: an id that was given away again is another
    process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] == "Z" else fields[19]
