"""What enters the projector, against what comes out of it."""

from __future__ import annotations

import copy
from functools import reduce

import pytest
import torch

import unibench
from tests.support.methods import Look
from tests.support.models import families, inputs_of, model_of
from unibench import Needs, StageContext
from unibench.pruning.layout import separators_of

POOLED = ("llava_onevision",)  # tokens are joined once more behind the projector


@families
@pytest.mark.parametrize(("images", "video"), [(1, False), (2, False), (0, True)])
def test_the_projector_of_its_input_is_the_visual_token(
    family: str, images: int, video: bool
) -> None:
    model, found = model_of(family), list[StageContext]()
    try:
        inputs = inputs_of(family, 1, images, video=video)
    except KeyError:
        pytest.skip("no videos")
    see = Look(found.append, 0, Needs(projector=True))
    with unibench.prune(model, see), torch.no_grad():
        model(**copy.deepcopy(inputs))
        (ctx,) = found
        assert ctx.vision is not None and ctx.family is not None
        if not ctx.family.projector:
            with pytest.raises(RuntimeError, match="did not run"):
                ctx.vision.projector_input()
            return
        assert "projector" in ctx.family.provides
        entered = ctx.vision.projector_input()
        assert len(entered) == len(ctx.visual)
        out = reduce(lambda rows, layer: layer(rows), ctx.family.projector, entered)
    shown = ~separators_of(ctx.items, ctx.vision_rows)
    if family not in POOLED:
        torch.testing.assert_close(out[shown], ctx.visual_hidden[shown], rtol=1e-4, atol=1e-5)
