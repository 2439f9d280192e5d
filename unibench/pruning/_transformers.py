"""The private parts of transformers that the engine needs, each in one place.

``tests/engine/test_transformers.py`` shows for the installed version that they are there and do
what is assumed here.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Attention = Callable[..., Any]


def attention_of(module: nn.Module) -> str:
    """Name of the attention implementation that a module runs, for example ``sdpa``."""
    return str(module.config._attn_implementation)  # type: ignore[union-attr]


def own_entries() -> dict[str, Attention]:
    """The attention functions that were put in place of transformers' own ones, by name."""
    return dict(ALL_ATTENTION_FUNCTIONS._local_mapping)


CACHE_NAMES = ("cache", "past_key_values")  # transformers renamed it in 5.24


def cache_in(given: Any) -> Any:
    """The cache among the arguments of a forward (by name), or in what it or ``generate`` gave
    back; None without one.

    A name that is not there would read as "no cache": every decoding step would then pass for a new
    prompt, and nothing would say so.
    """
    values = given if isinstance(given, Mapping) else vars(given)
    return next((values[name] for name in CACHE_NAMES if values.get(name) is not None), None)


def cached(cache: Any, layer: int) -> tuple[int, int]:
    """Tokens that a decoder layer has read, and how many of them its cache still holds: a cache of
    a sliding window lets the oldest go.
    """
    store = cache.layers[layer] if layer < len(cache.layers) else None
    if store is None or getattr(store, "keys", None) is None:
        return 0, 0
    return int(store.get_seq_length()), int(store.keys.shape[-2])


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` has taken a model or a part of it, whose hooks are then part of the
    compiled code or do not run.
    """
    return hasattr(model, "_orig_mod") or any(
        getattr(part, "_compiled_call_impl", None) is not None for part in model.modules()
    )


@contextmanager
def wrapped_attention(
    modules: Iterable[nn.Module], wrap: Callable[[Attention], Attention]
) -> Iterator[None]:
    """Every attention function that these modules look up is wrapped for the length of the block.

    The running kernel stays what it was; entries of other kernels are left alone.
    """
    modules = list(modules)
    names = {attention_of(module) for module in modules}
    files = {type(module).__module__ for module in modules if attention_of(module) == "eager"}
    with ExitStack() as stack:
        for name in sorted(names - {"eager"}):
            stack.callback(_replace_entry(name, wrap))
        # eager is no entry of the interface: each modelling file passes its own function as default
        for file in sorted(files):
            if hasattr(sys.modules[file], "eager_attention_forward"):
                stack.callback(_replace_eager(sys.modules[file], wrap))
        yield


def _replace_entry(name: str, wrap: Callable[[Attention], Attention]) -> Callable[[], None]:
    """Wrap an entry of the interface; returns how to undo it."""
    # an entry set by the user hides transformers' own: it must come back, not be deleted
    before = own_entries().get(name)
    ALL_ATTENTION_FUNCTIONS[name] = wrap(ALL_ATTENTION_FUNCTIONS[name])
    if before is None:
        return functools.partial(ALL_ATTENTION_FUNCTIONS.__delitem__, name)
    return functools.partial(ALL_ATTENTION_FUNCTIONS.__setitem__, name, before)


def _replace_eager(source: Any, wrap: Callable[[Attention], Attention]) -> Callable[[], None]:
    """Wrap the eager function of a modelling file; returns how to undo it."""
    original = source.eager_attention_forward
    source.eager_attention_forward = wrap(original)
    return functools.partial(setattr, source, "eager_attention_forward", original)
