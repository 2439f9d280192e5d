"""Loading a checkpoint: from the hub, from a folder, or as a real architecture with random weights."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig, PreTrainedModel

from unibench import hub, registry
from unibench.compose import model_path
from unibench.config import ModelConfig
from unibench.errors import UsageError
from unibench.identity import model_digest
from unibench.models._clip import ClipSpace, open_clip
from unibench.pruning.family import Family

log = logging.getLogger(__name__)

TINY = "pkg://unibench.models/tiny"


@dataclass
class LoadedModel:
    """A model with its processor, ready to answer.

    Attributes:
        model: the Hugging Face model, in evaluation mode.
        processor: its processor; batches are padded on the left.
        family: its adapter.
        digest: of the checkpoint: hub revision, or a hash of the files.
        image_options: handed to the image processor (a pixel preset).
        margins: tokens of the chat template after the last picture and at the end of the prompt.
    """

    model: Any
    processor: Any
    family: Family
    digest: str
    image_options: dict[str, Any]
    margins: tuple[int, int] = (0, 0)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def prompt(self, question: str, images: int) -> str:
        """The chat template around the pictures and the question."""
        content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": question}]
        text: str = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
        return text

    def inputs(self, questions: Sequence[str], images: Sequence[Sequence[Image]]) -> dict[str, Tensor]:
        """Model inputs of a batch, on the model's device."""
        texts = [self.prompt(question, len(pictures)) for question, pictures in zip(questions, images, strict=True)]
        pictures = [picture for group in images for picture in group] or None
        batch = self.processor(
            text=texts, images=pictures, return_tensors="pt", padding=True, **({"images_kwargs": self.image_options} if pictures else {})
        )
        return {key: value.to(self.device) for key, value in batch.items()}

    def generation_config(self, max_new_tokens: int, repetition_penalty: float) -> GenerationConfig:
        """Greedy decoding with the checkpoint's end tokens and none of its sampling settings."""
        own = self.model.generation_config
        tokenizer = self.processor.tokenizer
        pad = own.pad_token_id if own.pad_token_id is not None else tokenizer.pad_token_id
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=repetition_penalty,
            eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
            pad_token_id=pad if pad is not None else tokenizer.eos_token_id,
            bos_token_id=own.bos_token_id,
        )

    def answers(self, generated: Tensor) -> list[str]:
        """Text of generated token ids ``[B, T]``."""
        texts: list[str] = self.processor.tokenizer.batch_decode(generated, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [text.strip() for text in texts]


def load(spec: ModelConfig, pixels: str = "native") -> LoadedModel:
    """Load a model as its configuration says.

    Args:
        spec: see :class:`unibench.config.ModelConfig`.
        pixels: preset of image settings.

    Raises:
        UsageError: the checkpoint cannot be had; the message names it and the ways to get it.
    """
    device = _device(spec)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    options: dict[str, Any] = {"dtype": getattr(torch, spec.dtype), "attn_implementation": spec.attn}
    if spec.weights == "random":
        model, processor, digest = _random(spec, options)
    else:
        model, processor, digest = _pretrained(spec, options)
    if spec.device_map is None:
        model = model.to(device)
    loaded = wrap(model.eval(), processor, digest=digest, image_options=dict(spec.pixels[pixels]))
    if spec.clip is not None:
        loaded.family.clip = functools.cache(functools.partial(_clip, spec, loaded))
    log.info("loaded %s (%s) on %s", spec.name, digest, loaded.device)
    return loaded


def wrap(model: PreTrainedModel, processor: Any, *, digest: str = "", image_options: dict[str, Any] | None = None) -> LoadedModel:
    """A model and processor that are already loaded.

    Raises:
        UsageError: no family serves the model.
    """
    processor.tokenizer.padding_side = "left"
    family: Family = registry.family_of(model.config.model_type).load()(model)
    loaded = LoadedModel(model, processor, family, digest, image_options or {})
    loaded.margins = _margins(loaded)
    return loaded


def digest_of(spec: ModelConfig) -> str:
    """What identifies the weights, see :func:`unibench.identity.model_digest`."""
    return model_digest(vars(spec))


def _pretrained(spec: ModelConfig, options: dict[str, Any]) -> tuple[Any, Any, str]:
    path = model_path(spec.path)
    source = str(path) if path is not None else spec.checkpoint
    if source is None:
        raise UsageError(f"model={spec.name} names neither a checkpoint nor a path; give model.path=<folder>")
    where: dict[str, Any] = {} if path is not None else {"revision": spec.revision, "local_files_only": not hub.answers()}
    try:
        processor = AutoProcessor.from_pretrained(source, **where)
        model = AutoModelForImageTextToText.from_pretrained(source, device_map=spec.device_map, **where, **options)
    except ImportError as error:
        raise UsageError(_how_to_install(spec, error)) from None
    except (OSError, ValueError) as error:
        raise UsageError(_how_to_get(spec, error)) from None
    return model, processor, digest_of(spec)


def _clip(spec: ModelConfig, loaded: LoadedModel) -> ClipSpace:
    """The CLIP that the vision tower comes from."""
    path = model_path(spec.clip)
    folder = path is not None and path.is_dir()
    options = {} if folder else {"local_files_only": not hub.answers()}
    return open_clip(str(path) if folder else str(spec.clip), loaded.processor.tokenizer, loaded.device, options)


def _random(spec: ModelConfig, options: dict[str, Any]) -> tuple[Any, Any, str]:
    """The architecture of ``spec`` with random weights; the tiny model of the family lends its tokenizer."""
    lender = model_path(f"{TINY}/{spec.family}")
    assert lender is not None
    processor = AutoProcessor.from_pretrained(str(lender))
    for key, value in spec.processor.items():
        setattr(processor.image_processor, key, dict(value) if isinstance(value, dict) else value)
    known = AutoConfig.from_pretrained(str(lender))
    config = type(known)(**copy.deepcopy(spec.architecture))
    for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "image_token_index"):
        if getattr(known, name, None) is not None:
            setattr(config, name, getattr(known, name))
    for name in ("image_seq_length", "patch_size"):
        if hasattr(processor, name):
            size = getattr(config, name, None) or getattr(config.vision_config, name, None)
            setattr(processor, name, size[0] if isinstance(size, (list, tuple)) else size)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, **options)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return model, processor, digest_of(spec)


