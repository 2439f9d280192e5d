"""One way from a batch of prompts to records, whoever builds the prompts and generates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of
from unibench.inference.ask import Generation, Question, answer, asking, forwards, generated
from unibench.inference.record import TIMES, Record
from unibench.inference.session import session_of
from unibench.models import LoadedModel, load
from unibench.pruning import Session
from unibench.tasks.synthvqa import SynthVQA


def cell(*words: str) -> Cell:
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", "ratio=0.889", *words], sweep=False)
    return cell_of(config)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(cell().config.model)


SAMPLES = list(SynthVQA().samples(4))


def ask(
    loaded: LoadedModel, session: Session, question: Question, generate: Callable[[], Generation]
) -> list[Record]:
    with asking(loaded, session, [question]) as asked:
        asked.generation = generate()
    return asked.records


def observed(loaded: LoadedModel, theirs: Callable[[], str]) -> Generation:
    """As the harnesses' child has a model object of theirs answer."""
    with forwards(loaded) as ends:
        text = theirs()
    return Generation([text], [len(ends)], ends[-1] if len(ends) > 1 else None)


def untimed(records: list[Record]) -> list[Record]:
    return [record.untimed() for record in records]


def answers(loaded: LoadedModel, *words: str, batch_size: int = 1) -> list[Record]:
    found = answer(cell(*words), SynthVQA(), loaded, enumerate(SAMPLES), batch_size=batch_size)
    return list(found)


@pytest.mark.parametrize("method", ["vanilla", "divprune", "fastv", "random_pre"])
def test_a_batch_gives_the_records_of_its_samples(loaded: LoadedModel, method: str) -> None:
    together = answers(loaded, f"method={method}", batch_size=4)
    alone = answers(loaded, f"method={method}")
    close = [
        replace(one, method_tflops=two.method_tflops, tflops=two.tflops)
        for one, two in zip(together, alone, strict=True)
    ]  # of a batch the mean
    assert untimed(close) == untimed(alone)
    assert [one.tflops for one in together] == pytest.approx([one.tflops for one in alone])


def test_a_record_holds_what_was_asked_and_what_the_model_read(loaded: LoadedModel) -> None:
    for place, (sample, record) in enumerate(zip(SAMPLES, answers(loaded), strict=True)):
        assert (record.id, record.index, record.truth) == (sample.id, place, sample.answers[0])
        assert record.question == sample.question and record.prompt is not None
        assert sample.question in record.prompt and record.prompt.count("<|image_pad|>") == 1
        assert "<|endoftext|>" not in record.prompt, "padding is no part of a prompt"
        assert record.score == SynthVQA().score(sample, record.answer)


def test_padding_of_a_batch_is_no_part_of_a_prompt(loaded: LoadedModel) -> None:
    together, alone = answers(loaded, batch_size=4), answers(loaded)
    assert [one.prompt for one in together] == [one.prompt for one in alone]


def test_somebody_elses_generate_gives_the_record_of_ours(loaded: LoadedModel) -> None:
    """A harness's model object answers one prompt by a ``generate`` of its own."""
    one, (sample, *_) = cell("method=fastv"), SAMPLES
    config = loaded.generation_config(16, 1.0)
    question = Question(sample.id, 0, sample.ability, sample.group, sample.answers[0], "?", 1)
    turn = [*sample.images, sample.question]

    def theirs() -> str:
        inputs = loaded.read([turn])
        out = loaded.model.generate(**inputs, max_new_tokens=16, do_sample=False)
        return loaded.answers(out[:, inputs["input_ids"].shape[1] :])[0]

    session = session_of(one, loaded)
    with session.installed():
        ours = ask(loaded, session, question, lambda: generated(loaded, [turn], config))
        other = ask(loaded, session, question, lambda: observed(loaded, theirs))
    assert untimed(ours) == untimed(other)
    assert all(getattr(record, name) >= 0 for record in (*ours, *other) for name in TIMES)


def test_times_contain_each_other(loaded: LoadedModel) -> None:
    for record in answers(loaded, "method=fastv"):
        assert record.total_ms >= record.prefill_ms + record.decode_ms  # type: ignore[operator]
        assert record.prefill_ms >= record.vision_ms + record.method_ms  # type: ignore[operator]
        assert record.method_ms > 0  # type: ignore[operator]


@pytest.mark.parametrize("reads", [0, 2])
def test_another_number_of_prompts_is_refused(loaded: LoadedModel, reads: int) -> None:
    (sample, *_) = SAMPLES
    question = Question(sample.id, 0, "a", "g", "yes")
    config = loaded.generation_config(2, 1.0)

    def several() -> str:
        for _ in range(reads):
            generated(loaded, [[*sample.images, "What?"]], config)
        return "swallowed"

    session = session_of(cell(), loaded)
    with session.installed():
        with pytest.raises(UsageError, match=f"read {reads} prompts where 1 were expected"):
            ask(loaded, session, question, lambda: observed(loaded, several))
        turns = [[*sample.images, sample.question]]
        assert len(ask(loaded, session, question, lambda: generated(loaded, turns, config))) == 1


def test_a_prompt_without_its_pictures_never_counts_as_pruned(loaded: LoadedModel) -> None:
    question = Question("s", 0, "a", "g", "yes", pictures=1)
    config, session = loaded.generation_config(2, 1.0), session_of(cell(), loaded)
    with session.installed(), pytest.raises(RuntimeError, match="its prompt has no visual token"):
        ask(loaded, session, question, lambda: generated(loaded, [["no picture"]], config))


def test_a_batch_that_did_not_fit_leaves_nothing_behind(loaded: LoadedModel) -> None:
    (sample, *_) = SAMPLES
    question = Question(sample.id, 0, "a", "g", "yes")
    config = loaded.generation_config(2, 1.0)
    turns = [[*sample.images, sample.question]]

    def full() -> Generation:
        generated(loaded, turns, config)
        raise torch.OutOfMemoryError("too much")

    session = session_of(cell(), loaded)
    with session.installed():
        with pytest.raises(torch.OutOfMemoryError):
            ask(loaded, session, question, full)
        assert len(ask(loaded, session, question, lambda: generated(loaded, turns, config))) == 1
