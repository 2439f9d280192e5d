"""Pictures as every viewer shows them, read as data: one loader for all pictures of one's own, of
embedded tasks and of the library.

What a file may be is listed here. Pillow would try some forty more formats, whatever the name of
the file says, and hands PostScript to Ghostscript, which runs it as a program.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from unibench.errors import UsageError, shown

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
PIXELS = 89_478_485  # as many as Pillow takes without a warning; 256 MiB of RGB
BYTES = 256 << 20  # of a file
RATIO = 200  # of the longer side to the shorter: Qwen's processors refuse more
WHITE = (255, 255, 255, 255)
BEGINNINGS = {  # of files that are taken for pictures, so that the refusal can say what they are
    b"%!PS": "PostScript, which is a program",
    b"\xc5\xd0\xd3\xc6": "PostScript, which is a program",
    b"%PDF": "a PDF",
    b"<svg": "an SVG, which is a text that may load others",
    b"<?xml": "XML (an SVG?), which is a text that may load others",
    b"<!DOC": "a web page",
    b"<html": "a web page",
    b"8BPS": "a Photoshop file",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"version https://git-lfs": "a pointer of git-lfs; git lfs pull fetches the picture",
}


class PictureError(UsageError):
    """A file that is no picture, or none that can be shown to a model."""


def read_picture(file: Path) -> Image.Image:
    """The picture in a file, RGB, upright, on white; of an animation the first frame.

    Raises:
        PictureError: there is no such file, it is none of :data:`FORMATS`, is broken inside, has
            several pages, too many pixels or too long a side.
    """
    try:
        # without O_NONBLOCK, opening a pipe waits for a writer
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PictureError(str(error.strerror)) from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise PictureError("it is no plain file")
    with os.fdopen(descriptor, "rb") as stream:
        return _read_stream(stream, state.st_size)


def picture_of(content: bytes) -> Image.Image:
    """The same of a picture that a table holds.

    Raises:
        PictureError: as :func:`read_picture`.
    """
    return _read_stream(io.BytesIO(content), len(content))


def _read_stream(stream: BinaryIO, size: int) -> Image.Image:
    if size > BYTES:
        raise PictureError(f"it has {size >> 20} MiB; at most {BYTES >> 20} are read")
    start = stream.read(4096)
    stream.seek(0)
    try:
        with warnings.catch_warnings(), _whole_pictures():
            warnings.simplefilter("ignore")  # what is wrong with a picture is said below
            return _read(stream, start)
    except PictureError:
        raise
    # a file that is broken inside makes Pillow raise nearly anything, SyntaxError included
    except Exception as error:
        text = str(error).partition("\n")[0] or type(error).__name__
        raise PictureError(f"it is broken inside: {text}") from None


@contextmanager
def _whole_pictures() -> Iterator[None]:
    """Inside, a picture that is cut short is an error; lmms-eval lets Pillow pass it as it is, for
    the whole process.
    """
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def guarded() -> Iterator[None]:
    """Inside, Pillow opens nothing but plain files in :data:`FORMATS` of at most :data:`PIXELS`,
    whoever asks. How a harness reads a picture stays its own.
    """
    opened = Image.open

    def within(fp: Any, mode: Any = "r", formats: Sequence[str] | None = None) -> Image.Image:
        if isinstance(fp, (str, bytes, os.PathLike)) and not _is_plain(fp):
            raise PictureError(f"{shown(os.fsdecode(fp))} is no picture: it is no plain file")
        wanted = FORMATS if formats is None else tuple(set(FORMATS) & {*formats})
        try:
            picture = opened(fp, mode, wanted)
        except UnidentifiedImageError:
            what = f"{_named(fp)} is none of the formats that are read"
            raise PictureError(f"{what}; a picture is one of {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError:
            raise PictureError(f"{_named(fp)} has more than {PIXELS} pixels") from None
        if picture.width * picture.height > PIXELS:
            raise PictureError(f"{_named(fp)} has more than {PIXELS} pixels")
        return picture

    with patch.object(Image, "open", within):
        yield


def _is_plain(file: Any) -> bool:
    """Whether a file is a plain one; one that is not there is left to whoever opens it."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except OSError:
        return True


