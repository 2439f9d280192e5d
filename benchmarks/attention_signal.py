"""Memory and time of the attention that tokens receive, beside the map that it is the mean of.

python -m benchmarks.attention_signal
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks._report import CLOCK, exponent, seconds, short, table, write
from unibench.cost.memory import peak_memory
from unibench.pruning.attention import QueryKey, attention_rows, received_attention

HEADS, WIDTH = 16, 80  # vision tower of Qwen2.5-VL
LLM = (28, 4, 128)  # heads, key-value heads and width of its language model
CPU = torch.device("cpu")


def whole_map(qk: QueryKey) -> Tensor:
    """The same mean from the map of all heads, as ``output_attentions`` would give it."""
    return attention_rows(qk.query, qk.key, qk.scaling).mean((1, 2))


def tower(count: int) -> QueryKey:
    """Queries and keys of a tower layer."""
    query, key = torch.randn(2, 1, HEADS, count, WIDTH)
    return QueryKey(query, key, WIDTH**-0.5)


def decoder(count: int) -> QueryKey:
    """Queries and keys of a decoder layer."""
    heads, groups, width = LLM
    return QueryKey(
        torch.randn(heads, count, width), torch.randn(groups, count, width), width**-0.5
    )


def extra(run: Callable[[], object]) -> float:
    """MiB of tensors above those held before."""
    with peak_memory(CPU) as peak:
        run()
    return peak.mib


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[576, 2691, 11000])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    memory, rowwise, times = [], [], []
    for count in arguments.counts:
        qk, one = tower(count), decoder(count)
        memory.append(extra(partial(received_attention, qk)))
        rowwise.append(extra(partial(attention_rows, one.query[:, -1:], one.key, one.scaling)))
        times.append(seconds(partial(received_attention, qk)))
        against = "-"
        if count < 5000:
            whole = partial(whole_map, qk)
            against = f"{short(seconds(whole) / times[-1])} in time, {short(extra(whole))} MiB"
        rows.append(
            [
                str(count),
                short(memory[-1]),
                short(rowwise[-1]),
                short(HEADS * count**2 * 4 / 2**20),
                against,
            ]
        )
    growth = [exponent(arguments.counts, values) for values in (memory, rowwise, times)]
    rows.append(["growth", growth[0], growth[1], "2.00", f"time: {growth[2]}"])
    heads = [
        "tokens",
        "received attention, extra MiB",
        "last row of the decoder, extra MiB",
        "one map, MiB",
        "whole map / ours",
    ]
    lines = [
        "# Attention signals",
        "",
        (
            f"Received attention: mean over {HEADS} heads and all queries of a tower layer, width"
            f" {WIDTH}, float32, in chunks of queries."
        ),
        (
            f"Last row: {LLM[0]} heads, {LLM[1]} key-value heads, width {LLM[2]}. Extra: most"
            " tensor bytes at once above the queries and keys"
        ),
        (
            "that the model holds anyway. Growth: the power of the number of tokens from one size"
            f" to the next. {CLOCK}"
        ),
        "",
        *table(heads, rows),
    ]
    write("attention_signal", lines)


if __name__ == "__main__":
    main()
