"""The slow way: no cache, no cut. A dropped token stays in the sequence and is masked out.

Independent of the engine: the whole sequence runs through every layer, dropped columns are hidden
at the layers after their cut, and every generated token recomputes everything. A layer that carries
a state cannot be masked: it is shown what is left, and what was dropped goes round it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unibench.facts import RECURRENT, SLIDING, layer_kinds
from unibench.pruning._transformers import attention_of

Drops = dict[int, Tensor]  # decoder layer -> [L] True on tokens hidden from that layer on
Merges = dict[int, tuple[Tensor, Tensor]]  # decoder layer -> rows, their new hidden states
Moves = dict[int, Tensor]  # decoder layer -> positions of all tokens from that layer on
# [L, D] for each of the first decoder layers: what is added to its output (DeepStack)
Added = list[Tensor]


def text_of(model: Any) -> Any:
    """The decoder without its head."""
    return getattr(model.model, "language_model", None) or model.model.text_model


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


def kinds_of(model: Any) -> tuple[str, ...]:
    """What each decoder layer looks back with."""
    return layer_kinds(text_of(model).config.to_dict()) or ()


def kernel_of(model: Any) -> str:
    """The attention implementation of the decoder."""
    return attention_of(text_of(model))


def prompt_of(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """inputs_embeds and position_ids as the unpatched model gives them to its language model."""
    seen = given_to_text(model, inputs)
    positions = seen.get("position_ids")
    if positions is None:
        positions = torch.arange(seen["inputs_embeds"].shape[1])[None]
    return seen["inputs_embeds"], positions


def added_to(model: Any, inputs: dict[str, Any]) -> Added:
    """The features that the language model adds to the visual tokens of a prompt."""
    return _added(given_to_text(model, inputs))


def _added(seen: Mapping[str, Any]) -> Added:
    whole = []
    for features in seen.get("deepstack_visual_embeds") or ():
        whole.append(torch.zeros_like(seen["inputs_embeds"][0]))
        whole[-1][seen["visual_pos_masks"][0]] = features
    return whole


def _given(seen: Mapping[str, Any], kind: str) -> Tensor | None:
    """``[L, L]`` True where the model itself lets a token of the prompt see another, in layers of a
    kind; None where it leaves that to the decoder.
    """
    mask = seen.get("attention_mask")
    mask = mask.get(kind) if isinstance(mask, dict) else mask
    if mask is None or mask.ndim != 4:
        return None
    given: Tensor = mask[0, 0]
    return given if given.dtype == torch.bool else given == 0


def allowed(model: Any, seen: Mapping[str, Any], kind: str) -> Tensor | None:
    """``[L, L]`` True where a layer of some kind lets a token of the prompt see another; None of a
    layer that carries a state.
    """
    if kind in RECURRENT:
        return None
    if (given := _given(seen, kind)) is not None:
        return given
    length = seen["inputs_embeds"].shape[1]
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    found = back >= 0
    return found & (back < text_of(model).config.sliding_window) if kind in SLIDING else found


@dataclass
class _Layer:
    """What one decoder layer is to see.

    Attributes:
        kept: ``[L]`` True on tokens that are there.
        mask: ``[1, 1, L, L]``; None of a layer that carries a state.
        merged: rows and their new hidden states.
        added: ``[L, D]`` added to its output.
        rotary: cos and sin of tokens that have moved.
        whole: hidden states that entered it.
    """

    kept: Tensor
    mask: Tensor | None
    merged: tuple[Tensor, Tensor] | None = None
    added: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None
    whole: Tensor = field(default_factory=lambda: torch.empty(0))

    def before(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        hidden = args[0] if args else kwargs["hidden_states"]
        if self.merged is not None:
            rows, states = self.merged
            hidden = hidden.clone()
            hidden[0, rows] = states
        self.whole = hidden
        if self.mask is None:
            hidden = hidden[:, self.kept]
        kwargs = {**kwargs, "attention_mask": self.mask, "position_ids": None}
        if self.rotary is not None:
            kwargs["position_embeddings"] = self.rotary
        if not args:
            return args, {**kwargs, "hidden_states": hidden}
        return (hidden, *args[1:]), kwargs

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        if self.mask is None:
            whole = self.whole.clone()
            whole[:, self.kept] = hidden
            hidden = whole
        if self.added is not None:
            hidden = hidden + self.added
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


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
    given: Mapping[str, Tensor] | None = None,
    more: dict[str, Any] | None = None,
) -> Tensor:
    """Logits of the whole sequence. ``weights``: decoder layer -> ``[L]`` how often each token is
    attended to from that layer on. ``evicted``: a query row, and the columns hidden from it on,
    per layer. ``unread``: a layer, and the columns ``[L]`` hidden from single rows from it on.
    ``moved``: where the tokens stand from a layer on. ``given``: kind of layer -> ``[L, L]`` what
    the model lets the tokens of the prompt see. ``more``: further arguments of the decoder.
    """
    text, length = text_of(model), embeds.shape[1]
    kinds = kinds_of(model)
    width = getattr(text.config, "sliding_window", None) or length
    additive = attention_of(text) == "eager" or bool(weights)
    gone, often = torch.zeros(length, dtype=torch.bool), torch.ones(length)
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    order = back >= 0
    layers, at = [], None
    for index, kind in enumerate(kinds):
        if moved and index in moved:
            at = moved[index]
            place = at.reshape(-1, length)[0]
            back = place[:, None] - place[None, :]
        gone = gone | drops.get(index, torch.zeros_like(gone))
        seen = order & (back < width) if kind in SLIDING else order.clone()
        if given and kind in given:
            own = given[kind]
            # tokens that have moved together may see each other besides
            seen[: len(own), : len(own)] = own if at is None else own | seen[: len(own), : len(own)]
        seen = seen & ~gone[None, :]
        if evicted:
            seen[evicted[0] :] &= ~evicted[1][index][None, :]
        if unread and index >= unread[0]:
            for row, columns in unread[1].items():
                seen[row, : len(columns)] &= ~columns
        seen |= torch.eye(length, dtype=torch.bool)  # a dropped row must see something
        if weights and index in weights:
            short = length - len(weights[index])
            often = nn.functional.pad(weights[index], (0, short), value=1)
        mask = seen
        if additive:
            least = torch.finfo(torch.float32).min
            mask = often.log().expand(length, -1).masked_fill(~seen, least)
        extra = None
        if added and index < len(added):
            extra = nn.functional.pad(added[index], (0, 0, 0, length - len(added[index])))
        merged = (merges or {}).get(index)
        whole = None if kind in RECURRENT else mask[None, None]
        turned = None if at is None else _rotary(text, embeds, at, kind)
        layers.append(_Layer(~gone, whole, merged, extra, turned))
    return _run(model, layers, embeds, positions, more or {})


def _rotary(text: Any, embeds: Tensor, at: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """cos and sin at positions, as a kind of layer takes them."""
    apart = "layer_type" in inspect.signature(text.rotary_emb.forward).parameters
    cos, sin = text.rotary_emb(embeds, at, kind) if apart else text.rotary_emb(embeds, at)
    return cos, sin


def _run(
    model: Any, layers: list[_Layer], embeds: Tensor, positions: Tensor, more: dict[str, Any]
) -> Tensor:
    """The decoder with what its layers see replaced, and its head."""
    text = text_of(model)
    with ExitStack() as stack:
        for layer, wanted in zip(text.layers, layers, strict=True):
            before = layer.register_forward_pre_hook(wanted.before, with_kwargs=True)
            stack.callback(before.remove)
            stack.callback(layer.register_forward_hook(wanted.after).remove)
        hidden = text(
            inputs_embeds=embeds, position_ids=positions, use_cache=False, **more
        ).last_hidden_state
    return head(model, hidden)


def head(model: Any, hidden: Tensor) -> Tensor:
    """Logits of the decoder's output."""
    out: Tensor = model.lm_head(hidden)
    cap = getattr(text_of(model).config, "final_logit_softcapping", None)
    return out if cap is None else cap * torch.tanh(out / cap)


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
    seen = given_to_text(model, inputs)
    embeds, positions = seen["inputs_embeds"], seen.get("position_ids")
    kinds = set(kinds_of(model))
    prompt = embeds.shape[1]
    if positions is None:
        positions = torch.arange(prompt)[None]
    more = {"per_layer_inputs": seen["per_layer_inputs"]} if "per_layer_inputs" in seen else {}
    tokens, scores = [], []
    for step in range(steps):
        grown: Callable[[Drops], Drops] = partial(_grown, step=step)
        last = logits(
            model,
            embeds,
            positions,
            grown(drops),
            merges,
            (prompt, grown(evicted)) if evicted else None,
            _added(seen),
            weights,
            moved=moved,
            given={kind: mask for kind in kinds if (mask := _given(seen, kind)) is not None},
            more=more,
        )[0, -1]
        token = last.argmax()
        tokens.append(int(token))
        scores.append(last)
        new = model.get_input_embeddings()(token)[None, None]
        if more.get("per_layer_inputs") is not None:
            beside = text_of(model).get_per_layer_inputs(token[None, None], new)
            more = {"per_layer_inputs": torch.cat([more["per_layer_inputs"], beside], 1)}
        embeds = torch.cat([embeds, new], 1)
        positions = torch.cat([positions, positions[..., -1:] + 1], -1)
        moved = {
            layer: torch.cat([at, at[..., -1:] + 1], -1) for layer, at in (moved or {}).items()
        }
    return tokens, torch.stack(scores)


def _grown(masks: Drops, step: int) -> Drops:
    """Masks of a prompt that so many tokens were added to."""
    return {layer: nn.functional.pad(mask, (0, step)) for layer, mask in masks.items()}
