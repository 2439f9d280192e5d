"""A prompt in the model, seen from outside: hooks of this module stand behind those of the session
and see what each decoder layer is handed, its attention function, and the cache.

Nothing here asks the session how many tokens it kept: a fault of the engine would show.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from unibench.facts import RECURRENT
from unibench.identity import Cell
from unibench.inference.ask import Question, asking, generated
from unibench.inference.record import Record
from unibench.inference.session import session_of
from unibench.models import LoadedModel
from unibench.pictures import all_shown
from unibench.pruning import Family
from unibench.pruning._transformers import cache_in, cached, wrapped_attention
from unibench.pruning.positions import positions_of
from unibench.pruning.prompt import Prompt
from unibench.tasks import Sample, Task

Rotary = tuple[Tensor, Tensor]
CLOSE = 1e-4  # of a cosine: neighbouring positions differ by more in the fastest channel


@dataclass
class Forward:
    """One forward of the decoder.

    Attributes:
        entered: tokens that entered each layer.
        rotary: cos and sin that each layer was handed.
        keys: keys that the attention function of each layer was given.
        kernels: names of the attention functions that ran.
        cache: tokens that the cache of each layer holds afterwards.
    """

    entered: dict[int, int] = field(default_factory=dict)
    rotary: dict[int, Rotary] = field(default_factory=dict)
    keys: dict[int, int] = field(default_factory=dict)
    kernels: set[str] = field(default_factory=set)
    cache: tuple[int, ...] = ()


@dataclass(frozen=True)
class Watched:
    """What one prompt and its answer did in the model.

    Attributes:
        record: of the sample, as a run would store it.
        length: tokens of the whole prompt.
        forwards: the prefill, and the steps of decoding after it.
        places: by layer, where the tokens stand that entered it: ``original``, ``compact``,
            ``moved`` (neither), or ``whole`` where none was dropped.
        steps: the same of the generated tokens.
    """

    record: Record
    length: int
    forwards: tuple[Forward, ...]
    places: dict[int, str]
    steps: dict[int, str]

    @property
    def prefill(self) -> Forward:
        return self.forwards[0]

    @property
    def visual(self) -> list[int]:
        """Visual tokens that entered each layer."""
        return [
            count - self.record.text_tokens for _, count in sorted(self.prefill.entered.items())
        ]


def watched(cell: Cell, loaded: LoadedModel, task: Task, name: str | None = None) -> Watched:
    """Ask one sample of a cell and watch the model.

    Args:
        cell: as it would be run.
        loaded: its model.
        task: whose sample is asked.
        name: of the sample; None is the first.

    Raises:
        LookupError: the task has no such sample.
    """
    found = next(_wanted(task, cell.config.task.limit, name), None)
    if found is None:
        raise LookupError(name)
    index, sample = found
    question = Question(
        id=sample.id,
        index=index,
        ability=sample.ability,
        group=sample.group,
        truth=sample.answers[0],
        text=sample.question,
        pictures=len(sample.images),
    )
    decoding = cell.config.generation
    config = loaded.generation_config(
        decoding.max_new_tokens or task.max_new_tokens, decoding.penalty
    )
    session, forwards = session_of(cell, loaded), list[Forward]()
    pictures = all_shown(sample.images, f"question {sample.id}")
    # hooks run in the order in which they came: these see what the session hands on
    with session.installed(), _watching(loaded.family, forwards):
        with asking(loaded, session, [question]) as asked:
            asked.generation = generated(loaded, [[*pictures, sample.question]], config)
    prompt = session.prompt
    assert prompt is not None
    record = replace(asked.records[0], score=float(task.score(sample, asked.records[0].answer)))
    places = {
        layer: _places(loaded.family, prompt, layer, rotary)
        for layer, rotary in sorted(forwards[0].rotary.items())
    }
    steps = {}
    if len(forwards) > 1:
        for layer, rotary in sorted(forwards[1].rotary.items()):
            steps[layer] = _step(loaded.family, prompt, layer, rotary, forwards[0].entered[layer])
    return Watched(record, prompt.length, tuple(forwards), places, steps)


def _wanted(task: Task, limit: int | None, name: str | None) -> Iterator[tuple[int, Sample]]:
    for index, sample in enumerate(islice(task.samples(limit), limit)):
        if name in (None, sample.id):
            yield index, sample


@contextmanager
def _watching(family: Family, forwards: list[Forward]) -> Iterator[None]:
    """Add each forward of the decoder inside the block to a list."""
    text, modules = family.text_model, dict[nn.Module, int]()

    def begin(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        forwards.append(Forward())

    def enter(layer: int, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        forwards[-1].entered[layer] = hidden.shape[1]
        if kwargs.get("position_embeddings") is not None:
            cos, sin = kwargs["position_embeddings"]
            forwards[-1].rotary[layer] = (cos.detach().clone(), sin.detach().clone())

    def end(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        cache = cache_in(kwargs)
        if cache is not None:
            layers = range(len(text.layers))
            forwards[-1].cache = tuple(cached(cache, layer)[1] for layer in layers)

    def wrap(attention: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(attention)
        def seen(module: nn.Module, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
            if module in modules and forwards:
                forwards[-1].keys[modules[module]] = key.shape[-2]
                forwards[-1].kernels.add(getattr(attention, "__name__", str(attention)))
            return attention(module, query, key, *args, **kwargs)

        return seen

    with ExitStack() as stack:
        stack.callback(text.register_forward_pre_hook(begin, with_kwargs=True).remove)
        stack.callback(text.register_forward_hook(end, with_kwargs=True).remove)
        for layer, module in enumerate(text.layers):
            hook = functools.partial(enter, layer)
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            if family.kinds[layer] not in RECURRENT:
                modules[family.llm_attention(layer)] = layer
        stack.enter_context(wrapped_attention(modules, wrap))
        yield


def _places(family: Family, prompt: Prompt, layer: int, rotary: Rotary) -> str:
    """Where the tokens stand that entered a layer, by the cosines that it was handed."""
    segment = prompt.segments.get(layer)
    if segment is None or segment.length == prompt.length:
        return "whole"
    at = positions_of(prompt)
    origin = at.gather(2, segment.origin.expand(len(at), -1, -1).to(at.device))
    closed = torch.arange(segment.length, device=at.device).expand_as(origin).to(at)
    for name, places in (("original", origin), ("compact", closed)):
        if _turned_by(family, layer, places, rotary):
            return name
    return "moved"


def _step(family: Family, prompt: Prompt, layer: int, rotary: Rotary, entered: int) -> str:
    """Where the first generated token stands that goes through the layers again."""
    if entered == prompt.length:
        return "whole"
    end = positions_of(prompt)[..., -1:] + 1
    for name, place in (("original", end), ("compact", torch.full_like(end, entered))):
        if _turned_by(family, layer, place, rotary):
            return name
    return "moved"


def _turned_by(family: Family, layer: int, at: Tensor, rotary: Rotary) -> bool:
    """Whether cosines and sines are those of positions ``[axes, 1, L]``."""
    hidden = rotary[0].new_zeros(1, at.shape[-1], 1)
    wanted = family.rotary(hidden, at if len(at) == 3 else at[0], family.kinds[layer])
    return all(
        one.shape == other.shape and float((one - other).abs().max()) < CLOSE
        for one, other in zip(wanted, rotary, strict=True)
    )
