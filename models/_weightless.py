"""A model of Hugging Face without its weights, which another engine has."""

from __future__ import annotations

from pathlib import Path

import torch

from unibench import hub
from unibench.config import ModelConfig, model_path
from unibench.errors import UsageError
from unibench.models._loading import LoadedModel, wrap
from unibench.models._sources import processor_of as bare_processor


def folder_of(spec: ModelConfig) -> Path:
    """The folder of a checkpoint on this disk.

    Raises:
        UsageError: it is not here.
    """
    path = model_path(spec.path)
    if path is None:
        file = hub.config_file(spec)
        if file is None:
            raise UsageError(
                f"model={spec.name}: {spec.checkpoint} is not on this disk, and an engine that is"
                " started without a network cannot fetch it: `python -m unibench prefetch`"
            )
        path = file.parent
    return path.absolute()


def opened(spec: ModelConfig, pixels: str) -> LoadedModel:
    """Configuration, processor and adapter of a model, its weights left where they are."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder_of(spec), trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, spec.dtype))
    processor = bare_processor(spec)
    return wrap(model.eval(), processor, image_options=dict(spec.pixels[pixels]))
