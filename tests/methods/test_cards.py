"""What a method says about itself, and the configuration that follows from it."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml

import unibench
from tests.methods._contexts import BESIDES, PRE
from tests.support.models import model_of
from unibench import registry

CONFIGS = Path(registry.ROOT).parent / "configs" / "method"
NAMES = sorted(registry.methods())


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_of_a_method_has_every_parameter_with_its_default(name: str) -> None:
    card = registry.method(name)
    node = card.config()
    assert node.pop("name") == name
    assert list(node) == list(card.parameters)
    for field in dataclasses.fields(card.load()):
        if field.name in card.follows:
            assert node[field.name] == f"${{{card.follows[field.name]}}}"
        elif field.name not in card.submethods:
            listed = _listed(field.default)
            assert node[field.name] == listed and type(node[field.name]) is type(listed)
    built = {key: value for key, value in node.items() if key not in card.follows}
    if name not in ("visionselector", "idpruner", "d2pruner"):  # whose files have no default
        assert registry.build_method(name, **built) == card.load()()


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_preset_sets_only_what_its_method_has(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"# python -m unibench method={file.stem}")
    stated = yaml.safe_load(text)
    (name,) = stated.pop("defaults")
    assert stated and set(stated) <= set(registry.method(name).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_is_kept_and_where_it_is_from(name: str) -> None:
    card = registry.method(name)
    assert card.summary.endswith((".", ",")), card.summary
    assert "code" in card.sections
    assert "cost" in card.sections or name not in PRE, (
        "what a choice costs, in tokens N, kept K and width D"
    )
    assert set(card.fields) == {field.name for field in dataclasses.fields(card.load())}
    for parameter in card.parameters:
        assert f"{parameter}:" in card.doc.partition("Attributes:")[2], (
            f"{parameter} is not described"
        )


TAKEN = {
    key
    for key, parameter in inspect.signature(unibench.prune).parameters.items()
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD
}
HIDDEN = {name: TAKEN & set(registry.method(name).parameters) for name in NAMES}


def test_keywords_of_prune_hide_no_parameters_but_those_that_method_options_take() -> None:
    hidden = {name: keys for name, keys in HIDDEN.items() if keys}
    # `mode` of four methods was hidden once; a new one is a name to think about
    assert set().union(*hidden.values()) == {"retention", "method"}
    assert set(hidden) == {"fastvid", "flashvid", "holitom", "vidcom2", "schedule"}


@pytest.mark.parametrize("name", [name for name in NAMES if "retention" in HIDDEN[name]])
def test_a_hidden_parameter_reaches_its_method_and_is_no_budget(name: str) -> None:
    with unibench.prune(
        model_of("llava"), name, keep=7, method_options={"retention": 0.25}, **BESIDES
    ) as session:
        (_, stage), *_ = session.stages[0]
    assert session.budget.tokens == 7
    assert stage.select.__self__.retention == 0.25  # type: ignore[attr-defined]


def _listed(value: object) -> object:
    return [_listed(entry) for entry in value] if isinstance(value, tuple) else value
