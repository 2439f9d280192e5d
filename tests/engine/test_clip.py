"""The CLIP of the vision tower: relevance as its own model computes it, on a real checkpoint
folder.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tests.support.methods import At
from tests.support.models import CLIP, Bare, inputs_of, model_of
from unibench import Needs, StageContext, UsageError
from unibench.api import build_method, family_of
from unibench.budget import Budget
from unibench.models._clip import SEGMENT, open_clip
from unibench.pruning import Method, Session

WORDS = [chr(ord("a") + number) for number in range(26)]


class Words:
    """A language model's tokenizer: every id is a letter."""

    def decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> str:
        return " ".join(WORDS[int(token) % 26] for token in ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP whose vision tower has the shape of the LLaVA model's, as files."""
    place = tmp_path_factory.mktemp("clip")
    entries = [f"{letter}</w>" for letter in WORDS] + ["<|startoftext|>", "<|endoftext|>"]
    (place / "vocab.json").write_text(
        json.dumps({entry: number for number, entry in enumerate(entries)})
    )
    (place / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt")).save_pretrained(place)
    text = dict(
        vocab_size=len(entries), hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=26, eos_token_id=27, max_position_embeddings=SEGMENT,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=CLIP, projection_dim=16)).save_pretrained(
        place
    )
    return place


def run(folder: Path | None, method: Method, question: int = 12) -> Session:
    """One prompt of the LLaVA model, whose question has this many ids after the picture."""
    model, inputs = model_of("llava"), inputs_of("llava", 0)
    longer = torch.arange(question)[None] % 100 + 10
    inputs["input_ids"] = torch.cat([inputs["input_ids"], longer], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    clip = None
    if folder is not None:
        clip = partial(open_clip, str(folder), Words(), torch.device("cpu"), {})
    family = family_of(model, Bare(), clip=clip)
    with (
        Session(family, method, Budget.parse(keep=4)).installed() as session,
        torch.no_grad(),
    ):
        model(**inputs)
    return session


@pytest.mark.parametrize("question", [12, 100])
def test_patches_and_question_are_those_of_the_whole_clip(folder: Path, question: int) -> None:
    seen: dict[str, Any] = {}

    def look(ctx: StageContext) -> None:
        assert ctx.clip is not None and ctx.vision is not None and ctx.input_ids is not None
        seen["patches"], seen["text"] = ctx.clip()
        seen["hidden"], seen["ids"] = ctx.vision.hidden(-2), ctx.input_ids[ctx.origin[ctx.question]]

    run(folder, At({0: look}, Needs(clip=True)), question)
    whole = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(
        Words().decode(seen["ids"], skip_special_tokens=True)
    ).input_ids
    assert len(seen["text"]) == -(-len(tokens) // SEGMENT)
    for row, start in zip(seen["text"], range(0, len(tokens), SEGMENT), strict=True):
        segment = torch.tensor([tokens[start : start + SEGMENT]])
        short = len(segment[0]) < SEGMENT
        padded = torch.nn.functional.pad(segment, (0, SEGMENT - len(segment[0])))
        mask = (torch.arange(SEGMENT) < len(segment[0])).long()[None] if short else None
        expected = whole.get_text_features(padded, attention_mask=mask).pooler_output[0]
        torch.testing.assert_close(row, expected)
    torch.testing.assert_close(
        seen["patches"], whole.visual_projection(whole.vision_model.post_layernorm(seen["hidden"]))
    )


@pytest.mark.parametrize("question", [12, 100])
def test_every_token_of_the_question_is_a_row_and_patches_skip_the_norm(
    folder: Path, question: int
) -> None:
    seen: dict[str, Any] = {}

    def look(ctx: StageContext) -> None:
        assert ctx.family is not None and ctx.family.clip is not None and ctx.vision is not None
        space, ids = ctx.family.clip(), ctx.question_ids()
        seen.update(words=space.words(ids), ids=ids, hidden=ctx.vision.hidden(-2))
        seen["patches"] = space.project(seen["hidden"])

    run(folder, At({0: look}, Needs(clip=True)), question)
    whole = CLIPModel.from_pretrained(folder).eval()
    said = Words().decode(seen["ids"], skip_special_tokens=True)
    tokens = CLIPTokenizer.from_pretrained(folder)(said, truncation=True, max_length=SEGMENT)
    assert len(seen["words"]) == len(tokens.input_ids) == min(SEGMENT, len(seen["ids"]) + 2)
    states = whole.text_model(torch.tensor([tokens.input_ids])).last_hidden_state[0]
    torch.testing.assert_close(seen["words"], whole.text_projection(states))
    torch.testing.assert_close(seen["patches"], whole.visual_projection(seen["hidden"]))


def test_relevance_comes_from_clip_where_the_model_has_one(folder: Path) -> None:
    official, adapted = run(folder, build_method("cdpruner")), run(None, build_method("cdpruner"))
    assert not official.notes
    assert adapted.notes == {"cdpruner-adapted: relevance from the language model's embeddings"}
    (with_clip,), (without,) = official.prompt.choices, adapted.prompt.choices  # type: ignore[union-attr]
    assert with_clip[0].origin.tolist() != without[0].origin.tolist()  # type: ignore[union-attr]


def test_the_official_relevance_is_refused_without_its_clip() -> None:
    with pytest.raises(UsageError, match=r"model\.clip="):
        run(None, build_method("cdpruner", relevance="clip"))


def test_a_clip_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="nobody/nothing"):
        open_clip("nobody/nothing", None, torch.device("cpu"), {"local_files_only": True})
