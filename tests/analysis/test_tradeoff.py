"""Importance retention and the Hopkins statistic on sets whose values are known, and the whole
study on a tiny model.
"""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from unibench.analysis import angles, tradeoff
from unibench.analysis.pictures import contexts, pictures
from unibench.compose import compose_cells
from unibench.identity import cell_of
from unibench.models import load
from unibench.ops import cosine
from unibench.tasks.synthvqa import SynthVQA


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def on_circle(degrees: list[float]) -> torch.Tensor:
    """Unit vectors in the plane."""
    turned = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([turned.cos(), turned.sin()], 1)


def test_retention_is_the_share_of_all_importance() -> None:
    assert tradeoff.importance_retention(
        torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 3])
    ) == pytest.approx(0.6)


def test_the_hopkins_statistic_by_hand() -> None:
    # kept: 0 and 90 degrees, a right angle apart; the two others stand 30 degrees from a kept one
    similarity = cosine(on_circle([0, 90, 30, 120]))
    gap = 1 - math.cos(math.radians(30))
    expected = 2 * gap / (2 * gap + 2 * 1.0)
    assert tradeoff.hopkins(similarity, torch.tensor([0, 1]), seeded()) == pytest.approx(
        expected, abs=1e-6
    )


def test_clumps_score_above_a_spread_set() -> None:
    similarity = cosine(on_circle([float(turn) for turn in range(0, 180, 5)]))
    clump, spread = torch.arange(6), torch.arange(0, 36, 6)
    assert tradeoff.hopkins(similarity, clump, seeded()) > 0.9
    assert tradeoff.hopkins(similarity, spread, seeded()) < 0.5


@pytest.mark.parametrize("kept", [[3], [0, 1, 2, 3]])
def test_the_hopkins_statistic_of_one_token_or_all_is_undefined(kept: list[int]) -> None:
    assert math.isnan(
        tradeoff.hopkins(cosine(on_circle([0, 20, 50, 90])), torch.tensor(kept), seeded())
    )


def test_angles_are_those_between_all_pairs() -> None:
    found = angles.pair_angles(on_circle([0, 30, 90]))
    torch.testing.assert_close(
        found.sort().values, torch.tensor([30.0, 60.0, 90.0], dtype=found.dtype), atol=1e-2, rtol=0
    )


def test_a_point_is_dominated_below_the_other_curve() -> None:
    points = pd.DataFrame(
        [
            ("a", 0.0, 0.2, 0.1),
            ("a", 0.5, 0.5, 0.2),
            ("a", 1.0, 0.8, 0.6),
            ("b", 0.0, 0.2, 0.1),
            ("b", 0.4, 0.35, 0.3),
            ("b", 0.6, 0.6, 0.2),
        ],
        columns=["method", "weight", "importance", "hopkins"],
    )
    assert tradeoff.dominated(points, by="a", whom="b") == (
        1,
        2,
    )  # at .35 the front is at .15, at .6 it is above .2


def test_the_study_on_a_real_model_has_the_ends_right() -> None:
    (config,) = compose_cells(["model.dtype=float32", "ratio=0.889"], sweep=False)
    cell = cell_of(config)
    samples = pictures(SynthVQA(), 3)
    assert len({sample.group for sample in samples}) == 3
    seen = list(contexts(cell, load(config.model), samples, tradeoff.needs("random")))
    assert [ctx.keep for ctx in seen] == [cell.budget.keep(len(ctx.visual)) for ctx in seen]
    points = tradeoff.summary(tradeoff.measure(seen)).set_index(["method", "weight"])
    most = points["importance"].max()
    for whole in (("greedy_importance", float("nan")), ("idpruner", 1.0), ("naive_hybrid", 1.0)):
        assert points.loc[[whole], "importance"].item() == pytest.approx(
            most
        )  # the same drawn importance for all
    assert points.loc[[("idpruner", 0.0)], "importance"].item() < most
    assert points["pictures"].eq(3).all() and points["importance"].between(0, 1).all()
    table = angles.histogram(seen)
    assert table["share"].sum() == pytest.approx(1) and table["share"].max() < 1
