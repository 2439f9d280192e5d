"""``gallery``: a page of the embedded benchmark's pictures with what is asked about them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from PIL.Image import Image

from unibench.errors import UsageError, unknown
from unibench.tasks import Sample
from unibench.tasks.synthvqa import SynthVQA

OPTIONS = ("split", "variant", "seed", "pictures")
_STYLE = """body { font: 14px sans-serif; margin: 2em; background: #fff; color: #222 }
section { display: inline-block; vertical-align: top; width: 360px; margin: 0 1.5em 2em 0 }
img { width: 336px; image-rendering: pixelated } dt { color: #777; margin-top: .6em } dd { margin: 0; white-space: pre-wrap }"""


def gallery(words: list[str]) -> int:
    """``gallery FILE.html [split=test] [variant=single] [seed=0] [pictures=12]``."""
    if not words or "=" in words[0]:
        raise UsageError(
            "gallery needs a file: python -m unibench gallery synthvqa.html [split=test"
            " variant=single seed=0 pictures=12]"
        )
    target, given = (
        Path(words[0]),
        {"split": "test", "variant": "single", "seed": "0", "pictures": "12"},
    )
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in OPTIONS:
            raise unknown("gallery option", name, OPTIONS)
        given[name] = value
    number, seed = _whole("pictures", given["pictures"]), _whole("seed", given["seed"])
    task = SynthVQA(
        split=given["split"],
        variant=given["variant"],
        seed=seed,
        size=number * len(SynthVQA.abilities),
    )
    title = f"synthvqa, split {given['split']}, variant {given['variant']}, seed {seed}"
    try:
        target.write_text(page(title, list(task.samples())), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from None
    print(f"{number} pictures in {target}")
    return 0


def page(title: str, samples: Sequence[Sample]) -> str:
    """A page that needs no other file; samples of a group stand under its pictures."""
    parts = [
        "<!doctype html><meta"
        f" charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
    ]
    for _, group in groupby(samples, key=lambda sample: sample.group):
        parts += _section(list(group))
    return "\n".join(parts) + "\n"


def _section(group: Sequence[Sample]) -> Iterator[str]:
    yield "<section>"
    for image in group[0].images:
        yield f'<img alt="" src="data:image/png;base64,{_png(image)}">'
    yield "<dl>"
    for sample in group:
        yield (
            f"<dt>{html.escape(sample.ability.replace('_', ' '))}</dt><dd>{html.escape(sample.question)}</dd>"
        )
        yield f"<dd><b>{html.escape(sample.answers[0])}</b></dd>"
    yield "</dl></section>"


def _png(image: Image) -> str:
    file = io.BytesIO()
    image.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{name}={text}: a whole number is expected")
    return int(text)
