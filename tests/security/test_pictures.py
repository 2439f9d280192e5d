"""Pictures are data, and are what every viewer shows; anything else is refused by name and line."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from unibench.errors import UsageError
from unibench.harness.child.missing import check_table
from unibench.pictures import (
    FORMATS,
    PIXELS,
    PictureError,
    all_shown,
    as_shown,
    guarded,
    read_otherwise,
    read_picture,
)
from unibench.registry import ROOT
from unibench.tasks.folder import Folder


def drawn() -> Image.Image:
    """A picture of which no two corners are alike."""
    values = np.zeros((24, 40, 3), dtype=np.uint8)
    values[:12, :20], values[:12, 20:], values[12:, :20] = (
        (250, 20, 20),
        (20, 250, 20),
        (20, 20, 250),
    )
    values[12:, 20:] = (120, 120, 120)
    return Image.fromarray(values)


def near(found: Image.Image, wanted: Image.Image, within: int = 40) -> bool:
    """Whether two pictures are the same but for the losses of a format."""
    if found.size != wanted.size:
        return False
    first, second = (np.asarray(one.convert("RGB")).astype(int) for one in (found, wanted))
    return bool(np.abs(first - second)[3:-3, 3:-3].mean() < within / 4)


def saved(place: Path, picture: Image.Image, name: str, **more: object) -> Path:
    picture.save(place / name, **more)
    return place / name


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_of_the_list_is_read(name: str, tmp_path: Path) -> None:
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    file = tmp_path / "picture.dat"  # the name says nothing
    drawn().save(file, name)
    found = read_picture(file)
    assert found.mode == "RGB" and near(found, drawn())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_as_its_camera_says(
    orientation: int, name: str, tmp_path: Path
) -> None:
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of each orientation, as transpose() has it
    stored = drawn() if orientation == 1 else drawn().transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x", name, exif=exif, quality=95)
    assert near(read_picture(tmp_path / "x"), drawn())


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_grey_of_16_bits_is_scaled(name: str, tmp_path: Path) -> None:
    grey = np.asarray(drawn().convert("L"))
    file = saved(tmp_path, Image.fromarray(grey.astype(np.uint16) * 257), name)
    assert (np.asarray(read_picture(file))[..., 0] == grey).all()


def test_grey_in_floats_is_a_share_of_white_or_refused(tmp_path: Path) -> None:
    grey = np.asarray(drawn().convert("L"))
    file = saved(tmp_path, Image.fromarray(grey.astype(np.float32) / 255), "x.tif")
    assert (np.asarray(read_picture(file))[..., 0] == grey).all()
    for wrong in (grey.astype(np.float32), grey.astype(np.float32) * np.nan):
        with pytest.raises(PictureError, match="between 0 and 1"):
            read_picture(saved(tmp_path, Image.fromarray(wrong), "y.tif"))
    with pytest.raises(PictureError, match="32 bits"):
        read_picture(saved(tmp_path, Image.fromarray(grey.astype(np.int32) * 70_000), "z.tif"))


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    clear = drawn().convert("RGBA")
    clear.putalpha(
        Image.fromarray(np.repeat([[255, 0]], 20, axis=1).repeat(24, axis=0).astype(np.uint8))
    )
    for name in ("x.png", "x.webp", "x.tif"):
        found = np.asarray(read_picture(saved(tmp_path, clear, name)))
        assert (found[4:20, 24:36] >= 250).all() and not (found[4:20, 4:16] >= 250).all(
            axis=-1
        ).any()
    palette = drawn().convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    place = palette.getpixel((30, 6))
    found = np.asarray(read_picture(saved(tmp_path, palette, "p.png", transparency=place)))
    assert (found[4:8, 24:36] == 255).all() and not (found[16:20, 4:16] == 255).all()
    grey = saved(tmp_path, drawn().convert("LA"), "la.png")
    assert near(read_picture(grey), drawn().convert("L"))


def test_two_drawings_on_a_clear_ground_stay_different(tmp_path: Path) -> None:
    found = []
    for side in (4, 12):
        drawing = Image.new("RGBA", (24, 24), (0, 0, 0, 0))
        drawing.paste((0, 0, 0, 255), (0, 0, side, side))
        found.append(np.asarray(read_picture(saved(tmp_path, drawing, f"{side}.png"))))
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "L", "YCbCr"])
def test_other_modes_are_what_they_show(mode: str, tmp_path: Path) -> None:
    picture = drawn().convert(mode)
    name = {"CMYK": "x.jpg", "YCbCr": "x.jpg"}.get(mode, "x.png")
    assert near(read_picture(saved(tmp_path, picture, name)), picture.convert("RGB"))
    assert as_shown(picture).mode == "RGB"


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(name: str, tmp_path: Path) -> None:
    drawn().save(tmp_path / "x", name, save_all=True, append_images=[Image.new("RGB", (40, 24))])
    assert near(read_picture(tmp_path / "x"), drawn())


def test_pages_are_refused_and_a_smaller_version_is_no_page(tmp_path: Path) -> None:
    pages = saved(tmp_path, drawn(), "x.tif", save_all=True, append_images=[drawn()])
    with pytest.raises(PictureError, match="several pages"):
        read_picture(pages)
    small = Image.new("RGB", (10, 6))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType: of reduced resolution
    saved(tmp_path, drawn(), "y.tif", save_all=True, append_images=[small])
    assert Image.open(tmp_path / "y.tif").n_frames == 2
    assert near(read_picture(tmp_path / "y.tif"), drawn())


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(size: tuple[int, int] = (8, 8), *chunks: bytes) -> bytes:
    """A PNG of one bit per pixel with further chunks."""
    width, height = size
    lines = (
        zlib.compress(bytes(height * (1 + (width + 7) // 8)), 9) if width * height < 10**9 else b""
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    )


def cut(name: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        stream, name
    )
    return stream.getvalue()[: len(stream.getvalue()) * 2 // 3]


REFUSED: dict[str, tuple[bytes, str]] = {
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n{ 1 pop } loop\n", "PostScript"),
    "EPS in DOS": (b"\xc5\xd0\xd3\xc6" + bytes(28) + b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
    "PDF": (b"%PDF-1.7\n", "a PDF"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "an SVG"),
    "SVG with a head": (b'<?xml version="1.0"?>\n<svg/>', "SVG"),
    "web page": (b"<!DOCTYPE html>", "a web page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n", "git lfs pull"),
    "empty": (b"", "none of the formats"),
    "text": (b"hello", "none of the formats"),
    "icon": (b"\x00\x00\x01\x00\x01\x00" + bytes(32), "none of the formats"),
    "FITS": (b"SIMPLE  =                    T".ljust(2880), "none of the formats"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "none of the formats"),
    "WMF": (b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(64), "none of the formats"),
    "bomb": (png((60_000, 60_000)), "pixels"),
    "144 megapixels": (png((12_000, 12_000)), "12000 x 12000 pixels"),
    "a claim": (png((2**31 - 1, 2**31 - 1)), "pixels"),
    "wide": (png((2010, 10)), "at most 200:1"),
    "high": (png((1, 201)), "at most 200:1"),
    "long text": (png((8, 8), chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b'{"nodes": 1}' * 200_000))), "broken inside"),
    "gamma": (png((8, 8), chunk(b"gAMA", b"")), "broken inside"),
    "profile": (png((8, 8), chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(80 << 20)))), "broken inside"),
    **{f"cut {name}": (cut(name), "broken inside") for name in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM")},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _truncated_pictures_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """As lmms-eval leaves Pillow behind in its process."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_is_refused_with_file_and_line(case: str, tmp_path: Path) -> None:
    content, reason = REFUSED[case]
    (tmp_path / "a.png").write_bytes(content)
    entry = {"image": "a.png", "question": "what?", "answer": "red"}
    (tmp_path / "questions.jsonl").write_text("\n" + json.dumps(entry))
    with pytest.raises(UsageError) as refused:
        list(Folder(data=str(tmp_path)).samples())
    said = str(refused.value)
    assert "questions.jsonl line 2: cannot read the picture a.png: it" in said and reason in said
    assert "\n" not in said


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_cut_avif_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    drawn().save(stream, "AVIF", quality=90)
    (tmp_path / "x").write_bytes(stream.getvalue()[:-60])
    with pytest.raises(PictureError, match="broken inside|none of the formats"):
        read_picture(tmp_path / "x")


