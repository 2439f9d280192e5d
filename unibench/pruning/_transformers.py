"""The private parts of transformers that the engine needs, each in one place.

``tests/engine/test_transformers.py`` shows for the installed version that they are there and do
what is assumed here.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
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
    # both names, whatever the version: a checkpoint's own code may still use the old one
    return next((values[name] for name in CACHE_NAMES if values.get(name) is not None), None)


def cached(cache: Any, layer: int) -> tuple[int, int]:
    """Tokens that a decoder layer has read, and how many of them its cache still holds: a cache of
    a sliding window lets the oldest go.
    """
    store = cache.layers[layer] if layer < len(cache.layers) else None
    # transformers fills a cache's layers lazily, and a linear attention has no keys at all
    if store is None or getattr(store, "keys", None) is None:
        return 0, 0
    return int(store.get_seq_length()), int(store.keys.shape[-2])


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` has taken a model or a part of it, whose hooks are then part of the
    compiled code or do not run.
    """
    # torch.compile(model) wraps it in _orig_mod, model.compile() sets _compiled_call_impl
    return hasattr(model, "_orig_mod") or any(
        getattr(part, "_compiled_call_impl", None) is not None for part in model.modules()
    )


def adopt_renamings(kind: type[nn.Module]) -> bool:
    """Have a checkpoint's own subclass of a class of transformers read the names of tensors that
    its parent reads; transformers renames none for code that is not its own.

    Returns:
        Whether there were any.
    """
    module = importlib.import_module("transformers.conversion_mapping")
    # renamings are looked up by class name, so a subclass of another name finds none
    register = getattr(module, "register_checkpoint_conversion_mapping", None)
    for parent in kind.__mro__[1:]:
        if register is None or not parent.__module__.startswith("transformers."):
            continue
        if renamings := module.get_checkpoint_conversion_mapping(parent.__name__):
            register(kind.__name__, renamings, overwrite=True)
            return True
    return False


@contextmanager
def wrapped_attention(
    modules: Iterable[nn.Module], wrap: Callable[[Attention], Attention]
) -> Iterator[None]:
    """Every attention function that these modules look up is wrapped for the length of the block.

    The running kernel stays what it was; entries of other kernels are left alone. Blocks may end in
    any order, as those of two models in two threads do.
    """
    modules = list(modules)
    names = {attention_of(module) for module in modules}
    files = {type(module).__module__ for module in modules if attention_of(module) == "eager"}
    with ExitStack() as stack:
        for name in sorted(names - {"eager"}):
            stack.enter_context(_INTERFACE.setdefault(name, _Entry(name)).wrapped(wrap))
        # eager is no entry of the interface: each modelling file passes its own function as default
        for file in sorted(files):
            if hasattr(sys.modules[file], "eager_attention_forward"):
                stack.enter_context(_EAGER.setdefault(file, _Eager(file)).wrapped(wrap))
        yield


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "do_sample": (False, None),
    "num_beams": (1, None),
    "num_return_sequences": (1, None),
    "no_repeat_ngram_size": (0, None),
    "encoder_no_repeat_ngram_size": (0, None),
    "min_length": (0, None),
    "encoder_repetition_penalty": (1.0, None),
    "penalty_alpha": (None,),
    "guidance_scale": (1.0, None),
    "return_dict_in_generate": (False, None),
    **dict.fromkeys(
        (
            *("min_new_tokens", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids"),
            *("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"),
            *("sequence_bias", "stop_strings", "max_time", "watermarking_config"),
        ),
        (None,),
    ),
}  # what leaves greedy decoding as it is
ARGUMENTS = ("logits_processor", "prefix_allowed_tokens_fn", "assistant_model", "streamer")


def greedy(model: Any, given: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The settings by which ``generate`` would decode, the checkpoint's own among them; and what of
    them is more than greedy decoding of a number of tokens under a repetition penalty, if anything.

    Args:
        model: of Hugging Face.
        given: arguments of ``generate`` by name.
    """
    named = (*ARGUMENTS, "inputs", "generation_config", "stopping_criteria", "synced_gpus")
    options = {
        name: value
        for name, value in given.items()
        if name not in named and not isinstance(value, Tensor)
    }
    config, _ = model._prepare_generation_config(given.get("generation_config"), **options)
    if config.max_new_tokens is None:
        return config, "no max_new_tokens"
    for name, allowed in NEUTRAL.items():
        value = getattr(config, name, None)
        if value not in allowed:
            return config, f"{name}={value}"
    return config, next((name for name in ARGUMENTS if given.get(name)), None)


class _Entry:
    """An entry of the interface, and what wraps it at the moment.

    Args:
        name: of the entry.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._wraps: list[Callable[[Attention], Attention]] = []
        self._before: Attention | None = None
        self._plain: Attention | None = None

    def own(self) -> Attention | None:
        """The function that stands there in place of transformers' own."""
        return own_entries().get(self.name)

    def read(self) -> Attention:
        """The function that is looked up."""
        # read through the mapping, which falls back to transformers' own
        found: Attention = ALL_ATTENTION_FUNCTIONS[self.name]
        return found

    def write(self, attention: Attention | None) -> None:
        """Put a function there; None: transformers' own."""
        if attention is None:
            del ALL_ATTENTION_FUNCTIONS[self.name]
        else:
            ALL_ATTENTION_FUNCTIONS[self.name] = attention

    @contextmanager
    def wrapped(self, wrap: Callable[[Attention], Attention]) -> Iterator[None]:
        """Wrapped once more for the length of the block."""
        # two models in two threads may share an entry
        with _CHANGING:
            if not self._wraps:
                # an entry set by the user hides transformers' own: it must come back, not be
                # deleted
                self._before, self._plain = self.own(), self.read()
            self._wraps.append(wrap)
            self._compose()
        try:
            yield
        finally:
            with _CHANGING:
                self._wraps.remove(wrap)
                self._compose()

    def _compose(self) -> None:
        if not self._wraps:
            self.write(self._before)
            return
        # the wrappers of other blocks stay, whichever was there first
        attention = self._plain
        for wrap in self._wraps:
            assert attention is not None
            attention = wrap(attention)
        self.write(attention)


class _Eager(_Entry):
    """The eager function of a modelling file, which is always its own."""

    def own(self) -> Attention | None:
        return self.read()

    def read(self) -> Attention:
        found: Attention = sys.modules[self.name].eager_attention_forward
        return found

    def write(self, attention: Attention | None) -> None:
        assert attention is not None
        vars(sys.modules[self.name])["eager_attention_forward"] = attention


_INTERFACE: dict[str, _Entry] = {}
_EAGER: dict[str, _Eager] = {}
_CHANGING = threading.Lock()


@contextmanager
def checked_generation(model: Any, check: Callable[[Any, str], None]) -> Iterator[None]:
    """``generate`` of a model first hands its settings to a check, for the length of the block.

    Args:
        model: of Hugging Face.
        check: of the settings, the checkpoint's own included, and the name of the way of decoding.
    """
    # generate() hands it the settings when defaults, checkpoint and arguments are joined
    name = "_validate_generation_mode"
    original = getattr(model, name, None)
    if original is None:
        yield
        return

    def checked(mode: Any, config: Any, options: Any) -> Any:
        check(config, str(getattr(mode, "value", mode)))
        return original(mode, config, options)

    # on the instance: the class serves other models
    setattr(model, name, checked)
    try:
        yield
    finally:
        delattr(model, name)
