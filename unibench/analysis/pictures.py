"""What a method before the language model sees of each picture of a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from unibench.budget import Budget
from unibench.identity import Cell
from unibench.inference.session import session_of
from unibench.models import LoadedModel
from unibench.pruning import Method, Needs, Stage, StageContext
from unibench.tasks._task import Sample, Task


@dataclass(frozen=True, eq=False)
class _Seen(Method):
    """Notes the context in front of the language model and keeps everything."""

    found: list[StageContext]
    wanted: Needs

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, lambda ctx: self.found.append(ctx), self.wanted),)


def pictures(task: Task, limit: int) -> list[Sample]:
    """One sample for each of the first ``limit`` distinct pictures of a task."""
    found: dict[str, Sample] = {}
    for sample in task.samples():
        found.setdefault(sample.group, sample)
        if len(found) == limit:
            break
    return list(found.values())


def contexts(
    cell: Cell, loaded: LoadedModel, samples: Sequence[Sample], needs: Needs
) -> Iterator[StageContext]:
    """The context of each sample in front of the language model, under a cell's budget.

    Args:
        cell: its budget says how many tokens a method would keep.
        loaded: its model.
        samples: each with pictures.
        needs: what is recorded for the methods that will choose.
    """
    found: list[StageContext] = []
    session = session_of(cell, loaded, method=_Seen(found, needs), budget=Budget.parse())
    with session.installed():
        for sample in samples:
            session.samples = [sample.id]
            with torch.no_grad():
                loaded.model(**loaded.inputs([sample.question], [sample.images]))
            (ctx,) = found
            found.clear()
            yield replace(ctx, keep=cell.budget.keep(len(ctx.visual)))