def _device(spec: ModelConfig) -> torch.device:
    if spec.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"model.device={spec.device}: torch {torch.__version__} sees no GPU here; use model.device=cpu")
    try:
        return torch.device(spec.device)
    except RuntimeError:
        raise UsageError(f"model.device={spec.device} is no device; for example cpu, cuda, cuda:1") from None


def _how_to_install(spec: ModelConfig, error: ImportError) -> str:
    if spec.attn.startswith("flash"):
        return f"model.attn={spec.attn} needs the package flash-attn and a GPU: pip install flash-attn, or take model.attn=sdpa"
    return f"model={spec.name} needs a package that is not installed: {str(error).strip().splitlines()[0]}"


def _how_to_get(spec: ModelConfig, error: Exception) -> str:
    if spec.path is not None:
        return f"model.path={spec.path} cannot be loaded: {str(error).splitlines()[0]}"
    return hub.how_to_get(spec)


def _margins(loaded: LoadedModel) -> tuple[int, int]:
    """Length of the chat template after the picture and after the question."""
    question = "\u00abQ\u00bb"
    before, _, after = loaded.prompt(question, 1).partition(question)
    image = getattr(loaded.processor, "image_token", None)
    lead = before.rpartition(image)[2] if image and image in before else ""
    encode = loaded.processor.tokenizer.encode
    return len(encode(lead, add_special_tokens=False)), len(encode(after, add_special_tokens=False))