def _named(file: Any) -> str:
    return shown(os.fsdecode(file)) if isinstance(file, (str, bytes, os.PathLike)) else "a picture"


def as_shown(picture: Image.Image) -> Image.Image:
    """A picture as viewers show it: turned as its EXIF data say, RGB, transparent parts white.

    Raises:
        PictureError: its numbers have no agreed brightness, it has too many pixels or too long a
            side.
    """
    _refuse_size(picture)
    if picture.mode == "RGB" and is_plain(picture):
        return picture
    try:
        picture = ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF data turn no picture in any viewer
        picture = picture.copy()
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = _of_16_bits(picture)
    elif picture.mode == "F":
        picture = _of_floats(picture)
    if picture.has_transparency_data:
        ground = Image.new("RGBA", picture.size, WHITE)
        picture = Image.alpha_composite(ground, picture.convert("RGBA"))
    return picture.convert("RGB")


def all_shown(pictures: Iterable[Image.Image], where: str) -> tuple[Image.Image, ...]:
    """The pictures of a question as viewers show them.

    Raises:
        PictureError: one cannot be shown; the message begins with ``where``.
    """
    found = []
    for number, picture in enumerate(pictures, 1):
        try:
            found.append(as_shown(picture))
        except PictureError as error:
            raise PictureError(f"{where}, picture {number}: {error}") from None
    return tuple(found)


def is_plain(picture: Image.Image) -> bool:
    """Whether every reader takes a picture for the same one: it lies upright, nothing of it is
    transparent, and its values have 8 bits.
    """
    try:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data turn no picture in any viewer
        turned = 1
    eight_bits = picture.mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBX")
    return turned in (0, 1) and eight_bits and not picture.has_transparency_data


def read_otherwise(picture: Image.Image) -> bool:
    """Whether ``convert("RGB")``, which is all that harnesses do, makes another picture of an
    opened file than :func:`as_shown`.
    """
    if is_plain(picture):
        return False
    try:
        ours, theirs = as_shown(picture), picture.convert("RGB")
    except Exception:  # one of the two refuses it
        return True
    return ours.size != theirs.size or ours.tobytes() != theirs.tobytes()


def _read(stream: BinaryIO, start: bytes) -> Image.Image:
    try:
        picture = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        kind = next((kind for sign, kind in BEGINNINGS.items() if sign in start[:1024]), None)
        reason = f"it is {kind}" if kind else "it is none of the formats that are read"
        raise PictureError(f"{reason}; a picture is one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise PictureError(f"it has more than {PIXELS} pixels") from None
    _refuse_size(picture)
    if picture.format == "TIFF" and _has_pages(picture):
        raise PictureError("it has several pages; give each page as a file of its own")
    picture.seek(0)
    picture.load()
    found = as_shown(picture)
    return found.copy() if found is picture else found  # one that no longer knows its file


def _refuse_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > PIXELS:
        raise PictureError(f"it has {width} x {height} pixels; at most {PIXELS} are read")
    if not width or not height or max(width, height) > RATIO * min(width, height):
        raise PictureError(f"it has {width} x {height} pixels; at most {RATIO}:1 can be shown")


def _has_pages(picture: Image.Image) -> bool:
    """Whether a TIFF has a second page; a smaller version of the first one is none."""
    for number in range(1, 16):
        try:
            picture.seek(number)
        except EOFError:
            return False
        reduced = int(picture.tag_v2.get(254, 0)) & 1  # type: ignore[attr-defined]
        if not reduced:
            return True
    return True


def _of_16_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits; Pillow's own conversion would clip it to white."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise PictureError("it has grey values of 32 bits, whose white nothing says")
    if isinstance(clear := picture.info.get("transparency"), int):  # of a PNG: one value of grey
        values[values == clear] = 65_535
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def _of_floats(picture: Image.Image) -> Image.Image:
    """Grey as shares of white."""
    values = np.asarray(picture)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise PictureError("it has grey values that are no shares of white, between 0 and 1")
    return Image.fromarray(np.round(values * 255).astype(np.uint8))
