"""What is known of a model from its configuration alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unibench.facts import ModelFacts


@pytest.mark.parametrize(
    "depth", ["28", "\x1b[2J", None, -1, 10**12, 1e400, [28], json.loads("1e9")]
)
def test_a_depth_that_no_model_has_says_nothing_of_its_layers(depth: Any) -> None:
    facts = ModelFacts.of_config({"text_config": {"num_hidden_layers": depth}})
    assert facts.kinds is None


def test_a_depth_alone_says_that_every_layer_sees_all() -> None:
    facts = ModelFacts.of_config({"num_hidden_layers": 3})
    assert facts.kinds == ("full_attention",) * 3
