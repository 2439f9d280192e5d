"""Loading a checkpoint: from the hub, from a folder, or as a real architecture with random
weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from unibench import registry
from unibench.config import ModelConfig
from unibench.errors import UsageError
from unibench.identity import model_digest
from unibench.models._adapters import base_of, with_adapter
from unibench.models._clip import clip_of
from unibench.models._sources import device_of, pretrained, random
from unibench.models._template import prompted
from unibench.models._videos import options_of, told
from unibench.models._words import control_word_in, control_words, reads_as_its_own
from unibench.pictures import all_shown
from unibench.pruning.family import CommonSpace, Family
from unibench.pruning.layout import WHOLE, Box, crop_seen

log = logging.getLogger(__name__)

Piece = str | Image | tuple[Image, ...]  # of a user turn: text, a picture, the frames of a video


@dataclass
class LoadedModel:
    """A model with its processor, ready to answer.

    Attributes:
        model: the Hugging Face model, in evaluation mode.
        processor: its processor; batches are padded on the left.
        family: its adapter.
        digest: of the checkpoint: hub revision, or a hash of the files.
        image_options: handed to the image processor (a pixel preset).
        video_options: handed to the video processor.
    """

    model: Any
    processor: Any
    family: Family
    digest: str
    image_options: dict[str, Any]
    video_options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _words(self) -> frozenset[str]:
        return control_words(self.processor)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def prompt(self, question: str, images: int, modality: str = "image") -> str:
        """The chat template around the pictures, or the video that they are the frames of, and the
        question.
        """
        # the frames of a video share one placeholder
        shown = images if modality == "image" else min(images, 1)
        return self._template([*[{"type": modality}] * shown, {"type": "text", "text": question}])

    def read(self, turns: Sequence[Sequence[Piece]]) -> dict[str, Tensor]:
        """Model inputs of a batch of user turns, under the model's own chat template, on its
        device.

        Args:
            turns: the pieces of each, in the order in which they are shown.

        Raises:
            UsageError: a text holds a word that the model does not read as text, or videos have
                lengths that the processor does not take together.
        """
        for piece in chain.from_iterable(turns):
            word = control_word_in(piece, self._words) if isinstance(piece, str) else None
            if word is not None:
                raise UsageError(reads_as_its_own(type(self.model).__name__, word))
        texts = [self._template([_content(piece) for piece in turn]) for turn in turns]
        images = [[_rgb(piece) for piece in turn if isinstance(piece, Image)] for turn in turns]
        videos = [
            np.stack([np.asarray(_rgb(frame)) for frame in piece])
            for turn in turns
            for piece in turn
            if isinstance(piece, tuple)
        ]
        visual: dict[str, Any] = {}
        if any(images):
            # by prompt: LLaVA-OneVision and SmolVLM treat several pictures of one prompt otherwise
            visual |= {"images": images, "images_kwargs": self.image_options}
        if videos:
            if getattr(self.processor, "video_processor", None) is None:
                raise UsageError(
                    f"{type(self.model).__name__} reads no video; task.modality=image shows it the"
                    " frames as pictures"
                )
            # frames were sampled by the task, and a second sampling would thin them out
            clips = [piece for turn in turns for piece in turn if isinstance(piece, tuple)]
            rules = {**self.video_options, **told(clips), "do_sample_frames": False}
            visual |= {"videos": videos, "videos_kwargs": rules}
        try:
            batch = self.processor(text=texts, return_tensors="pt", padding=True, **visual)
        except ValueError as error:
            # processors stack videos, and say nothing of lengths where that fails
            if len({len(video) for video in videos}) > 1:
                raise UsageError(
                    "this model's processor wants videos of one length in a batch: batch_size=1"
                ) from error
            raise
        return {key: value.to(self.device) for key, value in batch.items()}

    def showing(self, settings: Mapping[str, Any]) -> LoadedModel:
        """The same model, its videos prepared by the settings of a cell."""
        if not settings:
            return self
        return replace(self, video_options=options_of(self.processor, settings))

    def inputs(
        self, questions: Sequence[str], images: Sequence[Sequence[Image]], modality: str = "image"
    ) -> dict[str, Tensor]:
        """Model inputs of a batch of prompts that show all their pictures before the text.

        Args:
            questions: one per prompt.
            images: pictures of each prompt; or, if ``modality`` is ``"video"``, the frames of its
                video, all of one size.
            modality: ``"image"`` or ``"video"``.

        Raises:
            UsageError: a picture cannot be shown; or see :meth:`read`.
        """
        turns: list[list[Piece]] = []
        for question, given in zip(questions, images, strict=True):
            pictures = all_shown(given, f"question {question[:60]!r}")
            video = modality == "video" and pictures
            turns.append([*([tuple(pictures)] if video else pictures), question])
        return self.read(turns)

    def _template(self, content: Sequence[dict[str, str]]) -> str:
        """The chat template around the content of a user turn."""
        return prompted(self.processor.apply_chat_template, content, "the model's chat template")

    def seen(self, picture: Image) -> Box:
        """The part of a picture that the processor hands on: left, top, right, bottom as shares."""
        processor = self.processor.image_processor
        crop, size = getattr(processor, "crop_size", None), getattr(processor, "size", None) or {}
        if (
            not getattr(processor, "do_center_crop", False)
            or not crop
            or getattr(processor, "image_grid_pinpoints", None)
        ):
            # tiles are cut out of all of the picture, and have their size before the crop
            return WHOLE
        return crop_seen(
            picture.width,
            picture.height,
            (crop["width"], crop["height"]),
            size.get("shortest_edge"),
        )

    def generation_config(self, max_new_tokens: int, repetition_penalty: float) -> GenerationConfig:
        """Greedy decoding with the checkpoint's special tokens and none of its other settings, for
        :meth:`decoding`.
        """
        own = self.model.generation_config
        tokenizer = self.processor.tokenizer
        # not "or": 0 is a token
        pad = own.pad_token_id if own.pad_token_id is not None else tokenizer.pad_token_id
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=repetition_penalty,
            use_cache=True,
            eos_token_id=(
                own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
            ),
            pad_token_id=pad if pad is not None else tokenizer.eos_token_id,
            bos_token_id=own.bos_token_id,
        )

    @contextmanager
    def decoding(self, config: GenerationConfig) -> Iterator[None]:
        """Within, the model's ``generate`` follows a configuration and nothing else.

        transformers takes from the checkpoint's ``generation_config.json`` whatever the given
        configuration leaves at None, and None is the only neutral value of many settings
        (``suppress_tokens``, ``stop_strings``, ``max_time``). So the checkpoint's own is out of
        reach within.
        """
        before = [module.generation_config for module in self._deciders]
        try:
            for module in self._deciders:
                module.generation_config = config
            yield
        finally:
            for module, own in zip(self._deciders, before, strict=True):
                module.generation_config = own

    @cached_property
    def _deciders(self) -> list[Any]:
        """The modules that have settings of decoding: the model, and in a checkpoint with code of
        its own perhaps the language model inside it, whose ``generate`` that code calls.
        """
        return [
            module
            for module in self.model.modules()
            if isinstance(getattr(module, "generation_config", None), GenerationConfig)
        ]

    def answers(self, generated: Tensor) -> list[str]:
        """Text of generated token ids ``[B, T]``."""
        # cleaning up removes blanks in front of marks, also in answers that are code or numbers
        texts: list[str] = self.processor.tokenizer.batch_decode(
            generated, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text.strip() for text in texts]


def load(spec: ModelConfig, pixels: str = "native") -> LoadedModel:
    """Load a model as its configuration says.

    Args:
        spec: see :class:`unibench.config.ModelConfig`.
        pixels: preset of image settings.

    Raises:
        UsageError: the checkpoint cannot be had; the message names it and the ways to get it.
    """
    device = device_of(spec)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    options: dict[str, Any] = {
        "dtype": getattr(torch, spec.dtype),
        "attn_implementation": spec.attn,
    }
    if spec.weights == "random":
        model, processor, digest = random(spec, options)
    else:
        model, processor, digest = pretrained(spec, options)
        model = with_adapter(model, spec)
    if spec.device_map is None and spec.quantization is None:
        model = model.to(device)
    loaded = wrap(
        model.eval(),
        processor,
        clip=spec.clip,
        digest=digest,
        image_options=dict(spec.pixels[pixels]),
    )
    log.info("loaded %s (%s) on %s", spec.name, digest, loaded.device)
    return loaded


def wrap(
    model: PreTrainedModel,
    processor: Any,
    *,
    clip: str | None = None,
    digest: str = "",
    image_options: dict[str, Any] | None = None,
) -> LoadedModel:
    """A model and processor that are already loaded.

    Args:
        model: of Hugging Face.
        processor: of the model.
        clip: folder or hub id of the CLIP that the vision tower comes from.
        digest: what identifies the weights.
        image_options: for the image processor.

    Raises:
        UsageError: no family serves the model.
    """
    # generate() goes on from the last column of a batch, which must be no padding
    processor.tokenizer.padding_side = "left"
    model = base_of(model)
    family = family_of(model, processor, clip=clip)
    return LoadedModel(model, processor, family, digest, image_options or {})


def family_of(
    model: Any, processor: Any = None, *, clip: str | Callable[[], CommonSpace] | None = None
) -> Family:
    """The adapter of a Hugging Face model.

    Args:
        model: the model.
        processor: its processor; only methods that read the question need it.
        clip: folder or hub id of the CLIP that the vision tower comes from, or what opens it; it is
            opened when a method compares patches with the question.

    Raises:
        UsageError: no family serves its ``config.model_type``.
    """
    model = base_of(model)
    adapter = registry.family_of(model.config.model_type).load()
    opener = (
        # opened when first asked for: most methods never look at it
        cache(partial(clip_of, clip, processor, model.device)) if isinstance(clip, str) else clip
    )
    family: Family = adapter(model, processor, clip=opener)
    return family


def digest_of(spec: ModelConfig) -> str:
    """What identifies the weights, see :func:`unibench.identity.model_digest`."""
    return model_digest(vars(spec))


def _content(piece: Piece) -> dict[str, str]:
    """A piece as chat templates take it."""
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    return {"type": "video" if isinstance(piece, tuple) else "image"}


def _rgb(picture: Image) -> Image:
    return picture if picture.mode == "RGB" else picture.convert("RGB")
