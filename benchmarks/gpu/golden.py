"""The stored cases of every method, answered twice: on a CPU and on another device, or by plain
loops and by kernels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import tests.golden
from benchmarks.gpu.contenders import going
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.devices import MadeOn
from benchmarks.gpu.plan import Way
from tests.golden import _context
from tests.golden._adapters import ADAPTERS, Answer, Call
from tests.golden._cases import Case, Entry, cases, entry_of, mapped


@dataclass(frozen=True)
class Compared:
    """Golden cases on a device.

    Attributes:
        device: its type.
        way: of the loops there.
        equal: cases with equal picks.
        unlike: names of the others, with what differs.
        own: cases that make a comparison of their own, and passed it there.
        left: cases that were not asked, for want of time.
    """

    device: str
    way: Way
    equal: int
    unlike: tuple[str, ...]
    own: int
    left: int


def compared(device: torch.device, way: Way, every: int, deadline: Deadline) -> Compared:
    """Whether the picks on a device are those on the CPU.

    Args:
        device: the other one.
        way: of the loops on it.
        every: each so many-th case is asked.
        deadline: when to stop.
    """
    equal, own, unlike, wanted = 0, 0, list[str](), list(chosen())[::every]
    asked = 0
    for case, entry in wanted:
        if deadline.over:
            break
        asked += 1
        expected = answers(case, entry)
        try:
            with going(way):
                found = answers(case, entry, device)
        except Exception as error:  # a tensor on another device than its neighbour, for one
            lines = str(error).strip().splitlines() or [""]
            unlike.append(f"{case.name}: {type(error).__name__}: {lines[0][:120]}")
            continue
        if expected is None:
            own += 1
        elif same(expected, found):
            equal += 1
        else:
            unlike.append(f"{case.name}: {_apart(expected, found)}")
    return Compared(device.type, way, equal, tuple(unlike), own, len(wanted) - asked)


def chosen(folders: Sequence[str] = ()) -> Iterator[tuple[Case, Entry]]:
    """The cases of some folders, or of all, each with how it is run."""
    known = mapped()
    for case in cases():
        entry = entry_of(case, known)
        if entry is not None and (not folders or case.folder in folders):
            yield case, entry


def answers(case: Case, entry: Entry, device: torch.device | str = "cpu") -> Answer | None:
    """What the method keeps of a case in float32, as tensors of the CPU; None of cases that make a
    comparison of their own.
    """
    with tempfile.TemporaryDirectory() as folder, MadeOn(device, tests.golden):
        notes = _context.Notes()
        call = Call(case, torch.float32, entry.method, entry.options, Path(folder), notes)
        found = ADAPTERS[entry.adapter](call)
    if found is None:
        return None
    return Answer(found.kept.cpu(), None if found.rows is None else found.rows.cpu())


def same(one: Answer | None, other: Answer | None) -> bool:
    """Whether two answers keep the same tokens."""
    if one is None or other is None:
        return one is other
    return torch.equal(one.kept, other.kept)


def _apart(one: Answer | None, other: Answer | None) -> str:
    if one is None or other is None:
        return "one of them makes a comparison of its own"
    first, second = set(one.kept.tolist()), set(other.kept.tolist())
    return f"{len(first - second)} of {len(first)} picks differ"
