"""Received attention by the log-sum-exp, beside the mean of the whole map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unibench.cost.memory import peak_memory
from unibench.ops import received as module
from unibench.ops.received import in_tiles, log_sum_exp, received
from unibench.pruning import signals
from unibench.pruning.attention import QueryKey, attention_rows, received_attention
from unibench.pruning.streamed import streamed

SCALING = 0.3


def queries_and_keys(
    tokens: int, heads: int = 4, groups: int = 4, width: int = 8
) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(tokens)
    return (
        torch.randn(2, heads, tokens, width, generator=g),
        torch.randn(2, groups, tokens, width, generator=g),
    )


def from_the_map(query: Tensor, key: Tensor, others: int | None) -> Tensor:
    """The definition: the whole map, its diagonal and the prefix's rows left out, its mean."""
    rows = attention_rows(query, key, SCALING)
    tokens = rows.shape[-1]
    if others is None:
        return rows.mean((1, 2))
    rows = rows * (1 - torch.eye(tokens))
    return rows[:, :, others:].sum((1, 2)) / (rows.shape[1] * max(1, tokens - others - 1))


@pytest.mark.parametrize("others", [None, 0, 1, 3])
@pytest.mark.parametrize("groups", [4, 2], ids=["heads alone", "grouped heads"])
def test_it_is_the_mean_of_the_whole_map_by_columns(
    groups: int, others: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, key = queries_and_keys(37, groups=groups)
    # tiles of five rows, the last one shorter
    monkeypatch.setattr(module, "TILE_BYTES", 4 * 2 * 4 * 37 * 5)
    found = received(query, key, SCALING, others, columns=in_tiles)
    torch.testing.assert_close(found, from_the_map(query, key, others), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_flash_operators_log_sum_exp_is_that_of_the_products(dtype: torch.dtype) -> None:
    query, key = (part.to(dtype) for part in queries_and_keys(50))
    logits = query.float() @ key.float().transpose(-1, -2) * SCALING
    torch.testing.assert_close(
        log_sum_exp(query, key, SCALING), logits.logsumexp(-1), atol=1e-5, rtol=1e-5
    )


def test_methods_get_it_inside_the_block_only() -> None:
    query, key = queries_and_keys(20)
    qk = QueryKey(query, key, SCALING)
    with streamed():
        found = signals.received_attention(qk, others=1)
    assert torch.equal(found, received(query, key, SCALING, 1, columns=in_tiles))
    torch.testing.assert_close(found, received_attention(qk, others=1), atol=1e-6, rtol=1e-5)
    assert signals.received_attention is received_attention


def test_memory_grows_with_the_tokens_and_not_with_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TILE_BYTES", 2**14)
    taken = []
    for tokens in (128, 512):
        query, key = queries_and_keys(tokens)
        with peak_memory(torch.device("cpu")) as peak:
            received(query, key, SCALING, columns=in_tiles)
        taken.append(peak.extra)
    whole = 4 * 2 * 4 * 512**2
    assert taken[1] < 6 * taken[0] and taken[1] < whole / 4
