"""What stands around a harness's own model object: no harness is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedModel

from unibench.benchmark import Convention
from unibench.compose import compose_cells
from unibench.config import GenerationConfig
from unibench.harness.child import llava_package
from unibench.harness.child.entry import Standing, folder_of, on_device, standing_in, worded
from unibench.harness.child.internvl_chat import SYSTEM, Chatting
from unibench.models import LoadedModel, load


def tiny(name: str) -> LoadedModel:
    (config,) = compose_cells([f"model=tiny_{name}", "model.device=cpu"], sweep=False)
    return load(config.model)


@pytest.fixture(scope="module")
def llava() -> LoadedModel:
    return tiny("llava")


def test_whoever_loads_a_checkpoint_inside_gets_the_model_that_is_there(llava: LoadedModel) -> None:
    standing = Standing(llava, GenerationConfig())
    loading = PreTrainedModel.from_pretrained
    with standing_in(standing):
        source = "unibench/models/tiny/llava"
        assert AutoModelForImageTextToText.from_pretrained(source, device_map="auto") is standing
    assert PreTrainedModel.from_pretrained == loading
    assert standing.to("cuda").eval() is standing and standing.config is llava.model.config


def test_cuda_is_the_model_s_device_and_half_precision_its_own(llava: LoadedModel) -> None:
    with on_device(llava):
        moved = torch.ones(2).to("cuda", torch.float16)
        also = torch.ones(2).cuda().to(device="cuda:1", dtype=torch.bfloat16)
        like = torch.ones(2).to(torch.ones(2, dtype=torch.int64))
    assert moved.device == also.device == torch.device("cpu")
    assert moved.dtype == also.dtype == torch.float32
    assert like.dtype == torch.int64
    assert torch.ones(2).to(torch.float16).dtype == torch.float16
    assert "to" not in vars(torch.Tensor) and "cuda" not in vars(torch.Tensor)


class Decoding:
    """A model that keeps what it is told."""

    def __init__(self, **own: Any) -> None:
        known = {
            "max_new_tokens": None,
            "do_sample": False,
            "repetition_penalty": None,
            "top_k": 50,
        }
        self.generation_config = type("Own", (), {**known, **own})
        self.told: dict[str, Any] = {}

    def generate(self, **told: Any) -> None:
        self.told = told


class Halving(Decoding):
    """A model that converts a tensor itself."""

    def generate(self, **told: Any) -> Any:
        return torch.ones(2).to(torch.float16).dtype


def test_what_the_model_converts_itself_is_left_alone(llava: LoadedModel) -> None:
    loaded: Any = type("Loaded", (), {"model": Halving()})
    standing = Standing(loaded, GenerationConfig())
    with on_device(llava):
        assert standing.generate() == torch.float16
        assert torch.ones(2).to(torch.float16).dtype == torch.float32


@pytest.mark.parametrize(
    ("own", "asked", "cell", "penalty", "sampled"),
    [
        ({"repetition_penalty": 1.05}, {}, {}, 1.05, False),  # lmms-eval's qwen2_5_vl is silent
        ({"repetition_penalty": 1.05}, {"repetition_penalty": 1.0}, {}, 1.0, False),
        ({"repetition_penalty": 1.05}, {}, {"repetition_penalty": 1.2}, 1.2, False),
        ({}, {"do_sample": True, "top_k": 1, "temperature": 0.01}, {}, 1.0, False),  # greedy
        ({}, {"do_sample": True, "top_k": 20, "temperature": 0.7}, {}, 1.0, True),
        ({"do_sample": True}, {}, {}, 1.0, True),  # the checkpoint says so, the class nothing
    ],
)
def test_decoding_is_the_object_s_and_the_checkpoint_s_but_greedy(
    own: dict[str, Any], asked: dict[str, Any], cell: dict[str, Any], penalty: float, sampled: bool
) -> None:
    model = Decoding(**own)
    loaded: Any = type("Loaded", (), {"model": model})
    standing = Standing(loaded, GenerationConfig(max_new_tokens=5, **cell))
    standing.generate(**{"max_new_tokens": 2048, **asked})
    assert standing.settings is not None
    assert standing.settings["repetition_penalty"] == penalty
    assert standing.settings.get("sampled_by_the_harness", False) is sampled
    assert model.told["do_sample"] is False and model.told["temperature"] is None
    assert standing.settings["max_new_tokens"] == model.told["max_new_tokens"] == 5


class Template:
    """A processor that gives back what it is handed."""

    def __call__(self, text: Any, **_: Any) -> Any:
        return text

    def apply_chat_template(self, conversation: Any, **_: Any) -> Any:
        return conversation


def test_another_system_text_and_the_beginning_of_a_reply_are_put_in_place() -> None:
    own = [{"role": "system", "content": "own"}, {"role": "user", "content": "?"}]
    changed = worded(Template(), Convention("harness", system="other", prefix=" Yes"))
    assert changed(text="a") == "a Yes" and changed(["a", "b"]) == ["a Yes", "b Yes"]
    other = {"role": "system", "content": [{"type": "text", "text": "other"}]}
    assert changed.apply_chat_template(own) == [other, own[1]]
    assert changed.apply_chat_template([own]) == [[other, own[1]]]
    without = worded(Template(), Convention("harness", system="none"))
    assert without.apply_chat_template(own) == own[1:] and without(text="a") == "a"
    template = Template()
    assert worded(template, Convention("harness")) is template


def test_the_folder_of_an_entry_has_its_name_and_the_checkpoint_s_files(
    llava: LoadedModel, tmp_path: Path
) -> None:
    (config,) = compose_cells(["model=tiny_llava"], sweep=False)
    folder = folder_of(config.model, llava, "liuhaotian/llava-v1.5-7b", tmp_path)
    assert folder == tmp_path / "liuhaotian" / "llava-v1.5-7b"
    assert (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()


def test_a_picture_is_padded_to_a_square_with_the_mean_colour(llava: LoadedModel) -> None:
    processor = llava_package.image_processor_of(llava)
    pixels = llava_package.process_images([Image.new("RGB", (40, 20), "white")], processor, None)
    side = llava.model.config.vision_config.image_size
    assert pixels.shape == (1, 3, side, side)
    assert pixels[0, :, 0, 0].abs().max() < 0.02  # the mean is zero after normalisation
    assert pixels[0, :, side // 2, side // 2].min() > 1


def test_text_around_pictures_is_tokenised_in_pieces_that_share_one_beginning() -> None:
    class Tokenizer:
        bos_token_id = 1

        def __call__(self, text: str) -> Any:
            return type("Ids", (), {"input_ids": [1, *map(ord, text)]})

    ids = llava_package.tokenizer_image_token("a<image>b<image>", Tokenizer())
    assert ids == [1, ord("a"), -200, ord("b"), -200]


def test_a_conversation_of_vicuna_ends_where_the_reply_begins() -> None:
    talk = llava_package.Conversation("S.")
    mine = talk.copy()
    mine.append_message("USER", "<image>\nWhat?")
    mine.append_message("ASSISTANT", None)
    assert mine.get_prompt() == "S. USER: <image>\nWhat? ASSISTANT:" and talk.messages == []


def test_a_chat_of_internvl_has_its_system_text_and_a_placeholder_for_every_token() -> None:
    chatting = Chatting(tiny("internvl"), GenerationConfig())
    text = chatting.query("<image>\nWhat?", [2])
    assert text.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<img>")
    assert text.count("<IMG_CONTEXT>") == 2 * 144
    assert text.endswith("</img>\nWhat?<|im_end|>\n<|im_start|>assistant\n")
    chatting.system_message, chatting.prefix = "none", "A"
    bare = chatting.query("What?", [])
    assert bare == "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nA"
