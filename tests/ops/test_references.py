"""The plain selections that ``benchmarks`` measures against pick what the fast ones pick."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks import selectors
from benchmarks._cases import Case, case

KINDS = ("patches", "noise")


@pytest.fixture(scope="module", params=KINDS)
def this(request: pytest.FixtureRequest) -> Case:
    return case(576, request.param)


@pytest.mark.parametrize("name", [name for name, loop in selectors.LOOPS.items() if loop.ours])
def test_loops_pick_in_the_same_order(this: Case, name: str) -> None:
    loop = selectors.LOOPS[name]
    cosines = selectors.gram(this)
    pairs = 1 - cosines if loop.distance else cosines
    assert loop.ours is not None and loop.ours(this, pairs).tolist() == loop.reference(this, pairs)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("scope", lambda found, keep: sorted(found)),
        ("vispruner", lambda found, keep: sorted(found)),
        ("gprune", lambda found, keep: found.topk(keep).indices.sort().values.tolist()),
        ("visionselector", lambda found, keep: found.topk(keep).indices.sort().values.tolist()),
    ],
)
def test_whole_selections_keep_the_same_tokens(
    this: Case, name: str, chosen: Callable[..., list[int]]
) -> None:
    with torch.inference_mode():
        found = selectors.LOOPS[name].reference(this, selectors.gram(this))
        assert selectors.selection(name, this)().keep.sort().values.tolist() == chosen(
            found, this.keep
        )
