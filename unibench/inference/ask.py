"""From a batch of prompts to records, whoever builds the prompts and generates the answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import GenerationConfig

from unibench import videos
from unibench.config import RunConfig
from unibench.controls.prompts import Controlled, Controller, others_of
from unibench.cost import Clock, Mark
from unibench.cost.flops import DecoderShape, decoder_shape, tflops
from unibench.diagnostics.places import diagnosis
from unibench.errors import UsageError
from unibench.identity import Cell
from unibench.inference.batching import Batches
from unibench.inference.record import TIMES, Record, frozen
from unibench.inference.session import session_of
from unibench.models import LoadedModel, Piece
from unibench.pictures import all_shown
from unibench.pruning import Session
from unibench.pruning.layout import Box, written
from unibench.pruning.record import PrefillTime, PromptRecord
from unibench.pruning.vision import Reuse
from unibench.tasks import Sample, Task


@dataclass(frozen=True)
class Question:
    """What is known of a sample before it is asked; see :class:`~unibench.inference.record.Record`.

    Attributes:
        id, index: the sample's name and its place in the task.
        ability, group, truth: of the task.
        text: the user's text, None where only a harness's own model object knows it.
        pictures: pictures and videos in the prompt.
        seen: the part of each picture that the processor hands on, where that is known.
        visual_tokens: of the prompt before a control changed it; None without one.
        boxes: of each picture, what the question is about, as shares of its sides.
    """

    id: str
    index: int
    ability: str
    group: str
    truth: str
    text: str | None = None
    pictures: int = 0
    seen: tuple[Box, ...] = ()
    visual_tokens: int | None = None
    boxes: tuple[tuple[tuple[float, ...], ...], ...] = ()


@dataclass(frozen=True)
class Generation:
    """The answers to a batch of prompts.

    Attributes:
        texts: one per prompt.
        new_tokens: of each answer, its end token included.
        decoded: when the last token was there; None if no token came after the first.
    """

    texts: Sequence[str]
    new_tokens: Sequence[int]
    decoded: Mark | None


@dataclass
class Asked:
    """Questions that a model is being asked in one prefill, see :func:`asking`.

    Attributes:
        generation: the answers; set inside the block.
        records: one of each question, without a score; there after the block.
    """

    generation: Generation | None = None
    records: list[Record] = field(default_factory=list)


@contextmanager
def asking(loaded: LoadedModel, session: Session, questions: Sequence[Question]) -> Iterator[Asked]:
    """Inside the block, the model that a session prunes answers a batch of questions.

    The block is the clock's span: it lets the model read all of the prompts in one prefill, as
    :func:`generated` and a harness's own model object do, and sets ``generation``::

        with asking(loaded, session, questions) as asked:
            asked.generation = generated(loaded, turns, config)
        records = asked.records

    Args:
        loaded: the model.
        session: installed on it.
        questions: the batch.

    Raises:
        UsageError: the model read another number of prompts, for example since a harness's model
            object swallowed an error.
        RuntimeError: it read a prompt without its pictures.
    """
    clock, asked = Clock(loaded.device), Asked()
    # names seed the draws: a sample is drawn for alike in any batch or shard
    session.samples = [question.id for question in questions]
    with torch.inference_mode():
        start = clock.mark()
        try:
            yield asked
        except BaseException:  # a batch that did not fit is asked again in halves
            # a batch may have been read before memory ran out while decoding
            session.take_records(), session.take_times()
            raise
        end = clock.mark()
    generation = asked.generation
    assert generation is not None, "the block sets it"
    prompts, times = session.take_records(), session.take_times()
    # a second prefill would be timed with the first, and its prompts counted as this batch's
    if len(prompts) != len(questions) or len(times) != 1:
        raise UsageError(
            f"sample {questions[0].id}: the model read {len(prompts)} prompts where"
            f" {len(questions)} were expected; run.log has more"
        )
    spans = _spans(clock, start, end, generation.decoded, times[0], len(questions))
    texts, notes = prompt_texts(loaded, session), tuple(sorted(session.notes))
    shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)
    rows = zip(questions, prompts, texts, generation.texts, generation.new_tokens, strict=True)
    asked.records = [
        record_of(
            question, prompt, answer, steps, shape, prompt_text=text, notes=notes, spans=spans
        )
        for question, prompt, text, answer, steps in rows
    ]


def generated(
    loaded: LoadedModel, turns: Sequence[Sequence[Piece]], config: GenerationConfig
) -> Generation:
    """Answer a batch of user turns under the model's own chat template."""
    inputs = loaded.read(turns)
    with loaded.decoding(config):
        # decoding() has put the checkpoint's own settings out of reach
        out = loaded.model.generate(**inputs, generation_config=config)
    tokens: Tensor = out[:, inputs["input_ids"].shape[1] :]
    # before the text is made, which is no work of the model
    decoded = Clock(loaded.device).mark()
    texts = loaded.answers(tokens)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    return Generation(texts, [_length(row, ends) for row in tokens.tolist()], decoded)


