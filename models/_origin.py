"""Processor and CLIP of a model that the caller has loaded, found by its name or folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoProcessor, PreTrainedModel

from unibench import plainyaml, registry
from unibench.config import model_path
from unibench.errors import UsageError, shown
from unibench.registry import ROOT


def whole_model(given: Any) -> Any:
    """The image-text-to-text model that somebody gave: itself, or the one inside a wrapper that
    passes calls on (an adapter of PEFT, DataParallel, torch.compile).

    Raises:
        UsageError: there is none in it, several, or it is a part of one.
    """
    name = type(given).__name__
    if not isinstance(given, nn.Module):
        raise UsageError(
            f"prune() takes a loaded Hugging Face model, not {shown(repr(given))[:60]}; load it"
            " with AutoModelForImageTextToText.from_pretrained"
        )
    devices = getattr(given, "device_ids", None) or ()
    if isinstance(given, nn.DataParallel) and len(devices) > 1:
        raise UsageError(
            "DataParallel reads a batch with copies of the model on several devices, of which none"
            " can be pruned; give the model inside, .module, on one device"
        )
    models = [module for module in given.modules() if _answers(module)]
    if len(models) == 1:
        return models[0]
    if models:
        kinds = ", ".join(type(model).__name__ for model in models)
        raise UsageError(f"prune() takes one model; this {name} holds {len(models)}: {kinds}")
    kind = getattr(getattr(given, "config", None), "model_type", None)
    if kind is None:
        raise UsageError(f"prune() takes a Hugging Face image-text-to-text model, not a {name}")
    # raises for an unknown kind; a known one is only a part, such as qwen2_5_vl_text
    registry.family_of(str(kind).removesuffix("_text").removesuffix("_vision"))
    raise UsageError(
        f"a {name} is a part of a model; give the whole one, whose generate() answers, even where"
        " it is the part that you call"
    )


def _answers(module: Any) -> bool:
    """Whether a module is a whole model of a known family, with the head that makes words."""
    kind = getattr(getattr(module, "config", None), "model_type", None)
    return (
        isinstance(module, PreTrainedModel)
        and hasattr(module, "generate")
        and module.get_output_embeddings() is not None
        and any(kind in card.model_types for card in registry.families().values())
    )


def cached_processor(model: Any) -> Any:
    """The processor beside a model's weights, in its folder or in the hub's cache; None where it is
    in neither.
    """
    source = getattr(model, "name_or_path", "")
    if not source:
        return None
    try:
        # trust_remote_code: left open, it would ask on the terminal
        processor = AutoProcessor.from_pretrained(
            source, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError):
        return None
    # a folder without a processor gives its tokenizer
    return processor if hasattr(processor, "tokenizer") else None


def card_clip(model: Any) -> str | None:
    """The CLIP that the model's card names; None where it names none, so that methods take their
    substitute, as on the command line.

    Raises:
        UsageError: no card is about this model.
    """
    source = getattr(model, "name_or_path", "")
    for file in sorted((ROOT / "configs" / "model").glob("*.yaml")):
        card: Any = plainyaml.loaded(file.read_text(encoding="utf-8"))
        if source and _is_of(card.get("checkpoint"), card.get("path"), source):
            clip: str | None = card.get("clip")
            return clip
    raise UsageError(
        f"this method compares patches with the question in the CLIP of the vision tower, and no"
        f" card in configs/model says which one {source or 'this model'} comes from; give"
        " clip=<folder or hub id>, or clip=None for the method's substitute"
    )


def _is_of(checkpoint: str | None, path: str | None, source: str) -> bool:
    """Whether a card's checkpoint is the one at a source: hub id, folder, or a snapshot in the
    hub's cache.
    """
    folder = model_path(path)
    if folder is not None and folder.is_dir() and Path(source).is_dir():
        return folder.resolve() == Path(source).resolve()
    names = {source, *Path(source).parts}
    return checkpoint is not None and bool(
        {checkpoint, "models--" + checkpoint.replace("/", "--")} & names
    )
