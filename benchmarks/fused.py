"""A grid answered together on a decoder of 24 layers: its time beside vanilla's, and beside what
the arithmetic of its cells predicts.

python -m benchmarks.fused
"""

from __future__ import annotations

import argparse

import torch

from benchmarks._grids import METHODS, RATIOS, Asked
from benchmarks._prefill import reduced
from benchmarks._report import CLOCK, seconds, short, spread, table, write
from unibench.tasks.synthvqa import SynthVQA


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = reduced("internvl3_1b", "model.dtype=float32", "pixels=one_tile")
    (sample,) = SynthVQA().samples(1)
    picture = sample.images[0].resize((448, 448))
    asked = Asked.of(loaded, [picture, sample.question], arguments.tokens)
    expected = asked.predicted()
    replies = asked.together()  # warm by now
    asked.alone()
    pairs = [(seconds(asked.alone), seconds(asked.together)) for _ in range(arguments.repeats)]
    ratio = spread([fused / one for one, fused in pairs])
    rows = [
        ["vanilla alone, s", str(spread([one for one, _ in pairs]))],
        [
            f"{len(asked.fusion.sessions)} cells together, s",
            str(spread([fused for _, fused in pairs])),
        ],
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
