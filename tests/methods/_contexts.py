"""Contexts as real tiny models make them, recorded once and shared by all methods."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import torch

import unibench
from tests.support import pictures
from tests.support.methods import Look
from tests.support.models import LAYERS, Bare, inputs_of, model_of
from unibench import Method, Needs, StageContext, registry
from unibench.api import build_method
from unibench.budget import Budget

RATIOS = (0.1, 0.667, 0.889, 0.99)
EVERYTHING = Needs(
    vit_attention=(-1, -2, 0),
    vit_hidden=(-1,),
    saliency=True,
    features=True,
    object_attention=(0, 1),
    local_attention=True,
    projector=True,
)

# what a method cannot do without: trained weights stand in by random ones
OPTIONS: dict[str, dict[str, Any]] = {
    "visionselector": {"selector_path": "random:0"},
    "idpruner": {"selector_path": "random:0"},
    "d2pruner": {"prior": "random:0"},
    "debias": {"prior": "random:0"},
}
# what random models do not come with: a processor that knows a chat template, and a CLIP
BESIDES: dict[str, Any] = {"processor": Bare(), "clip": None}
# further forms of a method, tested like a method of its own
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "cdpruner[clip]": ("cdpruner", {"relevance": "clip"}),
    "d2pruner[either]": ("d2pruner", {"prior": "random:0", "edges": "either"}),
    "dart[angelslim]": ("dart", {"layer": 1, "variant": "angelslim"}),
    "dart[layer]": ("dart", {"norm": "layer", "variant": "official_bug"}),
    "dpp[random]": ("dpp", {"importance": "random"}),
    "duet[ratios]": ("duet", {"ratios": (0.5, 0.25)}),
    "duet[question]": ("duet", {"ratios": (0.5, 0.0), "queries": "question"}),
    "duet[official_bug]": ("duet", {"variant": "official_bug"}),
    "fastv[angelslim]": ("fastv", {"layer": 1, "variant": "angelslim"}),
    "ficoco_v[official_bug]": ("ficoco_v", {"variant": "official_bug"}),
    "greedy_importance[l2norm]": ("greedy_importance", {"importance": "l2norm"}),
    "hired[sum]": ("hired", {"content": "sum", "alpha": 0.2}),
    "hiprune[angelslim]": ("hiprune", {"variant": "angelslim", "alpha": 0.5}),
    "idpruner[difftopk]": (
        "idpruner",
        {"selector_path": "random:0", "importance_transform": "difftopk"},
    ),
    "mustdrop_vit[threshold]": (
        "mustdrop_vit",
        {"mode": "threshold", "window": 2, "threshold": 0.1},
    ),
    "naive_hybrid[split]": ("naive_hybrid", {"variant": "split"}),
    "pact[cutoff]": ("pact", {"cutoff": 0.21, "share": 0.55}),
    "pact[unweighted]": ("pact", {"weighted": False}),
    "pixelprune[threshold]": ("pixelprune", {"threshold": 0.05}),
    "pixelprune[serpentine]": ("pixelprune", {"order": "serpentine", "metric": "mae"}),
    "pixelprune[random]": ("pixelprune", {"order": "random"}),
    "pooling[square]": ("pooling", {"cells": "square", "mode": "max"}),
    "prumerge[adaptive]": ("prumerge", {"mode": "adaptive"}),
    "prumerge_plus[adaptive]": ("prumerge_plus", {"mode": "adaptive"}),
    "prumerge_plus[official_bug]": ("prumerge_plus", {"variant": "official_bug"}),
    "prunesid[official]": ("prunesid", {"variant": "official"}),
    "prunesid[qwen]": ("prunesid", {"variant": "qwen"}),
    "scope[add]": ("scope", {"combined": "add"}),
    "scope[angelslim]": ("scope", {"variant": "angelslim"}),
    "stp[greedy]": ("stp", {"reading": "greedy"}),
    "stp[one_shot]": ("stp", {"reading": "one_shot", "alpha_role": "eq3"}),
    "trimtokenator[cos]": (
        "trimtokenator",
        {"align": "cos", "stage2": "divprune", "text_scope": "all"},
    ),
    "trimtokenator[repmax_first]": ("trimtokenator", {"order": "repmax_first", "intra": "l2"}),
    "vispruner[angelslim]": ("vispruner", {"variant": "angelslim"}),
    "zoo_prune[rank]": ("zoo_prune", {"rank": 4, "directions": 8}),
    "visiontrim[ltam]": ("visiontrim", {"variant": "ltam"}),
    "visiontrim[layer]": ("visiontrim", {"layer": 1}),
    "vscan[qwen]": ("vscan", {"variant": "qwen"}),
    "vscan[official_bug]": ("vscan", {"variant": "official_bug", "windows": "served"}),
    "vscan[retentions]": ("vscan", {"retentions": (0.167, 0.333)}),
    "visionzip[angelslim]": ("visionzip", {"variant": "angelslim"}),
    "visionzip[official_bug]": ("visionzip", {"variant": "official_bug"}),
    "visionzip[qwen]": ("visionzip", {"variant": "qwen"}),
}
METHODS = sorted(registry.methods())
# refuse prompts without a video
VIDEO_ONLY = ("evs",)
# drop tokens ahead of the vision tower, which few families allow
BEFORE_THE_TOWER = ("pixelprune",)


FRAMES, SCENE = 10, 3  # of a video; of a scene within it


def video_of(family: str, seed: int = 0) -> dict[str, Any]:
    """A prompt with a video of a few scenes, whose frames resemble each other."""
    with patch.object(pictures, "FRAMES", FRAMES):
        inputs = inputs_of(family, seed, video=True)
    name = "pixel_values_videos" if "pixel_values_videos" in inputs else "pixel_values"
    pixels = inputs[name]
    frames = FRAMES + seed % 2 if family == "internvl" else FRAMES
    by_frame = pixels.reshape(frames, -1)
    scene = by_frame[torch.arange(frames) // SCENE * SCENE]
    inputs[name] = (scene + 0.3 * by_frame).view_as(pixels)
    return inputs


def prompt_for(name: str, *, images: int = 1) -> tuple[str, Any]:
    """A family that a method serves, LLaVA if it can be, and a prompt that it takes."""
    base, _ = FORMS.get(name, (name, {}))
    if base in BEFORE_THE_TOWER:
        return "qwen2_5_vl", inputs_of("qwen2_5_vl", 1, images)
    if base in (*VIDEO_ONLY, "dycoke"):  # which compare frames
        return "llava_onevision", video_of("llava_onevision", 1)
    return "llava", inputs_of("llava", 1, images)


def build(name: str) -> Method:
    """A method, or one of its further forms."""
    base, options = FORMS.get(name, (name, OPTIONS.get(name, {})))
    return build_method(base, **options)


@cache
def serves(name: str, family: str) -> bool:
    """Whether a family has what a method wants, so that the two are not refused."""
    base, _ = FORMS.get(name, (name, {}))
    if base in BEFORE_THE_TOWER and not family.startswith("qwen"):
        return False
    return build(name).wants <= registry.families()[family].provides


def before_the_model(name: str) -> bool:
    """Whether a method is one cut at the input of the language model."""
    stages = build(name).stages(LAYERS)
    return [stage.layer for stage in stages] == [0]


PRE = [name for name in [*METHODS, *FORMS] if before_the_model(name)]


def _one_token(ctx: StageContext) -> StageContext:
    """The context after an earlier stage left a single token in the middle."""
    middle = slice(len(ctx.visual) // 2, len(ctx.visual) // 2 + 1)
    rest = torch.cat([ctx.visual[: middle.start], ctx.visual[middle.stop :]])
    stays = torch.ones(len(ctx.hidden), dtype=torch.bool)
    stays[rest] = False
    inner = ctx.vision
    return replace(
        ctx,
        hidden=ctx.hidden[stays],
        visual=torch.tensor([int(stays[: int(ctx.visual[middle][0])].sum())]),
        origin=ctx.origin[stays],
        vision_rows=ctx.vision_rows[middle],
        vision=_Sliced(inner, middle),  # type: ignore[arg-type]
    )


class _Sliced:
    """The vision signals of some tokens of a context."""

    merged = None

    def __init__(self, inner: Any, rows: slice) -> None:
        self._inner, self._rows = inner, rows

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: getattr(self._inner, name)(*args, **kwargs)[self._rows]


PROMPTS: dict[str, int] = {"one_token": 1, "grid": 1, "images": 3}


@cache
def recorded(family: str, prompt: str, dtype: torch.dtype = torch.float32) -> StageContext:
    """The context before the language model; grids of Qwen models are not square."""
    model, found = model_of(family), []
    if dtype != torch.float32:
        model = copy.deepcopy(model).to(dtype)
    inputs = inputs_of(family, 1, PROMPTS[prompt])
    inputs = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in inputs.items()
    }
    with (
        unibench.prune(model, Look(found.append, 0, EVERYTHING), **BESIDES),
        torch.no_grad(),
    ):
        model(**inputs)
    (ctx,) = found
    return _one_token(ctx) if prompt == "one_token" else ctx


def under(ctx: StageContext, ratio: float) -> StageContext:
    """The context with the budget of a ratio, and with a CLIP where the family may have one."""
    assert ctx.family is not None
    clip = functools.partial(_in_clip, ctx) if "clip_tower" in ctx.family.provides else None
    return replace(ctx, keep=Budget.parse(ratio=ratio).keep(len(ctx.visual)), clip=clip)


def _in_clip(ctx: StageContext) -> tuple[torch.Tensor, torch.Tensor]:
    """Stand-ins for patches and question in CLIP's space: the features, and as many columns of the
    question's embeddings.
    """
    assert ctx.vision is not None
    patches = ctx.vision.hidden(-1)
    return patches, ctx.hidden[ctx.question].float()[:, : patches.shape[1]]
