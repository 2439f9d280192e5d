"""Models with random weights, made where they run: published sizes take seconds on a GPU and
minutes on a processor.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from unibench import paths, plainyaml, schema
from unibench.config import ModelConfig
from unibench.models import LoadedModel, wrap
from unibench.models._reduced import reduced
from unibench.models._sources import blueprint


def card(name: str) -> ModelConfig:
    """A model's card as its YAML file says, without Hydra; the cards used here inherit nothing."""
    file = paths.PACKAGE / "configs" / "model" / f"{name}.yaml"
    plain = plainyaml.loaded(file.read_text(encoding="utf-8"))
    found: ModelConfig = schema.build(ModelConfig, {**plain, "weights": "random"})
    return found


def full(name: str, device: torch.device, layers: int | None = None) -> LoadedModel:
    """A model of published size in bfloat16.

    Args:
        name: of its card.
        device: where it is made.
        layers: of decoder and tower; None is the published number.
    """
    spec = card(name)
    if layers is not None:
        spec = replace(spec, architecture=shallow(spec.architecture, layers))
    config, processor = blueprint(spec)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return wrap(model.to(device).eval(), processor, image_options=dict(spec.pixels["native"]))


def small(name: str, device: torch.device) -> LoadedModel:
    """The architecture at reduced width and depth, float32."""
    model, processor = reduced(card(name))
    return wrap(model.to(device), processor)


def shallow(architecture: dict[str, Any], layers: int) -> dict[str, Any]:
    """A published architecture with so many layers in decoder and tower."""
    found = copy.deepcopy(architecture)
    found["text_config"]["num_hidden_layers"] = layers
    tower = found["vision_config"]
    tower["depth" if "depth" in tower else "num_hidden_layers"] = layers
    if "fullatt_block_indexes" in tower:
        tower["fullatt_block_indexes"] = [1, layers - 1]
    if "deepstack_visual_indexes" in tower:
        tower["deepstack_visual_indexes"] = [0, 1, 2]
    return found
