"""A conversation around pictures or a clip: its text, and the positions of all that it shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training._processors import make_processor
from training._words import WORDS, make_tokenizer

AXES = ("qwen2_5_vl", "qwen3_vl")  # families with positions on three axes


@dataclass(frozen=True)
class Sight:
    """What a conversation shows: pictures, or one clip of so many frames."""

    pictures: int = 1
    frames: int = 0


Run = tuple[int, int, int]  # of visual tokens without text between: moments, rows, columns


def runs_of(sight: Sight, grid: tuple[int, int], form: str) -> tuple[Run, ...]:
    """The runs of visual tokens of a conversation in a family's form.

    >>> runs_of(Sight(frames=8), (8, 8), "qwen2_5_vl"), len(runs_of(Sight(2), (8, 8), "llava"))
    (((4, 8, 8),), 2)
    """
    if not sight.frames:
        return ((1, *grid),) * sight.pictures
    moments = sight.frames // 2 if form in AXES else sight.frames
    # Qwen3-VL says the time of each moment, InternVL its number; Qwen2.5-VL says neither
    return ((moments, *grid),) if form == "qwen2_5_vl" else ((1, *grid),) * moments


@dataclass(frozen=True)
class Prompt:
    """A conversation, cut at its runs of visual tokens.

    Attributes:
        parts: token ids before each run.
        before, after: what follows the last run is ``before + question + after``.
    """

    parts: tuple[tuple[int, ...], ...]
    before: str
    after: str
    tokenizer: PreTrainedTokenizerFast

    def question(self, text: str) -> list[int]:
        """Token ids from the last run to where the answer begins."""
        return list(
            self.tokenizer.encode(self.before + text + self.after, add_special_tokens=False)
        )


@cache
def make_prompt(family: str, sight: Sight) -> Prompt:
    """The conversation of a family, as its own processor writes it."""
    tokenizer = make_tokenizer(family)
    roles = WORDS[family].roles
    shown = _read(make_processor(family, tokenizer), sight)
    marks = {
        tokenizer.convert_tokens_to_ids(roles[role]) for role in ("image", "video") if role in roles
    }
    parts: list[tuple[int, ...]] = [()]
    for seen, run in groupby(shown, key=marks.__contains__):
        ids = tuple(run)
        if seen:
            parts.append(())
        else:
            parts[-1] = ids
    *before_runs, rest = parts
    before, after = tokenizer.decode(rest, skip_special_tokens=False).split("@@")
    prompt = Prompt(tuple(before_runs), before, after, tokenizer)
    assert tuple(prompt.question("@@")) == rest, "text is read back as it was written"
    return prompt


def _read(processor: Any, sight: Sight) -> list[int]:
    """Token ids of a conversation about black pictures."""
    kind = "video" if sight.frames else "image"
    number = 1 if sight.frames else sight.pictures
    content = [*({"type": kind} for _ in range(number)), {"type": "text", "text": "@@"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    shown: dict[str, Any]
    if sight.frames:
        clip = np.zeros((sight.frames, 224, 224, 3), np.uint8)
        shown = {"videos": [clip], "videos_kwargs": {"do_sample_frames": False}}
    else:
        shown = {"images": [Image.new("RGB", (336, 336)) for _ in range(number)]}
    inputs = processor(text=[text], return_tensors="pt", **shown)
    ids: list[int] = inputs["input_ids"][0].tolist()
    return ids


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a prefix are.

    Attributes:
        positions: ``[3, P]`` temporal, vertical and horizontal (all equal for families with one
            position).
        visual: ``[P]``, true for visual tokens.
        next: position of the first token after it.
    """

    positions: Tensor
    visual: Tensor
    next: int


def layout(form: str, parts: tuple[tuple[int, ...], ...], runs: tuple[Run, ...]) -> Layout:
    """Positions of text and visual tokens in turn, as the family's own code counts them."""
    positions, visual, start = [], [], 0
    for part, (moments, rows, columns) in zip(parts, runs, strict=True):
        positions.append(torch.arange(start, start + len(part)).expand(3, -1))
        start += len(part)
        cell = torch.arange(moments * rows * columns)
        visual += [False] * len(part) + [True] * len(cell)
        if form in AXES:
            row = cell // columns % rows
            positions.append(start + torch.stack([cell // (rows * columns), row, cell % columns]))
            start += max(rows, columns)
        else:
            positions.append((start + cell).expand(3, -1))
            start += len(cell)
    return Layout(torch.cat(positions, 1), torch.tensor(visual), start)
