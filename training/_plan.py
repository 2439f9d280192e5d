"""What there is to train, in which order, and how far it is.

Every job is a stage of a family. A process takes the first job that can be done and that no other
process is at, so that the same command started twice shares the work of two cores.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from training._recipe import LATER, RECIPES

SHARED = "language"
SEEDS = (1, 2)  # of the family below, which is trained three times
REPEATED = "llava"  # the cheapest


@dataclass(frozen=True)
class Job:
    """One stage of a family, or the shared language stage.

    Attributes:
        family: its name; ``language`` for the shared stage.
        stage: the last stage that is done.
        seed: of weights and pictures.
    """

    family: str
    stage: str
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the folder with its checkpoints and logs."""
        return self.family if self.seed == 0 else f"{self.family}-{self.seed}"

    def is_done(self, folder: Path) -> bool:
        """Whether the stage is trained, measured and exported."""
        return self._mark(folder).exists()

    def finish(self, folder: Path) -> None:
        """Marks it as done."""
        self._mark(folder).touch()

    def is_ready(self, folder: Path) -> bool:
        """Whether all that it needs is done."""
        return all(job.is_done(folder) for job in self._before())

    def _before(self) -> Iterator[Job]:
        if self.stage == "joint":
            yield Job(SHARED, SHARED)
            yield Job(self.family, "vision", self.seed)
        elif self.stage == "video":
            yield Job(self.family, "joint", self.seed)

    def _mark(self, folder: Path) -> Path:
        return folder / self.name / f"{self.stage}.done"

    @contextmanager
    def locked(self, folder: Path) -> Iterator[bool]:
        """Whether no other process is at the family; none can begin with it within."""
        place = folder / self.name
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True


def jobs(what: str, seed: int = 0) -> list[Job]:
    """The jobs of a command, in order: what is useful early comes first.

    >>> [f"{job.name} {job.stage}" for job in jobs("llava")]
    ['language language', 'llava vision', 'llava joint']
    """
    shared = Job(SHARED, SHARED)
    if what == SHARED:
        return [shared]
    if what != "all":
        return [shared, *(Job(what, stage, seed) for stage in RECIPES[what].stages)]
    found = [shared]
    for family in RECIPES:
        # a second process trains towers, which need no language, while the first is at that
        found += [Job(family, "vision"), Job(family, "joint")]
    found += [Job(family, "video") for family, recipe in RECIPES.items() if recipe.video]
    for again in SEEDS:
        found += [Job(REPEATED, stage, again) for stage in RECIPES[REPEATED].stages]
    return found


def status(folder: Path) -> str:
    """A line for each job of ``all``: how far it is, and its last figures."""
    lines = []
    for job in jobs("all"):
        rounds = [part.name for part in LATER] if job.family == SHARED else []
        logs = [folder / job.name / f"{name}.jsonl" for name in (job.stage, *rounds)]
        row = _last(next((file for file in reversed(logs) if file.exists()), logs[0]))
        state = "done" if job.is_done(folder) else ("begun" if row else "waits")
        figures = "  ".join(f"{key} {value}" for key, value in list(row.items())[:6])
        lines.append(f"{job.name:14} {job.stage:8} {state:6} {figures}")
    return "\n".join(lines)


def _last(file: Path) -> dict[str, float]:
    """The last whole line of a log."""
    if not file.exists():
        return {}
    for line in reversed(file.read_text().splitlines()):
        try:
            row: dict[str, float] = json.loads(line)
        except ValueError:  # the line that a killed process was at
            continue
        return row
    return {}
