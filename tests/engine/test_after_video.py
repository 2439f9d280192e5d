"""Where the text behind a video stands: as transformers has it, or behind the video's last token."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.methods._contexts import video_of
from tests.support import reference
from tests.support.methods import Fixed, KeepAll, every
from tests.support.models import VIDEO, collate, generate, model_of, text_of
from unibench import UsageError
from unibench.compose import compose_cells
from unibench.identity import cell_of, vanilla_of
from unibench.pruning.after_video import behind_last

STEPS = 5
TIMED = ("qwen2_vl", "qwen2_5_vl")


def starts(rows: list[list[int]]) -> Tensor:
    """Three axes of positions of one prompt, ``[3, 1, L]``."""
    return torch.tensor(rows)[:, None]


def test_text_starts_behind_the_last_position_of_a_video_and_all_that_follows_moves_with_it() -> (
    None
):
    # two words; a video of 3 steps (4 apart) of 1 x 2 tokens; two words; a picture of 1 x 2; a word
    before = starts(
        [
            [0, 1, 2, 2, 6, 6, 10, 10, 4, 5, 6, 6, 8],
            [0, 1, 2, 2, 2, 2, 2, 2, 4, 5, 6, 6, 8],
            [0, 1, 2, 3, 2, 3, 2, 3, 4, 5, 6, 7, 8],
        ]
    )
    kinds = torch.tensor([[0, 0, 2, 2, 2, 2, 2, 2, 0, 0, 1, 1, 0]])
    after, delta = behind_last(before, kinds, torch.ones_like(kinds).bool())
    assert after[:, 0, :8].equal(before[:, 0, :8])
    assert after[:, 0, 8:].tolist() == [
        [11, 12, 13, 13, 15],
        [11, 12, 13, 13, 15],
        [11, 12, 13, 14, 15],
    ]
    assert delta.tolist() == [[16 - 13]]


def test_padding_stays_where_it_is_and_a_short_video_moves_nothing() -> None:
    before = starts([[1, 0, 1, 1, 3], [1, 0, 1, 1, 3], [1, 0, 1, 2, 3]])
    kinds = torch.tensor([[0, 0, 2, 2, 0]])
    valid = torch.tensor([[False, True, True, True, True]])
    after, delta = behind_last(before, kinds, valid)
    assert after.equal(before) and delta.tolist() == [[0]]


def by_hand(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Positions of a prompt with one video, text behind its last one, ``[3, 1, L]``."""
    (ids,) = inputs["input_ids"].tolist()
    first = ids.index(VIDEO)
    frames, height, width = inputs["video_grid_thw"][0].tolist()
    merge = model.config.vision_config.spatial_merge_size
    # Qwen2-VL counts steps, Qwen2.5-VL seconds times this
    step = getattr(model.config.vision_config, "tokens_per_second", None) or 1
    grid = torch.cartesian_prod(
        torch.arange(frames) * step, torch.arange(height // merge), torch.arange(width // merge)
    ).T
    text = torch.arange(len(ids) - first - grid.shape[1]).expand(3, -1)
    places = [torch.arange(first).expand(3, -1), grid + first]
    return torch.cat([*places, text + int(places[1].max()) + 1], 1)[:, None]


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("family", TIMED)
def test_an_answer_is_that_of_the_decoder_on_the_positions_made_by_hand(
    family: str, attn: str
) -> None:
    model, inputs = model_of(family, attn), video_of(family)
    embeds, plain = reference.prompt_of(model, inputs)
    positions = by_hand(model, inputs)
    assert not positions.equal(plain[-3:]), "the rules must differ here"
    with unibench.prune(model, KeepAll(), text_after_video="last"):
        tokens, scores, _ = generate(model, inputs, STEPS)
    answer: list[int] = []
    for step in range(STEPS):
        with torch.no_grad():
            hidden = text_of(model)(inputs_embeds=embeds, position_ids=positions)
            logits = model.lm_head(hidden.last_hidden_state[0, -1])
            answer.append(int(logits.argmax()))
            new = model.get_input_embeddings()(torch.tensor([[answer[-1]]]))
        torch.testing.assert_close(scores[0, step], logits, atol=3e-4, rtol=3e-4)
        embeds = torch.cat([embeds, new], 1)
        positions = torch.cat([positions, positions[..., -1:].max().expand(3, 1, 1) + 1], 2)
    assert tokens[0].tolist() == answer


@pytest.mark.parametrize("family", TIMED)
def test_the_default_is_the_unpatched_model_and_the_other_rule_is_not(family: str) -> None:
    model, inputs = model_of(family), video_of(family)

    def logits(**options: Any) -> Tensor:
        with unibench.prune(model, KeepAll(), **options), torch.no_grad():
            found: Tensor = model(**copy.deepcopy(inputs)).logits
            return found

    with torch.no_grad():
        plain = model(**copy.deepcopy(inputs)).logits
    assert logits().equal(plain)
    assert not torch.allclose(logits(text_after_video="last")[:, -1], plain[:, -1], atol=1e-4)
    assert "get_rope_index" not in vars(model.model)


@pytest.mark.parametrize("family", TIMED)
def test_a_batch_of_videos_is_placed_as_single_ones_are(family: str) -> None:
    model, samples = model_of(family), [video_of(family, seed) for seed in (0, 1, 2)]
    options: dict[str, Any] = {
        "method": Fixed({0: every(2), 3: every(2)}),
        "text_after_video": "last",
    }
    with unibench.prune(model, **options):
        together, _, _ = generate(model, collate(samples), STEPS)
        for row, sample in enumerate(samples):
            assert generate(model, sample, STEPS)[0][0].equal(together[row])


def test_a_model_without_positions_in_time_refuses_the_rule() -> None:
    for family in ("qwen3_vl", "llava_onevision"):
        with (
            pytest.raises(UsageError, match="text_after_video=last"),
            unibench.prune(model_of(family), KeepAll(), text_after_video="last"),
        ):
            pass


def test_the_rule_is_in_the_key_of_a_cell_and_of_its_vanilla_and_the_default_is_not_named() -> None:
    words = ["model=qwen2_5_vl_7b", "model.device=cpu", "method=vidcom2", "task=videomme"]
    cells = [
        cell_of(config)
        for more in ([], ["text_after_video=max_side"], ["text_after_video=last"])
        for config in compose_cells([*words, *more], sweep=False)
    ]
    assert [one.key == two.key for one, two in pairwise(cells)] == [True, False]
    assert "text_after_video" not in cells[0].identity
    assert cells[2].identity["text_after_video"] == "last"
    assert vanilla_of(cells[2]).setting == cells[2].setting != cells[0].setting
