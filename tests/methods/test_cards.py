"""What the source of a method says about it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from tests.methods._contexts import PRE
from unibench import registry

CONFIGS = Path(registry.ROOT).parent / "configs" / "method"
NAMES = sorted(registry.methods())


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_of_a_method_states_every_parameter_with_its_default(name: str) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# python -m unibench method={name}")
    stated = yaml.safe_load(text)
    fields = {
        field.name: field.default for field in dataclasses.fields(registry.method(name).load())
    }
    defaults = {
        key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()
    }
    followed = {
        key: value for key, value in stated.items() if str(value).startswith("${model.")
    }  # the model's own
    assert stated == {"name": name, **defaults, **followed}
    assert set(followed) <= {"selector_path"}
    assert list(stated) == ["name", *fields]


def test_every_yaml_belongs_to_a_method() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_is_kept_and_where_it_is_from(name: str) -> None:
    card = registry.method(name)
    assert card.summary.endswith((".", ",")), card.summary
    assert "code" in card.sections
    assert "cost" in card.sections or name not in PRE, (
        "what a choice costs, in tokens N, kept K and width D"
    )
    assert set(card.parameters) == {field.name for field in dataclasses.fields(card.load())}
    for parameter in card.parameters:
        assert f"{parameter}:" in card.doc.partition("Attributes:")[2], (
            f"{parameter} is not described"
        )
