"""The columns of an attention map summed up by a Triton kernel, from each query's log-sum-exp.

One program has a block of keys in its registers and goes over all queries; no entry of the map ever
reaches memory::

    [keys of a block]  <-  queries, log-sum-exps       sums += exp(q . k * scaling - logsumexp[q])

Methods get it inside ``streamed(columns)`` (:mod:`unibench.pruning.streamed`). Importing this needs
Triton; see :mod:`unibench.ops.one_kernel`.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

from unibench.ops.received import in_tiles
from unibench.ops.work import did

BLOCK = 64  # queries and keys of a product
WIDEST = 128  # of a head: a block of keys and one of queries stay in registers


@triton.jit(do_not_specialize=["first", "tokens"])  # type: ignore[untyped-decorator]
def _columns(  # type: ignore[no-untyped-def]
    query, key, weight, sums, query_head, query_row, key_head, key_row, first, tokens, width,
    scaling, SHARED: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """``sums [heads, tokens]`` of one head and one block of keys."""
    head = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    place = tl.arange(0, WIDTH)
    channel = place < width
    # transposed, as the product wants it
    keys = tl.load(
        key + (head // SHARED) * key_head + column[None, :] * key_row + place[:, None],
        mask=channel[:, None] & (column < tokens)[None, :],
        other=0.0,
    )
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(first, tokens, BLOCK):
        row = start + tl.arange(0, BLOCK)
        inside = row < tokens
        queries = tl.load(
            query + head * query_head + row[:, None] * query_row + place[None, :],
            mask=inside[:, None] & channel[None, :],
            other=0.0,
        )
        own = tl.load(weight + head * tokens + row, mask=inside, other=0.0)
        # float32 stays float32: TF32 has ten bits of it
        logits = tl.dot(queries, keys, input_precision="ieee") * scaling
        entries = tl.exp(logits - own[:, None])
        total += tl.sum(tl.where(inside[:, None], entries, 0.0), axis=0)
    tl.store(sums + head * tokens + column, total, mask=column < tokens)


def columns(query: Tensor, key: Tensor, scaling: float, weight: Tensor, first: int) -> Tensor:
    """As :func:`unibench.ops.received.in_tiles`; memory beside the input is one number for each
    token and head.
    """
    batch, heads, tokens, width = query.shape
    if width > WIDEST or query.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return in_tiles(query, key, scaling, weight, first)
    did(2 * batch * heads * (tokens - first) * tokens * (width + 2))
    sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)
    grid = (heads, triton.cdiv(tokens, BLOCK))
    for one in range(batch):
        rows, others = (
            part[one] if part.stride(-1) == 1 else part[one].contiguous() for part in (query, key)
        )
        with torch.cuda.device(query.device if query.is_cuda else -1):
            _columns[grid](
                rows, others, weight[one].contiguous(), sums[one],
                rows.stride(0), rows.stride(1), others.stride(0), others.stride(1),
                first, tokens, width, scaling, SHARED=heads // key.shape[1],
                WIDTH=max(16, triton.next_power_of_2(width)), BLOCK=BLOCK,
            )  # fmt: skip
    return sums.sum(1)
