"""What else belongs to a model that somebody else loaded, found from where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from transformers import AutoProcessor

from unibench.config import model_path
from unibench.errors import UsageError
from unibench.registry import ROOT


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
        card: Any = OmegaConf.load(file)
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
