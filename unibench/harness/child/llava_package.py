"""The functions of the package ``llava`` (haotian-liu/LLaVA) that the harnesses' classes call, on a
LLaVA-1.5 in the form of transformers.

The package is on no index, and wants transformers 4.37 and its own conversion of the weights. What
it does to a prompt and a picture is little: text around ``<image>`` is tokenised in pieces, and a
picture is padded to a square with the mean colour before CLIP's own processor (resized by PIL, as
the package's transformers does).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor
from transformers import StoppingCriteria
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from unibench.benchmark import Convention
from unibench.harness.child.entry import Standing

IMAGE_TOKEN_INDEX = -200
IMAGE_TOKEN = "<image>"
NAME = "llava-v1.5-7b"  # what get_model_name_from_path makes of the papers' checkpoint
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives"
    " helpful, detailed, and polite answers to the user's questions."
)


def tokenizer_image_token(
    prompt: str,
    tokenizer: Any,
    image_token_index: int = IMAGE_TOKEN_INDEX,
    return_tensors: Any = None,
) -> Any:
    """Token ids with one ``image_token_index`` for each picture."""
    chunks = [tokenizer(chunk).input_ids for chunk in prompt.split(IMAGE_TOKEN)]
    begins = bool(chunks[0]) and chunks[0][0] == tokenizer.bos_token_id
    ids = [chunks[0][0]] if begins else []
    for number, chunk in enumerate(chunks):
        ids += [image_token_index] if number else []
        ids += chunk[1:] if begins else chunk  # each chunk was given a beginning of its own
    return torch.tensor(ids) if return_tensors == "pt" else ids


def expand2square(picture: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """The picture in the middle of a square."""
    side = max(picture.size)
    square = Image.new(picture.mode, (side, side), background)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def process_images(pictures: Sequence[Image.Image], image_processor: Any, config: Any) -> Tensor:
    """Pixels ``[n, 3, side, side]``; ``config.image_aspect_ratio`` says whether they are padded."""
    if getattr(config, "image_aspect_ratio", "pad") != "pad":
        whole: Tensor = image_processor(list(pictures), return_tensors="pt")["pixel_values"]
        return whole
    # the package floors, so that the padding is not quite zero after normalisation
    mean = tuple(int(255 * share) for share in image_processor.image_mean)
    # from whatever mode: PIL wants one value for a grey picture
    squares = [expand2square(picture.convert("RGB"), mean) for picture in pictures]
    pixels: Tensor = image_processor(squares, return_tensors="pt")["pixel_values"]
    return pixels


class KeywordsStoppingCriteria(StoppingCriteria):  # type: ignore[misc]
    """Stops once the text generated holds a keyword: "</s>", which the end token stops as well."""

    def __init__(self, keywords: Sequence[str], tokenizer: Any, input_ids: Tensor) -> None:
        self._keywords, self._tokenizer = keywords, tokenizer
        self._start: int | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        if self._start is None:
            self._start = input_ids.shape[1] - 1  # ids of a prompt hold its pictures by now
        texts = self._tokenizer.batch_decode(input_ids[:, self._start :], skip_special_tokens=True)
        done = [any(keyword in text for keyword in self._keywords) for text in texts]
        return torch.tensor(done, device=input_ids.device)


@dataclass
class Conversation:
    """``conv_templates["vicuna_v1"]``.

    Attributes:
        system: text before the first turn.
        messages: turns, each a role and a text, None where the reply begins.
    """

    system: str = SYSTEM
    messages: list[list[str | None]] = field(default_factory=list)
    roles = ("USER", "ASSISTANT")

    def copy(self) -> Conversation:
        return Conversation(self.system, [list(turn) for turn in self.messages])

    def append_message(self, role: str, text: str | None) -> None:
        self.messages.append([role, text])

    def get_prompt(self) -> str:
        ends = (" ", "</s>")
        text = self.system + ends[0] if self.system else ""
        for number, (role, said) in enumerate(self.messages):
            text += f"{role}: {said}{ends[number % 2]}" if said else f"{role}:"
        return text


class Original(Standing):
    """The model that the package's ``load_pretrained_model`` gives: it takes -200 for a picture,
    ``images`` for its pixels, and returns new tokens alone.
    """

    @property
    def config(self) -> Any:
        """With what LLaVA-1.5's own file says; lmms-eval's tasks would else say it."""
        # a copy: the model itself goes on to other cells
        own = copy.copy(self._loaded.model.config)
        own.image_aspect_ratio = "pad"
        return own

    def generate(self, input_ids: Tensor, images: Any = None, **kwargs: Any) -> Tensor:
        loaded = self._loaded
        # arguments of the package's generate; the mask counts -200 as one token
        for name in ("image_sizes", "attention_mask", "modalities"):
            kwargs.pop(name, None)
        ids = self._with_placeholders(input_ids[0]).to(loaded.device)
        more = {} if images is None else {"pixel_values": images.to(loaded.model.dtype)}
        out = super().generate(input_ids=ids, attention_mask=torch.ones_like(ids), **more, **kwargs)
        # the package generates from embeddings, where transformers returns new tokens alone
        return out[:, ids.shape[1] :]

    def _with_placeholders(self, ids: Tensor) -> Tensor:
        config = self._loaded.model.config
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        rows = [
            [config.image_token_id] * patches if token == IMAGE_TOKEN_INDEX else [token]
            for token in ids.tolist()
        ]
        return torch.tensor([[token for row in rows for token in row]])


def image_processor_of(loaded: Any) -> CLIPImageProcessorPil:
    """CLIP's processor with the checkpoint's numbers, resizing by PIL: shortest side, then centre
    crop, which leaves a square whole.
    """
    own, config = loaded.processor.image_processor, loaded.model.config.vision_config
    side = config.image_size
    return CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(own.image_mean),
        image_std=list(own.image_std),
    )


def modules(standing: Original, convention: Convention) -> dict[str, ModuleType]:
    """The package by module name."""
    loaded = standing._loaded
    system = {None: SYSTEM, "none": ""}.get(convention.system, convention.system)
    begun = convention.prefix or ""
    contents: dict[str, dict[str, Any]] = {
        "llava": {"__path__": []},
        "llava.constants": {
            "IMAGE_TOKEN_INDEX": IMAGE_TOKEN_INDEX,
            "DEFAULT_IMAGE_TOKEN": IMAGE_TOKEN,
        },
        "llava.conversation": {"conv_templates": {"vicuna_v1": Conversation(str(system))}},
        "llava.mm_utils": {
            "KeywordsStoppingCriteria": KeywordsStoppingCriteria,
            "get_model_name_from_path": lambda path: NAME,
            "process_images": process_images,
            # both harnesses hand it the whole prompt, up to where the reply begins
            "tokenizer_image_token": lambda prompt, *rest, **more: tokenizer_image_token(
                prompt + begun, *rest, **more
            ),
        },
        "llava.model": {"__path__": []},
        "llava.model.builder": {
            "load_pretrained_model": lambda *_, **__: (
                loaded.processor.tokenizer,
                standing,
                image_processor_of(loaded),
                # context_len, which the classes only pass on
                2048,
            )
        },
    }
    found = {}
    for name, content in contents.items():
        found[name] = ModuleType(name)
        vars(found[name]).update(content)
    return found


@contextmanager
def installed(package: dict[str, ModuleType]) -> Iterator[None]:
    """``import llava`` gives these modules inside, whether the package is installed or not."""
    with patch.dict(sys.modules, package):
        yield
