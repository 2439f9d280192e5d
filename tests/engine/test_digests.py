"""A record says what the model was given: token ids and pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import unibench
from tests.support.models import FAMILIES, VIDEOS, inputs_of, model_of
from unibench.pruning.record import PromptRecord


def record_of(family: str, inputs: dict[str, Any]) -> PromptRecord:
    with unibench.prune(model_of(family), "random_pre", ratio=0.5) as session, torch.no_grad():
        model_of(family)(**inputs)
    (record,) = session.take_records()
    return record


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("video", [False, True], ids=["images", "video"])
def test_a_pixel_changes_one_digest_and_a_word_the_other(family: str, video: bool) -> None:
    if video and family not in VIDEOS:
        pytest.skip("reads no videos")
    images = 1 if video or family == "llava_onevision_1_5" else 2
    inputs = inputs_of(family, 0, images, video=video)
    record = record_of(family, dict(inputs))
    assert (
        len(record.prompt_digest) == 16
        and record.pixel_digest[:5] == "xxh3:"
        and len(record.pixel_digest) == 37
    )
    name = next(key for key in inputs if key.startswith("pixel_values"))
    moved = inputs[name].clone()
    moved.view(-1)[0] += 1  # the last one may be padding
    other = record_of(family, {**inputs, name: moved})
    assert other.prompt_digest == record.prompt_digest
    assert other.pixel_digest != record.pixel_digest
    ids = inputs["input_ids"].clone()
    ids[0, -1] = 7 if ids[0, -1] != 7 else 8
    other = record_of(family, {**inputs, "input_ids": ids})
    assert other.prompt_digest != record.prompt_digest
    assert other.pixel_digest == record.pixel_digest


def test_a_prompt_without_pictures_has_no_pixels() -> None:
    record = record_of("llava", inputs_of("llava", 0, images=0))
    assert record.prompt_digest and record.pixel_digest == ""


def test_beams_of_a_sample_share_its_digests() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 0, 2)
    alone = record_of("llava", dict(inputs))
    with unibench.prune(model, "random_pre", ratio=0.5) as session:
        model.generate(**inputs, num_beams=2, max_new_tokens=2, do_sample=False)
    records = session.take_records()
    assert [record.pixel_digest for record in records] == [alone.pixel_digest] * 2
