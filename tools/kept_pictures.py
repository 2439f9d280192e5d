"""A picture for each method: a photograph, and what of it the kept tokens show.

``python -m tools.kept_pictures`` writes ``docs/assets/kept/<method>.jpg``; methods that read videos
or need a file of their own have none. `python -m tools.documents` puts them on the methods' pages.
"""

from __future__ import annotations

import sys

import torch
from PIL import Image
from torch import Tensor

import unibench
from tools.documents import PICTURES
from unibench import registry
from unibench.errors import UsageError
from unibench.models import LoadedModel
from unibench.paths import part
from unibench.plots.overlay import views
from unibench.pruning.record import unpacked
from unibench.tasks.photographs import Photographs

RATIO = 0.75
SAMPLE = "photographs-coffee-thing"
# the first that serves a method: the second has a CLS token, the first reads pixels
MODELS = ("tiny_qwen2_5_vl", "tiny_llava")
GAP, SIDE = 12, 240
_TINY = part("models/tiny")
_SELECTOR = {"selector_path": str(_TINY / "selectors" / "qwen2_5_vl.safetensors")}
_PRIOR = {"prior": str(_TINY / "priors" / "qwen2_5_vl.safetensors")}
FILES = {
    **dict.fromkeys(("idpruner", "visionselector"), _SELECTOR),
    **dict.fromkeys(("d2pruner", "debias"), _PRIOR),
}
"""Trained numbers of the first model, for methods that do nothing without."""


def main(names: list[str]) -> int:
    """Draw the methods named, or all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    scene, question = _scene()
    loaded = [unibench.load(name) for name in MODELS]
    for name in names or registry.methods():
        kept = next(filter(None, (_kept(model, name, scene, question) for model in loaded)), None)
        if kept is None:
            print(f"{name}: no picture")
            continue
        _beside(scene, kept).save(PICTURES / f"{name}.jpg", quality=82, optimize=True)
        print(name)
    return 0


def _scene() -> tuple[Image.Image, str]:
    """A cup of coffee and a question about it."""
    (sample,) = (one for one in Photographs().samples() if one.id == SAMPLE)
    (picture,) = sample.images
    return picture, sample.question


def _kept(loaded: LoadedModel, name: str, scene: Image.Image, question: str) -> Image.Image | None:
    """What of a scene reaches the last layer under a method; None where it cannot run here."""
    inputs = loaded.inputs([question], [[scene]])
    options = {"processor": loaded.processor, "clip": None}
    files = FILES.get(name, {}) if loaded.model.config.model_type == "qwen2_5_vl" else {}
    uses = registry.method(name).uses_budget
    try:
        with (
            torch.no_grad(),
            unibench.prune(
                loaded.model, name, ratio=RATIO if uses else None, **options, **files
            ) as session,
        ):
            loaded.model.generate(**inputs, max_new_tokens=1, do_sample=False)
    except (UsageError, RuntimeError, ValueError):
        return None
    (record,) = session.take_records()
    (item,) = record.items
    kept: Tensor = unpacked(record.last, record.visual_tokens)
    return views([scene], item, kept[item.start : item.stop], loaded.seen(scene))[0]


def _beside(scene: Image.Image, kept: Image.Image) -> Image.Image:
    """The picture and what is kept of it, side by side."""
    height = round(SIDE * scene.height / scene.width)
    whole = Image.new("RGB", (2 * SIDE + GAP, height), "white")
    whole.paste(scene.convert("RGB").resize((SIDE, height)), (0, 0))
    whole.paste(kept.convert("RGB").resize((SIDE, height)), (SIDE + GAP, 0))
    return whole


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
