"""Our model under VLMEvalKit's prompt rules of each family, and VLMEvalKit's own model object."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from PIL import Image

from unibench.config import RunConfig
from unibench.errors import UsageError
from unibench.harness.child.importing import settings_kept
from unibench.harness.child.inference import CellInference
from unibench.harness.child.native import OnDevice, device_of, loading_as, pixel_limits, source_of
from unibench.inference.ask import generated
from unibench.models import LoadedModel, Piece, wrap

with settings_kept():
    from vlmeval.vlm.base import BaseModel
    from vlmeval.vlm.internvl.internvl_chat import InternVLChat
    from vlmeval.vlm.internvl.utils import reorganize_prompt
    from vlmeval.vlm.llava.llava import LLaVA
    from vlmeval.vlm.qwen2_vl import model as qwen_module
    from vlmeval.vlm.qwen2_vl.model import Qwen2VLChat
    from vlmeval.vlm.qwen2_vl.prompt import Qwen2VLPromptMixin


class Plain(BaseModel):  # type: ignore[misc]
    """The prompts of the data sets as they are.

    Args:
        inference: has the model and how it decodes.
        max_new_tokens: of an answer.
    """

    INTERLEAVE = True

    def __init__(self, inference: CellInference, max_new_tokens: int) -> None:
        super().__init__()
        self._inference, self._max_new_tokens = inference, max_new_tokens

    def generate_inner(self, message: list[dict[str, Any]], dataset: str | None = None) -> str:
        config = self._inference.decoding(self._max_new_tokens)
        turns = [self.content(message, dataset)]
        return generated(self._inference.loaded, turns, config).texts[0]

    def content(self, message: list[dict[str, Any]], dataset: str | None) -> list[Piece]:
        """The pieces of a message, in order."""
        return [_piece(part) for part in message]


class Qwen(Qwen2VLPromptMixin, Plain):  # type: ignore[misc]
    """Qwen2-VL and Qwen2.5-VL."""

    def __init__(self, inference: CellInference, max_new_tokens: int) -> None:
        Plain.__init__(self, inference, max_new_tokens)
        self._use_custom_prompt = True


class Llava(Plain):
    """LLaVA: multiple choice in its own words."""

    use_custom_prompt: Any = LLaVA.use_custom_prompt
    build_prompt: Any = LLaVA.build_prompt


class InternVL(Plain):
    """InternVL2 and 3, without chains of thought."""

    use_custom_prompt: Any = InternVLChat.use_custom_prompt
    build_prompt: Any = InternVLChat.build_prompt
    _use_custom_prompt, use_mpo_prompt, use_cot, cot_prompt = True, False, False, None

    def content(self, message: list[dict[str, Any]], dataset: str | None) -> list[Piece]:
        pictures = [_piece(part) for part in message if part["type"] == "image"]
        text = reorganize_prompt(message, len(pictures), dataset=dataset)
        pieces: list[Piece] = []
        for number, stretch in enumerate(text.split("<image>")):
            if number and number <= len(pictures):
                pieces.append(pictures[number - 1])
            if stretch := stretch.lstrip("\n") if number else stretch:
                pieces.append(stretch)
        return pieces


RULES: dict[str, Any] = {"dataset": Plain, "qwen": Qwen, "llava": Llava, "internvl": InternVL}


def native(config: RunConfig) -> tuple[Any, LoadedModel]:
    """VLMEvalKit's Qwen2VLChat on the configured checkpoint, kernel and device.

    Its own constructor wants a GPU and flash attention; the configuration's device and kernel,
    which are in the row, are put in their place.
    """
    options: dict[str, Any] = pixel_limits(config)
    if config.generation.max_new_tokens is not None:
        options["max_new_tokens"] = config.generation.max_new_tokens
    with ExitStack() as stack:
        stack.enter_context(loading_as(config.model))
        stack.enter_context(patch.object(qwen_module, "get_gpu_memory", lambda: [1]))
        model = Qwen2VLChat(model_path=source_of(config.model), **options)
    model.processor = OnDevice(model.processor, device_of(config.model))
    return model, wrap(model.model, model.processor, clip=config.model.clip)


def _piece(part: dict[str, Any]) -> str | Image.Image:
    if part["type"] == "text":
        return str(part["value"])
    if part["type"] == "image":
        return Image.open(part["value"])
    raise UsageError(
        f"a {part['type']} in a prompt of VLMEvalKit; pictures alone are served, take"
        " harness=lmms_eval for videos"
    )
