"""Tokens dropped ahead of the vision tower: the others see what they would see of the picture, and
nothing of what was dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.support.methods import Look
from tests.support.models import collate, generate, inputs_of, model_of
from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.pruning import PixelContext

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@dataclass(frozen=True)
class Masked(Method):
    """Drops what a function of the number of tokens says."""

    stays: Callable[[int], Tensor]

    @property
    def uses_budget(self) -> bool:
        return False

    def pixels(self, ctx: PixelContext) -> Tensor:
        return self.stays(len(ctx.tokens))

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(0, self._rest, exact=False)]

    def _rest(self, ctx: StageContext) -> Selection | None:
        left = ctx.vision.merged
        return None if left is None else Selection(left.nonzero()[:, 0])


def thirds(count: int) -> Tensor:
    return torch.arange(count) % 3 != 1


def logits(model: Any, method: Method | str, inputs: dict[str, Any]) -> Tensor:
    with unibench.prune(model, method), torch.no_grad():
        found: Tensor = model(**copy.deepcopy(inputs)).logits
    return found


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_method_that_drops_nothing_changes_nothing(family: str, attn: str) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, 2)
    with torch.no_grad():
        expected = model(**copy.deepcopy(inputs)).logits
    everything = Masked(lambda count: torch.ones(count, dtype=torch.bool))
    torch.testing.assert_close(logits(model, everything, inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropped_pixels_are_not_seen(family: str) -> None:
    model, inputs = model_of(family), inputs_of(family, 1, 2)
    stays = torch.cat(
        [thirds(int(t * h * w) // 4) for t, h, w in inputs["image_grid_thw"].tolist()]
    ).repeat_interleave(4)
    other = copy.deepcopy(inputs)
    noise = torch.randn(other["pixel_values"].shape, generator=torch.Generator().manual_seed(3))
    other["pixel_values"] = torch.where(stays[:, None], other["pixel_values"], noise)
    assert torch.equal(logits(model, Masked(thirds), inputs), logits(model, Masked(thirds), other))
    moved = {**other, "pixel_values": other["pixel_values"].roll(1, 1)}
    assert not torch.allclose(
        logits(model, Masked(thirds), inputs), logits(model, Masked(thirds), moved)
    )


def test_the_tower_equals_the_tower_by_hand() -> None:
    model, inputs = model_of("qwen2_vl"), inputs_of("qwen2_vl", 0, 2)
    tower, grid = model.model.visual, inputs["image_grid_thw"]
    seen: dict[str, Tensor] = {}
    hook = tower.blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(
            hidden=args[0],
            cos=kwargs["position_embeddings"][0],
            sin=kwargs["position_embeddings"][1],
        ),
        with_kwargs=True,
    )
    expected = []
    with torch.no_grad():
        tower(inputs["pixel_values"], grid)  # what enters the first block of the whole pictures
        hook.remove()
        start = 0
        for count in (grid.prod(1) // 4).tolist():
            rows = start + thirds(count).repeat_interleave(4).nonzero()[:, 0]
            start += 4 * count
            hidden = seen["hidden"][rows]
            for block in tower.blocks:
                hidden = block(
                    hidden,
                    cu_seqlens=torch.tensor([0, len(rows)], dtype=torch.int32),
                    position_embeddings=(seen["cos"][rows], seen["sin"][rows]),
                )
            expected.append(tower.merger(hidden))
    found: list[StageContext] = []
    chain = unibench.Chain((Masked(thirds), Look(found.append, 0)))
    logits(model, chain, inputs)
    torch.testing.assert_close(found[0].visual_hidden, torch.cat(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_equals_single_prompts(family: str) -> None:
    model, samples = model_of(family), [inputs_of(family, seed, 1 + seed) for seed in range(2)]
    with unibench.prune(model, Masked(thirds)) as session:
        together, _, _ = generate(model, collate(samples))
        records = session.take_records()
        for row, sample in enumerate(samples):
            alone, _, _ = generate(model, sample)
            assert torch.equal(together[row], alone[0])
            (record,) = session.take_records()
            assert record == records[row]
            assert record.kept == sum(
                int(thirds(int(t * h * w) // 4).sum())
                for t, h, w in sample["image_grid_thw"].tolist()
            )


def test_tokens_are_pixels_from_nought_to_one_in_raster_order() -> None:
    found: list[PixelContext] = []

    def see(ctx: PixelContext) -> Tensor:
        found.append(ctx)
        return torch.ones(len(ctx.tokens), dtype=torch.bool)

    @dataclass(frozen=True)
    class Seeing(Masked):
        def pixels(self, ctx: PixelContext) -> Tensor:
            return see(ctx)

    model, inputs = model_of("qwen3_vl"), inputs_of("qwen3_vl", 0, 2)
    logits(model, Seeing(thirds), inputs)
    sizes = [(h // 2, w // 2) for _, h, w in inputs["image_grid_thw"].tolist()]
    seen = [(ctx.height, ctx.width) for ctx in found]  # the first of a shape is asked again
    assert list(dict.fromkeys(seen)) == sizes
    side = model.model.visual.config.patch_size
    frames = model.model.visual.config.temporal_patch_size
    patch = inputs["pixel_values"][4].view(3, frames, side, side)[:, 0]
    expected = (patch / 2 + 0.5).flatten()
    torch.testing.assert_close(found[0].tokens[1][: len(expected)], expected)


def test_signals_of_a_tower_that_did_not_see_the_picture_are_refused() -> None:
    chain = unibench.Chain((Masked(thirds), Look(lambda ctx: None, 0, Needs(saliency=True))))
    with pytest.raises(UsageError, match="ahead of the vision tower"):
        logits(model_of("qwen2_vl"), chain, inputs_of("qwen2_vl"))


def test_families_whose_tokens_are_no_groups_of_patches_are_refused() -> None:
    with pytest.raises(UsageError, match="ahead of the vision tower"):
        logits(model_of("llava"), Masked(thirds), inputs_of("llava"))
