"""Every kind of fault that an author may make is found, named, and shown in the author's file."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest

from unibench.kit.checkup import GROWS, checkup
from unibench.kit.growth import growth
from unibench.kit.rules import QUICK, RULES, Fault, LeftOut, held
from unibench.kit.trial import Trial, files_of, spec_of
from unibench.models import LoadedModel, wrap
from unibench.pruning import Method
from unibench.registry import build_method

FOLDER = Path(__file__).parent / "faults"
FAMILY = "qwen2_5_vl"
# file: the rule that finds it, words of the reason, words of the line that is shown
FAULTS = {
    "wrong_dtype": ("budget", "whole numbers are wanted", "order[: ctx.keep].float()"),
    "mask": ("budget", "mask.nonzero()", "return Selection(scores >="),
    "duplicates": ("budget", "kept a token twice", "return Selection(keep)"),
    "not_a_number": ("blank", "which no order is defined for", "apart / apart.amax()"),
    "too_few": ("budget", "the budget is", "max(1, ctx.keep - 1)"),
    "outside": ("budget", "outside 0..", "order[-ctx.keep :] + 1"),
    "no_return": ("budget", "returned nothing", ""),
    "wrong_shape": ("budget", "scores of shape", "norm(dim=0)"),
    "later_layer": ("budget", "lies after the cut", "ctx.attention(3)"),
    "undeclared": ("budget", "", "ctx.saliency()"),
    "reads_the_question": ("text", "text_aware = True", "ctx.visual_hidden @ asked"),
    "depends_on_batch": ("batch", "a method sees one sample", "norm(dim=1)"),
    "counts_calls": ("same again", "another choice for the same prompt", "roll(CALLS[0])"),
    "changes_states": ("budget", "in place", "states -= states.mean(0)"),
    "changes_weights": ("untouched", "norm.weight", "norm(dim=1)"),
    "leaves_a_hook": ("untouched", "hooks are left", "norm(dim=1)"),
    "half_precision": ("dtype", "compute in float32", "states @ states.T"),
    "on_the_processor": ("device", "which a GPU refuses", "0.01 * places"),
    "global_draw": ("sources", "ctx.generator()", "torch.rand("),
    "reads_the_name": ("names", "under another name", "vision_rows - first"),
    "one_square": ("budget", "shape", "reshape(side, side, -1)"),
    "cubic": (GROWS, "grow as N^", "triples ="),
    "removes_nothing": ("prunes", "uses_budget = False", "ctx.visual.argsort()"),
    "merges_badly": ("budget", "the values of MergesBadly", "Selection(keep, mean)"),
}
# one of each way in which faults are found; the others in the full run
DEFAULT = (*("duplicates", "not_a_number", "depends_on_batch", "changes_states", "half_precision"),)
slow = pytest.mark.slow


@cache
def small() -> LoadedModel:
    return Trial.of(build_method("keep_borders"), [], spec_of(FAMILY)).loaded


def trial_of(method: Method) -> Trial:
    """A method beside the family's small model, which a faulty one may change."""
    loaded = small()
    model = copy.deepcopy(loaded.model)
    return Trial(method, files_of(method), wrap(model, loaded.processor))


def faulty(name: str) -> Method:
    cls = "".join(word.capitalize() for word in name.split("_"))
    return build_method(f"{FOLDER / name}.py:{cls}")


def tried(rule: str, trial: Trial) -> None:
    if rule == GROWS:
        held(lambda subject: growth(subject, (4, 6, 8)).check(), trial)
        return
    held(RULES[rule], trial)


@pytest.mark.parametrize(
    "name", [name if name in DEFAULT else pytest.param(name, marks=slow) for name in FAULTS]
)
def test_a_fault_is_found_by_its_rule_and_shown_in_its_file(name: str) -> None:
    rule, reason, source = FAULTS[name]
    trial = trial_of(faulty(name))
    with pytest.raises(Fault) as found:
        tried(rule, trial)
    assert reason in found.value.reason
    if source:
        assert f"{name}.py line " in found.value.place and source in found.value.place


@slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_the_whole_check_of_three_families(name: str) -> None:
    found = [*checkup(faulty(name), ["llava", FAMILY, "internvl"], sides=(4, 8))]
    refused = {one.family for one in found if getattr(one, "rule", "") == "runs"}
    failed = {one.family for one in found if getattr(one, "verdict", "") == "failed"}
    assert failed or len(refused) == 3


@pytest.mark.parametrize(
    "rule", [rule if rule in QUICK else pytest.param(rule, marks=slow) for rule in [*RULES, GROWS]]
)
@pytest.mark.parametrize("name", ["keep_borders", pytest.param("fastv", marks=slow)])
def test_a_sound_method_keeps_every_rule(name: str, rule: str) -> None:
    try:
        tried(rule, trial_of(build_method(name)))
    except LeftOut as left:
        pytest.skip(left.reason)


def test_there_are_more_than_twenty_kinds_of_faults_and_each_has_a_file() -> None:
    files = {file.stem for file in FOLDER.glob("[a-z]*.py")}
    assert files == set(FAULTS) and len(FAULTS) >= 20
