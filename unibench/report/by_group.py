"""Scores by group: samples that need their picture in full and those that do not, and samples that
are answered without any picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from unibench.comparison.against import BLIND, CONTROLS
from unibench.controls.groups import RIGHT, groups_of
from unibench.errors import UsageError
from unibench.frame import conditions, labels, mean_scores, whole
from unibench.report.table import Block, Entry, Line, Table

FILTERS = ("resize", "resize_blur")  # what makes the groups, the first that was run
FEW = 30  # samples; a percentage of fewer says nothing
MISSING = "–"
COLUMNS = ("A", "95 %", "B", "95 %", "won", "lost", "blind right", "95 %", "blind wrong", "95 %")

Scores = Mapping[str, tuple[float, str]]  # score and picture of each sample
Cell = Mapping[Any, Any]  # a line of the frame


def groups(frame: pd.DataFrame) -> list[Table]:
    """A table with a block for each model, task, setting and budget.

    Args:
        frame: finished cells with seeds joined.

    Raises:
        UsageError: no setting has vanilla and a smaller picture, or a question asked blind.
    """
    blocks: list[Block] = []
    for label, part in conditions(whole(frame)):
        means = _Means()
        for task, here in part.groupby("task", sort=False):
            apart = labels(here, "setting")
            for setting, group in here.groupby("setting", sort=False):
                place = ", ".join(filter(None, (f"{label} on {task}", apart[str(setting)])))
                blocks += list(_blocks(place, group.to_dict("records"), means))
        blocks += means.blocks(label)
    if not blocks:
        raise UsageError(
            "no results fall into groups: these take vanilla and resize, resize_blur or blind; add"
            " controls=standard to the command that made them"
        )
    remarks = (
        (
            "A: of the samples that vanilla answers right, those that turn wrong when the picture"
            " is made smaller to the same budget; B: those that do not. By construction resize has"
            " 0 on A and 100 on B: compare methods with each other on A, above the floors in the"
            " same column."
        ),
        "won, lost: samples of A that the method answers, and of B that it does not: its paired"
        " difference to the smaller picture, of the samples that vanilla answers.",
        "blind right, blind wrong: scores on the samples that are answered without their picture,"
        f" and on the others. Groups of fewer than {FEW} samples show counts; averages weigh tasks"
        " alike, and are of those lines whose groups are larger on each.",
    )
    title = "scores by group, per cent"
    return [Table("groups", title, ("method", "ratio"), COLUMNS, tuple(blocks), remarks=remarks)]


class _Means:
    """The scores by group of a model's tasks, by budget and line."""

    def __init__(self) -> None:
        self._found: dict[str, dict[tuple[str, str], list[list[float | None]]]] = {}

    def add(self, budget: str, name: tuple[str, str], shares: list[float | None]) -> None:
        """Note a line of a task."""
        self._found.setdefault(budget, {}).setdefault(name, []).append(shares)

    def blocks(self, label: str) -> Iterator[Block]:
        """The means of each budget that several tasks have."""
        for budget, lines in self._found.items():
            tasks = max(map(len, lines.values()))
            full = {name: found for name, found in lines.items() if len(found) == tasks}
            if tasks > 1:
                title = f"{label}, {budget}: average over {tasks} tasks"
                yield Block(title, tuple(self._line(name, found) for name, found in full.items()))

    def _line(self, name: tuple[str, str], found: list[list[float | None]]) -> Line:
        texts = []
        for column in zip(*found, strict=True):
            known = [value for value in column if value is not None]
            texts.append(f"{fmean(known):.1f}" if len(known) == len(column) else MISSING)
        a, b, right, wrong = texts
        shown = (a, MISSING, b, MISSING, MISSING, MISSING, right, MISSING, wrong, MISSING)
        return Line(name, tuple(map(Entry, shown)))