def test_files_that_are_none_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, reason in (
        (tmp_path / "pipe", "no plain file"),
        (Path("/dev/zero"), "no plain file"),
        (tmp_path, "no plain file"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(PictureError, match=reason):
            read_picture(place)


def test_a_picture_may_lie_behind_a_link(tmp_path: Path) -> None:
    saved(tmp_path, drawn(), "x.png")
    (tmp_path / "link").symlink_to("x.png")
    assert near(read_picture(tmp_path / "link"), drawn())


@pytest.mark.parametrize("size", [(1, 1), (30, 1), (1, 30), (200, 1)])
def test_small_and_long_pictures_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    assert read_picture(saved(tmp_path, Image.new("L", size), "x.png")).size == size


def kinds() -> dict[str, tuple[Image.Image, bool]]:
    """Pictures of many kinds as a task may hold them, and whether all readers see them alike."""
    turned, clear, palette = drawn(), drawn().convert("RGBA"), drawn().convert("P")
    turned.getexif()[0x0112] = 6
    upright = drawn()
    upright.getexif()[0x0112] = 1
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    palette.info["transparency"] = palette.getpixel((2, 2))
    grey = np.asarray(drawn().convert("L"))
    deep, clear_deep = (Image.fromarray(grey.astype(np.uint16) * 257) for _ in range(2))
    clear_deep.info["transparency"] = int(grey[2, 2]) * 257
    return {
        "RGB": (drawn(), True),
        "upright": (upright, True),
        "palette": (drawn().convert("P"), True),
        "CMYK": (drawn().convert("CMYK"), True),
        "one bit": (drawn().convert("1"), True),
        "opaque": (drawn().convert("RGBA"), True),
        "turned": (turned, False),
        "transparent": (clear, False),
        "transparent grey": (clear.convert("LA"), False),
        "transparent palette": (palette, False),
        "16 bits": (deep, False),
        "16 bits, transparent": (clear_deep, False),
        "floats": (Image.fromarray(grey.astype(np.float32) / 255), False),
        "32 bits": (Image.fromarray(grey.astype(np.int32) * 70_000), False),
    }


@pytest.mark.parametrize("kind", kinds())
def test_whether_a_harness_reads_a_picture_otherwise_is_known(kind: str) -> None:
    picture, alike = kinds()[kind]
    assert read_otherwise(picture) is not alike


def test_what_a_grey_of_16_bits_says_is_transparent_is_white() -> None:
    found = np.asarray(as_shown(kinds()["16 bits, transparent"][0]))[..., 0]
    wanted = np.asarray(drawn().convert("L")).copy()
    wanted[wanted == wanted[2, 2]] = 255
    assert (found == wanted).all()


def test_a_picture_that_cannot_be_shown_is_named_by_question_and_place() -> None:
    for wrong, said in ((kinds()["32 bits"][0], "32 bits"), (Image.new("L", (402, 2)), "200:1")):
        with pytest.raises(PictureError, match=f"question 7, picture 2: .*{said}"):
            all_shown([drawn(), wrong], "question 7")


MEMORY = """
import resource, sys
from pathlib import Path
from unibench.pictures import PictureError, read_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_picture(Path(sys.argv[1]))
except PictureError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("case", ["bomb", "144 megapixels", "long text", "profile"])
def test_a_refused_picture_costs_no_memory(case: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(REFUSED[case][0])
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "x.png"],
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(ran.stdout.split()[-1]) < 100, ran.stdout
    assert PIXELS * 3 <= 256 << 20


def strange() -> dict[str, bytes]:
    """Files that Pillow would open, and that are none of the list or too large."""
    found = {"bomb": REFUSED["bomb"][0], "144 megapixels": REFUSED["144 megapixels"][0]}
    found["EPS"] = REFUSED["EPS"][0].ljust(200, b"\n")
    for name in ("ICO", "TGA", "PCX", "SGI", "JPEG2000", "ICNS", "DDS"):
        if name != "JPEG2000" or features.check("jpg_2000"):
            stream = io.BytesIO()
            Image.new("RGB", (32, 32), "red").save(stream, name)
            found[name] = stream.getvalue()
    return found


@pytest.mark.parametrize("case", strange())
def test_whoever_opens_a_picture_in_a_harness_gets_those_of_the_list(
    case: str, tmp_path: Path
) -> None:
    content, opened = strange()[case], Image.open
    (tmp_path / "x.png").write_bytes(content)
    with guarded():
        for place in (tmp_path / "x.png", str(tmp_path / "x.png"), io.BytesIO(content)):
            with pytest.raises(PictureError, match="none of the formats|more than"):
                Image.open(place)
    assert Image.open is opened
    table = pd.DataFrame({"index": [3, 7], "image": [encoded(png()), encoded(content)]})
    with pytest.raises(PictureError, match=r"MMBench\.tsv index 7: a picture") as refused:
        check_table(table, "MMBench")
    assert "\n" not in str(refused.value)


def encoded(content: bytes) -> str:
    return base64.b64encode(content.ljust(60, b"\0")).decode()


def test_a_harness_opens_plain_files_alone_and_reads_them_its_own_way(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    saved(tmp_path, drawn().convert("LA"), "x.png")
    with guarded():
        for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
            with pytest.raises(PictureError, match="no plain file"):
                Image.open(place)
        with pytest.raises(FileNotFoundError):
            Image.open(tmp_path / "none")
        assert Image.open(tmp_path / "x.png").mode == "LA"
    listed = (
        f"['{encoded(png())}', '{encoded(cut('PNG'))}']"  # broken further inside: its own matter
    )
    check_table(pd.DataFrame({"index": [1, 2], "image": [listed, "1"]}), "MMBench")


@pytest.mark.slow
@settings(max_examples=300)
@given(
    name=st.sampled_from(FORMATS),
    start=st.integers(0, 600),
    content=st.binary(min_size=1, max_size=8),
    length=st.integers(20, 2000),
)
def test_any_bytes_are_a_picture_or_refused(
    name: str, start: int, content: bytes, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.BytesIO()
    drawn().save(stream, name)
    changed = bytearray(stream.getvalue()[:length])
    changed[start : start + len(content)] = content
    file = tmp_path_factory.mktemp("fuzz") / "x"
    file.write_bytes(changed)
    with contextlib.suppress(PictureError):
        assert read_picture(file).mode == "RGB"
