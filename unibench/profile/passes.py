"""One method on one batch: its times, and once what it computes and holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from unibench.cost import Clock
from unibench.cost.counter import flop_counter, flops_of
from unibench.cost.flops import decoder_shape, tflops
from unibench.cost.memory import peak_memory
from unibench.identity import Cell
from unibench.inference.session import session_of
from unibench.models import LoadedModel
from unibench.pruning import Method, Selection, Session, Stage, StageContext
from unibench.pruning._transformers import cache_in
from unibench.pruning.record import PromptRecord


class KeepAll(Method):
    """Keeps every token through the whole machinery of a cut."""

    @property
    def uses_budget(self) -> bool:
        return False

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self._everything, exact=False),)

    def _everything(self, ctx: StageContext) -> Selection:
        return Selection(torch.arange(len(ctx.visual), device=ctx.visual.device))


@dataclass(frozen=True)
class Contender:
    """A method as it is profiled."""

    name: str
    label: str
    cell: Cell
    method: Method

    def session(self, loaded: LoadedModel) -> Session:
        """A session of its own."""
        return session_of(self.cell, loaded, method=self.method)


@dataclass(frozen=True)
class Times:
    """Seconds of a pass. ``prefill`` contains ``vision`` and ``method``, ``total`` everything but
    the processor.

    Attributes:
        total: from inputs on the device to the last token.
        vision: tower and projector.
        prefill: pixels to the first logits.
        method: scoring, choosing and cutting.
        decode: one token after the first.
    """

    total: float
    vision: float
    prefill: float
    method: float
    decode: float

    def __add__(self, other: Times) -> Times:
        return Times(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        )


@dataclass(frozen=True)
class Facts:
    """What does not depend on the clock.

    Attributes:
        record: of the first prompt of the batch.
        vision_tflops: of the batch, counted by torch.
        tflops: of the batch: language model by formula, and selection.
        method_tflops: of which the selection, see :mod:`unibench.cost.operations`.
        peak_mib: most tensors of a prefill at once, above the weights.
        kv_mib: of the cache after the last token.
        notes: of the method.
    """

    record: PromptRecord
    vision_tflops: float
    tflops: float
    method_tflops: float
    peak_mib: float
    kv_mib: float
    notes: tuple[str, ...]


def decoding(loaded: LoadedModel, tokens: int, *, stops: bool = False) -> GenerationConfig:
    """Greedy decoding of so many tokens, or until the model ends its answer."""
    config = loaded.generation_config(tokens, 1.0)
    if not stops:
        config.eos_token_id = None
    return config


def timed(
    loaded: LoadedModel, contender: Contender, batches: Sequence[dict[str, Tensor]], tokens: int
) -> Times:
    """One pass over all batches; ``decode`` is the mean of a token."""
    clock, config = Clock(loaded.device), decoding(loaded, tokens)
    found = []
    installed = contender.session(loaded).installed()
    with installed as session, loaded.decoding(config), torch.inference_mode():
        for inputs in batches:
            start = clock.mark()
            loaded.model.generate(**inputs, generation_config=config)
            end = clock.mark()
            (prefill,) = session.take_times()
            decode = (
                clock.seconds(prefill.end, end) / max(1, tokens - 1) / len(batches)
                if tokens > 1
                else 0.0
            )
            found.append(
                Times(
                    clock.seconds(start, end) - prefill.excluded,
                    prefill.vision,
                    prefill.prefill,
                    prefill.method,
                    decode,
                )
            )
    return sum(found[1:], found[0])


def steps_to_the_end(
    loaded: LoadedModel, contender: Contender, batches: Sequence[dict[str, Tensor]], tokens: int
) -> int:
    """Tokens until the first prompt's batch has ended its answers, at most ``tokens``; the fewest
    over batches.
    """
    config, lengths = decoding(loaded, tokens, stops=True), []
    with contender.session(loaded).installed(), loaded.decoding(config), torch.inference_mode():
        for inputs in batches:
            answer = loaded.model.generate(**inputs, generation_config=config)
            lengths.append(int(answer.shape[1] - inputs["input_ids"].shape[1]))
    return min(lengths)


def facts(
    loaded: LoadedModel, contender: Contender, inputs: dict[str, Tensor], tokens: int
) -> Facts:
    """What a pass computes and holds; three passes that nobody times."""
    model, family, batch = loaded.model, loaded.family, len(inputs["input_ids"])
    with contender.session(loaded).installed() as session, torch.inference_mode():
        with flop_counter() as counter:
            model(**inputs, use_cache=True, logits_to_keep=1)
        session.take_records()  # a counter takes products apart: their last bits are others
        with peak_memory(loaded.device) as peak:
            model(**inputs, use_cache=True, logits_to_keep=1)
        record = session.take_records()[0]
        config = decoding(loaded, tokens)
        with loaded.decoding(config):
            out = model.generate(**inputs, generation_config=config, return_dict_in_generate=True)
    shape = decoder_shape(family.text_model.config, model.dtype.itemsize)
    processed = [record.text_tokens + visual for visual in record.processed]
    selection = tflops(record.method_macs) * batch
    return Facts(
        record=record,
        vision_tflops=(
            flops_of(counter, model, family.core) - flops_of(counter, model, family.text_model)
        )
        / 1e12,
        tflops=shape.prefill_tflops(processed) * batch + selection,
        method_tflops=selection,
        peak_mib=peak.mib,
        kv_mib=_cache_bytes(cache_in(out)) / 2**20,
        notes=tuple(sorted({*session.notes, *_uncounted(record)})),
    )


def _cache_bytes(cache: Any) -> int:
    return sum(int(part.nbytes) for layer in cache.layers for part in (layer.keys, layer.values))


def _uncounted(record: PromptRecord) -> list[str]:
    """A remark where the selection's arithmetic is known in part only."""
    names = ", ".join(record.uncounted)
    return [f"not in the method's FLOPs: {names}"] if names else []
