"""The grid of the benchmarks of shared work, and what its arithmetic predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GenerationConfig

from unibench.api import build_method
from unibench.budget import Budget
from unibench.cost.flops import DecoderShape, decoder_shape
from unibench.fused import Fusion, Reply
from unibench.inference.ask import generated
from unibench.models import LoadedModel, Piece
from unibench.pruning import Session

METHODS = "divprune,fastv,random_pre,random_intra,dart,l2norm,dpp,stp,uniform_grid,visionzip"
RATIOS = (0.667, 0.778, 0.889)


@dataclass
class Asked:
    """A prompt, asked of vanilla alone and of a whole grid.

    Attributes:
        loaded: the model.
        turn: the prompt.
        fusion: the grid.
        config: how many tokens are decoded, whatever they are.
    """

    loaded: LoadedModel
    turn: list[Piece]
    fusion: Fusion
    config: GenerationConfig

    @classmethod
    def of(cls, loaded: LoadedModel, turn: Sequence[Piece], tokens: int) -> Asked:
        """Asked for so many new tokens."""
        config = loaded.generation_config(tokens, 1.0)
        config.eos_token_id = None  # random weights end an answer at random
        fusion = Fusion(loaded.family, sessions_of(loaded), rows=64, reuse=None)
        return cls(loaded, list(turn), fusion, config)

    def alone(self) -> object:
        """Vanilla's answer."""
        with torch.inference_mode():
            return generated(self.loaded, [self.turn], self.config)

    def together(self) -> list[Reply]:
        """Those of all cells."""
        cells = range(len(self.fusion.sessions))
        return self.fusion.answer("", cells, self.alone, self.config)

    def predicted(self) -> float:
        """Operations of the grid as a multiple of vanilla's."""
        replies, vanilla = self.together(), operations(self.alone)
        tokens, self.config.max_new_tokens = self.config.max_new_tokens, 1
        step = vanilla - operations(self.alone)
        self.config.max_new_tokens = tokens
        loaded = self.loaded
        shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)
        return predicted(shape, replies, vanilla, step)


def sessions_of(loaded: LoadedModel) -> list[Session]:
    """Vanilla, and ten methods at three ratios."""
    found = [Session(loaded.family, build_method("vanilla"), Budget.parse())]
    for name in METHODS.split(","):
        for ratio in RATIOS:
            found.append(Session(loaded.family, build_method(name), Budget.parse(ratio)))
    return found


def predicted(shape: DecoderShape, replies: Sequence[Reply], vanilla: float, step: float) -> float:
    """Operations of a grid as a multiple of vanilla's.

    Args:
        shape: of the decoder.
        replies: of vanilla and the others.
        vanilla: operations of vanilla's answer, the tower included.
        step: operations of all its decoding steps.
    """
    total = vanilla
    for reply in replies[1:]:
        record = reply.prompt
        assert record is not None
        first = min(reply.session.stages)
        # what lies in front of its first cut is vanilla's
        layers = [record.text_tokens + visual for visual in record.processed[first:]]
        total += 2 * (sum(map(shape.macs, layers)) + record.method_macs) + step
    return total / vanilla


def operations(run: Callable[[], object]) -> float:
    """That a run takes, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())