def _blocks(place: str, cells: Sequence[Cell], means: _Means) -> Iterator[Block]:
    """The blocks of a setting, one for each budget."""
    vanilla = next((cell for cell in cells if cell["method"] == "vanilla"), None)
    blind = _first_of(BLIND, cells)
    pruned = [cell for cell in cells if cell["method"] not in ("vanilla", *BLIND)]
    budgets = dict.fromkeys((cell["budget"], cell["budget_scope"]) for cell in pruned)
    if vanilla is None:
        return
    for budget in budgets:
        here = [cell for cell in pruned if (cell["budget"], cell["budget_scope"]) == budget]
        smaller = _first_of(FILTERS, here)
        if smaller is None and blind is None:
            continue
        found = _Grouping(vanilla, smaller, blind)
        beside = [cell for cell in cells if cell["method"] in BLIND]
        shown = [vanilla, *beside, *sorted(here, key=lambda cell: cell["method"] not in CONTROLS)]
        scope = "" if budget[1] == "sequence" else f" per {budget[1]}"
        for cell in shown:
            means.add(f"{budget[0]}{scope}", _label(cell), found.shares(cell))
        label = f"{place}, {budget[0]}{scope}: {found.said}"
        yield Block(label, tuple(found.line(cell) for cell in shown))


def _first_of(methods: Sequence[str], cells: Sequence[Cell]) -> Cell | None:
    """The cell of the first method that has one."""
    found = {cell["method"]: cell for cell in reversed(cells)}
    return next((found[name] for name in methods if name in found), None)


class _Grouping:
    """The groups of a setting at a budget.

    Args:
        vanilla: of the setting.
        smaller: the control that makes A and B, if there is one.
        blind: the control without a picture, if there is one.
    """

    def __init__(self, vanilla: Cell, smaller: Cell | None, blind: Cell | None) -> None:
        full = mean_scores(vanilla["folder"])
        self.names: list[tuple[str, ...] | None] = [None] * 4
        self.said = f"{sum(score >= RIGHT for score, _ in full.values())} right"
        if smaller is not None:
            reduced = mean_scores(smaller["folder"])
            made = groups_of(_plain(full), _plain(reduced))
            self.names[:2] = [made.hard, made.easy]
            self.said += f", A {len(made.hard)} and B {len(made.easy)} by {smaller['method']}"
        if blind is not None:
            guessed = mean_scores(blind["folder"])
            answered = {name for name, (score, _) in guessed.items() if score >= RIGHT}
            self.names[2] = tuple(name for name in guessed if name in answered)
            self.names[3] = tuple(name for name in guessed if name not in answered)
            self.said += f"; {len(answered)} of {len(guessed)} right by {blind['method']}"

    def line(self, cell: Cell) -> Line:
        """A method's scores in each group."""
        scores = mean_scores(cell["folder"])
        parts = [_part(scores, names) for names in self.names]
        hard, easy = self.names[:2]
        counts = (MISSING, MISSING)
        if hard is not None and easy is not None:
            won = sum(scores.get(name, (0.0, ""))[0] >= RIGHT for name in hard)
            lost = sum(not scores.get(name, (0.0, ""))[0] >= RIGHT for name in easy)
            counts = str(won), str(lost)
        texts = (*parts[0], *parts[1], *counts, *parts[2], *parts[3])
        return Line(_label(cell), tuple(map(Entry, texts)))

    def shares(self, cell: Cell) -> list[float | None]:
        """Per cent right of each group; None of one that is small or not there."""
        scores = mean_scores(cell["folder"])
        found: list[float | None] = []
        for names in self.names:
            right = [scores.get(name, (0.0, ""))[0] >= RIGHT for name in names or ()]
            found.append(100 * fmean(right) if len(right) >= FEW else None)
        return found


def _part(scores: Scores, names: Sequence[str] | None) -> tuple[str, str]:
    """The share that is right of some samples, and its interval; a sample without an answer is
    wrong.
    """
    from unibench.stats import mean_interval  # scipy takes a second

    if not names:
        return MISSING, MISSING
    found = [scores.get(name, (0.0, name)) for name in names]
    right = [float(score >= RIGHT) for score, _ in found]
    if len(right) < FEW:
        return f"{sum(right):.0f} of {len(right)}", MISSING
    interval = mean_interval(right, [picture for _, picture in found])
    mean = 100 * sum(right) / len(right)
    return f"{mean:.1f}", f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _label(cell: Cell) -> tuple[str, str]:
    return f"{cell['method']} {cell['variant']}".strip(), str(cell["budget"])


def _plain(scores: Scores) -> dict[str, float]:
    return {name: score for name, (score, _) in scores.items()}
