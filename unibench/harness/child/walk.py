"""What is read of a benchmark once for all cells that are answered together.

The first of them is asked. Its answers and those of the others come from the same pass over the
data and the same prompts; the others are then scored from the store, each in a job of its own::

    cell 1: data -> prompts -> answers of all cells -> scores         leaves a walk
    cell 2:         walk    -> stored answers       -> scores
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from unibench.harness.child.workdir import WorkDirectory
from unibench.identity import Cell


@dataclass(frozen=True)
class Walk:
    """One pass over a benchmark.

    Attributes:
        setting: of the cells that it serves.
        folders: of the cell that was asked; they stand while the others are scored.
        otherwise: by sample, how many of its pictures the harness reads otherwise than unibench.
        held: what the harness's adapter keeps of it.
    """

    setting: str
    folders: WorkDirectory
    otherwise: Mapping[str, int]
    held: Any

    def serves(self, cell: Cell, answered: Collection[str]) -> bool:
        """Whether a cell is scored from it.

        Args:
            cell: some cell.
            answered: its samples in the store.
        """
        # a judge may be shown pictures that lie in the folders of the cell itself
        judged = cell.benchmark is None or cell.benchmark.judge.kind == "endpoint"
        whole = self.otherwise.keys() <= set(answered)
        stands = self.folders.hf.is_dir()  # until the parent is through with the cells
        return cell.setting == self.setting and whole and stands and not judged
