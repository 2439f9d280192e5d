"""VLMEvalKit's own model objects around the loaded model, and our model under the data sets' own
prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from inspect import signature
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from unibench.benchmark import VERSIONS, Convention, convention_of, limits_of
from unibench.config import RunConfig
from unibench.errors import UsageError, nearest
from unibench.harness.child import internvl_chat, llava_package
from unibench.harness.child.entry import Standing, folder_of, on_device, standing_in, worded
from unibench.harness.child.frames import Clock
from unibench.harness.child.importing import settings_kept
from unibench.harness.child.inference import CellInference
from unibench.harness.child.native import (
    OnDeviceProcessor,
    device_of,
    loading_as,
    source_of,
    trusting,
)
from unibench.inference.ask import generated
from unibench.models import Clip, LoadedModel, Piece, wrap
from unibench.models._template import check_template

with settings_kept():
    from vlmeval.config import supported_VLM
    from vlmeval.vlm.base import BaseModel
    from vlmeval.vlm.internvl import internvl_chat as internvl_module
    from vlmeval.vlm.internvl import utils as internvl_utils
    from vlmeval.vlm.internvl.internvl_chat import InternVLChat
    from vlmeval.vlm.llava.llava import LLaVA, LLaVA_Next
    from vlmeval.vlm.qwen2_vl import model as qwen2_module
    from vlmeval.vlm.qwen3_vl import model as qwen3_module

Around = Callable[[], AbstractContextManager[Any]]


class Plain(BaseModel):  # type: ignore[misc]
    """The prompts of the data sets as they are, under the model's own chat template.

    Args:
        inference: has the model and how it decodes.
        max_new_tokens: of an answer.

    Attributes:
        max_new_tokens: likewise.
        clock_of: where pictures that follow one another are the frames of a video, to a model that
            reads videos: when these files are shown in it. None shows pictures.
    """

    INTERLEAVE = True

    def __init__(self, inference: CellInference, max_new_tokens: int) -> None:
        super().__init__()
        self._inference, self.max_new_tokens = inference, max_new_tokens
        self.clock_of: Callable[[Sequence[str]], Clock | None] | None = None

    def generate_inner(self, message: list[dict[str, Any]], dataset: str | None = None) -> str:
        return self.answered(self._inference.loaded, self.pieces(message))

    def pieces(self, message: list[dict[str, Any]]) -> list[Piece]:
        """The user turn of a message."""
        if self.clock_of is None or not self.reads_videos:
            return [_piece(part) for part in message]
        return _as_videos(message, self.clock_of)

    @property
    def reads_videos(self) -> bool:
        """Whether the model does."""
        return getattr(self._inference.loaded.processor, "video_token", None) is not None

    def answered(self, loaded: LoadedModel, pieces: list[Piece]) -> str:
        """The answer of a model to a user turn."""
        config = self._inference.decoding(self.max_new_tokens)
        return generated(loaded, [pieces], config).texts[0]


class Asking(BaseModel):  # type: ignore[misc]
    """A model object of VLMEvalKit around the loaded model.

    Args:
        inner: the object.
        standing: what it holds for its model.
        convention: which prompts are the data set's own.
        loaded: the model.
        around: what its code must find around it.
    """

    INTERLEAVE = True

    def __init__(
        self, inner: Any, standing: Standing, convention: Convention, around: Around
    ) -> None:
        super().__init__()
        self.inner, self.standing = inner, standing
        self._convention, self._around = convention, around

    @property
    def VIDEO_LLM(self) -> bool:  # noqa: N802
        """As VLMEvalKit asks its classes."""
        return bool(getattr(self.inner, "VIDEO_LLM", False))

    @property
    def declared(self) -> dict[str, Any]:
        """How the object says that it decodes."""
        names = ("generate_kwargs", "kwargs")
        return dict(
            next((vars(self.inner)[name] for name in names if name in vars(self.inner)), {})
        )

    def set_dump_image(self, dump_image_func: Any) -> None:
        self.inner.set_dump_image(dump_image_func)

    def use_custom_prompt(self, dataset: str) -> bool:
        return self._convention.prompt != "dataset" and bool(self.inner.use_custom_prompt(dataset))

    def build_prompt(self, line: Any, dataset: str) -> Any:
        return self.inner.build_prompt(line, dataset)

    def generate(self, message: Any, dataset: str | None = None) -> str:
        with self._around():
            said = self.inner.generate(message, dataset)
        # LLaVA-OneVision-1.5's class gives a list of one
        return str(said[0] if isinstance(said, list) else said)


def asking(loaded: LoadedModel, config: RunConfig, convention: Convention, root: Path) -> Asking:
    """The entry of a convention around the loaded model.

    Args:
        loaded: the model.
        config: of the cell.
        convention: that names an entry.
        root: a folder for the entry's checkpoint.

    Raises:
        UsageError: this VLMEvalKit does not have the entry.
    """
    built, options = _entry(str(convention.entry)), _options(convention, config)
    switch = "use_custom_prompt"  # of the classes that have one; the others' prompts are always on
    if convention.prompt == "custom" and switch in signature(built.func.__init__).parameters:
        options[switch] = True
    # classes choose prompts by the name of the checkpoint
    name = str(options.pop("model_path", built.keywords["model_path"]))
    # no argument of the class, which sets it for each data set
    tiles = options.pop("max_patches", None)
    standing, around = _surroundings(built.func, loaded, config, convention)
    # in this order, since constructors load a model and look at devices
    with trusting(config.model), standing_in(standing), _without_gpu(), around():
        inner = built(model_path=str(folder_of(config.model, loaded, name, root)), **options)
    _put_in_place(inner, standing, convention, tiles)
    return Asking(inner, standing, convention, around)


def native(config: RunConfig) -> tuple[Any, LoadedModel]:
    """A model object of VLMEvalKit that loads the configured checkpoint itself, on the configured
    kernel and device.

    The constructors want a GPU and flash attention; the configuration's device and kernel, which
    are in the row, are put in their place.
    """
    convention = convention_of(config, "vlmevalkit")
    built, options = _entry(str(convention.entry)), _options(convention, config)
    if config.generation.max_new_tokens is not None:
        options["max_new_tokens"] = config.generation.max_new_tokens
    with ExitStack() as stack:
        stack.enter_context(loading_as(config.model))
        stack.enter_context(_without_gpu())
        model = built(**{**options, "model_path": source_of(config.model)})
    check_template(model.processor, f"the chat template of model={config.model.name}")
    model.processor = OnDeviceProcessor(model.processor, device_of(config.model))
    return model, wrap(model.model, model.processor, clip=config.model.clip)


def _entry(name: str) -> partial[Any]:
    if name not in supported_VLM:
        raise UsageError(
            f"VLMEvalKit {VERSIONS['vlmevalkit']} has no model"
            f" {name!r}.{nearest(name, supported_VLM)}"
        )
    entry: partial[Any] = supported_VLM[name]
    return entry


def _options(convention: Convention, config: RunConfig) -> dict[str, Any]:
    """Arguments over those of the entry: the convention's, and a pixel preset's."""
    preset = config.model.pixels[config.pixels] if config.pixels != "native" else {}
    return {**convention.options, **(limits_of(preset) or {})}


def _surroundings(
    kind: Any, loaded: LoadedModel, config: RunConfig, convention: Convention
) -> tuple[Standing, Around]:
    """What stands for the model in an object of a class, and what its code must find around it."""
    place = partial(on_device, loaded)
    if issubclass(kind, LLaVA):
        original = llava_package.Original(loaded, config.generation)
        return original, partial(
            _all_of,
            place,
            partial(llava_package.installed, llava_package.modules(original, convention)),
        )
    if issubclass(kind, InternVLChat):
        chatting = internvl_chat.Chatting(loaded, config.generation)
        return chatting, partial(_all_of, place, partial(_tiles_of, loaded))
    return Standing(loaded, config.generation), place


@contextmanager
def _all_of(*contexts: Around) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context())
        yield


@contextmanager
def _tiles_of(loaded: LoadedModel) -> Iterator[None]:
    """InternVLChat's tiles in the size and colours of the checkpoint; those of the published ones
    are what its code says.
    """
    own, side = loaded.processor.image_processor, loaded.model.config.vision_config.image_size[0]
    # tiles of 448 pixels with ImageNet's colours are written into the code
    load = internvl_module.load_image
    with (
        patch.object(internvl_module, "load_image", partial(load, input_size=side)),
        patch.multiple(
            internvl_utils, IMAGENET_MEAN=tuple(own.image_mean), IMAGENET_STD=tuple(own.image_std)
        ),
    ):
        yield


def _put_in_place(
    inner: Any, standing: Standing, convention: Convention, tiles: int | None
) -> None:
    """The parts of a convention that take the place of an object's own."""
    if isinstance(inner, InternVLChat):
        _internvl(inner, standing, convention, tiles)
    elif isinstance(inner, LLaVA):
        if convention.system is not None:
            inner.system_prompt = "" if convention.system == "none" else f"{convention.system} "
    else:
        if isinstance(inner, LLaVA_Next):
            inner.processor = ByPlace(inner.processor)
        inner.processor = worded(inner.processor, convention)