@contextmanager
def forwards(loaded: LoadedModel) -> Iterator[list[Mark]]:
    """The ends of the model's forwards inside the block. Where somebody else has it answer one
    prompt, for example a harness's own model object, each of them makes one token.
    """
    clock, ends = Clock(loaded.device), list[Mark]()
    # a hook on the model sees every forward, whoever calls generate()
    counter = loaded.model.register_forward_hook(lambda *_: ends.append(clock.mark()))
    try:
        yield ends
    finally:
        counter.remove()


def record_of(
    question: Question,
    prompt: PromptRecord,
    answer: str,
    new_tokens: int,
    shape: DecoderShape,
    *,
    prompt_text: str | None = None,
    notes: tuple[str, ...] = (),
    spans: Mapping[str, float] | None = None,
) -> Record:
    """The record of an answered question, whichever engine answered it.

    Args:
        question: what was asked.
        prompt: what pruning did to its tokens.
        answer: what the model said.
        new_tokens: of the answer.
        shape: sizes of a decoder layer.
        prompt_text: the text that the model read.
        notes: remarks of the method.
        spans: milliseconds by column; None where the engine measures none.

    Raises:
        RuntimeError: the question has pictures and the prompt has none: it would count as pruned
            without being it.
    """
    if question.pictures and not prompt.visual_tokens:
        raise RuntimeError(
            f"sample {question.id} has {question.pictures} pictures, but its prompt has no visual"
            " token"
        )
    tokens = [prompt.text_tokens + visual for visual in prompt.processed]
    # a control is compared with the prompt that it changed, not with its own
    whole = prompt.visual_tokens if question.visual_tokens is None else question.visual_tokens
    full = [prompt.text_tokens + whole] * len(tokens)
    layout = frozen(written(prompt.items))
    # of a prompt that a control changed, no token is one of the task's picture
    last = prompt.last if question.visual_tokens is None else ""
    return Record(
        id=question.id,
        index=question.index,
        ability=question.ability,
        group=question.group,
        truth=question.truth,
        question=question.text,
        prompt=prompt_text,
        answer=answer,
        score=None,
        text_tokens=prompt.text_tokens,
        visual_tokens=whole,
        kept=prompt.kept,
        processed=prompt.processed,
        last=last,
        layout=layout,
        seen=question.seen,
        new_tokens=new_tokens,
        tflops=shape.prefill_tflops(tokens) + tflops(prompt.method_macs),
        tflops_full=shape.prefill_tflops(full),
        method_tflops=tflops(prompt.method_macs),
        uncounted=prompt.uncounted,
        kv_mib=shape.cache_mib(tokens),
        notes=notes,
        prompt_digest=prompt.prompt_digest,
        pixel_digest=prompt.pixel_digest,
        pixel_shapes=prompt.pixel_shapes,
        # of a prompt that a control changed, they are of no token of the task's picture
        scores=prompt.scores if last else None,
        diagnosis=diagnosis(
            last,
            prompt.visual_tokens,
            layout,
            question.seen,
            question.boxes,
            effective_rank=prompt.effective_rank,
            nearest_cosine=prompt.nearest_cosine,
            attention=prompt.attention,
        ),
        **(dict.fromkeys(TIMES) if spans is None else spans),
    )


def answer(
    cell: Cell,
    task: Task,
    loaded: LoadedModel,
    samples: Iterator[tuple[int, Sample]],
    *,
    batch_size: int | str = 1,
    reuse: Reuse | None = None,
) -> Iterator[Record]:
    """Answer samples of an embedded task, one batch after the other.

    Args:
        cell: method, budget and decoding.
        task: scores the answers.
        loaded: the cell's model.
        samples: those still to be answered, each after its index in the task.
        batch_size: prompts read together, or ``"auto"``, see
            :class:`~unibench.inference.batching.Batches`.
        reuse: remembers vision features for other cells.

    Yields:
        One scored record per sample, as soon as its batch is done.
    """
    loaded = loaded.showing(videos.given(cell.config))
    session, control = session_of(cell, loaded, reuse=reuse), controller_of(cell, task)
    decoding = cell.config.generation
    config = loaded.generation_config(
        decoding.max_new_tokens or task.max_new_tokens, decoding.penalty
    )
    with session.installed():
        opened = ((index, shown(sample)) for index, sample in samples)
        batches = Batches(opened, batch_size, loaded)
        for batch in batches:
            numbers = [frames_of(sample, cell.config) for _, sample in batch]
            questions = [question_of(loaded, index, sample) for index, sample in batch]
            pairs = zip(batch, numbers, strict=True)
            turns = [turn_of(sample, frames) for (_, sample), frames in pairs]
            reader = loaded
            if control is not None:  # one prompt at a time
                (turn,), (question,) = turns, questions
                changed = control(loaded, turn)
                reader, turns, questions = (
                    changed.loaded,
                    [changed.pieces],
                    [under(changed, question)],
                )
                numbers = [_left(numbers[0], changed)]
            try:
                with asking(loaded, session, questions) as asked:
                    asked.generation = generated(reader, turns, config)
            except torch.OutOfMemoryError as error:
                # nothing of the batch was yielded, so it is asked again as a whole
                batches.did_not_fit(batch, error)
                continue
            for (_, sample), frames, record in zip(batch, numbers, asked.records, strict=True):
                shown_as = () if frames is None else (frames,)
                score = float(task.score(sample, record.answer))
                yield replace(record, score=score, frames=shown_as)


