"""Numbers fitted to a model: on tiny random models, and on statistics made by hand."""

from __future__ import annotations

import copy

import pytest
import torch

import unibench
from tests.support.models import inputs_of, model_of
from unibench import UsageError, calibrate
from unibench.api import build_method
from unibench.cost.accounting import equivalent_tokens
from unibench.methods.mustdrop import MustDrop

FAMILY = pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])


def test_the_first_layer_that_is_near_enough_is_found_though_the_divergence_rises_again() -> None:
    means = torch.tensor([[0.5, 0.001, 0.2, 0.0], [0.3, 0.003, 0.2, 0.0]])
    search = calibrate.found(means, 0.0021, 5)
    assert (search.layer, search.first) == (6, 5)
    assert search.divergences == pytest.approx((0.4, 0.002, 0.2, 0.0))
    with pytest.raises(
        UsageError, match=r"eta=1e-05: no layer from 5 to 7 comes that close; the least is 0.002"
    ):
        calibrate.found(means[:, :3], 1e-5, 5)


@FAMILY
def test_withdrawal_is_measured_on_the_model(family: str) -> None:
    model, samples = model_of(family), [inputs_of(family, seed) for seed in range(2)]
    search = calibrate.withdrawal_layer(model, samples, eta=100.0, first=1)
    assert search.layer == 1
    assert len(search.divergences) == 5
    assert all(value > 0 for value in search.divergences)
    assert search.divergences[-1] < search.divergences[0]
    picked = calibrate.withdrawal_layer(model, samples, eta=search.divergences[3], first=1)
    assert picked.layer == 1 + next(
        i for i, value in enumerate(search.divergences) if value <= search.divergences[3]
    )
    method = build_method("vtw", **picked.parameters)
    with unibench.prune(model, method) as session, torch.no_grad():
        model(**copy.deepcopy(samples[0]))
    assert session.take_records()[0].processed[picked.layer] == 0
    with pytest.raises(UsageError, match="needs samples"):
        calibrate.withdrawal_layer(model, [], first=1)
    with pytest.raises(UsageError, match="first=99: no layer to try"):
        calibrate.withdrawal_layer(model, samples, first=99)


def test_a_recipe_deletes_what_neither_kind_of_attention_needs() -> None:
    little, much = 0.001, 1.0
    cross = torch.tensor([little, little, little, much, much, much])
    own = torch.tensor([little, little, much, little, much, much])
    # tokens 0, 1 are needed by neither; of the three that each side can spare the official search
    # spares one
    assert calibrate._least(cross, own, torch.ones(6, dtype=torch.bool), 0.01).tolist() == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    recipe = calibrate.fit_recipe([[(cross, own)] * 5], ratio=0.2)
    assert recipe.recipe == pytest.approx((1 / 3, 0, 0, 0, 0, 0))
    assert recipe.average == pytest.approx((1 + 5 * 2 / 3) / 6)
    assert recipe.alpha <= 0.01
    with pytest.raises(UsageError, match="no recipe removes more than"):
        calibrate.fit_recipe([[(cross, own)] * 5], ratio=0.9)


@FAMILY
@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_a_fitted_recipe_meets_the_average_it_was_fitted_for(family: str, ratio: float) -> None:
    model, samples = model_of(family), [inputs_of(family, seed, 2) for seed in range(3)]
    fitted = calibrate.removal_recipe(model, samples, ratio=ratio)
    assert fitted.recipe[-1] == 0
    assert fitted.average <= 1 - ratio
    smaller = calibrate.removal_recipe(model, samples, ratio=ratio / 2)
    assert smaller.alpha <= fitted.alpha
    assert smaller.average >= fitted.average
    method = build_method("fitprune", **fitted.parameters)
    with (
        unibench.prune(model, method, ratio=ratio, budget_mode="layer_average") as session,
        torch.no_grad(),
    ):
        for sample in samples:
            model(**copy.deepcopy(sample))
    for record in session.take_records():
        assert equivalent_tokens(record.processed) == pytest.approx(
            (1 - ratio) * record.visual_tokens, abs=1.5
        )
    assert session.notes == set()  # the recipe is the model's own


@pytest.mark.slow
def test_thresholds_of_mustdrop_are_solved_for_a_mean() -> None:
    model, samples = model_of("internvl"), [inputs_of("internvl", seed) for seed in range(3)]
    for ratio in (0.2, 0.4):
        solved = calibrate.thresholds(model, samples, ratio=ratio, steps=10)
        assert solved.average == pytest.approx(solved.wanted, rel=0.1)
        records = calibrate._records(model, build_method("mustdrop", **solved.parameters), samples)
        assert sum(equivalent_tokens(record.processed) for record in records) / 3 == pytest.approx(
            solved.average
        )
    none = calibrate.thresholds(model, samples, ratio=0, steps=4, method=MustDrop(layers=(2,)))
    assert none.average == none.wanted
    with pytest.raises(UsageError, match="comes no nearer to 5.3 tokens per layer than"):
        calibrate.thresholds(model, samples, ratio=0.889, steps=3)
