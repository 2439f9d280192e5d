"""The tiny checkpoints answer from the picture: with another one they know no more than the priors."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import unibench.models  # noqa: F401
from unibench.registry import ROOT
from unibench.tasks.synthvqa import SynthVQA

NUMBER = 100


@torch.no_grad()
def score(model, processor, samples, pictures) -> float:
    total = 0.0
    for sample, picture in zip(samples, pictures, strict=True):
        talk = [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": picture},
                    {"type": "text", "text": sample.question},
                ],
            }
        ]
        inputs = processor.apply_chat_template(
            talk, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        answer = model.generate(**inputs, max_new_tokens=16, do_sample=False)[
            0, inputs["input_ids"].shape[1] :
        ]
        total += SynthVQA().score(sample, processor.decode(answer, skip_special_tokens=True))
    return 100 * total / len(samples)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "least"), [("qwen2_5_vl", 75), ("llava", 65), ("internvl", 55)])
def test_answers_come_from_the_picture(family: str, least: int) -> None:
    folder = ROOT.parent / "models" / "tiny" / family
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    samples = list(SynthVQA(split="dev").samples(NUMBER))
    pictures = [sample.images[0] for sample in samples]
    assert score(model, processor, samples, pictures) > least
    # priors alone give about 50, 25, 0, 30 and 10 on the five abilities: 23 together; 38 is four
    # standard errors above
    assert score(model, processor, samples, pictures[NUMBER // 2 :] + pictures[: NUMBER // 2]) < 38
