"""Merging inside the vision tower: between the halves of a block, or after it.

The tower runs one tile at a time, since tiles may end with different numbers of tokens. Merged rows
are put back at the places of their anchors, so that the model's own checks of placeholders and
positions hold; the other places are zero, and the cut at layer 0 drops them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unibench.budget import Budget
from unibench.errors import UsageError
from unibench.ops import Matching, mean_weights, membership
from unibench.pruning._transformers import attention_of
from unibench.pruning.attention import AttentionTap, QueryKey
from unibench.pruning.calls import full_precision, without_gradient
from unibench.pruning.checking import check_numbers
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.randomness import seed_of

if TYPE_CHECKING:
    from unibench.pruning.arithmetic import Arithmetic
    from unibench.pruning.prefill import Prefill, Reading
    from unibench.pruning.stage import Method


@dataclass(frozen=True)
class EncoderContext:
    """One tile inside a block of the vision tower.

    Attributes:
        block: which one.
        blocks: number of blocks up to and with the one that makes the features.
        tokens: ``[n, C]`` float32, the prefix (CLS) first.
        keys: ``[n, heads, head_dim]`` of this block, where the stage is inside it.
        queries: the same of its queries.
        scaling: of their products.
        anchor: ``[n]`` the place of each token, prefix included, before any merge.
        memory: of the tile: what one stage leaves for the next.
        size: ``[n]`` patches that each token stands for.
        prefix: number of prefix tokens.
        side: of the patch grid.
        keep: tokens to keep in the end, the prefix not counted.
    """

    block: int
    blocks: int
    tokens: Tensor
    keys: Tensor | None
    size: Tensor
    prefix: int
    side: int
    keep: int
    queries: Tensor | None = None
    scaling: float = 1.0
    anchor: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    memory: dict[str, Tensor] = field(default_factory=dict)

    def logits(self) -> Tensor:
        """Products of queries with keys, mean over heads, before the softmax, ``[n, n]``."""
        assert self.queries is not None and self.keys is not None, "the stage is not inside a block"
        joined = self.queries.flatten(1) @ self.keys.flatten(1).T
        return joined * (self.scaling / self.keys.shape[1])


@dataclass(frozen=True)
class EncoderStage:
    """A merge in one block.

    Attributes:
        block: which one, from 0.
        merge: which tokens go together; None leaves them.
        inside: between attention and feed-forward network, instead of after the block.
        weighted: merged tokens weigh as many patches as they stand for, in later means and in
            attention.
    """

    block: int
    merge: Callable[[EncoderContext], Matching | None]
    inside: bool = True
    weighted: bool = True


@dataclass
class Tile:
    """What became of the tokens of a tile on its way through the tower.

    Attributes:
        size: ``[n]`` patches that each token stands for.
        anchor: ``[n]`` the place of each token, prefix included, before any merge.
        slot: ``[places]`` the token that what stood at each place has gone into; -1 is none.
        merges: the block of every merge, and the anchors that it left.
        keys: queries and keys of the block that runs.
        pending: rows that were merged between the halves of the block.
        half: what its feed-forward network made of them.
        memory: what one stage leaves for the next.
    """

    size: Tensor
    anchor: Tensor
    slot: Tensor
    merges: list[tuple[int, Tensor]] = field(default_factory=list)
    keys: list[QueryKey] = field(default_factory=list)
    pending: Tensor | None = None
    half: Tensor | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)


class EncoderMerger:
    """The hooks of a method's encoder stages.

    Args:
        family: whose :meth:`Family.halves` are known.
        method: whose stages they are.
        stages: of the method.
        budget: tokens of a tile follow from it; what rounding leaves is for the cut at layer 0.
        reading: the prefill under way.
        arithmetic: counts what the method computes.
    """

    def __init__(
        self,
        family: Family,
        method: Method,
        stages: Sequence[EncoderStage],
        budget: Budget,
        reading: Reading,
        arithmetic: Arithmetic,
    ) -> None:
        self.family, self.method, self.budget, self.reading = family, method, budget, reading
        self._arithmetic = arithmetic
        blocks = family.vit_blocks
        assert family.feature_layer is not None
        self.blocks = family.feature_layer % len(blocks) + 1
        self.stages = {stage.block: stage for stage in stages if stage.block < self.blocks}
        first = min(self.stages, default=self.blocks)
        self._weighted = any(stage.weighted for stage in stages)
        attentions = family.vit_attentions
        kernel = attention_of(attentions[0])
        if self._weighted and "flash" in kernel:
            raise UsageError(
                f"merging in the vision tower weighs keys, which {kernel} cannot; take"
                " model.attn=sdpa"
            )
        self._tap = AttentionTap(attentions[first : self.blocks], self._wanted, self._bias)

    @property
    def tile(self) -> Tile | None:
        """The tile that is in the tower."""
        return None if self.reading.prefill is None else self.reading.prefill.tile

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for index, stage in self.stages.items():
                block = self.family.vit_blocks[index]
                if stage.inside:
                    norm, network = self.family.halves(block)
                    stack.callback(
                        norm.register_forward_pre_hook(partial(self._before_norm, stage)).remove
                    )
                    stack.callback(network.register_forward_hook(self._after_network).remove)
                # before the hooks that record hidden states, which must see what the next block
                # sees
                stack.callback(
                    block.register_forward_hook(
                        partial(self._after_block, stage), prepend=True
                    ).remove
                )
            stack.enter_context(self._tap.installed())
            yield

    def run(self, original: Callable[..., Any], call: VisionCall, prefill: Prefill) -> Any:
        """The features of a call, merged rows at their anchors and zeros elsewhere; fills
        ``call.merged``.
        """
        prefix, patches = self.family.prefix_tokens, self._patches
        features, merged, owners, output = [], [], list[Tensor](), None
        for pixels in call.arguments["pixel_values"].split(1):
            places = torch.arange(patches + prefix, device=pixels.device)
            size = torch.ones(patches + prefix, device=pixels.device)
            tile = prefill.tile = Tile(size, places, places)
            try:
                output = original(**{**call.arguments, "pixel_values": pixels})
            finally:
                prefill.tile = None
            (rows,) = output.pooler_output
            places = tile.anchor[prefix:] - prefix
            features.append(rows.new_zeros(patches, rows.shape[-1]).index_copy(0, places, rows))
            call.anchors.append(tile.merges)
            mask = torch.zeros(patches, dtype=torch.bool, device=rows.device)
            merged.append(mask.index_fill(0, places, True))
            slot = tile.slot[prefix:]
            # what went into the prefix has none, as what went nowhere
            own = tile.anchor[slot.clamp_min(0)] - prefix + patches * len(owners)
            owners.append(own.masked_fill(slot < prefix, -1))
        assert output is not None
        output.pooler_output = features
        call.merged, call.owners = torch.cat(merged), torch.cat(owners)
        return output

    @property
    def _patches(self) -> int:
        config = self.family.model.config.vision_config
        return int(config.image_size // config.patch_size) ** 2

    def _context(self, stage: EncoderStage, tile: Tile, tokens: Tensor) -> EncoderContext:
        queries = keys = None
        scaling = 1.0
        if stage.inside:
            (qk,) = tile.keys
            queries, keys = (part[0].transpose(0, 1).float() for part in (qk.query, qk.key))
            scaling = qk.scaling
        patches, retention = self._patches, self.budget.retention
        if retention is None:
            keep = min(self.budget.tokens or patches, patches)
        else:
            # not the rule of budget.py: each tile is merged by itself, so that a batch equals
            # single pictures, and the cut at layer 0, which has that rule, can only take away;
            # tiles rounded down would leave fewer than the budget of all of them
            keep = math.ceil(retention * patches)
        return EncoderContext(
            stage.block,
            self.blocks,
            tokens.float(),
            keys,
            tile.size,
            self.family.prefix_tokens,
            math.isqrt(patches),
            max(1, keep),
            queries,
            scaling,
            tile.anchor,
            dict(tile.memory),
        )

    def _merge(self, stage: EncoderStage, tile: Tile, hidden: Tensor) -> Tensor | None:
        """``hidden [1, n, C]`` with fewer rows; None leaves it."""
        prefill = self.reading.prefill
        assert prefill is not None
        who = f"{type(self.method).__name__} in block {stage.block} of the tower"
        precise = full_precision(hidden.device)
        with torch.no_grad(), precise, self.reading.timed(prefill.spans.merges):
            ctx = self._context(stage, tile, hidden[0])
            again = partial(_merged, stage, replace(ctx, memory=dict(tile.memory)))
            key = ("merge", stage.block, ctx.tokens.shape, ctx.keep)
            with self._arithmetic.alike(key, partial(seed_of, ctx.tokens)):
                merged = _merged(stage, ctx)
            tile.memory = ctx.memory
            prefill.together.append(self._arithmetic.of(prefill, key, again))
            if merged is None:
                return None
            match, rows, tile.size = merged
            tile.anchor = tile.anchor[match.anchor]
            slot = match.slot.to(tile.slot.device)[tile.slot.clamp_min(0)]
            tile.slot = slot.masked_fill(tile.slot < 0, -1)
            tile.merges.append((stage.block, tile.anchor))
            rows = rows.to(hidden)
            check_numbers(rows, tuple(rows.shape), f"the tokens that {who} merged")
        return without_gradient(rows[None], hidden, who)

    # -- hooks, in the order in which a block meets them

    def _wanted(self, module: nn.Module) -> list[QueryKey] | None:
        if self.tile is None:
            return None
        self.tile.keys.clear()  # those of the block before
        return self.tile.keys

    def _bias(self, module: nn.Module) -> Tensor | None:
        """``log(size)`` of the keys: a merged token is attended to as often as its patches would
        be.
        """
        if self.tile is None or not self._weighted:
            return None
        return self.tile.size.log()[None, None, None]

    def _before_norm(self, stage: EncoderStage, module: nn.Module, args: Any) -> Any:
        tile = self.tile
        if tile is None:
            return None
        tile.pending = self._merge(stage, tile, args[0])
        return None if tile.pending is None else (tile.pending, *args[1:])

    def _after_network(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        tile = self.tile
        if tile is None or tile.pending is None:
            return None
        tile.half = output
        # the block adds it to a residual of the old length; _after_block has the real sum
        return output.new_zeros(1, 1, 1)

    def _after_block(self, stage: EncoderStage, module: nn.Module, args: Any, output: Any) -> Any:
        tile = self.tile
        if tile is None:
            return None
        if stage.inside:
            if tile.pending is None or tile.half is None:
                return None
            merged: Tensor | None = tile.pending + tile.half
            tile.pending = tile.half = None
        else:
            merged = self._merge(stage, tile, output[0] if isinstance(output, tuple) else output)
        if merged is None:
            return None
        return (merged, *output[1:]) if isinstance(output, tuple) else merged


def _merged(stage: EncoderStage, ctx: EncoderContext) -> tuple[Matching, Tensor, Tensor] | None:
    """Which tokens of a tile go together, their means and their sizes; None leaves them."""
    match = stage.merge(ctx)
    if match is None:
        return None
    size = ctx.size if stage.weighted else torch.ones_like(ctx.size)
    weights = match.weights
    if weights is None:
        weights = mean_weights(match.slot, len(match.anchor), size)
    rows = weights.to(ctx.tokens) @ ctx.tokens
    return match, rows, membership(match.slot, len(match.anchor), ctx.size).sum(1)
