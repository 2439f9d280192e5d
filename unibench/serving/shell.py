"""What a model of Hugging Face knows of a prompt without its weights: another engine's records are
made with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from unibench.cost.flops import decoder_shape
from unibench.models import LoadedModel
from unibench.pruning.family import VisionCall
from unibench.pruning.prompt import Prompt, digest, prompt_of
from unibench.pruning.record import PromptRecord, packed

UNCOUNTED = "the selection, inside the engine"


def read(loaded: LoadedModel, text: str, images: Sequence[Image]) -> Prompt:
    """A prompt as the model of Hugging Face would read it: its ids, and how its pictures lie."""
    visual: dict[str, Any] = {}
    if images:
        visual = {"images": [list(images)], "images_kwargs": loaded.image_options}
    batch = loaded.processor(text=[text], return_tensors="pt", **visual)
    ids: Tensor = batch["input_ids"]
    tokens = int((loaded.family.visual_kind(ids) > 0).sum())
    calls = {"image": VisionCall("image", dict(batch), tokens=tokens)} if images else {}
    return prompt_of(loaded.family, ids, torch.ones_like(ids, dtype=torch.bool), None, calls, None)


def prompt_text(loaded: LoadedModel, prompt: Prompt) -> str:
    """The text that the model reads, each run of visual tokens as one."""
    assert prompt.ids is not None
    ids, visual = prompt.ids[0], prompt.visual[0]
    shown = torch.ones_like(visual)
    shown[1:] &= ~visual[1:] | (ids[1:] != ids[:-1])
    text: str = loaded.processor.tokenizer.decode(ids[shown], skip_special_tokens=False)
    return text


def record_of_prompt(
    loaded: LoadedModel, sample: str, prompt: Prompt, kept: Mapping[int, Sequence[int]] | None
) -> PromptRecord:
    """What pruning did to a prompt.

    Args:
        loaded: see :func:`opened`.
        sample: its name.
        prompt: unpruned.
        kept: places of the tokens that stayed of each picture; None where nothing was pruned.
    """
    assert prompt.ids is not None
    items, total = prompt.items[0], prompt.visual_counts[0]
    mask = torch.ones(total, dtype=torch.bool)
    for number, places in (kept or {}).items():
        item = items[number]
        mask[item.start : item.stop] = False
        mask[item.start + torch.tensor(list(places), dtype=torch.long)] = True
    depth = loaded.family.text_model.config.num_hidden_layers
    return PromptRecord(
        sample=sample,
        text_tokens=prompt.ids.shape[1] - total,
        visual_tokens=total,
        processed=(int(mask.sum()),) * depth,
        last=packed(mask),
        items=items,
        prompt_digest=digest(prompt.ids[0]),
        uncounted=() if kept is None else (UNCOUNTED,),
    )


def shape_of(loaded: LoadedModel) -> Any:
    """Sizes of a decoder layer."""
    return decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)