def _internvl(inner: Any, standing: Any, convention: Convention, tiles: int | None) -> None:
    if convention.system is not None:
        standing.system_message = convention.system
    standing.prefix = convention.prefix or ""
    if tiles is None:
        return
    choose = inner.set_max_num  # by data set; it sets the limit of all pictures together too

    def set_max_num(dataset: str | None) -> None:
        choose(dataset)
        inner.max_num = tiles

    inner.set_max_num = set_max_num


class ByPlace:
    """A processor that is handed text and pictures by place: transformers 5 has them the other way
    round.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, text: Any, images: Any = None, **kwargs: Any) -> Any:
        return self._processor(text=text, images=images or None, **kwargs)


@contextmanager
def _without_gpu() -> Iterator[None]:
    """Inside, the classes find the memory of a GPU that they insist on."""
    with (
        # any number above 0: the classes only assert that there is a GPU
        patch.object(qwen2_module, "get_gpu_memory", lambda: [1]),
        patch.object(qwen3_module, "get_gpu_memory", lambda: [1]),
    ):
        yield


def _piece(part: dict[str, Any]) -> str | Image.Image:
    if part["type"] == "text":
        return str(part["value"])
    if part["type"] == "image":
        return Image.open(part["value"])
    raise UsageError(f"a {part['type']} in a prompt of VLMEvalKit; pictures and videos are served")


def _as_videos(
    message: Sequence[dict[str, Any]], clock_of: Callable[[Sequence[str]], Clock | None]
) -> list[Piece]:
    """Pictures that follow one another as the frames of a video."""
    shown: list[Piece] = []
    for is_picture, neighbours in groupby(message, lambda part: part["type"] == "image"):
        parts = list(neighbours)
        pieces = [_piece(part) for part in parts]
        pictures = [piece for piece in pieces if isinstance(piece, Image.Image)]
        if not is_picture or len(pictures) == 1:
            shown.extend(pieces)
            continue
        clock = clock_of([part["value"] for part in parts])
        if clock is None:
            shown.append(tuple(pictures))
            continue
        # without them a processor takes any clip for one of 24 frames a second
        metadata = {
            "total_num_frames": clock.total,
            "fps": clock.rate,
            "frames_indices": list(clock.numbers),
        }
        shown.append(Clip(pictures, clock.numbers, metadata))
    return shown
