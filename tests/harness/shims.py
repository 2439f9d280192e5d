"""What a machine without a GPU lacks for the harnesses' own classes, and what two of them need that
no index has, in the few lines that matter: the package ``llava`` and ``chat`` of OpenGVLab's remote
code, on checkpoints of transformers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BatchFeature,
    PreTrainedModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives"
    " helpful, detailed, and polite answers to the user's questions."
)
SHUSHENG = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"


@contextmanager
def on_cpu() -> Iterator[None]:
    """ "cuda" is the CPU, half precision is single, and no GPU is asked for."""
    load, move, place = PreTrainedModel.from_pretrained.__func__, torch.Tensor.to, BatchFeature.to

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        for key in ("torch_dtype", "low_cpu_mem_usage", "use_flash_attention_2"):
            kwargs.pop(key, None)
        kwargs |= {"dtype": torch.float32, "attn_implementation": "sdpa", "device_map": None}
        return load(cls, *args, **kwargs)

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = [str(value).partition(":")[0] for value in (*args, *kwargs.values())]
        if "cuda" in named or {"torch.float16", "torch.bfloat16"} & {*named}:
            return self
        return move(self, *args, **kwargs)

    def batch_to(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self if "cuda" in map(str, args) else place(self, *args, **kwargs)

    with (
        patch.object(PreTrainedModel, "from_pretrained", classmethod(from_pretrained)),
        patch.object(torch.Tensor, "to", to),
        patch.object(torch.Tensor, "cuda", lambda self: self),
        patch.object(torch.nn.Module, "cuda", lambda self, *_: self),
        patch.object(BatchFeature, "to", batch_to),
    ):
        module_to = torch.nn.Module.to
        keep = lambda self, *args, **kwargs: (  # noqa: E731
            self if "cuda" in str(args) else module_to(self, *args, **kwargs)
        )
        with patch.object(torch.nn.Module, "to", keep):
            yield


def vlmevalkit(kind: str, folder: Path) -> Any:
    """A context in which a class of VLMEvalKit finds what it imports."""
    if kind == "LLaVA":
        return llava(folder)
    if kind == "InternVLChat":
        return internvl(folder)
    if kind == "LLaVA_Next":
        return by_place()
    return nullcontext()


def lmms_eval(entry: str, folder: Path) -> Any:
    """The same for lmms-eval."""
    return llava(folder, "lmms_eval.models.simple.llava") if entry == "llava" else nullcontext()


def inner(model: Any) -> tuple[Any, Any]:
    """The torch module in a harness's object, and its processor."""
    found = getattr(model, "_model", None) or model.model
    processor = getattr(model, "processor", None) or getattr(model, "_image_processor", None)
    return getattr(found, "inner", found), getattr(found, "whole", processor)


def placed(model: Any) -> None:
    """lmms-eval's ``llava`` insists on cuda:0."""
    if model._device.type == "cuda":
        model._device = torch.device("cpu")


@contextmanager
def by_place() -> Iterator[None]:
    """Processors take text and pictures by place in the order of transformers 4."""
    from transformers import LlavaNextProcessor

    call = LlavaNextProcessor.__call__

    def turned(self: Any, first: Any = None, second: Any = None, **kwargs: Any) -> Any:
        if isinstance(first, str):
            return call(self, text=first, images=second or None, **kwargs)
        return call(self, first, second, **kwargs)

    with patch.object(LlavaNextProcessor, "__call__", turned):
        yield


