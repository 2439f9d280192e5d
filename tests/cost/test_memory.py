"""Peaks of memory, and that the attention signal needs no map."""

from __future__ import annotations

import pytest
import torch

from unibench.cost.memory import peak_memory
from unibench.pruning.attention import QUERY_CHUNK, QueryKey, received_attention

CPU = torch.device("cpu")


def test_a_peak_is_what_is_held_at_once_temporaries_included() -> None:
    with peak_memory(CPU) as peak:
        first = torch.zeros(250_000)
        del first
        second = torch.zeros(500_000)
        total = (second + 1).sum()  # the sum lives while second does
    assert float(total) == 500_000
    assert 4_000_000 <= peak.extra < 4_100_000
    with peak_memory(CPU) as nothing:
        second.add_(1)
    assert nothing.extra < 1000


def signal_bytes(tokens: int, heads: int = 4, width: int = 16) -> int:
    query, key = torch.randn(2, 1, heads, tokens, width)
    with peak_memory(CPU) as peak:
        received_attention(QueryKey(query, key, width**-0.5))
    return peak.extra


def test_memory_of_received_attention_is_linear_in_tokens() -> None:
    small, large = signal_bytes(1024), signal_bytes(4096)
    assert large / small == pytest.approx(4, rel=0.1)
    assert large < 4 * 4096**2 * 4 / 4  # a quarter of one map of all heads
    assert large >= 4 * QUERY_CHUNK * 4096 * 4
