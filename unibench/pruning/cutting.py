"""Cutting a batch of sequences: pure functions on tensors, no hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Rotary = tuple[Tensor, Tensor]  # cos, sin: [..., batch or 1, tokens, head_dim]


@dataclass
class Segment:
    """The tokens that a run of decoder layers sees.

    Attributes:
        origin: ``[B, L']`` index of each token in the unpruned sequence; 0 on padding.
        valid: ``[B, L']`` False on the padding at the left that ragged counts need.
        rotary: cos and sin of these tokens, by kind of layer; those of the kinds that have run.
        padded: whether any row has padding.
        sizes: ``[B, L']`` how many tokens each stands for; None is one each.
        end: ``[axes, B, 1]`` position of the first generated token, where tokens have moved; None
            is where the whole prompt ends.
        at: ``[axes, B, L']`` where the tokens stand, where they have moved; None is where they
            stood.
        masks: attention masks of the forward that is running, by kind of layer; rebuilt for every
            forward.
        turned: cos and sin of its tokens where the prompt has been read; likewise.
    """

    origin: Tensor
    valid: Tensor
    rotary: dict[str, Rotary]
    padded: bool
    sizes: Tensor | None = None
    end: Tensor | None = None
    at: Tensor | None = None
    masks: dict[str, Tensor | None] = field(default_factory=dict, repr=False)
    turned: dict[str, Rotary] = field(default_factory=dict, repr=False)

    @property
    def length(self) -> int:
        return self.origin.shape[1]

    @property
    def places(self) -> Tensor:
        """``[B, L']`` where each token stands in its sequence, as sliding windows count."""
        # of three axes the first is time, the one that rises with the text
        return self.origin if self.at is None else self.at[0]


def left_padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Ragged index rows as one matrix, padded at the left.

    Returns:
        ``index [B, L']`` (0 on padding) and ``valid [B, L']``.
    """
    length = max(len(row) for row in rows)
    index = rows[0].new_zeros(len(rows), length)
    valid = torch.zeros(len(rows), length, dtype=torch.bool, device=rows[0].device)
    for b, row in enumerate(rows):
        # at the left, since generate() reads the next token off the last column
        index[b, length - len(row) :] = row
        valid[b, length - len(row) :] = True
    return index, valid


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """``x [B, L, D]`` at ``index [B, L']``."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def take_rotary(rotary: Rotary, index: Tensor) -> Rotary:
    """cos and sin at ``index [B, L']``; a leading axis (three rope sections before transformers
    5.20) stays.
    """

    def take(part: Tensor) -> Tensor:
        index_of = index.to(part.device)
        lead = part.shape[:-3]
        # one row may serve the batch, where positions are the same for all
        whole = part.expand(*lead, len(index_of), *part.shape[-2:])
        return whole.gather(-2, index_of[..., None].expand(*lead, *index_of.shape, part.shape[-1]))

    return take(rotary[0]), take(rotary[1])


def one_axis(part: Tensor, sections: Sequence[int]) -> Tensor:
    """cos or sin ``[batch, tokens, head_dim]`` as attention applies it.

    Before transformers 5.20, models with three axes of position (time, height, width) kept them
    apart, ``[3, batch, tokens, head_dim]``, and attention took stretches of channels from each.

    Args:
        part: cos or sin.
        sections: channels of each axis, in one half of the head.
    """
    if part.ndim == 3:
        return part
    stretches = part.split([*sections, *sections], dim=-1)
    return torch.cat([axis[number % 3] for number, axis in enumerate(stretches)], dim=-1)


def segment(
    origin: Tensor,
    valid: Tensor,
    full_rotary: Mapping[str, Rotary],
    sizes: Tensor | None = None,
) -> Segment:
    """The segment of the tokens ``origin`` of the unpruned sequence.

    Args:
        origin: ``[B, L']``.
        valid: ``[B, L']``.
        full_rotary: of the whole sequence, by kind of layer.
        sizes: ``[B, L]`` how many tokens each of the whole sequence stands for; None is one each.
    """
    rotary = {kind: take_rotary(whole, origin) for kind, whole in full_rotary.items()}
    # asked once for each cut: the answer waits for a GPU
    padded = not bool(valid.all())
    if sizes is not None:
        sizes = sizes.to(origin.device).gather(1, origin)
    return Segment(origin, valid, rotary, padded, sizes)


@dataclass(frozen=True)
class Window:
    """What a sliding window lets a query see.

    Attributes:
        width: keys at most so many places back, its own among them.
        places: ``[B, keys]`` where each key stands in its sequence.
    """

    width: int
    places: Tensor

    def seen(self, queries: int) -> Tensor:
        """``[B, queries, keys]`` for the last queries of the keys."""
        # by place and not by column: tokens that are gone still take up room in the window
        back = self.places[:, -queries:, None] - self.places[:, None, :]
        return back < self.width


def restricted_mask(
    whole: Tensor,
    origin: Tensor,
    valid: Tensor,
    dtype: torch.dtype,
    sizes: Tensor | None = None,
    window: Window | None = None,
) -> Tensor:
    """A mask that the model made for the whole sequence, for the tokens of a segment: windows,
    blocks of pictures that see each other and packed sequences stay what they were.

    Args:
        whole: ``[B or 1, 1, L, L]``, boolean or additive.
        origin: ``[B, L']``.
        valid: ``[B, L']`` False on padding.
        dtype: of an additive mask.
        sizes: ``[B, L']`` how often each key is attended to; None is once.
        window: lets earlier keys be seen besides, where tokens have moved together; None is none.
    """
    origin, valid = origin.to(whole.device), valid.to(whole.device)
    rows = torch.arange(len(origin), device=whole.device)[:, None, None]
    maps = whole[:, 0].expand(len(origin), -1, -1)
    # queries and keys by where they stood, so that a window or a block of a picture stays right
    kept = maps[rows, origin[:, :, None], origin[:, None, :]][:, None]
    if window is not None:
        # besides what the model's mask allows, such as tokens of a picture that see each other
        near = window.seen(origin.shape[1])[:, None].to(kept.device).tril()
        kept = near | (kept if kept.dtype == torch.bool else kept == 0)
    # a padding row sees itself: a row without any key is NaN in some kernels
    own = torch.eye(origin.shape[1], dtype=torch.bool, device=whole.device)
    if kept.dtype == torch.bool:
        seen = (kept & valid[:, None, None]) | own
        if sizes is None and whole.dtype == torch.bool:
            return seen
        kept = torch.zeros_like(seen, dtype=dtype)
    else:
        seen = valid[:, None, None] | own
        kept = kept.to(dtype).masked_fill(own & ~valid[:, None, None], 0)
    if sizes is not None:  # as many equal logits as tokens
        kept = kept + sizes.log().to(kept)[:, None, None]
    return kept.masked_fill(~seen, torch.finfo(dtype).min)


def causal_mask(
    implementation: str,
    valid: Tensor,
    hidden: Tensor,
    padded: bool,
    sizes: Tensor | None = None,
    window: Window | None = None,
) -> Tensor | None:
    """The mask that lets the last queries see the earlier valid keys, in the form a kernel takes.

    Args:
        implementation: the attention implementation's name in transformers.
        valid: ``[B, keys]`` keys that are no padding.
        hidden: ``[B, queries, D]``; the queries are the last of the keys.
        padded: whether any key is padding.
        sizes: ``[B, keys]`` how often each key is attended to; None is once. Not for flash
            attention.
        window: of a layer that does not see all; None is all. Not for flash attention.

    Returns:
        None (flash attention without padding), ``[B, keys]`` (flash attention), boolean
        ``[B, 1, queries, keys]`` (sdpa) or the same additive in ``hidden``'s dtype (eager, and
        where keys have sizes).

    Raises:
        NotImplementedError: for another implementation.
    """
    if "flash" in implementation:
        # flash attention takes the padding and is causal by itself
        return valid if padded else None
    if implementation not in ("sdpa", "eager"):
        raise NotImplementedError(
            f"pruning knows no mask for the attention implementation {implementation!r}"
        )
    queries, keys = hidden.shape[1], valid.shape[1]
    # columns count in this layer's cache, which is short by what was cut
    row = torch.arange(keys - queries, keys, device=valid.device)[:, None]
    column = torch.arange(keys, device=valid.device)[None, :]
    # a padding row sees itself: a row without any key is NaN in some kernels
    earlier = (column <= row) & valid[:, None, None, :]
    if window is not None:
        earlier = earlier & window.seen(queries)[:, None].to(earlier.device)
    seen = earlier | (column == row)
    if implementation == "sdpa" and sizes is None:
        return seen
    mask = hidden.new_zeros(seen.shape)
    if sizes is not None:  # as many equal logits as tokens
        mask = mask + sizes.log().to(hidden)[:, None, None]
    # the lowest number and not -inf, as in transformers' own masks for eager
    return mask.masked_fill(~seen, torch.finfo(hidden.dtype).min)
