"""The question in words, and words as the language model embeds them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.support.checkpoints import save, spec_of
from tests.support.methods import Look
from unibench import Needs, StageContext
from unibench.budget import Budget
from unibench.models import LoadedModel, load
from unibench.pruning import Session

QUESTIONS = ["How many red squares are there?", "What colour is it?"]


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    place = save(request.param, tmp_path_factory.mktemp(request.param))
    return load(spec_of(request.param, path=str(place)))


@pytest.mark.parametrize("layer", [0, 2])
def test_the_question_is_read_back_from_a_padded_batch(loaded: LoadedModel, layer: int) -> None:
    said: list[str | None] = []
    look = Look(lambda ctx: said.append(ctx.question_text()), layer, Needs(question=True))
    session = Session(loaded.family, look, Budget.parse(ratio=0.5))
    inputs = loaded.inputs(
        QUESTIONS, [[Image.new("RGB", (60, 60), color)] for color in ("red", "blue")]
    )
    with session.installed(), torch.no_grad():
        loaded.model(**inputs)
    assert said == QUESTIONS


def test_words_are_rows_of_the_embedding_table(loaded: LoadedModel) -> None:
    encode = loaded.processor.tokenizer.encode
    table = loaded.model.get_input_embeddings().weight
    words = ["red", "squares"]
    one_by_one = [i for word in words for i in encode(word, add_special_tokens=False)]
    assert torch.equal(loaded.family.embedded(words), table[one_by_one])
    whole = encode("red squares", add_special_tokens=False)
    assert torch.equal(loaded.family.embedded("red squares"), table[whole])
    assert loaded.family.embedded([]).shape == (0, table.shape[1])


def test_a_model_without_its_processor_has_no_words() -> None:
    empty = torch.zeros(1, 4)
    ctx = StageContext(0, 1, 1, empty, torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    assert ctx.question_text() is None
