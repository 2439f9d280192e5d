"""``chat`` of OpenGVLab's own InternVL3 code on the model in the form of transformers.

VLMEvalKit's class builds the question and cuts the tiles; the template, the system text and the
placeholders come from the code beside OpenGVLab's checkpoints (``conversation.py``, template
``internvl2_5``; ``modeling_internvl_chat.py``), which no index has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from unibench.harness.child.entry import Standing
from unibench.models import LoadedModel

SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"
    "多模态大语言模型。"
)
END = "<|im_end|>"
PICTURE = ("<img>", "<IMG_CONTEXT>", "</img>")


class Chatting(Standing):
    """The model that ``InternVLChat`` holds.

    Attributes:
        system_message: may be set, as in OpenGVLab's class; ``none`` for none.
        prefix: what a reply begins with.
    """

    system_message: str = SYSTEM
    prefix: str = ""

    def chat(
        self,
        tokenizer: Any,
        pixel_values: Tensor | None,
        question: str,
        generation_config: Mapping[str, Any],
        num_patches_list: Sequence[int] = (),
        **_: Any,
    ) -> str:
        """The answer to a question about tiles."""
        loaded = self._loaded
        # as chat() in modeling_internvl_chat.py does
        if pixel_values is not None and "<image>" not in question:
            question = f"<image>\n{question}"
        inputs = tokenizer(self.query(question, num_patches_list), return_tensors="pt")
        ids = inputs["input_ids"].to(loaded.device)
        pixels = None if pixel_values is None else pixel_values.to(loaded.model.dtype)
        out = self.generate(
            input_ids=ids,
            attention_mask=inputs["attention_mask"].to(loaded.device),
            pixel_values=pixels,
            # the template's separator ends an answer, whatever the checkpoint's end token is
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            **generation_config,
        )
        (text,) = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        return str(text).split(END)[0].strip()

    def query(self, question: str, tiles: Sequence[int]) -> str:
        """The prompt of a question whose pictures have so many tiles, overview included."""
        system = f"<|im_start|>system\n{self.system_message}{END}\n"
        text = (
            f"{'' if self.system_message == 'none' else system}<|im_start|>user\n{question}{END}\n"
            f"<|im_start|>assistant\n{self.prefix}"
        )
        start, context, end = PICTURE
        for count in tiles:
            # one at a time, since each picture has a number of tiles of its own
            text = text.replace(
                "<image>", f"{start}{context * (tokens_of(self._loaded) * count)}{end}", 1
            )
        return text


def tokens_of(loaded: LoadedModel) -> int:
    """Visual tokens of a tile."""
    config = loaded.model.config
    vision = config.vision_config
    sides = [
        int(size // patch * config.downsample_ratio)
        for size, patch in zip(vision.image_size, vision.patch_size, strict=True)
    ]
    return sides[0] * sides[1]
