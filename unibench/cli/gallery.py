"""``gallery``: a page of the embedded benchmark's pictures with what is asked about them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader
from PIL.Image import Image

from unibench.cli.parser import Options
from unibench.errors import UsageError
from unibench.tasks import Sample
from unibench.tasks.synthvqa import SynthVQA


def gallery(options: Options) -> int:
    """``gallery FILE.html [split=test] [variant=single] [seed=0] [pictures=12]``."""
    target, split, variant = Path(options.file).expanduser(), options.split, options.variant
    size = options.pictures * len(SynthVQA.abilities)
    task = SynthVQA(split=split, variant=variant, seed=options.seed, size=size)
    title = f"synthvqa, split {split}, variant {variant}, seed {options.seed}"
    try:
        target.write_text(page(title, list(task.samples())), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from None
    print(f"{options.pictures} pictures in {target}")
    return 0


def page(title: str, samples: Sequence[Sample]) -> str:
    """A page that needs no other file; samples of a group stand under its pictures."""
    environment = Environment(
        loader=PackageLoader("unibench.cli"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["png"] = _png
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.group)]
    return environment.get_template("gallery.html.j2").render(title=title, groups=groups)


def _png(image: Image) -> str:
    """A picture in the letters of a data address."""
    file = io.BytesIO()
    image.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()