def controller_of(cell: Cell, task: Task | None = None) -> Controller | None:
    """What changes the prompts of a cell before the processor reads them.

    Args:
        cell: with or without a control.
        task: where the pictures of the other samples are; None under a harness.
    """
    config = cell.config
    if config.control == "none":
        return None
    others = median = None
    if config.control in ("blind_other", "native_budget") and task is not None:
        # of the samples of this cell only, so that a limit decides which pictures there are
        samples = map(shown, task.samples(config.task.limit))
        pictures = [one for sample in samples for one in sample.images]
        if config.control == "blind_other":
            others = others_of(pictures, config.seed)
        else:
            sizes = sorted((one.size for one in pictures), key=math.prod)
            median = sizes[(len(sizes) - 1) // 2] if sizes else None
    return Controller(config.control, cell.budget, config.budget.scope, others, median)


def under(changed: Controlled, question: Question) -> Question:
    """A question as a control asks it."""
    count = sum(not isinstance(piece, str) for piece in changed.pieces)
    return replace(question, pictures=count, visual_tokens=changed.visual_tokens)


def _left(numbers: tuple[int, ...] | None, changed: Controlled) -> tuple[int, ...] | None:
    """The frames of a sample that a control shows."""
    if numbers is None or not changed.places:
        return numbers
    (places,) = changed.places
    return tuple(numbers[place] for place in places)


def prompt_texts(loaded: LoadedModel, session: Session) -> list[str | None]:
    """The texts that the model read last, each run of visual tokens as one; None where it was given
    embeddings.
    """
    prompt = session.prompt
    assert prompt is not None
    if prompt.ids is None:
        return [None] * len(prompt.names)
    kinds = loaded.family.visual_kind(prompt.ids)
    texts: list[str | None] = []
    for ids, kind, valid in zip(prompt.ids, kinds, prompt.valid, strict=True):
        shown = valid.clone()
        # the first of a run of placeholders stays, so that a text has one where a picture was
        shown[1:] &= (kind[1:] == 0) | (ids[1:] != ids[:-1])
        texts.append(loaded.processor.tokenizer.decode(ids[shown], skip_special_tokens=False))
    return texts


def shown(sample: Sample) -> Sample:
    """A sample with its pictures as viewers show them, whatever its task opened.

    Raises:
        UsageError: one cannot be shown.
    """
    return replace(sample, images=all_shown(sample.images, f"question {sample.id}"))


def frames_of(sample: Sample, config: RunConfig) -> tuple[int, ...] | None:
    """Which pictures of a sample are the frames that are shown; None where they are no frames."""
    if config.task.modality != "video" or not sample.images:
        return None
    whole = len(sample.images)
    return tuple(videos.evenly(0, whole - 1, min(config.video.frames or whole, whole)))


def turn_of(sample: Sample, frames: Sequence[int] | None) -> list[Piece]:
    """What the user shows and asks; the pictures of a video are its frames."""
    if frames is None:
        return [*sample.images, sample.question]
    return [tuple(sample.images[number] for number in frames), sample.question]


def question_of(loaded: LoadedModel, index: int, sample: Sample) -> Question:
    """What is known of a sample of an embedded task before it is asked."""
    return Question(
        id=sample.id,
        index=index,
        ability=sample.ability,
        group=sample.group,
        truth=sample.answers[0],
        text=sample.question,
        pictures=len(sample.images),
        seen=tuple(loaded.seen(picture) for picture in sample.images),
        boxes=sample.boxes,
    )


def _spans(
    clock: Clock, start: Mark, end: Mark, decoded: Mark | None, time: PrefillTime, size: int
) -> dict[str, float]:
    """Milliseconds by column; a batch's divided by its size."""
    seconds = {
        "total_ms": clock.seconds(start, end) - time.excluded,
        "vision_ms": time.vision,
        "prefill_ms": time.prefill,
        "method_ms": time.method,
        # from the first logits on, which the prefill ends with
        "decode_ms": 0.0 if decoded is None else clock.seconds(time.end, decoded),
    }
    return {name: 1000 * span / size for name, span in seconds.items()}


def _length(tokens: Sequence[int], ends: Sequence[int | None]) -> int:
    """Number of tokens up to and with the first end token."""
    # behind the end token a batch is filled up with padding
    for position, token in enumerate(tokens):
        if token in ends:
            return position + 1
    return len(tokens)
