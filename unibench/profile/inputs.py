"""The same prompts for every method: drawn noise, and a question of so many tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from unibench.errors import UsageError
from unibench.models import LoadedModel
from unibench.pictures import PictureError, read_picture

WORD = " the"


def fixed_inputs(
    loaded: LoadedModel, image: tuple[int, int] | str, text_tokens: int, batch: int, number: int
) -> dict[str, Tensor]:
    """A batch of prompts, each with one picture.

    Args:
        loaded: the model.
        image: width and height of the picture in pixels, or the file of one.
        text_tokens: of the question; the chat template comes on top.
        batch: prompts.
        number: of the batch; each has pictures of its own, unless there is a file.

    Raises:
        UsageError: the file is no picture, or no question has so many tokens.
    """
    asked = question(loaded, text_tokens)
    if isinstance(image, str):
        try:
            shown = read_picture(Path(image))
        except PictureError as error:
            raise UsageError(f"image={image}: {error}") from None
        return loaded.inputs([asked] * batch, [[shown]] * batch)
    width, height = image
    generator = np.random.default_rng(number)
    pictures = [
        [Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))]
        for _ in range(batch)
    ]
    return loaded.inputs([asked] * batch, pictures)


def question(loaded: LoadedModel, tokens: int) -> str:
    """Words that the tokenizer splits into exactly so many tokens.

    Raises:
        UsageError: no repetition of the word gives that number.
    """
    encode = loaded.processor.tokenizer.encode
    for words in range(1, tokens + 1):
        text = (WORD * words).strip()
        if len(encode(text, add_special_tokens=False)) == tokens:
            return text
    raise UsageError(
        f"text_tokens={tokens}: this tokenizer has no such question; try another number"
    )
