"""A grid answered together on a decoder of 24 layers: its time beside vanilla's, and beside what
the arithmetic of its cells predicts.

python -m benchmarks.fused
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._prefill import reduced
from benchmarks._report import CLOCK, seconds, short, spread, table, write
from benchmarks.sharing import METHODS
from unibench.api import build_method
from unibench.budget import Budget
from unibench.cost.flops import DecoderShape, decoder_shape
from unibench.fused import Fusion, Reply
from unibench.inference.ask import generated
from unibench.models import LoadedModel, Piece
from unibench.pruning import Session
from unibench.tasks.synthvqa import SynthVQA

RATIOS = (0.667, 0.778, 0.889)


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


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = reduced("internvl3_1b", "model.dtype=float32", "pixels=one_tile")
    (sample,) = SynthVQA().samples(1)
    turn: list[Piece] = [sample.images[0].resize((448, 448)), sample.question]
    config = loaded.generation_config(arguments.tokens, 1.0)
    config.eos_token_id = None  # random weights end an answer at random
    sessions = sessions_of(loaded)
    fusion = Fusion(loaded.family, sessions, rows=64, reuse=None)

    def alone() -> object:
        with torch.inference_mode():
            return generated(loaded, [turn], config)

    def together() -> list[Reply]:
        read = lambda: generated(loaded, [turn], config)  # noqa: E731 - one expression
        return fusion.answer(sample.id, range(len(sessions)), read, config)

    replies = together()  # warms up, and counts the work of the selections
    vanilla = operations(alone)
    config.max_new_tokens = 1
    step = vanilla - operations(alone)
    config.max_new_tokens = arguments.tokens
    shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)
    expected = predicted(shape, replies, vanilla, step)
    alone()
    pairs = [(seconds(alone), seconds(together)) for _ in range(arguments.repeats)]
    ratio = spread([fused / one for one, fused in pairs])
    rows = [
        ["vanilla alone, s", str(spread([one for one, _ in pairs]))],
        [f"{len(sessions)} cells together, s", str(spread([fused for _, fused in pairs]))],
        ["ratio", str(ratio)],
        ["ratio that the arithmetic predicts", short(expected)],
        ["measured over predicted", short(ratio.middle / expected)],
    ]
    kept = replies[-1].prompt
    assert kept is not None
    lines = [
        "# A grid on one prompt",
        "",
        (
            f"InternVL3-1B with random weights in float32, one picture of 448 x 448 pixels"
            f" ({kept.visual_tokens} visual and {kept.text_tokens} text tokens),"
            f" {arguments.tokens} new tokens; vanilla, and {METHODS} at ratios"
            f" {', '.join(map(str, RATIOS))}."
        ),
        CLOCK,
        "",
        (
            "Predicted are the operations of vanilla's answer, tower and decoding included, and for"
            " each other cell those of its selection, of the layers behind its first cut, and of"
            " its decoding. Medians with quartiles."
        ),
        "",
        *table(["", ""], rows),
    ]
    write("fused", lines)


if __name__ == "__main__":
    main()
