"""Ways of calling a model inside the block that pruning cannot follow, each refused by its name.

What is refused here would otherwise give other tokens, or count other tokens, without a word.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from unibench.errors import UsageError
from unibench.pruning._transformers import attention_of
from unibench.pruning.prompt import Prompt

REMEMBERED = "_unibench_prompt"  # attribute of a cache: the prompt that it holds


def refuse_generation(config: Any, mode: str) -> None:
    """Called by ``generate`` before anything runs.

    Args:
        config: as generate uses it, the checkpoint's own settings included.
        mode: transformers' name of the way of decoding.

    Raises:
        UsageError: drafts that are taken back, or a prompt that is read piece by piece.
    """
    if mode == "assisted_generation":
        raise UsageError(
            "assisted decoding (assistant_model, prompt_lookup_num_tokens, use_mtp) reads its draft"
            " with the prompt and takes tokens back, which a pruned cache cannot; decode without a"
            " draft, greedy decoding gives the same tokens"
        )
    if getattr(config, "prefill_chunk_size", None) is not None:
        raise UsageError(
            "a prompt that is read in chunks cannot be pruned: a selection needs all of it;"
            " prefill_chunk_size=None"
        )


def refuse_forward(text_model: Any, cache: Any) -> None:
    """Called before the text model runs.

    Raises:
        UsageError: a kind of cache, of attention or of training that pruning does not follow.
    """
    if getattr(cache, "is_compileable", False):
        raise UsageError(
            "a static cache has one length for all layers and cannot be pruned; use the dynamic"
            " cache"
        )
    if attention_of(text_model).startswith("paged"):
        raise UsageError(
            "continuous batching packs several prompts into one row, which cannot be pruned; use"
            " generate() with a batch"
        )
    checkpointed = any(
        getattr(layer, "gradient_checkpointing", False) for layer in text_model.layers
    )
    # without a backward pass there is no second run
    if checkpointed and text_model.training and torch.is_grad_enabled():
        raise UsageError(
            "gradient checkpointing runs the layers a second time, after the selection is gone:"
            " model.gradient_checkpointing_disable()"
        )


def continued(cache: Any, session: int, tokens: Tensor, mask: Any) -> tuple[Prompt | None, int]:
    """The prompt that a forward continues, None where nothing was pruned of it, and how many tokens
    have followed it so far.

    Args:
        cache: that holds it.
        session: number of the running one.
        tokens: ``[B, T, D]`` the new ones.
        mask: of attention, over all tokens of the unpruned sequence, as far as it was given.

    Raises:
        UsageError: the cache was read under another ``prune()``, or has been shortened, copied
            tensor by tensor, or joined with another since.
    """
    prompt: Prompt | None = getattr(cache, REMEMBERED, None)
    if prompt is not None and prompt.session != session:
        raise UsageError(
            "this cache was filled in another prune() block; read the prompt again in this one"
        )
    whole = 0 if prompt is None else prompt.length
    segments = {} if prompt is None else prompt.segments
    # every layer must have grown by the same number of tokens
    since = {
        layer.get_seq_length() - (segments[index].length if index in segments else whole)
        for index, layer in enumerate(cache.layers)
        if getattr(layer, "keys", None) is not None  # not the state of a linear attention
    }
    # without a mask the caches themselves are all there is to go by
    seen = mask.shape[1] - whole - tokens.shape[1] if _is_plain(mask) else min(since, default=0)
    rows = len(tokens) if prompt is None else len(prompt.valid)
    if len(since) > 1 or since - {seen} or seen < 0 or rows != len(tokens):
        raise UsageError(
            "this cache is not as the last forward left it: taking tokens back, choosing rows, or"
            " going on from a mask of another length is not possible with a pruned prompt; read"
            " the whole prompt again with a new cache"
        )
    return prompt, seen


def valid_in(mask: Any, embeds: Tensor) -> Tensor:
    """``[B, L]`` False on the padding of a prompt.

    Args:
        mask: of attention, as it was given.
        embeds: ``[B, L, D]``.

    Raises:
        UsageError: a mask that says more than where the padding at the left is.
    """
    if mask is None:
        return torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    if not _is_plain(mask) or mask.shape != embeds.shape[:2]:
        raise UsageError("pruning needs a 2D attention mask, 1 on each token of the prompt")
    valid: Tensor = mask.bool()
    # a 1 in front of a 0 is padding at the right, or a hole
    if not bool(valid[:, -1].all()) or bool((valid[:, :-1] > valid[:, 1:]).any()):
        raise UsageError(
            "a batch must be padded on the left: set padding_side='left' on the tokenizer"
        )
    return valid


def _is_plain(mask: Any) -> bool:
    return isinstance(mask, Tensor) and mask.ndim == 2


def refuse_labels() -> UsageError:
    """The error for ``labels`` where tokens are pruned."""
    return UsageError(
        "labels cannot be given while tokens are pruned: the logits are those of the tokens that"
        " were kept. All text is kept, so take the loss of the text behind the last picture from"
        " the last logits: logits[:, -n - 1 : -1] for its last n tokens"
    )


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Without autocast, if it is on: what a method computes in float32 stays float32."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class _NoGradient(torch.autograd.Function):
    """Values that a method made of others; a gradient that asks for them is refused."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, source: Tensor, name: str) -> Tensor:
        ctx.name = name
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise UsageError(
            f"{ctx.name} merges tokens, and how is not differentiated: no gradient passes them. A"
            " method that only drops tokens lets it pass"
        )


def without_gradient(values: Tensor, source: Tensor, name: str) -> Tensor:
    """``values`` that stand in for some of ``source``: as they are where no gradient is wanted.

    Args:
        values: ``[..., D]`` made by a method under ``no_grad``.
        source: the hidden states that they were made of.
        name: of the method, for the error that a backward pass raises.
    """
    # where nothing is trained, the copy that the autograd function makes is saved
    if not (torch.is_grad_enabled() and source.requires_grad):
        return values
    passed: Tensor = _NoGradient.apply(values, source, name)  # type: ignore[no-untyped-call]
    return passed


class _Eager:
    """Holds torch's compiler back as long as a block is open anywhere.

    A compiled wrapper of a model has a graph from before the block, without its hooks; told to run
    eagerly, it calls the model.
    """

    def __init__(self) -> None:
        self._lock, self._blocks = threading.Lock(), 0
        self._stance: Any = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Held back for the length of the block; blocks may end in any order."""
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                # the stance is the process's: the first block sets it and the last takes it back
                self._stance = torch.compiler.set_stance("force_eager")
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._stance.__exit__(None, None, None)


EAGER = _Eager()
