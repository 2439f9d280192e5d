"""Cells are put together from parts that they share; the result is what Hydra composes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.support.turns import some_of
from unibench import registry, schema
from unibench.compose import assembled, composed, options
from unibench.config import INSIDE, RunConfig, model_path
from unibench.errors import UsageError
from unibench.overrides import name_of, parse

GROUPS = ("model", "method", "task")
LINES = (
    ("ratio=0.5",),
    ("ratio=7/9", "seed=3", "out='~/results'"),
    ("keep=64", "ratio=null"),
    ("batch_size=auto", "budget.mode=layer_average", "budget.scope=item"),
    ("generation.max_new_tokens=8", "generation.repetition_penalty=2"),
    ("++seed=4", "++ratio=0.25"),
    ("harness_options.judge.url='http://127.0.0.1:1/v1'", "harness_options.judge.retries=0"),
    ("model.device=cpu", "model.threads=2", "model.selector=./scorer.safetensors"),
    ("+model.pixels.other={max_pixels:12544}", "pixels=other"),
    ("++model.processor.video.fps=2", "+model.architecture.text.layers=2"),
    ("task.limit=5", "+task.options.variant=sparse", "+task.options.seed=1"),
    ("+task.options={variant:pair}",),
    ("~model.pixels.native", "pixels=paper"),
    ("~method.importance",),
    ("task.limit=${seed}", "seed=3"),
    ("out=/tmp/${model.name}/${method.name}", "model.clip=${model.path}"),
    ("ratio=${oc.decode:'0.5'}", "pixels=${oc.env:NOT_SET,native}"),
    ("seed=${task.limit}", "task.limit=${keep}", "keep=9", "ratio=null"),
)


def by_hydra(overrides: Mapping[str, str], lines: tuple[str, ...]) -> dict[str, Any]:
    """The whole cell from one call of Hydra; files of the package and of the home by their place."""
    whole = composed([*(f"{group}={name}" for group, name in overrides.items()), *lines])
    plain: Any = OmegaConf.to_container(whole, resolve=True, throw_on_missing=True)
    cell = asdict(schema.build(RunConfig, plain))
    cell["out"] = str(Path(cell["out"]).expanduser())
    for key, value in cell["method"].items():
        if str(value).startswith(INSIDE):
            cell["method"][key] = str(model_path(value))
    return cell


def by_parts(overrides: Mapping[str, str], lines: tuple[str, ...]) -> dict[str, Any]:
    below: dict[str, list[str]] = {}
    for line in lines:
        below.setdefault(name_of(parse(line)).partition(".")[0], []).append(line)
    return asdict(assembled(overrides, below))


# every choice of each group beside a choice of the others
OFFERED = {group: options(group) for group in GROUPS}
CHOICES = [
    {group: names[number % len(names)] for group, names in OFFERED.items()}
    for number in range(max(map(len, OFFERED.values())))
]


@some_of("number", range(len(CHOICES)), 4, ids=["-".join(chosen.values()) for chosen in CHOICES])
def test_every_choice_is_what_hydra_composes(number: int) -> None:
    """The first time that a model's turn comes, with a preset of its pictures."""
    chosen = CHOICES[number]
    if number >= len(OFFERED["model"]):
        assert by_parts(chosen, ()) == by_hydra(chosen, ())
        return
    presets = _presets(chosen["model"])
    _compare_presets(chosen, presets[number % len(presets)])


@pytest.mark.slow
@pytest.mark.parametrize("model", options("model"))
def test_every_preset_of_the_pictures_is_what_hydra_composes(model: str) -> None:
    _compare_presets({"model": model, "method": "dpp", "task": "pope"}, *_presets(model))


def _presets(model: str) -> list[str]:
    return list(by_parts({"model": model}, ())["model"]["pixels"])


def _compare_presets(chosen: dict[str, str], *presets: str) -> None:
    known = by_parts(chosen, ())["model"]["pixels"]
    for preset in presets:
        lines = (f"pixels={preset}", f"model.pixels.{preset}.max_pixels=9")
        lines = lines if "max_pixels" in known[preset] else lines[:1]
        assert by_parts(chosen, lines) == by_hydra(chosen, lines)


@some_of("lines", LINES, 2, ids=" ".join)
def test_every_form_of_an_override_is_what_hydra_composes(lines: tuple[str, ...]) -> None:
    chosen = {"model": "tiny_qwen2_5_vl", "method": "idpruner", "task": "synthvqa"}
    assert by_parts(chosen, lines) == by_hydra(chosen, lines)


def settings_of(name: str) -> dict[str, Any]:
    """A value for each parameter of a method: its default, and a word where that is empty."""
    node = by_parts({"method": name}, ())["method"]
    return {key: "x" if value == "" else value for key, value in node.items() if key != "name"}


def spelled(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Parameters of a method as overrides."""
    words = {key: str(value).replace("None", "null") for key, value in parameters.items()}
    return tuple(f"method.{key}={word}".replace(" ", "") for key, word in words.items())


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_parameter_can_be_set(name: str) -> None:
    wanted = settings_of(name)
    assert by_parts({"method": name}, spelled(wanted))["method"] == {"name": name, **wanted}


# how a value is read does not depend on the method; all of them are compared in the full run
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number % 6 == 0 else [pytest.mark.slow])
        for number, name in enumerate(sorted(registry.methods()))
    ],
)
def test_every_parameter_is_set_as_hydra_sets_it(name: str) -> None:
    chosen, lines = {"method": name}, spelled(settings_of(name))
    assert by_parts(chosen, lines) == by_hydra(chosen, lines)


KEYS = """
ratio keep seed pixels out budget budget.mode generation timing task.limit task.options
task.options.variant task.vlmevalkit task.new model.path model.pixels model.processor model.threads
method method.mmr_lambda method.nope harness_options.judge.timeout model.processor.video.fps
"""
VALUES = """
0.5 7/9 3 -1 null true native ??? {} [] {a:1} [1,2] 'ab' ${seed} ${model.path} ${nope}
${oc.env:NOT_SET} ${now:%Y} ${eval:1} ${.x} ${${seed}} ${model} ${task.options} int(2) str(3)
2024-01-01
"""
WORDS = st.sampled_from(KEYS.split())
LINE = st.one_of(
    st.tuples(st.sampled_from(["", "", "", "+", "++"]), WORDS, st.sampled_from(VALUES.split())).map(
        lambda drawn: f"{drawn[0]}{drawn[1]}={drawn[2]}"
    ),
    WORDS.map(lambda key: f"~{key}"),
)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=4))
def test_what_is_not_refused_is_what_hydra_composes(drawn: list[str]) -> None:
    """More is refused than by Hydra: keys that nobody reads, a cell without a method."""
    chosen, lines = {"method": "idpruner"}, tuple(drawn)
    try:
        cell = by_parts(chosen, lines)
    except UsageError:
        return
    assert cell == by_hydra(chosen, lines)
