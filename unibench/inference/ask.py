"""Answering samples with a pruned model, each with its times and token counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unibench.budget import Budget
from unibench.cost import Clock
from unibench.cost.flops import DecoderShape, decoder_shape, tflops
from unibench.inference.batching import Batches
from unibench.models import LoadedModel
from unibench.pruning import Method, Session
from unibench.pruning.family import VisionCall
from unibench.pruning.layout import Box, written
from unibench.pruning.record import PromptRecord
from unibench.tasks import Sample, Task


@dataclass(frozen=True)
class Answered:
    """One line of ``samples.jsonl``. Times are milliseconds; in a batch, the batch's divided by its
    size.

    Attributes:
        id, ability, group, truth, answer, score: of the task.
        text_tokens, visual_tokens: of the prompt before pruning.
        kept: visual tokens that entered the last decoder layer.
        processed: visual tokens that entered each decoder layer.
        last: which of them entered the last one, see :func:`unibench.pruning.record.packed`.
        layout: how the visual tokens lie, see :func:`unibench.pruning.layout.written`.
        seen: the part of each picture that the processor hands on.
        new_tokens: of the answer, its end token included.
        total_ms: from pictures and text to the answer's text.
        vision_ms: vision tower and projector.
        prefill_ms: from pixels to the first logits; contains vision and method.
        method_ms: scoring, choosing and cutting.
        decode_ms: all tokens after the first.
        tflops: of the pruned prefill of the language model and the selection; ``tflops_full``: of
            the unpruned one.
        method_tflops: of which the selection, extra attention included.
        kv_mib: keys and values of the prompt.
        notes: remarks of the method, for example that a substitute was used for a signal.
        run: which entry of ``env.json``.
    """

    id: str
    ability: str
    group: str
    truth: str
    answer: str
    score: float
    text_tokens: int
    visual_tokens: int
    kept: int
    processed: tuple[int, ...]
    last: str
    layout: list[Any]
    seen: list[Box]
    new_tokens: int
    total_ms: float
    vision_ms: float
    prefill_ms: float
    method_ms: float
    decode_ms: float
    tflops: float
    tflops_full: float
    method_tflops: float
    kv_mib: float
    notes: tuple[str, ...]
    run: int

    def as_dict(self) -> dict[str, Any]:
        return {
            key: round(value, 6) if isinstance(value, float) else value
            for key, value in vars(self).items()
        }


@dataclass(frozen=True)
class Setting:
    """What holds for all samples of a cell.

    Attributes:
        method, budget, scope, mode, seed: see :class:`unibench.pruning.Session`.
        max_new_tokens: None takes the task's.
        repetition_penalty: 1 is none.
        batch_size: prompts read together, or ``"auto"``, see
            :class:`~unibench.inference.batching.Batches`.
        run: number of this run in ``env.json``.
        reuse: remembers vision features for other cells, see
            :class:`unibench.pruning.vision.VisionRecorder`.
    """

    method: Method
    budget: Budget
    scope: str
    mode: str
    seed: int
    max_new_tokens: int | None
    repetition_penalty: float
    batch_size: int | str
    run: int
    reuse: Callable[[Callable[[], Any], VisionCall], Any] | None = None


def answer(
    loaded: LoadedModel, task: Task, samples: Iterator[Sample], setting: Setting
) -> Iterator[Answered]:
    """Answer samples one batch after the other.

    Args:
        loaded: the model.
        task: scores the answers.
        samples: those still to be answered.
        setting: how.

    Yields:
        One record per sample, as soon as its batch is done.
    """
    session = Session(
        loaded.family,
        setting.method,
        setting.budget,
        scope=setting.scope,
        mode=setting.mode,
        seed=setting.seed,
        reuse=setting.reuse,
    )
    with session.installed():
        batches = Batches(samples, setting.batch_size, loaded)
        for batch in batches:
            try:
                found = _answered(loaded, task, batch, session, setting)
            except torch.OutOfMemoryError as error:
                batches.did_not_fit(batch, error)
                continue
            yield from found  # outside of the inference mode, which would be the caller's too


@torch.inference_mode()
def _answered(
    loaded: LoadedModel, task: Task, batch: Sequence[Sample], session: Session, setting: Setting
) -> list[Answered]:
    """Answer one batch."""
    config = loaded.generation_config(
        setting.max_new_tokens or task.max_new_tokens, setting.repetition_penalty
    )
    shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)
    clock = Clock(loaded.device)
    start = clock.mark()
    inputs = loaded.inputs(
        [sample.question for sample in batch], [sample.images for sample in batch]
    )
    session.samples = [sample.id for sample in batch]
    out = loaded.model.generate(**inputs, generation_config=config)
    generated: Tensor = out[:, inputs["input_ids"].shape[1] :]
    decoded = clock.mark()
    texts = loaded.answers(generated)
    end = clock.mark()
    records, (time,) = session.take_records(), session.take_times()
    _check(records, batch)
    spans = {
        "total_ms": clock.seconds(start, end) - time.excluded,
        "vision_ms": time.vision,
        "prefill_ms": time.prefill,
        "method_ms": time.method,
        "decode_ms": clock.seconds(time.end, decoded),
    }
    times: dict[str, Any] = {name: seconds * 1000 / len(batch) for name, seconds in spans.items()}
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    notes = tuple(sorted(session.notes))
    found = []
    for sample, record, text, tokens in zip(batch, records, texts, generated, strict=True):
        prompt = tokens_of(record, _length(tokens, ends), shape)
        prompt["seen"] = [loaded.seen(picture) for picture in sample.images]
        score, truth = task.score(sample, text), sample.answers[0]
        more = {**prompt, **times, "notes": notes, "run": setting.run}
        found.append(Answered(sample.id, sample.ability, sample.group, truth, text, score, **more))
    return found


def tokens_of(record: PromptRecord, new_tokens: int, shape: DecoderShape) -> dict[str, Any]:
    """Token counts of a sample and what follows from them."""
    tokens = [record.text_tokens + visual for visual in record.processed]
    full = [record.text_tokens + record.visual_tokens] * len(tokens)
    return {
        "text_tokens": record.text_tokens,
        "visual_tokens": record.visual_tokens,
        "kept": record.kept,
        "processed": record.processed,
        "last": record.last,
        "layout": written(record.items),
        "new_tokens": new_tokens,
        "tflops": shape.prefill_tflops(tokens) + tflops(record.method_macs),
        "method_tflops": tflops(record.method_macs),
        "tflops_full": shape.prefill_tflops(full),
        "kv_mib": shape.cache_mib(tokens),
    }


def _check(records: Sequence[PromptRecord], batch: Sequence[Sample]) -> None:
    """A prompt whose pictures the engine did not see would count as pruned without being it."""
    for sample, record in zip(batch, records, strict=True):
        if sample.images and not record.visual_tokens:
            raise RuntimeError(
                f"sample {sample.id} has {len(sample.images)} pictures, but its prompt has no"
                " visual token"
            )


def _length(tokens: Tensor, ends: Sequence[int | None]) -> int:
    """Number of tokens up to and with the first end token."""
    for position, token in enumerate(tokens.tolist()):
        if token in ends:
            return position + 1
    return len(tokens)
