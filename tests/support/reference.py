"""The slow way: no cache, no cut. A dropped token stays in the sequence and is masked out.

Independent of the engine: the whole sequence runs through every layer, dropped columns are hidden
at the layers after their cut, and every generated token recomputes everything.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.support.models import text_of

Drops = dict[int, Tensor]  # decoder layer -> [L] True on tokens hidden from that layer on
Merges = dict[int, tuple[Tensor, Tensor]]  # decoder layer -> rows, their new hidden states
Moves = dict[int, Tensor]  # decoder layer -> positions of all tokens from that layer on
Added = list[
    Tensor
]  # [L, D] for each of the first decoder layers: what is added to its output (DeepStack)


@torch.no_grad()
def given_to_text(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the unpatched model gives to its language model."""
    seen: dict[str, Any] = {}

    def look(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        seen.update(kwargs)

    handle = text_of(model).register_forward_pre_hook(look, with_kwargs=True)
    try:
        model(**inputs)
    finally:
        handle.remove()
    return seen


def prompt_of(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """inputs_embeds and position_ids as the unpatched model gives them to its language model."""
    seen = given_to_text(model, inputs)
    positions = seen.get("position_ids")
    return seen["inputs_embeds"], torch.arange(seen["inputs_embeds"].shape[1])[
        None
    ] if positions is None else positions


def added_to(model: Any, inputs: dict[str, Any]) -> Added:
    """The features that the language model adds to the visual tokens of a prompt."""
    seen = given_to_text(model, inputs)
    whole = []
    for features in seen.get("deepstack_visual_embeds") or ():
        whole.append(torch.zeros_like(seen["inputs_embeds"][0]))
        whole[-1][seen["visual_pos_masks"][0]] = features
    return whole


@torch.no_grad()
def logits(
    model: Any,
    embeds: Tensor,
    positions: Tensor,
    drops: Drops,
    merges: Merges | None = None,
    evicted: tuple[int, Drops] | None = None,
    added: Added | None = None,
    weights: Drops | None = None,
    unread: tuple[int, dict[int, Tensor]] | None = None,
    moved: Moves | None = None,
) -> Tensor:
    """Logits of the whole sequence. ``weights``: decoder layer -> ``[L]`` how often each token is
    attended to from that layer on. ``evicted``: a query row, and the columns hidden from it on,
    per layer. ``unread``: a layer, and the columns ``[L]`` hidden from single rows from it on.
    ``moved``: where the tokens stand from a layer on.
    """
    text = text_of(model)
    length = embeds.shape[1]
    eager = text.config._attn_implementation == "eager"
    rope_positions = positions[1:] if positions.ndim == 3 and positions.shape[0] == 4 else positions
    rotary = text.rotary_emb(embeds, rope_positions)
    hidden = embeds
    gone, often = torch.zeros(length, dtype=torch.bool), torch.ones(length)
    for index, layer in enumerate(text.layers):
        gone = gone | drops.get(index, torch.zeros_like(gone))
        if moved and index in moved:
            rotary = text.rotary_emb(embeds, moved[index])
        if merges and index in merges:
            rows, states = merges[index]
            hidden = hidden.clone()
            hidden[0, rows] = states
        seen = torch.ones(length, length, dtype=torch.bool).tril() & ~gone[None, :]
        if evicted:
            seen[evicted[0] :] &= ~evicted[1][index][None, :]
        if unread and index >= unread[0]:
            for row, columns in unread[1].items():
                seen[row, : len(columns)] &= ~columns
        seen |= torch.eye(length, dtype=torch.bool)  # a dropped row must see something
        if weights and index in weights:
            often = torch.nn.functional.pad(
                weights[index], (0, length - len(weights[index])), value=1
            )
        mask = (
            often.log().expand(length, -1).masked_fill(~seen, torch.finfo(torch.float32).min)
            if eager or weights
            else seen
        )
        hidden = layer(
            hidden,
            attention_mask=mask[None, None],
            position_embeddings=rotary,
            position_ids=None,
            past_key_values=None,
        )
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        if added and index < len(added):
            hidden = hidden + torch.nn.functional.pad(
                added[index], (0, 0, 0, length - len(added[index]))
            )
    out: Tensor = model.lm_head(text.norm(hidden))
    return out


@torch.no_grad()
def greedy(
    model: Any,
    inputs: dict[str, Any],
    steps: int,
    drops: Drops,
    merges: Merges | None = None,
    evicted: Drops | None = None,
    weights: Drops | None = None,
    moved: Moves | None = None,
) -> tuple[list[int], Tensor]:
    """Greedy tokens and their logits ``[steps, V]``."""
    embeds, positions = prompt_of(model, inputs)
    prompt, added = embeds.shape[1], added_to(model, inputs)
    tokens, scores = [], []
    for step in range(steps):

        def grown(masks: Drops, step: int = step) -> Drops:
            return {
                layer: torch.nn.functional.pad(mask, (0, step)) for layer, mask in masks.items()
            }

        last = logits(
            model,
            embeds,
            positions,
            grown(drops),
            merges,
            (prompt, grown(evicted)) if evicted else None,
            added,
            weights,
            moved=moved,
        )[0, -1]
        token = last.argmax()
        tokens.append(int(token))
        scores.append(last)
        embeds = torch.cat([embeds, model.get_input_embeddings()(token)[None, None]], 1)
        positions = torch.cat([positions, positions[..., -1:] + 1], -1)
        moved = {
            layer: torch.cat([at, at[..., -1:] + 1], -1) for layer, at in (moved or {}).items()
        }
    return tokens, torch.stack(scores)
