"""Prompts of exact sizes: drawn noise and a question of so many tokens."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.gpu.plan import Shown
from unibench.models import LoadedModel
from unibench.profile.inputs import question

Inputs = dict[str, Tensor]


def prompt(loaded: LoadedModel, shown: Shown, text_tokens: int, seed: int = 0) -> Inputs:
    """One prompt on the model's device."""
    draw, (width, height) = np.random.default_rng(seed), shown.size
    pictures = [
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for _ in range(max(1, shown.frames))
    ]
    asked = question(loaded, text_tokens)
    return loaded.inputs([asked], [pictures], "video" if shown.frames else "image")


def repeated(inputs: Inputs, batch: int) -> Inputs:
    """A batch of one prompt: of equal length, so that no row is padded and every kernel serves.

    All inputs of the families here have prompts, tiles, frames or patches in front, one prompt
    behind the other.
    """
    return {name: torch.cat([value] * batch) for name, value in inputs.items()}


def resized(shown: Shown, ratio: float) -> Shown:
    """The resize control: what shows about as many tokens as a method leaves, without one."""
    share = 1 - ratio
    if shown.frames:
        return Shown(shown.size, max(1, round(shown.frames * share)))
    width, height = (max(28, round(edge * share**0.5)) for edge in shown.size)
    return Shown((width, height))
