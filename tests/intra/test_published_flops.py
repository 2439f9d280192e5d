"""The FLOPs column that DivPrune, STP and the tables copied from them print: their formula on
tokens processed per layer.

One multiply-add counts as one, the feed-forward network has two matrices, the system prompt is left
out; the printed share is the mean of ratios over eleven benchmarks.
"""

from __future__ import annotations

from statistics import fmean

import pytest

from unibench.cost.accounting import steps
from unibench.cost.flops import published_macs

TEXT = (
    15,
    15,
    23,
    83,
    25,
    113,
    15,
    39,
    21,
    91,
    57,
)  # tokens of a prompt without its picture, by benchmark
NEXT = (
    2225,
    1922,
    2239,
    1927,
    2108,
    1882,
    2292,
    2249,
    2250,
    1598,
    2116,
)  # visual tokens of LLaVA-1.6
MODELS = {  # layers, width, feed-forward width, visual tokens
    "1.5-7B": (32, 4096, 11008, (576,) * 11),
    "1.5-13B": (40, 5120, 13824, (576,) * 11),
    "1.6-7B": (32, 4096, 11008, NEXT),
}
ROWS = [  # model, cut layer, share kept, printed teraflops, printed per cent
    ("1.5-7B", 0, 1.0, 3.228, 100.0),
    ("1.5-7B", 0, 0.098, 0.512, 15.63),
    ("1.5-7B", 3, 0.001, 0.514, 15.69),
    ("1.5-7B", 4, 0.0, 0.603, 18.46),
    ("1.5-13B", 0, 1.0, 6.281, 100.0),
    ("1.5-13B", 0, 0.098, 1.002, 15.71),
    ("1.5-13B", 3, 0.022, 1.003, 15.73),
    ("1.5-13B", 4, 0.0, 1.030, 16.16),
    ("1.6-7B", 0, 1.0, 11.849, 100.0),
    ("1.6-7B", 0, 0.098, 1.266, 10.79),  # 10.797, cut off in print
    ("1.6-7B", 3, 0.001, 1.327, 11.30),
    ("1.6-7B", 3, 0.0, 1.318, 11.23),
]


@pytest.mark.parametrize(("name", "layer", "kept", "teraflops", "percent"), ROWS)
def test_the_printed_columns_come_out(
    name: str, layer: int, kept: float, teraflops: float, percent: float
) -> None:
    depth, width, inner, visual = MODELS[name]

    def total(count: int, left: int, text: int) -> int:
        return sum(
            published_macs(tokens + text, width, inner)
            for tokens in steps([(layer, left)], count, depth)
        )

    # what is removed is rounded as Python rounds
    pruned = [
        total(count, count - round((1 - kept) * count), text)
        for count, text in zip(visual, TEXT, strict=True)
    ]
    full = [total(count, count, text) for count, text in zip(visual, TEXT, strict=True)]
    assert round(fmean(pruned) / 1e12, 3) == teraflops
    share = 100 * fmean(a / b for a, b in zip(pruned, full, strict=True))
    assert percent in (round(share, 2), int(100 * share) / 100)


def test_the_fastv_rows_of_those_tables_keep_one_thirteen_and_two_tokens() -> None:
    assert [
        count - round((1 - kept) * count)
        for count, kept in ((576, 0.001), (576, 0.022), (2116, 0.001))
    ] == [1, 13, 2]
    # FastV's own formula takes the visual tokens for the whole: 52.4 % at K = 2, half removed
    for layer, kept, percent in (
        (2, 288, 52.4),
        (3, 288, 54.0),
        (5, 288, 57.2),
        (2, 144, 29.2),
        (2, 58, 15.4),
    ):
        share = sum(
            published_macs(tokens, 4096, 11008) for tokens in steps([(layer, kept)], 576, 32)
        ) / (32 * published_macs(576, 4096, 11008))
        assert round(100 * share, 1) == pytest.approx(percent, abs=0.11)


def test_pyramiddrop_prints_visual_tokens_with_three_matrices() -> None:
    counts = steps([(8, 288), (16, 144), (24, 72)], 576, 32)
    gated = [published_macs(n, 4096, 11008, matrices=3) for n in counts]
    full = 32 * published_macs(576, 4096, 11008, matrices=3)
    assert round(full / 1e12, 3) == 3.817
    assert round(sum(gated) / 1e12, 2) == 1.78
    assert round(100 * sum(gated) / full, 1) == 46.6
