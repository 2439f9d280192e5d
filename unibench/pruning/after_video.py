"""Where the text behind a video stands, on models that place its tokens by time, height and width.

transformers starts that text at the video's first position plus the longer side of a frame in
tokens (``max_side``), however long the video is in time, so that the text may stand amid its
frames. Its documentation and vLLM's code say one past the last position of the video (``last``).
Both agree for pictures and for videos that are shorter in time than a frame is wide or high.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from unibench.budget import TextAfterVideo
from unibench.pruning.family import Family

VIDEO = 2  # what Family.visual_kind says of a video's placeholder


@contextmanager
def text_behind(family: Family, rule: TextAfterVideo) -> Iterator[None]:
    """Within, the model places the text behind videos by a rule.

    Args:
        family: the adapter of the model; with ``last``, one that provides ``"video_time"``.
        rule: ``"max_side"`` leaves the model as transformers has it.
    """
    if rule == "max_side":
        yield
        return
    core = family.core
    original = core.get_rope_index
    named = inspect.signature(original)

    def placed(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        # releases differ in the order of the arguments, callers in how they give them
        given = named.bind(*args, **kwargs).arguments
        positions, _ = original(*args, **kwargs)
        ids, mask = given["input_ids"], given.get("attention_mask")
        valid = torch.ones_like(ids) if mask is None else mask
        return behind_last(positions, family.visual_kind(ids), valid.bool())

    # on the instance: generate() and the forward both look the method up there
    core.get_rope_index = placed
    try:
        yield
    finally:
        del core.get_rope_index


def behind_last(positions: Tensor, kinds: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Positions whose text stands behind the videos before it, and what decoding adds to the
    number of a token.

    Args:
        positions: ``[3, B, L]`` as transformers computes them.
        kinds: ``[B, L]`` 0 for text, 1 for pictures, 2 for videos.
        valid: ``[B, L]`` False on padding.
    """
    moved, beyond = positions.clone(), list[Tensor]()
    for row in range(len(kinds)):
        places = valid[row].nonzero()[:, 0]
        own = moved[:, row, places]
        shift, end, start = 0, 0, 0
        for kind, run in groupby(kinds[row][places].tolist()):
            stop = start + len(list(run))
            part = own[:, start:stop] + shift
            # only what follows a video can begin too early
            late = max(0, end - int(part.min()))
            own[:, start:stop], shift = part + late, shift + late
            end = int(own[:, start:stop].max()) + 1 if kind == VIDEO else 0
            start = stop
        moved[:, row, places] = own
        beyond.append(own.max() + 1 - len(places))
    return moved, torch.stack(beyond)[:, None].to(positions.device)
