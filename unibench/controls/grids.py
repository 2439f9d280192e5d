"""How large a picture may be for a number of tokens, and the pictures of these sizes."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL import Image
from PIL.Image import Resampling

STEPS = tuple(step / 20 for step in range(20, 0, -1))  # 1, 0.95, ..., 0.05 of both sides
JPEG_QUALITY = 75


def resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture in another size, by Pillow's bicubic filter, which is widened where it shrinks."""
    return picture.convert("RGB").resize((width, height), Resampling.BICUBIC)


def blurred(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture of its own size that holds no more than one of another size does."""
    return resized(resized(picture, width, height), *picture.size)


def divided(picture: Image.Image, divisor: int) -> Image.Image:
    """Both sides divided by a constant, as VTC-Bench sends it (arXiv 2510.07143): JPEG of quality
    75, whatever share of the tokens that leaves.

    Raises:
        ValueError: a side is shorter than the divisor.
    """
    width, height = picture.width // divisor, picture.height // divisor
    if not width or not height:
        raise ValueError(f"{picture.width} x {picture.height} has no {divisor}th part")
    stream = BytesIO()
    resized(picture, width, height).save(stream, format="JPEG", quality=JPEG_QUALITY)
    return Image.open(stream).convert("RGB")


def centre_crop(picture: Image.Image, shares: tuple[float, float]) -> Image.Image:
    """The middle of a picture: shares of its width and height; at least a pixel."""
    width, height = (
        max(1, round(side * share)) for side, share in zip(picture.size, shares, strict=True)
    )
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.convert("RGB").crop((left, top, left + width, top + height))


def largest(most: int, tokens: Callable[[float], int]) -> float | None:
    """The largest step of a picture's scale that needs at most so many tokens; None if there is
    none. The number need not fall with the scale, where a picture is cut into tiles.
    """
    return next((step for step in STEPS if tokens(step) <= most), None)
