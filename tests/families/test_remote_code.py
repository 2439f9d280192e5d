"""A family whose code comes with the checkpoint: loaded when the user says so, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import unibench
from tests.support.architectures import ARCHITECTURES, TEXT
from tests.support.checkpoints import SETTINGS, TOKENIZER, spec_of
from tests.support.remote.configuration_llavaonevision1_5 import Llavaonevision15Config, RiceConfig
from tests.support.remote.modeling_llavaonevision1_5 import LLaVAOneVision15ForConditionalGeneration
from unibench.errors import UsageError
from unibench.models import load
from unibench.models._processors import make_processor
from unibench.models.llava_onevision_1_5 import LlavaOnevision15

FAMILY = "llava_onevision_1_5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its code beside it, as the hub has it."""
    place: Path = tmp_path_factory.mktemp("remote")
    Llavaonevision15Config.register_for_auto_class()
    LLaVAOneVision15ForConditionalGeneration.register_for_auto_class("AutoModelForCausalLM")
    blueprint = ARCHITECTURES["qwen2_5_vl"]("sdpa").config  # its processor is Qwen's
    processor = make_processor(blueprint, str(TOKENIZER), SETTINGS["qwen2_5_vl"])
    text = {
        **TEXT,
        "head_dim": 16,
        "vocab_size": len(processor.tokenizer),
        "eos_token_id": processor.tokenizer.eos_token_id,
    }
    vision = ARCHITECTURES[FAMILY]("sdpa").config.vision_config
    config = Llavaonevision15Config(
        text, vision.to_dict(), blueprint.image_token_id, blueprint.video_token_id
    )
    LLaVAOneVision15ForConditionalGeneration(config).save_pretrained(place)
    processor.save_pretrained(place)
    assert (place / "modeling_llavaonevision1_5.py").exists()
    return place


def test_code_of_a_checkpoint_runs_only_when_the_user_says_so(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.trust_remote_code=true"):
        load(spec_of(FAMILY, path=str(folder)))


def test_a_checkpoint_with_code_is_loaded_and_pruned(folder: Path) -> None:
    loaded = load(spec_of(FAMILY, path=str(folder), trust_remote_code=True))
    assert isinstance(loaded.family, LlavaOnevision15)
    assert type(loaded.model).__module__.startswith("transformers_modules")
    inputs = loaded.inputs(["what is it"], [[Image.new("RGB", (112, 84), "red")]])
    for method in ("divprune", "cls_topk", "fastv"):
        with unibench.prune(loaded.model, method, ratio=0.5) as session, torch.no_grad():
            loaded.model.generate(**inputs, generation_config=loaded.generation_config(3, 1.0))
        (record,) = session.take_records()
        assert record.kept == max(1, int(0.5 * record.visual_tokens + 0.5))


def test_the_published_size_has_its_modules_where_the_adapter_looks() -> None:
    text: dict[str, Any] = dict(
        hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128,
        vocab_size=151936,
    )  # fmt: skip
    with torch.device("meta"):
        model = LLaVAOneVision15ForConditionalGeneration(Llavaonevision15Config(text, RiceConfig()))
    family = LlavaOnevision15(model)
    assert (
        len(family.text_model.layers) == 36
        and len(family.vit_blocks) == len(family.vit_attentions) == 24
    )
    assert family.llm_attention(35) is model.model.language_model.layers[35].self_attn
