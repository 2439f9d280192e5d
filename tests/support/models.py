"""Random tiny models of every family, with inputs built by hand: what the engine's invariants run
on.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.architectures import ARCHITECTURES, CLIP, HIDDEN, IMAGE, LAYERS, TEXT, VIDEO
from tests.support.pictures import PICTURES, VIDEOS
from unibench.conformance.reference import text_of

__all__ = [
    "CLIP",
    "HIDDEN",
    "IMAGE",
    "LAYERS",
    "TEXT",
    "VIDEOS",
    "text_of",
]  # of the modules that make them

FAMILIES = tuple(ARCHITECTURES)
QUICK = (
    "qwen2_5_vl",
    "llava_next",
    "internvl",
)  # in the default tests: video and 3D positions, newline tokens, tiles
EACH = [
    pytest.param(family, marks=[] if family in QUICK else [pytest.mark.slow]) for family in FAMILIES
]
ALONE = ("llava_onevision_1_5",)  # whose code reads pictures of one prompt at a time
families = pytest.mark.parametrize("family", EACH)


@cache
def model_of(family: str, attn: str = "sdpa", seed: int = 0) -> Any:
    """A model whose weights are large enough that a wrong mask or position shows."""
    model = ARCHITECTURES[family](attn)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim >= 2:
                scale = 1.0 if "embed" in name else 1.6 * parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            elif any(part in name for part in ("bias", "newline", "class_embedding", "cls")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.get_output_embeddings().weight[[IMAGE, VIDEO]] = (
            0  # a model that says "picture" cannot read itself without a cache
        )
    return model.eval()


class Bare:
    """A processor whose chat template adds nothing: prompts made by hand have none around the
    question.
    """

    image_token = full_image_sequence = "<image>"
    # nothing behind a picture
    end_image_token = image_end_token = eoi_token = fake_image_token = ""

    @property
    def tokenizer(self) -> Bare:
        return self

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        return "".join(part.get("text", "") for part in conversation[0]["content"])

    def encode(self, text: str, **options: Any) -> list[str]:
        return list(text)


class Sample(dict[str, Any]):
    """Model inputs, and the family they are for."""

    family = ""


def inputs_of(
    family: str, seed: int = 0, images: int = 1, *, video: bool = False
) -> dict[str, Any]:
    """One sample, batch size 1; several images have text between them, none makes a text-only
    prompt.
    """
    g = torch.Generator().manual_seed(1000 + seed)

    def words(count: int) -> list[int]:
        return torch.randint(2, 180, (count,), generator=g).tolist()

    ids = words(4 + seed % 3)
    extra: dict[str, Tensor] = {}
    if images or video:
        extra, spans = VIDEOS[family](seed, g) if video else PICTURES[family](seed, images, g)
        for span in spans:
            ids += span + words(2)
    ids = torch.tensor([ids + words(6 + seed % 4)])
    sample = Sample({**extra, "input_ids": ids, "attention_mask": torch.ones_like(ids)})
    sample.family = family
    if family.startswith("qwen"):  # what their processors say besides
        sample["mm_token_type_ids"] = torch.where(ids == IMAGE, 1, torch.where(ids == VIDEO, 2, 0))
    return sample


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A left-padded batch; rows of tiles are padded with empty ones. Skips the test where batches
    are refused.
    """
    if getattr(samples[0], "family", "") in ALONE:
        pytest.skip("refused: one prompt with pictures at a time")
    length = max(sample["input_ids"].shape[1] for sample in samples)
    batch: dict[str, Any] = {}
    for key in dict.fromkeys(key for sample in samples for key in sample):
        values = [sample[key] for sample in samples if key in sample]
        if key in ("input_ids", "attention_mask", "mm_token_type_ids"):
            values = [
                torch.nn.functional.pad(value, (length - value.shape[1], 0)) for value in values
            ]
        if key == "pixel_values" and values[0].ndim == 5:
            tiles = max(value.shape[1] for value in values)
            values = [
                torch.nn.functional.pad(value, (0, 0) * 3 + (0, tiles - value.shape[1]))
                for value in values
            ]
        batch[key] = torch.cat(values)
    return batch


def generate(
    model: Any, inputs: dict[str, Any], steps: int = 8, **options: Any
) -> tuple[Tensor, Tensor, Any]:
    """Greedy tokens ``[B, steps]``, logits ``[B, steps, V]`` and the cache."""
    out = model.generate(
        **copy.deepcopy(inputs),
        max_new_tokens=steps,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return (
        out.sequences[:, inputs["input_ids"].shape[1] :],
        torch.stack(out.logits, 1),
        out.past_key_values,
    )


def assert_beams_of_a_batch_are_those_of_single_samples(
    model: Any, samples: list[dict[str, Any]], steps: int
) -> None:
    """Two beams of each, ``steps`` tokens long, as the model is pruned where this is called."""
    options: dict[str, Any] = dict(max_new_tokens=steps, num_beams=2, do_sample=False)
    batch = collate(samples)
    together = model.generate(**copy.deepcopy(batch), **options)[:, batch["input_ids"].shape[1] :]
    for row, sample in enumerate(samples):
        alone = model.generate(**copy.deepcopy(sample), **options)
        assert torch.equal(together[row], alone[0, sample["input_ids"].shape[1] :])
