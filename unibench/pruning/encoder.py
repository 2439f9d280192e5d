"""Merging inside the vision tower: between the halves of a block, or after it.

The tower runs one tile at a time, since tiles may end with different numbers of tokens. Merged rows
are put back at the places of their anchors, so that the model's own checks of placeholders and
positions hold; the other places are zero, and the cut at layer 0 drops them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unibench.budget import Budget
from unibench.cost import Clock, Mark
from unibench.errors import UsageError
from unibench.ops import Matching, mean_weights, membership, product
from unibench.pruning.attention import AttentionTap
from unibench.pruning.family import Family, VisionCall


@dataclass(frozen=True)
class EncoderContext:
    """One tile inside a block of the vision tower.

    Attributes:
        block: which one.
        blocks: number of blocks up to and with the one that makes the features.
        tokens: ``[n, C]`` float32, the prefix (CLS) first.
        keys: ``[n, heads, head_dim]`` of this block, where the stage is inside it.
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


class EncoderMerger:
    """The hooks of a method's encoder stages.

    Args:
        family: whose :meth:`Family.halves` are known.
        stages: of the method.
        budget: tokens of a tile follow from it; what rounding leaves is for the cut at layer 0.
        clock: times the merges.

    Attributes:
        spans: start and end of each merge.
    """

    def __init__(
        self, family: Family, stages: Sequence[EncoderStage], budget: Budget, clock: Clock
    ) -> None:
        self.family, self.budget, self.clock = family, budget, clock
        blocks = family.vit_blocks
        assert family.feature_layer is not None
        self.blocks = family.feature_layer % len(blocks) + 1
        self.stages = {stage.block: stage for stage in stages if stage.block < self.blocks}
        first = min(self.stages, default=self.blocks)
        self._weighted = any(stage.weighted for stage in stages)
        self.spans: list[tuple[Mark, Mark]] = []
        attentions = family.vit_attentions
        kernel = str(attentions[0].config._attn_implementation)  # type: ignore[union-attr]
        if self._weighted and "flash" in kernel:
            raise UsageError(
                f"merging in the vision tower weighs keys, which {kernel} cannot; take"
                " model.attn=sdpa"
            )
        self._tap = AttentionTap(
            attentions[first : self.blocks], lambda module: self._running, self._bias
        )
        self._running = False
        self._size = self._anchor = torch.empty(0)
        self._pending: Tensor | None = None
        self._half: Tensor | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for index, stage in self.stages.items():
                block = self.family.vit_blocks[index]
                if stage.inside:
                    norm, network = self.family.halves(block)
                    stack.callback(
                        norm.register_forward_pre_hook(
                            functools.partial(self._before_norm, stage)
                        ).remove
                    )
                    stack.callback(network.register_forward_hook(self._after_network).remove)
                # before the hooks that record hidden states, which must see what the next block
                # sees
                stack.callback(
                    block.register_forward_hook(
                        functools.partial(self._after_block, stage), prepend=True
                    ).remove
                )
            stack.enter_context(self._tap.installed())
            yield

    def run(self, original: Callable[..., Any], call: VisionCall) -> Any:
        """The features of a call, merged rows at their anchors and zeros elsewhere; fills
        ``call.merged``.
        """
        pixels = call.arguments["pixel_values"]
        features, merged = [], []
        for tile in pixels.split(1):
            output, rows, places = self._tile(original, {**call.arguments, "pixel_values": tile})
            whole = rows.new_zeros(self._patches, rows.shape[-1])
            whole[places] = rows
            features.append(whole)
            call.anchors.append(self._left)
            merged.append(
                torch.zeros(self._patches, dtype=torch.bool, device=rows.device).index_fill(
                    0, places, True
                )
            )
        output.pooler_output = features
        call.merged = torch.cat(merged)
        return output

    @property
    def _patches(self) -> int:
        config = self.family.model.config.vision_config
        return int(config.image_size // config.patch_size) ** 2

    def _tile(
        self, original: Callable[..., Any], arguments: dict[str, Any]
    ) -> tuple[Any, Tensor, Tensor]:
        count, device = self._patches + self.family.prefix_tokens, arguments["pixel_values"].device
        self._size = torch.ones(count, device=device)
        self._anchor = torch.arange(count, device=device)
        self._left: list[tuple[int, Tensor]] = []
        self._running = True
        try:
            output = original(**arguments)
        finally:
            self._running = False
            self._tap.clear()
        (rows,) = output.pooler_output
        return output, rows, self._anchor[self.family.prefix_tokens :] - self.family.prefix_tokens

    def _context(self, stage: EncoderStage, tokens: Tensor) -> EncoderContext:
        keys = None
        if stage.inside:
            (qk,) = self._tap.take(self.family.vit_attentions[stage.block])
            keys = qk.key[0].transpose(0, 1).float()
        patches, retention = self._patches, self.budget.retention
        keep = (
            min(self.budget.tokens or patches, patches)
            if retention is None
            else math.ceil(retention * patches)
        )
        return EncoderContext(
            stage.block,
            self.blocks,
            tokens.float(),
            keys,
            self._size,
            self.family.prefix_tokens,
            math.isqrt(patches),
            max(1, keep),
        )

    def _merge(self, stage: EncoderStage, hidden: Tensor) -> Tensor | None:
        start = self.clock.mark()
        with torch.no_grad():
            ctx = self._context(stage, hidden[0])
            match = stage.merge(ctx)
            if match is None:
                return None
            size = self._size if stage.weighted else torch.ones_like(self._size)
            rows = product(mean_weights(match.slot, len(match.anchor), size), ctx.tokens)
            self._size = membership(match.slot, len(match.anchor), self._size).sum(1)
            self._anchor = self._anchor[match.anchor]
            self._left.append((stage.block, self._anchor))
        self.spans.append((start, self.clock.mark()))
        return rows.to(hidden)[None]

    def _before_norm(self, stage: EncoderStage, module: nn.Module, args: Any) -> Any:
        if not self._running:
            return None
        self._pending = self._merge(stage, args[0])
        return None if self._pending is None else (self._pending, *args[1:])

    def _after_network(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if not self._running or self._pending is None:
            return None
        self._half = output
        return output.new_zeros(
            1, 1, 1
        )  # the block adds it to a residual of the old length; _after_block has the real sum

    def _after_block(self, stage: EncoderStage, module: nn.Module, args: Any, output: Any) -> Any:
        if not self._running:
            return None
        if stage.inside:
            if self._pending is None or self._half is None:
                return None
            merged: Tensor | None = self._pending + self._half
            self._pending = self._half = None
        else:
            merged = self._merge(stage, output[0] if isinstance(output, tuple) else output)
        if merged is None:
            return None
        return (merged, *output[1:]) if isinstance(output, tuple) else merged

    def _bias(self, module: nn.Module) -> Tensor | None:
        """``log(size)`` of the keys: a merged token is attended to as often as its patches would
        be.
        """
        if not self._running or not self._weighted:
            return None
        return self._size.log()[None, None, None]
