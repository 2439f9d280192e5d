"""Prefill of four decoder layers at 7B width: the measured speed-up beside the one that FLOPs
predict.

python -m benchmarks.prefill
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from benchmarks._prefill import inputs_of, prefill, reduced, remembered_vision
from benchmarks._report import CLOCK, seconds, short, spread, table, write
from unibench import prune
from unibench.cost.flops import decoder_shape, tflops
from unibench.models import LoadedModel

SMALLER = (
    "model.architecture.text_config.num_hidden_layers=4",
    "model.architecture.text_config.vocab_size=4096",
    "model.architecture.vision_config.depth=1",
    "model.architecture.vision_config.fullatt_block_indexes=[0]",
)
CELLS = (("divprune", 0.667), ("divprune", 0.889), ("fastv", 0.889), ("cdpruner", 0.889))


def measured(
    loaded: LoadedModel, inputs: dict[str, Any], repeats: int
) -> tuple[int, dict[tuple[str, float], tuple[float, list[float]]]]:
    """Visual tokens of the prompt, and of each cell the speed-up that FLOPs predict and those of
    the repeats.
    """
    run = prefill(loaded, inputs)
    shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)
    ratios: dict[tuple[str, float], list[float]] = {cell: [] for cell in CELLS}
    predicted: dict[tuple[str, float], float] = {}
    tokens = 0
    with remembered_vision(loaded, inputs), torch.inference_mode():
        for number in range(repeats + 1):  # the first warms up
            vanilla = seconds(run)
            for name, ratio in CELLS:
                with prune(loaded.model, name, ratio=ratio) as session:
                    taken = seconds(run)
                (record,) = session.take_records()
                tokens, text = record.visual_tokens, record.text_tokens
                full = shape.prefill_tflops([text + tokens] * len(record.processed))
                pruned = shape.prefill_tflops(
                    [text + visual for visual in record.processed]
                ) + tflops(record.method_macs)
                predicted[name, ratio] = full / pruned
                if number:
                    ratios[name, ratio].append(vanilla / taken)
    return tokens, {cell: (predicted[cell], ratios[cell]) for cell in CELLS}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=[1920, 1080])
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = reduced("qwen2_5_vl_7b", f"model.dtype={arguments.dtype}", *SMALLER)
    inputs = inputs_of(loaded, tuple(arguments.size))
    tokens, found = measured(loaded, inputs, arguments.repeats)
    rows = []
    for (name, ratio), (predicted, ratios) in found.items():
        against = [one / predicted for one in ratios]
        rows.append(
            [f"{name} {ratio}", str(spread(ratios)), short(predicted), str(spread(against))]
        )
    lines = [
        "# Prefill at 7B width",
        "",
        (
            f"Four decoder layers of Qwen2.5-VL-7B, random weights, {arguments.dtype}, {tokens}"
            " visual tokens and text; the vision tower's"
        ),
        (
            "features are handed in, so that the speed-up is the language model's. Predicted: FLOPs"
            " of the formula, the selection's included."
        ),
        (
            f"{arguments.repeats} repeats in turn after a warm-up, median (quartiles) of ratios"
            f" within a repeat. {CLOCK}"
        ),
        "",
        *table(
            ["method and ratio", "measured speed-up", "predicted", "measured / predicted"], rows
        ),
    ]
    write("prefill", lines)


if __name__ == "__main__":
    main()
