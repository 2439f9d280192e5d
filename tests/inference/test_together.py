"""Questions put in many cells at once: by our own object or a harness's, with what cannot be
shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.fused.reading import Layers
from unibench.harness.child.fused import AnsweringAll
from unibench.identity import Cell, cell_of
from unibench.inference.ask import answer, generated
from unibench.inference.record import Record
from unibench.inference.together import Together, answer_together
from unibench.models import LoadedModel, load
from unibench.tasks.synthvqa import SynthVQA

WORDS = ("model=tiny_llava", "timing=false", "fuse=cells", "ratio=0.889")
(SAMPLE,) = SynthVQA().samples(1)


def cells(*words: str) -> list[Cell]:
    # a later model= takes the place of the first
    given = {word.partition("=")[0]: word for word in (*WORDS, *words)}
    return [cell_of(config) for config in compose_cells([*given.values()], sweep=True)]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(cells("method=vanilla")[0].config.model)


# by features, by attention of the tower, of the question, inside the decoder, in several cuts,
# with draws, and merging: tokens that stand for several, in one cut and in many
KINDS = "divprune,visionzip,cdpruner,sparsevlm,fastv,pyramiddrop,random_intra,prumerge,pact,vscan"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("tiny_llava", ()),
        pytest.param("tiny_internvl", (), marks=pytest.mark.slow),
        pytest.param("tiny_qwen2_5_vl", (), marks=pytest.mark.slow),
        pytest.param("tiny_qwen2_5_vl", ("positions=compact",), marks=pytest.mark.slow),
        pytest.param("tiny_llava", ("model.attn=eager",), marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_method_answers_as_it_does_alone(model: str, words: tuple[str, ...]) -> None:
    grid = cells(f"model={model}", f"method=vanilla,{KINDS}", *words)
    loaded, task = load(grid[0].config.model), SynthVQA()
    together = Together(grid, loaded, rows=64)
    assert not together.alone and not together.failed
    config = loaded.generation_config(task.max_new_tokens, 1.0)
    found: dict[int, list[Record]] = {}
    for index, sample in enumerate(task.samples(2)):
        given = answer_together(
            together, grid[0], task, loaded, config, index, sample, together.numbers
        )
        for one in given:
            assert one.record is not None, one.error
            found.setdefault(one.cell, []).append(replace(one.record, beside=""))
    for number, cell in enumerate(grid):
        alone = answer(cell, task, loaded, iter(enumerate(task.samples(2))))
        assert found[number] == [record.untimed() for record in alone], cell.title


def test_what_stands_in_front_of_the_picture_is_read_once_for_all_cells(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # cut before the decoder and inside it, by what no layer records
    together = Together(cells("method=vanilla,divprune,random_intra"), loaded, rows=8)
    config, turn = loaded.generation_config(1, 1.0), [*SAMPLE.images, SAMPLE.question]
    run, read = Layers.run, list[int]()

    def counted(layers: Layers, index: int, hidden: torch.Tensor, *more: Any) -> torch.Tensor:
        read.append(hidden.shape[0] * hidden.shape[1])
        return run(layers, index, hidden, *more)

    monkeypatch.setattr(Layers, "run", counted)
    replies = together.replies(
        SAMPLE.id, together.numbers, lambda: generated(loaded, [turn], config), config
    )
    ids = loaded.inputs([SAMPLE.question], [SAMPLE.images])["input_ids"][0]
    front = int((ids == loaded.model.config.image_token_id).int().argmax())
    layers, tokens = len(loaded.family.text_model.layers), 0
    for reply in replies:
        assert reply.prompt is not None
        first, text = min(reply.session.stages, default=None), reply.prompt.text_tokens
        kept = reply.prompt.processed[-1]
        tokens += layers * len(ids) if first is None else (layers - first) * (text + kept - front)
    assert front > 0 and sum(read) == tokens


def said_alone(cell: Cell, loaded: LoadedModel) -> str:
    (record,) = answer(cell, SynthVQA(), loaded, iter([(0, SAMPLE)]))
    return record.answer


def speaking(loaded: LoadedModel, **settings: Any) -> Callable[[], str]:
    """A model object that reads a prompt, generates once, and cuts the answer in its own way."""
    inputs = loaded.inputs([SAMPLE.question], [SAMPLE.images])

    def speak() -> str:
        given = {"max_new_tokens": 8, "do_sample": False, **settings}
        tokens = loaded.model.generate(**inputs, **given)
        assert tokens.shape[0] == 1
        return f"<{loaded.answers(tokens[:, inputs['input_ids'].shape[1] :])[0]}>"

    return speak


def say(answering: AnsweringAll, speak: Callable[[], str]) -> None:
    for _ in answering.rounds():
        answering.text = speak()


def asked(loaded: LoadedModel, *words: str) -> tuple[list[Cell], AnsweringAll]:
    found = cells(*words)
    together = Together(found, loaded, rows=8)
    return found, AnsweringAll(loaded, together, SAMPLE.id, together.numbers)


def test_a_harness_s_object_makes_the_text_of_every_cell(loaded: LoadedModel) -> None:
    grid, answering = asked(loaded, "method=vanilla,divprune,fastv", "generation.max_new_tokens=8")
    with torch.inference_mode(), answering.listening():
        say(answering, speaking(loaded))
    texts = [answering.said(reply.tokens) for reply in answering.checked()]
    assert texts == [f"<{said_alone(cell, loaded)}>" for cell in grid]
    assert "generate" not in vars(loaded.model)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_beams": 2}, "num_beams=2"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size=3"),
        ({"max_new_tokens": None}, "no max_new_tokens"),
    ],
)
def test_an_object_that_does_not_decode_greedily_is_refused(
    loaded: LoadedModel, settings: dict[str, Any], said: str
) -> None:
    _, answering = asked(loaded, "method=vanilla")
    with torch.inference_mode(), answering.listening(), pytest.raises(UsageError):
        say(answering, speaking(loaded, **settings))
    with pytest.raises(UsageError, match=said):
        answering.checked()


def test_an_object_that_asks_twice_or_not_at_all_is_refused(loaded: LoadedModel) -> None:
    _, answering = asked(loaded, "method=vanilla")
    speak = speaking(loaded, max_new_tokens=1)
    with torch.inference_mode(), answering.listening():
        say(answering, lambda: speak() + speak())
    with pytest.raises(UsageError, match="asked 2 times"):
        answering.checked()
    _, answering = asked(loaded, "method=vanilla")
    with pytest.raises(UsageError, match="was not asked"):
        answering.checked()


def test_a_repetition_penalty_counts_the_prompt_and_the_answer_of_each_row(
    loaded: LoadedModel,
) -> None:
    grid = cells(
        "method=vanilla,divprune",
        "generation.repetition_penalty=1.5",
        "generation.max_new_tokens=8",
    )
    together = Together(grid, loaded, rows=8)
    config = loaded.generation_config(8, 1.5)
    turn = [*SAMPLE.images, SAMPLE.question]
    replies = together.replies(
        SAMPLE.id, together.numbers, lambda: generated(loaded, [turn], config), config
    )
    for cell, reply in zip(grid, replies, strict=True):
        found = loaded.answers(torch.tensor([list(reply.tokens)]))[0]
        assert found == said_alone(cell, loaded)


def test_what_cannot_share_a_prompt_says_why(loaded: LoadedModel) -> None:
    together = Together(cells("method=vanilla,mustdrop,mustdrop_vit"), loaded, rows=8)
    assert together.numbers == [0] and not together.failed
    assert "vision tower" in together.alone[2]
