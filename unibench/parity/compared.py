"""Kept sets, answers and scores of two cells, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from unibench.errors import UsageError
from unibench.inference.record import Record, stored
from unibench.pruning.record import unpacked
from unibench.stats import Paired, paired
from unibench.stats.agreement import plain
from unibench.store import read_samples

SHOWN = 5  # samples that differ most


@dataclass(frozen=True)
class Pair:
    """One sample of both.

    Attributes:
        id: of the sample.
        kept: numbers of tokens kept.
        jaccard: of the kept sets: shared tokens as a share of those that either kept.
        answers: of both.
        scores: of both.
    """

    id: str
    kept: tuple[int, int]
    jaccard: float
    answers: tuple[str, str]
    scores: tuple[float, float]


@dataclass(frozen=True)
class Parity:
    """How alike two cells are.

    Attributes:
        pairs: of all samples.
        scores: the paired test.
    """

    pairs: tuple[Pair, ...]
    scores: Paired

    @property
    def same_sets(self) -> int:
        """Samples of which both kept the same tokens."""
        return sum(pair.jaccard == 1 for pair in self.pairs)

    @property
    def same_numbers(self) -> int:
        """Samples of which both kept as many tokens."""
        return sum(pair.kept[0] == pair.kept[1] for pair in self.pairs)

    @property
    def same_answers(self) -> int:
        """Samples with the same answer, by its words."""
        return sum(plain(pair.answers[0]) == plain(pair.answers[1]) for pair in self.pairs)

    @property
    def jaccard(self) -> float:
        """Mean over samples."""
        return fmean(pair.jaccard for pair in self.pairs)

    @property
    def furthest(self) -> Sequence[Pair]:
        """The samples whose sets differ most, the worst first; none where all are alike."""
        apart = [pair for pair in self.pairs if pair.jaccard < 1]
        return sorted(apart, key=lambda pair: pair.jaccard)[:SHOWN]


def compared(first: Path, second: Path) -> Parity:
    """Compare two finished cells of the same samples.

    Raises:
        UsageError: they share none, or one has no kept sets.
    """
    ours, theirs = _records(first), _records(second)
    both = [(record, theirs[name]) for name, record in ours.items() if name in theirs]
    if not both:
        raise UsageError(f"{first} and {second} have no sample in common")
    pairs = tuple(_pair(one, two) for one, two in both)
    scores = [pair.scores[0] for pair in pairs], [pair.scores[1] for pair in pairs]
    return Parity(pairs, paired(*scores, [one.group for one, _ in both]))


def _pair(one: Record, two: Record) -> Pair:
    masks = [unpacked(record.last, record.visual_tokens) for record in (one, two)]
    either = int((masks[0] | masks[1]).sum())
    shared = int((masks[0] & masks[1]).sum())
    return Pair(
        one.id,
        (one.kept, two.kept),
        shared / either if either else 1.0,
        (one.answer, two.answer),
        (float(one.score or 0.0), float(two.score or 0.0)),
    )


def _records(folder: Path) -> dict[str, Record]:
    return {record.id: record for record in stored(folder, read_samples(folder)[0].values())}
