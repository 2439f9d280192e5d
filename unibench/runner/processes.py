"""Several workers on one machine: one process per device, each started again when it dies."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from unibench.device import device_type
from unibench.errors import UsageError
from unibench.identity import Cell, settled
from unibench.inference.record import Record
from unibench.plan import survey
from unibench.runner.listener import Listener
from unibench.runner.stopping import Stop
from unibench.runner.work import Failure, Outcome, work
from unibench.store import CellFolder

log = logging.getLogger(__name__)

MAX_DEATHS = (
    10  # in a row, without an answered sample between them, until the cell counts as failed
)
STOPPED = 130


class _Report(ctypes.Structure):
    """What a worker says about itself, in shared memory: a lock could be held by a process that was
    killed.
    """

    _fields_ = (("steps", ctypes.c_long), ("cell", ctypes.c_long))


@dataclass
class _Slot:
    """A place for one process after the other.

    Attributes:
        device: as in ``model.device``; None leaves what the cells say.
        report: of the running process.
        deaths: in a row.
        steps: answered samples at the last death.
    """

    number: int
    device: str | None
    report: Any
    process: ForkServerProcess | None = None
    deaths: int = 0
    steps: int = 0


def work_in_processes(
    cells: Sequence[Cell],
    devices: Sequence[str | None],
    *,
    expiry: float,
    listener: Callable[[int], Listener],
) -> Outcome:
    """Complete cells with one process for each device.

    A process that is killed or crashes is started again and the cell continued; a cell at which
    processes die again and again without an answered sample is marked as failed.

    Args:
        cells: as of :func:`work`.
        devices: one per process, for example ``["cuda:0", "cuda:1"]`` or ``[None, None]``.
        expiry: see :func:`work`.
        listener: makes the listener of a worker, in its process, from the number of its slot; can
            be pickled.

    Raises:
        KeyboardInterrupt: the user stopped; one signal lets every worker finish its sample, a
            second one does not.
        UsageError: a device is of another type than the key of a cell says.
    """
    context = multiprocessing.get_context(
        "forkserver"
    )  # imports once, forks before any thread or GPU is in use
    context.set_forkserver_preload(["unibench.runner.processes"])
    cells = settled(cells)
    _check_devices(cells, devices)
    keys = [plan.cell.key for plan in survey(cells)]
    slots = [
        _Slot(number, device, context.RawValue(_Report, 0, -1))
        for number, device in enumerate(devices)
    ]
    with _Forwarding(slots) as forwarding:
        for slot in slots:
            _start(context, slot, cells, keys, expiry, listener)
        while running := {
            slot.process.sentinel: slot for slot in slots if slot.process is not None
        }:
            for sentinel in wait(list(running)):
                slot = running[sentinel]  # type: ignore[index]
                if (code := _end(slot)) not in (0, STOPPED) and not forwarding.signals:
                    log.warning(
                        "worker %d died (%s) and is started again", slot.number, _reason(code)
                    )
                    _mark(slot, cells, keys)
                    _start(context, slot, cells, keys, expiry, listener)
    if forwarding.signals:
        raise KeyboardInterrupt
    return outcome_of(cells)


def _start(
    context: ForkServerContext,
    slot: _Slot,
    cells: Sequence[Cell],
    keys: list[str],
    expiry: float,
    listener: Callable[[int], Listener],
) -> None:
    mine = cells if slot.device is None else [_on(cell, slot.device) for cell in cells]
    slot.process = context.Process(
        target=_run, args=(slot.number, mine, keys, slot.report, expiry, listener)
    )
    slot.process.start()


def _check_devices(cells: Sequence[Cell], devices: Sequence[str | None]) -> None:
    for device in devices:
        for cell in cells if device is not None else ():
            if device_type(str(device)) != cell.identity["device"]:
                raise UsageError(
                    f"{device} is asked for, but model.device={cell.config.model.device} is"
                    f" {cell.identity['device']} here: leave one of the two away"
                )


def _on(cell: Cell, device: str) -> Cell:
    """The same cell on another device of its type, which alone its key hashes."""
    return replace(
        cell, config=replace(cell.config, model=replace(cell.config.model, device=device))
    )


def _end(slot: _Slot) -> int | None:
    """The exit code of the process of a slot that has ended."""
    assert slot.process is not None
    slot.process.join()
    code, slot.process = slot.process.exitcode, None
    return code


def _mark(slot: _Slot, cells: Sequence[Cell], keys: list[str]) -> None:
    """Count a death; after too many at one cell, mark it as failed, so that the next process goes
    on with another.
    """
    slot.deaths = slot.deaths + 1 if slot.report.steps == slot.steps else 1
    slot.steps = slot.report.steps
    if slot.deaths < MAX_DEATHS:
        return
    if slot.report.cell < 0:
        raise RuntimeError(f"worker {slot.number} died {slot.deaths} times before its first cell")
    (plan,) = [plan for plan in survey(cells) if plan.cell.key == keys[slot.report.cell]]
    error = f"its worker died {slot.deaths} times without answering a sample"
    CellFolder(plan.cell).status("failed", error=error, traceback=None, usage=False)
    slot.deaths = 0


def _reason(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def outcome_of(cells: Sequence[Cell]) -> Outcome:
    """What became of cells that other processes worked on, as their folders tell."""
    outcome = Outcome()
    for plan in survey(cells):
        if plan.row is not None:
            outcome.rows[plan.cell.key] = plan.row
        else:
            outcome.failures.append(
                Failure(plan.cell, plan.reason or "not finished", usage=plan.state == "blocked")
            )
    return outcome


class _Forwarding:
    """Signals to the parent go on to the workers, which are no longer in the terminal's group.

    Attributes:
        signals: that have come.
    """

    def __init__(self, slots: Sequence[_Slot]) -> None:
        self._slots, self.signals = slots, 0

    def __enter__(self) -> _Forwarding:
        self._before: dict[int, Any] = {
            number: signal.signal(number, self._signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _signal(self, number: int, frame: Any) -> None:
        self.signals += 1
        for slot in self._slots:
            if (
                slot.process is not None
                and slot.process.pid is not None
                and slot.process.is_alive()
            ):
                os.kill(slot.process.pid, signal.SIGINT)


class _Reporting:
    """A listener that also counts for the parent."""

    def __init__(self, listener: Listener, keys: list[str], report: Any) -> None:
        self._listener, self._keys, self._report, self._old = listener, keys, report, 0
        self.end, self.failed, self.wait = listener.end, listener.failed, listener.wait

    def begin(self, cell: Cell, done: int, total: int | None) -> None:
        self._report.cell, self._old = self._keys.index(cell.key), done
        self._listener.begin(cell, done, total)

    def step(self, record: Record) -> None:
        self._old -= 1
        self._report.steps += self._old < 0
        self._listener.step(record)


def _run(
    number: int,
    cells: Sequence[Cell],
    keys: list[str],
    report: Any,
    expiry: float,
    listener: Callable[[int], Listener],
) -> None:
    """A worker process."""
    os.setsid()  # the terminal's Ctrl-C goes to the parent alone, which passes it on
    logging.getLogger("unibench").setLevel(logging.INFO)
    stop = Stop(orphaned_from=os.getppid())
    try:
        with stop.listening():
            work(
                cells, listener=_Reporting(listener(number), keys, report), stop=stop, expiry=expiry
            )
    except KeyboardInterrupt:
        sys.exit(STOPPED)
