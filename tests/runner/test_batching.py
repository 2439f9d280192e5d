"""Batches find the size that fits, and lose no sample on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unibench.compose import compose_cells
from unibench.errors import UsageErrors
from unibench.inference.batching import Batches


def read(
    size: int | str, fits: int, count: int, device: str = "cuda", batches: bool = True
) -> tuple[list[int], list[Any]]:
    """Sizes of the batches that fitted, and the samples in the order in which they were read."""
    loaded: Any = SimpleNamespace(
        device=torch.device(device), family=SimpleNamespace(batches=batches)
    )
    samples: Any = iter(range(count))
    found = Batches(samples, size, loaded)
    sizes, seen = [], []
    for batch in found:
        if len(batch) > fits:
            found.did_not_fit(batch, torch.OutOfMemoryError("too much"))
            continue
        sizes.append(len(batch))
        seen += batch
    return sizes, seen


@pytest.mark.parametrize(
    ("fits", "sizes"),
    [
        (5, [1, 2, 4, 4, 4, 4, 1]),
        (1, [1] * 20),
        (3, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]),
        (99, [1, 2, 4, 8, 5]),
    ],
)
def test_auto_doubles_until_memory_ends(fits: int, sizes: list[int]) -> None:
    assert read("auto", fits, 20) == (sizes, list(range(20)))


def test_auto_is_one_where_nothing_would_say_stop() -> None:
    assert (
        read("auto", 99, 3, device="cpu")[0] == read("auto", 99, 3, batches=False)[0] == [1, 1, 1]
    )


def test_a_given_size_is_kept_or_fails() -> None:
    assert read(3, 3, 7) == ([3, 3, 1], list(range(7)))
    with pytest.raises(torch.OutOfMemoryError):
        read(4, 3, 7)


@pytest.mark.parametrize("given", ["0", "many", "1.5"])
def test_other_sizes_are_refused(given: str) -> None:
    with pytest.raises(UsageErrors, match="batch_size"):
        compose_cells([f"batch_size={given}"], sweep=False)
