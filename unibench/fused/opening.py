"""Reading a prompt up to the first decoder layer, by the model's own code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from unibench.cost import Clock
from unibench.pruning._transformers import CACHE_NAMES
from unibench.pruning.calls import refuse_forward, valid_in
from unibench.pruning.family import Family
from unibench.pruning.prefill import Prefill, Reading
from unibench.pruning.prompt import Prompt, prompt_of
from unibench.pruning.stage import Needs
from unibench.pruning.vision import Reuse, VisionRecorder


@dataclass(frozen=True)
class Opened:
    """A prompt in front of the first decoder layer.

    Attributes:
        prefill: what is known of it.
        hidden: ``[1, L, D]`` entering the layer.
        arguments: what else the model hands to its layers, without mask, positions and cache.
        cache: the name of the cache among them.
    """

    prefill: Prefill
    hidden: Tensor
    arguments: dict[str, Any]
    cache: str

    def copy(self) -> tuple[Prefill, Prompt]:
        """A prefill of the same prompt for one method, and the prompt, of which nothing is cut."""
        shared = self.prefill
        prefill = Prefill(
            ids=shared.ids, calls=shared.calls, mask=shared.mask, rotary=dict(shared.rotary)
        )
        return prefill, replace(shared.prompt, segments={}, choices=[], held={})


class _ReachedError(Exception):
    """The first decoder layer is about to run; nothing of the model's code catches it."""


@dataclass
class _Seen:
    """What the hooks of one forward saw."""

    embeds: Tensor | None = None
    mask: Any = None
    positions: Tensor | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    hidden: Tensor | None = None


def opened(
    family: Family, needs: Needs, reuse: Reuse | None, name: str, read: Callable[[], object]
) -> Opened:
    """A prompt in front of the first decoder layer.

    Args:
        family: of the model.
        needs: what any method wants recorded in the tower.
        reuse: remembers features, where nothing is recorded.
        name: of the sample.
        read: has the model read one prompt.

    Raises:
        RuntimeError: the model read no prompt.
    """
    reading, seen = Reading(Clock(next(family.model.parameters()).device)), _Seen()

    def before_core(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        prefill = reading.begun()
        prefill.ids = kwargs.get("input_ids", args[0] if args else None)
        prefill.mask = kwargs.get("attention_mask")

    def before_text(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        seen.embeds, seen.mask = kwargs["inputs_embeds"], kwargs.get("attention_mask")
        seen.positions = kwargs.get("position_ids")

    def before_layer(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        seen.hidden, seen.arguments = args[0] if args else kwargs["hidden_states"], kwargs
        raise _ReachedError

    with ExitStack() as stack:
        text = family.text_model
        for module, hook in (
            (family.core, before_core), (text, before_text), (text.layers[0], before_layer),
        ):  # fmt: skip
            handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        stack.enter_context(VisionRecorder(family, needs, reading, None, reuse).installed())
        with suppress(_ReachedError):
            read()
    prefill, hidden = reading.prefill, seen.hidden
    if prefill is None or hidden is None or seen.embeds is None:
        raise RuntimeError(f"sample {name}: the model read no prompt")
    return _opened(family, prefill, hidden, seen, name)


def _opened(family: Family, prefill: Prefill, hidden: Tensor, seen: _Seen, name: str) -> Opened:
    """The prompt of a forward that was stopped."""
    arguments = dict(seen.arguments)
    caches = [key for key in CACHE_NAMES if arguments.pop(key, None) is not None]
    refuse_forward(family.text_model, None)
    mask = seen.mask
    if isinstance(mask, dict) or (mask is not None and mask.ndim == 4):
        mask = prefill.mask  # of which the model has made its own
    valid = valid_in(mask, hidden)
    prefill.rotary[family.kinds[0]] = arguments.pop("position_embeddings")
    for key in ("hidden_states", "attention_mask", "position_ids", "cache_position"):
        arguments.pop(key, None)
    prefill.prompt = prompt_of(family, prefill.ids, valid, seen.positions, prefill.calls, [name])
    if not bool(valid.all()):
        raise RuntimeError(f"sample {name}: a prompt that is read alone has padding")
    return Opened(prefill, hidden, arguments, caches[0] if caches else CACHE_NAMES[-1])
