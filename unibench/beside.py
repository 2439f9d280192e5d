"""``controls=standard``: the controls that belong beside the methods of a grid.

Nothing here imports torch: a plan of thousands of cells takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from unibench import registry
from unibench.config import BudgetConfig, Control, ModelConfig, RunConfig, budget_of, model_path
from unibench.identity import NO_CONTROL, of_control

Controls = Literal["none", "standard"]
CONTROLS: tuple[Controls, ...] = ("none", "standard")
SEEDS = (0, 1, 2)  # of random choices
ONE_TILE: Mapping[str, Any] = {
    "max_patches": 1,
    "crop_to_patches": False,
    "do_image_splitting": False,
}
"""Settings of image processors under which a family that cuts pictures into tiles cuts none."""


def beside(cells: Sequence[RunConfig]) -> Iterator[RunConfig]:
    """The controls of a grid, each once.

    Beside each method at each budget: the picture made smaller, where the model reads smaller
    pictures in fewer tokens; where it does not, or not always, ``pooling`` and ``resize_blur``, by
    which samples are grouped; of a video fewer frames and ``pooling``, and with ``video.frames``
    the unpruned model on the share of them that is kept; and random choice of as many tokens at the
    same layers. ``blind`` has no budget.

    Args:
        cells: of the grid, checked.
    """
    seen = set[str]()
    for cell in cells:
        if cell.method["name"] == "vanilla":
            continue
        for control in _of_cell(cell):
            # a grid has a control once, however many methods it stands beside
            name = repr(replace(control, out=""))
            if name not in seen:
                seen.add(name)
                yield control


def _of_cell(cell: RunConfig) -> Iterator[RunConfig]:
    video = cell.task.modality == "video"
    controls: tuple[Control, ...] = ("fewer_frames", "blind")
    if not video:
        controls = _changed_pictures(cell.model, cell.pixels)
    for control in controls:
        yield of_control(replace(cell, method={"name": "vanilla"}, control=control))
    if (fewer := _fewer(cell)) is not None:
        yield fewer
    plain = replace(cell, positions=RunConfig.positions, seed=0, control=NO_CONTROL)
    if video or _resizing(cell.model, cell.pixels) != "native":
        scope = BudgetConfig(scope=cell.budget.scope)
        yield replace(plain, method=registry.method("pooling").config(), budget=scope)
    card = registry.method(str(cell.method.get("source") or cell.method["name"]))
    if card.category != "random":
        yield from (replace(plain, method=random_beside(cell.method), seed=seed) for seed in SEEDS)


def _fewer(cell: RunConfig) -> RunConfig | None:
    """The unpruned model on as many frames as have the tokens that a method keeps of more, see
    :mod:`unibench.comparison.more_frames`; None where frames or tokens are not a number and a
    share.
    """
    frames, share = cell.video.frames, budget_of(cell).retention
    if frames is None or share is None:
        return None
    video = replace(cell.video, frames=max(1, round(frames * share)))
    # without a control this is the unpruned model
    return of_control(replace(cell, method={"name": "vanilla"}, control=NO_CONTROL, video=video))


def _changed_pictures(model: ModelConfig, pixels: str) -> tuple[Control, ...]:
    """Controls that change what the processor is given."""
    resizing = _resizing(model, pixels)
    if resizing == "native":
        return ("resize", "blind")
    # an overview always stays: a small budget refuses resize, and leaves resize_blur
    return ("resize", "resize_blur", "blind") if resizing == "tiles" else ("resize_blur", "blind")


def _resizing(model: ModelConfig, pixels: str) -> str:
    """What a smaller picture is to a model's processor, see
    :class:`~unibench.registry.cards.FamilyCard`.
    """
    card = registry.families().get(model.family)
    if card is None or card.resizing != "tiles":
        return "one" if card is None else card.resizing
    settings = {**_settings(model), **model.processor, **model.pixels.get(pixels, {})}
    one = any(settings.get(name) == value for name, value in ONE_TILE.items())
    return "one" if one else "tiles"


def _settings(model: ModelConfig) -> Mapping[str, Any]:
    """What the files of a checkpoint in a folder say of its image processor."""
    folder = model_path(model.path)
    for name in ("processor_config.json", "preprocessor_config.json"):
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")) if folder else {}
        except (OSError, ValueError):
            continue  # what is wrong with the files is told when the model is loaded
        if isinstance(found, dict) and found:
            inner = found.get("image_processor", found)
            return inner if isinstance(inner, dict) else {}
    return {}


def random_beside(node: Mapping[str, Any]) -> dict[str, Any]:
    """Random choice of as many tokens at the layers where a configured method cuts.

    Args:
        node: the method as a configuration has it.
    """
    name = str(node.get("source") or node["name"])
    card = registry.method(name)
    # one random choice stands beside all methods that cut once before the language model
    if card.cuts == ("0",) or card.adaptive:
        return registry.method("random_pre").config()
    changed = {
        key: node[key] for key, default in card.parameters.items() if node.get(key) != default
    }
    return {"name": "random_like", "inner": name, "options": changed or None}
