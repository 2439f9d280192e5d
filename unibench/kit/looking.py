"""What a method sees and does with one sample: its scores on the picture, the tokens that stay, and
the tensors that it shows with ``ctx.log(name, tensor)``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageDraw
from torch import Tensor

from unibench.budget import Budget
from unibench.errors import UsageError
from unibench.kit.watching import Watch, watched
from unibench.models import LoadedModel
from unibench.plots.overlay import COLD, WARM, of_pictures, tiles, views
from unibench.pruning import Method, Selection, Session, Stage, StageContext
from unibench.pruning.context import unheard
from unibench.pruning.layout import Item
from unibench.tasks import Sample

SIDE = 336  # pixels of the longer side of a view


@dataclass(frozen=True)
class Logged:
    """A tensor that a method showed, or the scores that decided.

    Attributes:
        name: that the method gave it.
        tensor: a copy.
        rows: ``[N]`` which original visual token each entry stands for; None where it has another
            length than the context had tokens.
    """

    name: str
    tensor: Tensor
    rows: Tensor | None

    @property
    def summary(self) -> str:
        """Shape, type and range."""
        values, shape = self.tensor.float(), tuple(self.tensor.shape)
        words = f"{shape} {str(self.tensor.dtype).removeprefix('torch.')}"
        if not values.numel():
            return words
        finite = values[values.isfinite()]
        if len(finite) < values.numel():
            words += f", {values.numel() - len(finite)} not finite"
        if len(finite):
            words += f", from {finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}"
        return words


@dataclass(frozen=True)
class Look:
    """One stage of one sample.

    Attributes:
        layer: whose input was cut.
        shown: tokens that the stage saw.
        kept: ``[total]`` True on original visual tokens that stay behind it.
        logged: in the order in which they were shown.
        place: the line that returned the choice.
    """

    layer: int
    shown: int
    kept: Tensor
    logged: tuple[Logged, ...]
    place: str


@dataclass(frozen=True)
class Looked:
    """What a method did with a sample.

    Attributes:
        sample: that was asked.
        answer, plain: of the model, with the method and without.
        items: how its visual tokens lie.
        looks: one for each question that a stage was asked.
        notes: remarks of the method.
    """

    sample: Sample
    answer: str
    plain: str
    items: tuple[Item, ...]
    looks: tuple[Look, ...]
    notes: tuple[str, ...]


def look(
    method: Method,
    files: Sequence[Path],
    loaded: LoadedModel,
    sample: Sample,
    budget: Budget,
    tokens: int,
    seed: int = 0,
) -> Looked:
    """Ask a sample under a method, and keep what it shows.

    Args:
        method: of an author.
        files: of the author.
        loaded: the model.
        sample: that is asked.
        budget: how much stays.
        tokens: of the longest answer.
        seed: of the run.
    """
    shown: list[list[Logged]] = []
    watch = _Showing(files, shown)
    session = Session(loaded.family, watched(method, watch), budget, seed=seed)
    session.samples = [sample.id]
    inputs = loaded.inputs([sample.question], [sample.images])
    with session.installed():
        answer = _answer(loaded, inputs, tokens)
    plain = _answer(loaded, inputs, tokens)
    prompt = session.prompt
    if prompt is None or not watch.questions:
        raise UsageError(f"sample {sample.id} shows no picture, so that the method is not asked")
    total = sum(map(len, prompt.items[0]))
    looks = []
    for question, logs in zip(watch.questions, shown, strict=True):
        ctx, kept = question.ctx, torch.zeros(total, dtype=torch.bool)
        stays = ctx.vision_rows.cpu()
        kept[stays if question.keep is None else stays[question.keep.cpu()]] = True
        scores = [] if question.answer is None else _scores(question.answer, stays)
        looks.append(Look(ctx.layer, len(stays), kept, (*scores, *logs), question.place))
    return Looked(
        sample, answer, plain, prompt.items[0], tuple(looks), tuple(sorted(session.notes))
    )


class _Showing(Watch):
    """A watch that keeps what is logged of each question."""

    def __init__(self, files: Sequence[Path], shown: list[list[Logged]]) -> None:
        super().__init__(files)
        self._shown = shown

    def ask(self, stage: Stage, ctx: StageContext) -> Selection | None:
        if ctx.note is unheard:  # asked again to count its work
            return super().ask(stage, ctx)
        logs: list[Logged] = []
        self._shown.append(logs)
        return super().ask(stage, replace(ctx, log=partial(_log, logs, ctx)))


def _log(logs: list[Logged], ctx: StageContext, name: str, tensor: Tensor) -> None:
    per_token = tensor.ndim == 1 and len(tensor) == len(ctx.visual)
    rows = ctx.vision_rows.cpu() if per_token else None
    logs.append(Logged(name, tensor.detach().cpu().clone(), rows))


def _scores(answer: Selection, rows: Tensor) -> list[Logged]:
    if answer.scores is None:
        return []
    return [Logged("scores", answer.scores.detach().cpu().clone(), rows)]


@torch.no_grad()
def _answer(loaded: LoadedModel, inputs: dict[str, Tensor], tokens: int) -> str:
    config = loaded.generation_config(tokens, 1.0)
    with loaded.decoding(config):
        out = loaded.model.generate(**inputs, generation_config=config)
    return loaded.answers(out[:, inputs["input_ids"].shape[1] :])[0]


# -- pictures


def heat(pictures: Sequence[Image.Image], item: Item, values: Tensor) -> list[Image.Image]:
    """A picture under a number for each of its tokens, dark where it is low and yellow where it is
    high; NaN stays clear.

    Args:
        pictures: the picture; of a video its frames.
        item: the layout of its tokens.
        values: ``[len(item)]``.

    Returns:
        One view for each frame of a video; of a picture one of its tiles together, and one of the
        overview.
    """
    finite = values[values.isfinite()]
    low = float(finite.min()) if len(finite) else 0.0
    span = (float(finite.max()) - low if len(finite) else 0.0) or 1.0
    found, start = [], 0
    for part in item.parts:
        places = [not mark for mark in part.separators]
        own = values[start : start + len(part)][torch.tensor(places)]
        start += len(part)
        grids = ((own - low) / span).view(part.frames, part.height, part.width)
        if len(pictures) > 1:
            for number, grid in enumerate(grids):
                picture = pictures[number * len(pictures) // part.frames]
                found.append(_painted(picture, [(grid, (0.0, 0.0, 1.0, 1.0))]))
        else:
            boxes = tiles(part.frames, pictures[0].width / pictures[0].height)
            found.append(_painted(pictures[0], list(zip(grids, boxes, strict=True))))
    return found


def _painted(
    picture: Image.Image, grids: Sequence[tuple[Tensor, tuple[float, float, float, float]]]
) -> Image.Image:
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    whole = picture.convert("RGB").resize(size)
    colours = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(colours)
    for grid, (left, top, right, bottom) in grids:
        height, width = grid.shape
        wide, high = (right - left) * size[0] / width, (bottom - top) * size[1] / height
        for row in range(height):
            for column in range(width):
                value = float(grid[row, column])
                if value != value:
                    continue
                x, y = left * size[0] + column * wide, top * size[1] + row * high
                colour = tuple(
                    round(cold + value * (warm - cold))
                    for cold, warm in zip(COLD, WARM, strict=True)
                )
                draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=(*colour, 150))
    return Image.alpha_composite(whole.convert("RGBA"), colours).convert("RGB")


# -- the page


def page(looked: Looked, title: str) -> str:
    """One file of HTML that shows everything; it loads nothing."""
    environment = Environment(
        loader=PackageLoader("unibench.kit"), autoescape=True, undefined=StrictUndefined
    )
    stages = []
    for one in looked.looks:
        kept = [_encoded(view) for view in _kept(looked, one)]
        logs = []
        for logged in one.logged:
            pictures = [_encoded(view) for view in _heat(looked, logged)]
            logs.append({"name": logged.name, "said": logged.summary, "pictures": pictures})
        stages.append({"look": one, "count": int(one.kept.sum()), "kept": kept, "logs": logs})
    return environment.get_template("look.html.j2").render(
        title=title, looked=looked, total=sum(map(len, looked.items)), stages=stages
    )


def _kept(looked: Looked, one: Look) -> Iterator[Image.Image]:
    for item, pictures in _by_item(looked):
        yield from views(pictures, item, one.kept[item.start : item.stop])


def _heat(looked: Looked, logged: Logged) -> Iterator[Image.Image]:
    if logged.rows is None:
        return
    total = max(item.stop for item in looked.items)
    values = torch.full((total,), float("nan"))
    values[logged.rows] = logged.tensor.float()
    for item, pictures in _by_item(looked):
        yield from heat(pictures, item, values[item.start : item.stop])


def _by_item(looked: Looked) -> Iterator[tuple[Item, Sequence[Image.Image]]]:
    images: Sequence[Any] = looked.sample.images
    items = of_pictures(looked.items, len(images))
    for item, picture in zip(items, images, strict=True):
        yield item, [picture]


def _encoded(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
