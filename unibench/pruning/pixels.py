"""Dropping tokens ahead of the vision tower: the tower runs on the patches of the others.

Patches are embedded and placed as in the whole picture, and those of dropped tokens leave in front
of the first block. What merges patches into tokens hands its rows back at their places, zeros
elsewhere, so that the model's own checks of placeholders and positions hold; the cut at layer 0
drops the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unibench.pruning.calls import full_precision
from unibench.pruning.checking import checked_mask
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.randomness import seed_of

if TYPE_CHECKING:
    from unibench.pruning.arithmetic import Arithmetic
    from unibench.pruning.prefill import Prefill, Reading
    from unibench.pruning.stage import Method


@dataclass(frozen=True)
class PixelContext:
    """One picture as the processor hands it on, before the tower.

    Attributes:
        tokens: ``[height * width, n]`` pixel values from 0 to 1 of each language-model token, all
            in the same order of places, tokens in raster order.
        height, width: in tokens.
        seed: of the run; :meth:`generator` derives from it and from the picture.
    """

    tokens: Tensor
    height: int
    width: int
    seed: int = 0

    def generator(self) -> torch.Generator:
        """A CPU generator seeded by the run and the picture: the same draw in any batch."""
        return torch.Generator().manual_seed(seed_of(self.tokens, self.seed))


@dataclass
class _Staying:
    """What stays of a call, in the order in which the tower's blocks take patches.

    Attributes:
        tokens: ``[N]`` True on tokens that stay.
        patches: of a token.
        thread: that runs the call; the hooks leave the calls of others alone.
    """

    tokens: Tensor
    patches: int
    thread: int = field(default_factory=threading.get_ident)
    bounds: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def rows(self) -> Tensor:
        """Rows of the patches that stay."""
        return self.tokens.repeat_interleave(self.patches).nonzero()[:, 0]

    def shortened(self, bounds: Tensor) -> Tensor:
        """Bounds of the sequences that blocks attend in, without empty ones."""
        if id(bounds) not in self.bounds:
            stays = self.tokens.repeat_interleave(self.patches).to(bounds.device)
            before = torch.nn.functional.pad(stays.cumsum(0), (1, 0))
            # a window whose patches all left would be a sequence of no tokens, which kernels refuse
            self.bounds[id(bounds)] = before[bounds.long()].unique_consecutive().to(bounds.dtype)
        return self.bounds[id(bounds)]


class PixelPruner:
    """Runs the tower on what a method leaves of each picture.

    Args:
        family: which allows it: :attr:`Family.pixel_dropping`.
        method: asked for each picture.
        seed: of the run.
        reading: the prefill under way.
        arithmetic: counts the method's work.
    """

    def __init__(
        self, family: Family, method: Method, seed: int, reading: Reading, arithmetic: Arithmetic
    ) -> None:
        self.family, self.method, self.seed = family, method, seed
        self.reading, self._arithmetic = reading, arithmetic

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Nothing: hooks are there while a call runs."""
        yield

    def run(self, original: Callable[..., Any], call: VisionCall, prefill: Prefill) -> Any:
        """The features of a call, zeros at the places of dropped tokens; fills ``call.merged``."""
        who = f"{type(self.method).__name__}.pixels"
        precise = full_precision(self.reading.clock.device)
        with torch.no_grad(), precise, self.reading.timed(prefill.spans.merges):
            pictures = [
                replace(picture, seed=self.seed) for picture in self.family.pixel_tokens(call)
            ]
            masks = []
            for picture in pictures:
                key = ("pixels", picture.tokens.shape)
                with self._arithmetic.alike(key, partial(seed_of, picture.tokens, self.seed)):
                    mask = self.method.pixels(picture)
                masks.append(checked_mask(mask, len(picture.tokens), who))
                again = partial(self.method.pixels, picture)
                prefill.together.append(self._arithmetic.of(prefill, key, again))
            staying = torch.cat(masks)
            order = self.family.block_order(call)
            # Qwen2.5-VL sorts patches by window before its first block, and back behind the last
            in_blocks = staying if order is None else staying[order.to(staying.device)]
        with self._dropping(_Staying(in_blocks, self.family.patches_of_token)):
            output = original(**call.arguments)
        call.merged = staying
        return output

    @contextmanager
    def _dropping(self, staying: _Staying) -> Iterator[None]:
        with ExitStack() as stack:
            for number, block in enumerate(self.family.vit_blocks):
                hook = partial(_shorten, staying, number == 0)
                stack.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)
            for merger in self.family.mergers:
                stack.callback(merger.register_forward_hook(partial(_spread, staying)).remove)
            yield


def _shorten(
    staying: _Staying, first: bool, module: nn.Module, args: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]] | None:
    """A block's arguments for the patches that stay."""
    if threading.get_ident() != staying.thread:
        return None
    hidden, *rest = args
    rows = staying.rows.to(hidden.device)
    # rotated by where they are in the whole picture, so a dropped neighbour moves nothing
    cos, sin = kwargs["position_embeddings"]
    given = {
        **kwargs,
        "cu_seqlens": staying.shortened(kwargs["cu_seqlens"]),
        "position_embeddings": (cos[rows.to(cos.device)], sin[rows.to(sin.device)]),
    }
    # blocks after the first are handed what the one before left, already short
    return (hidden[rows] if first else hidden, *rest), given


def _spread(staying: _Staying, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
    """The tokens of a merger at their places."""
    if threading.get_ident() != staying.thread:
        return None
    places = staying.tokens.nonzero()[:, 0].to(output.device)
    whole = output.new_zeros(len(staying.tokens), *output.shape[1:])
    return whole.index_copy(0, places, output)
