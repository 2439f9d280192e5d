"""A cell in parts: each is claimed, worked on and marked as done by one worker at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from unibench.config import MOST_SHARDS
from unibench.store.claim import Claim, Watch, acquire
from unibench.store.files import disk_errors, read_json, refuse_links, replace
from unibench.store.folder import CellFolder, forget_parts


class LostClaimError(Exception):
    """Somebody took a claim over, since this process did not move for long. What it answered so far
    counts.
    """


class ClaimedPart:
    """The samples of a cell that this process alone answers, until :meth:`close`.

    Attributes:
        folder: of the cell.
        number, of: this is part ``number`` (from 0) of ``of``.
    """

    def __init__(self, folder: CellFolder, number: int, of: int, claim: Claim) -> None:
        self.folder, self.number, self.of, self._claim = folder, number, of, claim

    def contains(self, sample: str) -> bool:
        """Whether a sample, by its id, belongs to this part."""
        return part_of(sample, self.of) == self.number

    def answered(self) -> dict[str, dict[str, Any]]:
        """The samples of this part that are there, by id.

        Raises:
            DamagedError: a line of them cannot be read.
        """
        return {
            name: sample for name, sample in self.folder.samples().items() if self.contains(name)
        }

    @contextmanager
    def appending(self, environment: Mapping[str, Any]) -> Iterator[int]:
        """See :meth:`CellFolder.appending`."""
        with self.folder.appending(environment) as number:
            yield number

    def append(self, sample: Mapping[str, Any]) -> None:
        """Add an answered sample.

        Raises:
            LostClaimError: another worker has taken over.
            DiskError: the disk is full; the samples before are safe.
        """
        if not self._claim.held:
            raise LostClaimError(
                f"{self.folder.path}: another worker has taken over part {self.number} of {self.of}"
            )
        self.folder.append(sample)

    def done(self) -> None:
        """Every sample of the part is there."""
        with disk_errors(self.folder.path):
            replace(_mark(self.folder.path, self.number, self.of), str(len(self.answered())))

    def close(self) -> None:
        """Let others have the part."""
        self._claim.close()


def part_of(sample: str, of: int) -> int:
    """The part of a sample, from its id alone: the same wherever and by however many it is worked
    on.

    >>> part_of("test-50000000-color", 8), part_of("anything", 1)
    (4, 0)
    """
    # by digest, since hash() of a text differs in every process
    return int.from_bytes(hashlib.blake2b(sample.encode(), digest_size=8).digest()) % of


def claim_part(
    folder: CellFolder, shards: int, watch: Watch, *, only: int | None = None
) -> ClaimedPart | None:
    """Claim a part of a cell that is neither done nor held by somebody.

    Args:
        folder: of the cell.
        shards: parts that the cell is split into, unless it was split before.
        watch: what this worker has seen of the others.
        only: number of the part that is wanted; None takes any.

    Returns:
        The part, or None: others hold what is left, or nothing is left.

    Raises:
        DiskError: the folder cannot be written.
    """
    refuse_links(Path(folder.cell.config.out), folder.path)
    with disk_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
        of = _split(folder.path, shards)
        for number in range(of):
            if only not in (None, number) or _counted(folder.path, number, of) is not None:
                continue
            claim = acquire(folder.path, f"{number}-of-{of}", watch)
            if claim is None:
                continue
            # others may have gone on between the look and the claim
            if folder.row() is not None:
                with closing(claim):
                    forget_parts(folder.path)  # the look wrote `split` once more
                return None
            if _split(folder.path, shards) != of or _counted(folder.path, number, of) is not None:
                claim.close()
            # a cell that was begun whole may be split while its only part is ours
            elif of == 1 < shards:  # nobody else can be at work in it now
                replace(folder.path / "split", str(shards))
                claim.close()
                return claim_part(folder, shards, watch, only=only)
            else:
                return ClaimedPart(folder, number, of, claim)
    return None


def answered_parts(folder: CellFolder) -> int | None:
    """Number of samples of a cell all of whose parts are done; None as long as one is not."""
    of = read_json(folder.path / "split")
    if not _is_split(of):
        return None
    counts = [_counted(folder.path, number, of) for number in range(of)]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == of else None


def tidy(folder: Path, watch: Watch) -> None:
    """Remove the claims and marks that a worker, killed at the last moment, left in the folder of a
    complete cell.
    """
    with suppress(OSError):  # a store that cannot be written stays as it is
        for name in {file.stem.removeprefix("claim-") for file in folder.glob("claim-*")}:
            if (claim := acquire(folder, name, watch)) is not None:
                with closing(claim):
                    forget_parts(folder)


def _mark(folder: Path, number: int, of: int) -> Path:
    return folder / f"done-{number}-of-{of}"


def _counted(folder: Path, number: int, of: int) -> int | None:
    """Samples of a part that is marked as done; None if it is not, or the mark is damaged."""
    count = read_json(_mark(folder, number, of))
    return count if type(count) is int and count >= 0 else None


def _split(folder: Path, shards: int) -> int:
    """In how many parts a cell is split: whoever comes first says so."""
    file = folder / "split"
    found = read_json(file)
    if _is_split(found):
        return int(found)
    if file.exists():  # damaged
        replace(file, str(shards))
        return shards
    try:
        # exclusive create: of several workers the first decides
        with file.open("x") as stream:
            stream.write(str(shards))
    except FileExistsError:
        found = read_json(file)
        return int(found) if _is_split(found) else shards
    return shards


def _is_split(value: Any) -> bool:
    """Whether a file says in how many parts a cell is split; each part is looked for by itself."""
    return type(value) is int and 0 < value <= MOST_SHARDS
