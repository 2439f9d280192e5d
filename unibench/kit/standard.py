"""What a certificate of a suite holds, whoever made it: models, questions, budgets, baselines,
controls. Nobody chooses what stands beside a method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from unibench.compose import compose_cells
from unibench.errors import unknown
from unibench.identity import Cell, cells_of, vanilla_of


@dataclass(frozen=True)
class Standard:
    """A suite.

    Attributes:
        name: as a command names it.
        title: what it is, in a line.
        models: cards.
        task: that is asked.
        limit: questions of each cell.
        ratios: shares of visual tokens removed.
        baselines: methods that stand beside every other one.
        families: of the conformance; empty is every one.
        toy: whether its numbers are of toy models, which a board has to say.
    """

    name: str
    title: str
    models: tuple[str, ...]
    task: str
    limit: int
    ratios: tuple[str, ...]
    baselines: tuple[str, ...]
    families: tuple[str, ...] = ()
    toy: bool = True

    def cells(self, method: Sequence[str], out: Path) -> list[Cell]:
        """The cells of a method with its controls and their reference.

        Args:
            method: words of the command that mean it, ``method=divprune``.
            out: folder of the results.
        """
        return [
            replace(cell, config=replace(cell.config, out=str(out)))
            for cell in _composed(self, tuple(method))
        ]

    def required(self, out: Path) -> list[Cell]:
        """The cells that every certificate of the suite holds: baselines, controls, reference."""
        found = [cell for name in self.baselines for cell in self.cells([f"method={name}"], out)]
        return list({cell.key: cell for cell in found}.values())


@cache
def _composed(suite: Standard, method: tuple[str, ...]) -> list[Cell]:
    """The cells of a suite's method; where they lie is in no key, and composing takes seconds."""
    words = [
        f"model={','.join(suite.models)}", f"task={suite.task}", f"task.limit={suite.limit}",
        f"ratio={','.join(suite.ratios)}", "controls=standard", *method,
    ]  # fmt: skip
    found = cells_of(compose_cells(words, sweep=True))
    every = [*map(vanilla_of, found), *found]
    return list({cell.key: cell for cell in every}.values())


STANDARDS = {
    one.name: one
    for one in (
        Standard(
            "tiny",
            "the three tiny trained models on drawn pictures; toy numbers",
            ("tiny_qwen2_5_vl", "tiny_llava", "tiny_internvl"),
            "synthvqa",
            200,
            ("0.667", "0.778", "0.889"),
            ("divprune", "fastv"),
        ),
        Standard(
            "tiny_quick",
            "one tiny model, forty questions; shows the path and no result",
            ("tiny_qwen2_5_vl",),
            "synthvqa",
            40,
            ("0.889",),
            ("divprune",),
            ("qwen2_5_vl",),
        ),
    )
}


def standard(name: str) -> Standard:
    """A suite by name.

    Raises:
        UsageError: there is none.
    """
    if name not in STANDARDS:
        raise unknown("suite of certificates", name, STANDARDS)
    return STANDARDS[name]
