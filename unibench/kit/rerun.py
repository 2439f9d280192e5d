"""Asking a random part of a certificate again, with the author's file that the command names."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unibench.errors import UsageError, shown
from unibench.identity import Cell, code_digest
from unibench.inference.ask import answer
from unibench.inference.record import Record
from unibench.kit import certificate as parts
from unibench.kit.verifying import Certificate, Held, Problem, _is
from unibench.registry.cards import MethodCard
from unibench.runner.embedded import Embedded, load_task
from unibench.store.lines import DIGESTS, hashed_alike

COMPARED = (*DIGESTS, "visual_tokens", "kept", "last", "answer", "score")


@dataclass(frozen=True)
class Asked:
    """A cell of which a part was asked again.

    Attributes:
        name: for people.
        samples: that were asked.
        problems: one for each that came out otherwise.
    """

    name: str
    samples: tuple[str, ...]
    problems: tuple[Problem, ...]


def words_of(it: Certificate, card: MethodCard, own: str) -> list[str]:
    """The words that mean the certified method, with the file that somebody named.

    Args:
        it: the certificate.
        card: of the file.
        own: as the command names it.

    Raises:
        UsageError: its code is not that of the certificate.
    """
    digest = code_digest([f"{card.module or card.path}:{card.class_name}"])
    if digest != it.method["code"]:
        raise UsageError(
            f"{card.path}: its code has the digest {digest}, that of the certificate"
            f" {it.method['code']}; nothing was run"
        )
    words = [f"method={own}"]
    for key, value in it.method["options"].items():
        if value == card.parameters.get(key):
            continue
        # a stranger's value goes into a configuration: another file or an interpolation may not
        if key not in card.parameters or not _is_plain(value):
            raise UsageError(
                f"the certificate's parameter {shown(key)}={shown(value)} is no plain value of"
                f" {card.class_name}; nothing was run"
            )
        words.append(f"method.{key}={value}")
    return words


def _is_plain(value: Any) -> bool:
    """A number, a truth value, or a word that names no file."""
    if isinstance(value, str):
        return re.fullmatch(r"[A-Za-z0-9_+-]*", value) is not None
    return isinstance(value, (int, float, bool))


def claims(it: Certificate, card: MethodCard) -> Iterator[Problem]:
    """What the certificate says of its method and the file does not.

    Args:
        it: the certificate.
        card: of the file that somebody named.
    """
    given = parts._plain(asdict(parts.method_of(card, it.method["name"], it.method["options"])))
    for key, value in given.items():
        if key not in ("file", "module") and it.method.get(key) != value:
            yield Problem("rerun", parts.CERTIFICATE, f"says {shown(key)}={shown(it.method[key])}")


def rerun(
    it: Certificate, words: Sequence[str], share: float, draw: random.Random
) -> Iterator[Asked]:
    """Ask a part of every cell of the method, of the reference and of the baselines again.

    Args:
        it: the certificate.
        words: of :func:`words_of`.
        share: of the samples of each cell; at least one of each.
        draw: which; nobody who made the certificate can know.
    """
    out = it.folder / parts.CELLS
    cells = [*it.suite.cells(words, out), *it.required]
    executor, left = Embedded(), {one.folder: one for one in it.own}
    # a model is loaded once
    for cell in sorted({one.key: one for one in cells}.values(), key=lambda one: one.loaded):
        held = [one for one in it.held if _is(one, cell) or _own(it, one, cell)]
        for one in held:
            left.pop(one.folder, None)
            yield _asked(executor, cell, one, share, draw)
    for one in left.values():
        what = "was not asked: the file and the parameters mean no such cell"
        yield Asked(one.name, (), (Problem("rerun", one.name, what),))


def _own(it: Certificate, one: Held, cell: Cell) -> bool:
    """Whether a cell of the certified method stands where one of the suite's does."""
    row, config = one.row, cell.config
    if not row.method == cell.method == it.method["name"]:
        return False
    place = (config.model.name, config.task.name, cell.budget.label, config.seed)
    return (row.model, row.task, row.budget, row.seed) == place


def _asked(executor: Embedded, cell: Cell, one: Held, share: float, draw: random.Random) -> Asked:
    count = max(1, math.ceil(share * len(one.records)))
    chosen = {record.id: record for record in draw.sample(list(one.records), count)}
    task, loaded = load_task(cell), executor.model_of(cell)
    samples = (
        (index, sample)
        for index, sample in enumerate(task.samples(cell.config.task.limit))
        if sample.id in chosen
    )
    problems = []
    again: dict[str, Record] = {}
    for record in answer(cell, task, loaded, samples):
        again[record.id] = record
    for name, stored in chosen.items():
        if name not in again:
            problems.append(Problem("rerun", one.name, f"{name}: the task has no such sample"))
            continue
        before, now = stored.as_json(), again[name].as_json()  # rounded alike
        for column in COMPARED:
            other_hash = column in DIGESTS and not hashed_alike(before[column], now[column])
            if before[column] != now[column] and not other_hash:
                problems.append(Problem("rerun", one.name, f"{name}: {column} is another"))
                break
    return Asked(one.name, tuple(chosen), tuple(problems))
