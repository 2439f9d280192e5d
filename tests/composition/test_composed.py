"""Methods of the literature made of parts choose what the methods themselves choose."""

from __future__ import annotations

import pytest
import torch

from unibench import UsageError
from unibench.composition import ATOMS, Composed, parsed
from unibench.kit.testing import _small as small
from unibench.kit.testing import try_rule
from unibench.kit.trial import Read, Shown, Trial
from unibench.pruning import Method
from unibench.registry import build_method

SAME = {
    "divprune": ("select: max_min", {}),
    "idpruner": ("score: saliency; select: mmr(weight=0.5)", {"importance": "saliency"}),
    "visionzip": (
        "score: saliency; select: top_k; budget: split(share=0.15625); merge: contextual", {},
    ),
    "fastv": ("score: attention; select: top_k; schedule: behind(layer=2)", {}),
}  # fmt: skip


def read(method: Method, family: str) -> Read:
    return Trial(method, [], small(family)).read(Shown(1, 3), ratio=0.667)


@pytest.mark.parametrize("family", ["qwen2_5_vl", pytest.param("llava", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SAME)
def test_a_method_of_parts_chooses_as_the_method_does(name: str, family: str) -> None:
    expression, options = SAME[name]
    ours, theirs = Composed(expression), build_method(name, **options)
    (one,), (other,) = read(ours, family).questions, read(theirs, family).questions
    assert one.keep is not None and other.keep is not None
    assert torch.equal(one.keep, other.keep)
    if other.values is not None:
        assert one.values is not None and torch.allclose(one.values, other.values, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("rule", ["budget", "same again", "dtype", "device"])
def test_a_method_of_parts_keeps_the_rules(name: str, rule: str) -> None:
    try_rule(Composed(SAME[name][0]), rule)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("score: salience; select: top_k", "saliency"),
        ("score: saliency; choose: top_k", "select"),
        ("select: top_k", "needs a score"),
        ("score: attention; select: top_k", "schedule: behind"),
        ("score: norm; select: mmr(lambda=0.5)", "weight"),
        ("score: norm; select: mmr(weight=much)", "a number is wanted"),
        ("score: norm; select: top_k, max_min", "one is wanted"),
        ("score: norm; merge: contextual", "budget: split"),
        ("mmr", "kind: atom is wanted"),
    ],
)
def test_an_expression_that_does_not_fit_is_refused_in_one_line(
    expression: str, words: str
) -> None:
    with pytest.raises(UsageError, match=".") as refused:
        Composed(expression)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_several_scores_are_combined_and_needs_are_joined() -> None:
    expression = parsed("score: saliency, question\ncombine: weighted(first=0.7)\nselect: mmr")
    assert expression.needs.saliency and len(expression.scores) == 2
    assert Composed("score: saliency, question; select: top_k").text_aware
    assert not Composed("score: saliency; select: top_k").text_aware


def test_every_atom_stands_under_its_own_kind() -> None:
    assert all(atom.kind == kind for kind, atoms in ATOMS.items() for atom in atoms.values())
