"""One way from a batch of prompts to records, whoever builds the prompts and generates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from tests.support.turns import some_of
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of
from unibench.inference.ask import Generation, Question, answer, asking, forwards, generated
from unibench.inference.record import TIMES, Record
from unibench.inference.session import session_of
from unibench.models import LoadedModel, load
from unibench.pruning import Session
from unibench.tasks import Sample
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


@some_of("method", ["divprune", "vanilla", "fastv", "random_pre"], 2)
def test_a_batch_gives_the_records_of_its_samples(loaded: LoadedModel, method: str) -> None:
    together = answers(loaded, f"method={method}", batch_size=4)
    alone = answers(loaded, f"method={method}")
    close = [
        replace(one, method_tflops=two.method_tflops, tflops=two.tflops)
        for one, two in zip(together, alone, strict=True)
    ]  # of a batch the mean
    assert untimed(close) == untimed(alone)
    assert [one.tflops for one in together] == pytest.approx([one.tflops for one in alone])


class Opened(SynthVQA):
    """The first question, its picture stored in ways that viewers show alike."""

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        (sample,) = super().samples(1)
        (picture,) = sample.images
        lying = picture.transpose(Image.Transpose.ROTATE_90)
        lying.getexif()[0x0112] = 6
        values = np.array(picture.convert("RGBA"))
        values[(values[..., :3] == 255).all(-1), 3] = 0
        clear = Image.fromarray(values)
        for way, image in {"plain": picture, "lying": lying, "clear": clear}.items():
            yield replace(sample, id=way, images=(image,))


def test_the_pictures_of_a_task_and_of_the_library_are_read_as_viewers_show_them(
    loaded: LoadedModel,
) -> None:
    samples = list(Opened().samples())
    found = answer(cell("method=vanilla"), Opened(), loaded, enumerate(samples))
    assert len({(record.pixel_digest, record.answer) for record in found}) == 1
    read = [loaded.inputs([one.question], [one.images])["pixel_values"] for one in samples]
    assert all(torch.equal(pixels, read[0]) for pixels in read)
    wide = Image.new("RGB", (804, 4))
    with pytest.raises(UsageError, match="question 'Why.', picture 1: it has 804 x 4 pixels"):
        loaded.inputs(["Why?"], [[wide]])
    with pytest.raises(UsageError, match="question odd, picture 1: it has 804 x 4 pixels"):
        asked = [(0, replace(samples[0], id="odd", images=(wide,)))]
        list(answer(cell("method=vanilla"), Opened(), loaded, iter(asked)))


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


# Settings that a checkpoint may bring; each would change these answers, or how they are made.
SETTINGS: dict[str, Any] = {
    "assistant_early_exit": 1,
    "bad_words_ids": [[token] for token in range(30, 41)],
    "begin_suppress_tokens": list(range(30, 41)),
    "cache_implementation": "static",
    "do_sample": True,
    "dola_layers": "high",
    "encoder_repetition_penalty": 3.0,
    "exponential_decay_length_penalty": [0, 50.0],
    "forced_bos_token_id": 33,
    "forced_eos_token_id": 33,
    "guidance_scale": 3.0,
    "max_length": 1,
    "max_time": 1e-9,
    "min_length": 200,
    "min_new_tokens": 12,
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "num_return_sequences": 2,
    "penalty_alpha": 0.6,
    "prefill_chunk_size": 7,
    "prompt_lookup_num_tokens": 3,
    "repetition_penalty": 5.0,
    "return_dict_in_generate": True,
    "sequence_bias": [[[33], 90.0]],
    "stop_strings": ["e", "o", "a"],
    "suppress_tokens": list(range(30, 41)),
    "temperature": 5.0,
    "token_healing": True,
    "use_cache": False,
    "watermarking_config": {"bias": 40.0},
}


@pytest.fixture
def settings(loaded: LoadedModel) -> Iterator[Any]:
    """The checkpoint's settings of decoding, put back afterwards."""
    own = loaded.model.generation_config
    loaded.model.generation_config = copy.deepcopy(own)
    yield loaded.model.generation_config
    loaded.model.generation_config = own


@some_of("name", SETTINGS, 3)
def test_no_setting_of_a_checkpoint_decides_an_answer(
    loaded: LoadedModel, settings: Any, name: str
) -> None:
    config = loaded.generation_config(6, 1.0)
    sample = SAMPLES[2]
    turns = [[*sample.images, sample.question]]
    plain = generated(loaded, turns, config)
    setattr(settings, name, SETTINGS[name])
    now = generated(loaded, turns, config)
    assert (now.texts, now.new_tokens) == (plain.texts, plain.new_tokens)
    assert loaded.model.generation_config is settings


def test_every_setting_of_decoding_is_that_of_the_configuration(
    loaded: LoadedModel, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the installed transformers, whatever settings a later one adds."""
    used: list[GenerationConfig] = []
    prepare = loaded.model._prepare_generation_config
    special = {"eos_token_id", "pad_token_id", "bos_token_id"}

    def noting(config: GenerationConfig | None, **options: Any) -> Any:
        used.append(prepare(config, **options)[0])
        return prepare(config, **options)

    monkeypatch.setattr(loaded.model, "_prepare_generation_config", noting)
    config, inputs = loaded.generation_config(2, 1.0), loaded.read([["What?"]])
    with loaded.decoding(config):
        loaded.model.generate(**inputs, generation_config=config)
    for name in vars(settings):
        if not name.startswith("_") and name not in special:
            setattr(settings, name, "the checkpoint's")
    with loaded.decoding(config):
        loaded.model.generate(**inputs, generation_config=config)
    plain, now = (vars(one) for one in used)
    assert {name: now[name] for name in plain if not name.startswith("_")} == {
        name: plain[name] for name in plain if not name.startswith("_")
    }
    assert "the checkpoint's" not in map(str, now.values())
    assert len(plain) > 50
