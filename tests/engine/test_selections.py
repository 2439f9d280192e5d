"""What a method answers selects something, or is refused: no row is made of a choice that is none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unibench
from tests.support.models import generate, inputs_of, model_of
from unibench import Method, Selection, StageContext, UsageError
from unibench.pruning import BudgetError, SelectionError

Ask = Callable[[StageContext], Any]


class Own(Method):
    """A user's method in one line.

    Args:
        score: or
        select: what it does.
    """

    def __init__(self, *, score: Ask | None = None, select: Ask | None = None) -> None:
        self._score, self._select = score, select

    def score(self, ctx: StageContext) -> Any:
        assert self._score is not None
        return self._score(ctx)

    def select(self, ctx: StageContext) -> Any:
        return super().select(ctx) if self._select is None else self._select(ctx)


def pruned(method: Method, ratio: float = 0.5) -> tuple[list[int], Any]:
    """Tokens of an answer, and the record."""
    model = model_of("llava")
    with unibench.prune(model, method, ratio=ratio) as session:
        tokens, _, _ = generate(model, inputs_of("llava"), 2)
        return tokens[0].tolist(), session.take_records()[0]


def with_one(value: float) -> Ask:
    def score(ctx: StageContext) -> Tensor:
        scores = -ctx.vision_rows.float()
        scores[5] = value
        return scores

    return score


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (with_one(float("nan")), "1 of 16 tokens the score nan"),
        (with_one(float("inf")), "the score inf"),
        (with_one(float("-inf")), "the score -inf"),
        (lambda ctx: (ctx.visual_hidden.sum(1) * 1e9).half() * 1e9, "half precision"),
        (lambda ctx: ctx.visual_hidden.sum(1)[1:], r"shape \(15,\) for 16"),
        (lambda ctx: ctx.visual_hidden, r"shape \(16, 64\)"),
        (lambda ctx: None, "is a return missing"),
        (lambda ctx: [0.0] * len(ctx.visual), "returned a list"),
    ],
)
def test_scores_that_order_nothing(score: Ask, said: str) -> None:
    with pytest.raises(SelectionError, match=said):
        pruned(Own(score=score))


def first(ctx: StageContext) -> Tensor:
    return torch.arange(ctx.keep)


@pytest.mark.parametrize(
    ("select", "said"),
    [
        (lambda ctx: None, "returned nothing where 8 of 16"),
        (lambda ctx: first(ctx), "returned a Tensor"),
        (lambda ctx: Selection(first(ctx).tolist()), "kept a list"),
        (lambda ctx: Selection(first(ctx).float()), "torch.float32; whole numbers"),
        (lambda ctx: Selection(ctx.vision_rows < 8), "kept a mask"),
        (lambda ctx: Selection(first(ctx)[:, None]), r"shape \(8, 1\)"),
        (lambda ctx: Selection(first(ctx) // 2), "twice"),
        (lambda ctx: Selection(first(ctx) - 1), "outside 0..15"),
        (lambda ctx: Selection(first(ctx), ctx.visual_hidden[:8] * float("nan")), "not all finite"),
        (lambda ctx: Selection(first(ctx), ctx.visual_hidden[:7]), r"shape \(8, 64\)"),
        (lambda ctx: Selection(first(ctx), ctx.visual_hidden[:8, :5]), r"shape \(8, 64\)"),
        (lambda ctx: Selection(first(ctx), None, torch.ones(8)), "weighs tokens"),
    ],
)
def test_selections_that_are_none(select: Ask, said: str) -> None:
    with pytest.raises(SelectionError, match=said):
        pruned(Own(select=select))


def test_both_kinds_of_refusal_are_the_users_to_mend() -> None:
    assert issubclass(SelectionError, UsageError) and issubclass(BudgetError, UsageError)


def zeroed(name: str) -> Ask:
    def score(ctx: StageContext) -> Tensor:
        getattr(ctx, name).zero_()
        return torch.arange(len(ctx.vision_rows)).float()

    return score


@pytest.mark.parametrize("name", ["hidden", "vision_rows", "visual"])
def test_what_a_method_is_only_lent_it_leaves_alone(name: str) -> None:
    with pytest.raises((SelectionError, RuntimeError), match=f"ctx.{name}|view|inference"):
        pruned(Own(score=zeroed(name)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda count: torch.randperm(count),
        lambda count: torch.from_numpy(np.random.permutation(count)),
        lambda count: torch.tensor(random.sample(range(count), count)),
    ],
    ids=["torch", "numpy", "python"],
)
def test_random_numbers_of_a_global_source_are_those_of_run_and_sample(
    draw: Callable[[int], Tensor],
) -> None:
    method = Own(select=lambda ctx: Selection(draw(len(ctx.visual))[: ctx.keep]))
    before = torch.get_rng_state(), random.getstate()
    _, one = pruned(method)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    torch.manual_seed(99), np.random.seed(98), random.seed(97)
    _, two = pruned(method)
    assert one.last == two.last
    model = model_of("llava")
    with unibench.prune(model, method, ratio=0.5, seed=1) as session:
        for number in (2, 3):
            generate(model, inputs_of("llava", number), 1)
        generate(model, inputs_of("llava"), 1)
        other = session.take_records()[-1]
    with unibench.prune(model, method, ratio=0.5, seed=1) as session:
        generate(model, inputs_of("llava"), 1)
        assert session.take_records()[0].last == other.last, "the order of samples does not matter"
    assert other.last != one.last, "another seed is another draw"
