"""lmms-eval's own model objects around the loaded model."""

from __future__ import annotations

import importlib
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.models import get_model
from PIL import Image
from qwen_vl_utils.vision_process import fetch_image

from unibench.benchmark import PACKAGED, VERSIONS, Convention, convention_of, limits_of
from unibench.config import RunConfig
from unibench.errors import UsageError
from unibench.harness.child import llava_package
from unibench.harness.child.entry import Standing, Worded, folder_of, on_device, standing_in
from unibench.harness.child.frames import by_decord
from unibench.harness.child.native import device_of, loading_as, source_of, trusting
from unibench.models import LoadedModel, wrap
from unibench.models._template import check_template

PROCESSORS = ("processor", "_image_processor")  # where classes keep theirs
# what classes call the number of frames
FRAMES = ("max_num_frames", "max_frames_num", "num_frames")


class Asking:
    """A model object of lmms-eval around the loaded model.

    Args:
        inner: the object.
        standing: what it holds for its model.
        convention: the cell's.
        loaded: the model.
    """

    def __init__(
        self, inner: Any, standing: Standing, convention: Convention, loaded: LoadedModel
    ) -> None:
        self.inner, self.standing = inner, standing
        self._convention = convention
        self._loaded = loaded

    @property
    def is_simple(self) -> bool:
        """Whether it takes text and pictures instead of a conversation."""
        return bool(self.inner.is_simple)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers, as lmms-eval asks for them."""
        for request in requests:
            _prepare(request, self._convention, simple=self.is_simple)
        with on_device(self._loaded), by_decord():
            said = self.inner.generate_until(requests)
        return [str(unwrap_generation_output(one)[0]) for one in said]


def asking(loaded: LoadedModel, config: RunConfig, convention: Convention, root: Path) -> Asking:
    """The entry of a convention around the loaded model.

    Args:
        loaded: the model.
        config: of the cell.
        convention: that names an entry.
        root: a folder for the entry's checkpoint.
    """
    name = str(convention.entry)
    kind = class_of(name)
    standing: Standing = Standing(loaded, config.generation)
    if name in PACKAGED:
        standing = original = llava_package.Original(loaded, config.generation)
        _give(kind, original, convention)
    checkpoint = config.model.checkpoint or "unibench/model"
    options = _options(kind, convention, config)
    place = "cpu" if loaded.device.type == "cpu" else str(loaded.device)
    with trusting(config.model), standing_in(standing), on_device(loaded):
        inner = kind(
            pretrained=str(folder_of(config.model, loaded, checkpoint, root)),
            device=place,
            device_map=place,
            batch_size=1,
            **options,
        )
    # the classes read it when they move inputs
    inner._device = loaded.device
    if name in PACKAGED:
        inner._rank, inner._world_size = 0, 1
    else:
        for part in PROCESSORS:
            if part in vars(inner):
                setattr(inner, part, Worded(vars(inner)[part], convention))
    return Asking(inner, standing, convention, loaded)


def native(config: RunConfig) -> tuple[Any, LoadedModel]:
    """A model object of lmms-eval that loads the configured checkpoint itself."""
    convention = convention_of(config, "lmms_eval")
    kind, device = class_of(str(convention.entry)), device_of(config.model)
    with loading_as(config.model):
        model = kind(
            pretrained=source_of(config.model),
            device=device,
            device_map=device,
            batch_size=1,
            **_options(kind, convention, config),
        )
    processor = getattr(model, "processor", None) or model._image_processor
    check_template(processor, f"the chat template of model={config.model.name}")
    return model, wrap(model.model, processor, clip=config.model.clip)


def class_of(name: str) -> Any:
    """A model class by lmms-eval's name of it.

    Raises:
        UsageError: this lmms-eval does not have it.
    """
    # TF32 keeps ten bits of a mantissa, in every cell that this process answers later
    fast = torch.backends.cuda.matmul.allow_tf32
    try:
        return get_model(name)
    except (ValueError, ImportError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"lmms-eval {VERSIONS['lmms_eval']} has no model {name!r}: {reason}"
        ) from None
    finally:
        torch.backends.cuda.matmul.allow_tf32 = fast  # importing some of them sets it for all


def _options(kind: Any, convention: Convention, config: RunConfig) -> dict[str, Any]:
    """Arguments over those of the class: the convention's, and a pixel preset's."""
    preset = config.model.pixels[config.pixels] if config.pixels != "native" else {}
    taken = signature(kind.__init__).parameters
    settings = {}
    for key, value in convention.video.items():
        names = FRAMES if key == "frames" else (key,)
        name = next((name for name in names if name in taken), None)
        if name is None:
            raise UsageError(
                f"video.{key}={value}: lmms-eval's {convention.entry} takes no such setting; add"
                " convention=model"
            )
        settings[name] = value
    return {**convention.options, **(limits_of(preset) or {}), **settings}


def _give(kind: Any, original: llava_package.Original, convention: Convention) -> None:
    """The functions of the package ``llava`` to the module of a class, which imports them when it
    is imported, and goes on without them.
    """
    module = importlib.import_module(kind.__module__)
    for name, content in llava_package.modules(original, convention).items():
        if name != "llava" and name != "llava.model":
            vars(module).update(
                {key: value for key, value in vars(content).items() if not key.startswith("__")}
            )


def _prepare(request: Instance, convention: Convention, *, simple: bool) -> None:
    """What a paper's code does to a request before lmms-eval's class sees it."""
    arguments = list(request.arguments)
    settings, shown = (1, 2) if simple else (2, 1)
    if convention.max_new_tokens is not None:
        # a task that says its own length keeps it
        arguments[settings].setdefault("max_new_tokens", convention.max_new_tokens)
    if convention.resize is not None:
        arguments[shown] = _resizing(arguments[shown], convention.resize)
    request.arguments = tuple(arguments)


def _resizing(shown: Any, multiple: int) -> Any:
    """A function that gives pictures, or messages with pictures, whose pictures are resized."""

    def resized(value: Any) -> Any:
        if isinstance(value, Image.Image):
            # qwen_vl_utils' own rounding: sides in multiples of two patches
            return fetch_image({"image": value}, image_patch_size=multiple // 2)
        if isinstance(value, list):
            return [resized(one) for one in value]
        if isinstance(value, dict):
            return {key: resized(one) for key, one in value.items()}
        return value

    return lambda doc: resized(shown(doc))