@contextmanager
def internvl(folder: Path) -> Iterator[None]:
    import vlmeval.vlm.internvl.internvl_chat as module
    import vlmeval.vlm.internvl.utils as utils

    model = AutoModelForImageTextToText.from_pretrained(folder)
    own = AutoProcessor.from_pretrained(folder)
    size, patch_size = (
        model.config.vision_config.image_size[0],
        model.config.vision_config.patch_size[0],
    )
    tokens = (size // patch_size // 2) ** 2
    load = module.load_image

    class Chat(torch.nn.Module):
        system_message = SHUSHENG
        whole = own

        @property
        def inner(self) -> Any:
            return model

        def chat(self, tokenizer: Any, pixel_values: Any, question: str, generation_config: Any, num_patches_list: Any, verbose: bool) -> str:  # fmt: skip
            text = f"<|im_start|>system\n{SHUSHENG}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            for tiles in num_patches_list:
                text = text.replace(
                    "<image>", "<img>" + "<IMG_CONTEXT>" * tokens * tiles + "</img>", 1
                )
            inputs = tokenizer(text, return_tensors="pt")
            out = model.generate(**inputs, pixel_values=pixel_values, eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"), max_new_tokens=generation_config["max_new_tokens"], do_sample=False)  # fmt: skip
            return str(
                tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            ).strip()

    with (
        patch.object(module, "AutoModel", SimpleNamespace(from_pretrained=lambda *_, **__: Chat())),
        patch.object(
            module, "load_image", lambda file, max_num, upscale: load(file, size, max_num, upscale)
        ),
        patch.object(utils, "IMAGENET_MEAN", tuple(own.image_processor.image_mean)),
        patch.object(utils, "IMAGENET_STD", tuple(own.image_processor.image_std)),
    ):
        yield


@contextmanager
def llava(folder: Path, importer: str | None = None) -> Iterator[None]:
    model = AutoModelForImageTextToText.from_pretrained(folder)
    own = AutoProcessor.from_pretrained(folder)
    vision = model.config.vision_config
    side, patches = vision.image_size, (vision.image_size // vision.patch_size) ** 2
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_mean=own.image_processor.image_mean, image_std=own.image_processor.image_std)  # fmt: skip

    def process_images(images: Any, processor: Any, config: Any) -> Any:
        done = []
        for image in images:
            image = image.convert("RGB")
            canvas = Image.new(
                "RGB", (max(image.size),) * 2, tuple(int(x * 255) for x in processor.image_mean)
            )
            canvas.paste(
                image, ((canvas.width - image.width) // 2, (canvas.width - image.height) // 2)
            )
            done.append(processor(canvas, return_tensors="pt")["pixel_values"][0])
        return torch.stack(done)

    def tokenizer_image_token(
        prompt: str, tokenizer: Any, index: int, return_tensors: Any = None
    ) -> Any:
        ids: list[int] = []
        for number, chunk in enumerate(prompt.split("<image>")):
            part = tokenizer(chunk).input_ids
            if part and part[0] == tokenizer.bos_token_id and number:
                part = part[1:]
            ids += ([index] if number else []) + part
        return torch.tensor(ids)

    class Wrapped(torch.nn.Module):
        whole = own
        config = SimpleNamespace(image_aspect_ratio="pad")

        @property
        def inner(self) -> Any:
            return model

        def generate(self, input_ids: Any, images: Any = None, **kwargs: Any) -> Any:
            row = [
                t
                for x in input_ids[0].tolist()
                for t in ([model.config.image_token_id] * patches if x == -200 else [x])
            ]
            ids = torch.tensor([row])
            known = {
                k: v
                for k, v in kwargs.items()
                if k in ("do_sample", "max_new_tokens", "num_beams", "pad_token_id")
            }
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=images, **known
            )
            return out[:, ids.shape[1] :]

        def tie_weights(self) -> None: ...

    class Conv:
        roles = ("USER", "ASSISTANT")

        def __init__(self) -> None:
            self.text = VICUNA + " "

        def copy(self) -> Conv:
            return Conv()

        def append_message(self, role: str, said: str | None) -> None:
            self.text += f"{role}: {said} " if said else f"{role}:"

        def get_prompt(self) -> str:
            return self.text

    contents: dict[str, Any] = {
        "llava": {},
        "llava.constants": {"IMAGE_TOKEN_INDEX": -200, "DEFAULT_IMAGE_TOKEN": "<image>"},
        "llava.conversation": {"conv_templates": {"vicuna_v1": Conv()}},
        "llava.mm_utils": {
            "KeywordsStoppingCriteria": lambda *_: None,
            "process_images": process_images,
            "tokenizer_image_token": tokenizer_image_token,
            "get_model_name_from_path": lambda path: "llava-v1.5-7b",
        },
        "llava.model": {},
        "llava.model.builder": {
            "load_pretrained_model": lambda *_, **__: (own.tokenizer, Wrapped(), pictures, 2048)
        },
    }
    modules = {name: ModuleType(name) for name in contents}
    for name, module in modules.items():
        vars(module).update(contents[name])
    with patch.dict(sys.modules, modules):
        if importer is not None:
            target = sys.modules[importer]
            for content in contents.values():
                vars(target).update(content)
        yield
