"""Samples on which a pruned model and the whole one differ."""

from __future__ import annotations

import base64
import io
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from unibench import frame as frames
from unibench.asked import asked
from unibench.errors import UsageError, unknown
from unibench.plots.overlay import SIDE, of_pictures, views
from unibench.pruning.layout import Box, Item, read
from unibench.pruning.record import unpacked
from unibench.store.data import shown
from unibench.tasks import Sample

log = logging.getLogger(__name__)
TOKENS = 1_000_000  # of a sample, far more than any model reads


@dataclass(frozen=True)
class Difference:
    """One sample, answered twice.

    Attributes:
        cell: key of the pruned cell.
        title: model, method, budget and task.
        sample, ability: which question.
        question: as it was asked; empty where only the harness has it.
        truth: the right answer.
        before, after: vanilla's answer and the pruned one's.
        won: whether the pruned one scores higher.
        pictures: ``data:`` addresses: the pictures, then what was kept of each.
        remark: why there are none.
    """

    cell: str
    title: str
    sample: str
    ability: str
    question: str
    truth: str
    before: str
    after: str
    won: bool
    pictures: tuple[str, ...]
    remark: str


def differences(frame: pd.DataFrame, per_cell: int) -> Iterator[Difference]:
    """The first samples of each pruned cell that score otherwise than vanilla's of the same
    setting.

    Args:
        frame: finished cells, not joined over seeds.
        per_cell: how many of each.
    """
    cells = frames.whole(frame)
    whole = frames.vanillas(cells)["folder"].to_dict()
    for _, line in cells[cells["method"] != "vanilla"].iterrows():
        if line["setting"] in whole:
            yield from _of_cell(line.to_dict(), whole[line["setting"]], per_cell)


def _of_cell(line: Mapping[Any, Any], vanilla: str, count: int) -> Iterator[Difference]:
    try:
        pruned, before = frames.samples(line["folder"]), frames.samples(vanilla)
    except UsageError as error:  # a damaged cell is named and costs the page nothing else
        log.warning("%s", error)
        return
    both = pruned.join(before[["answer", "score"]], rsuffix="_before", how="inner")
    wanted = both[
        (both["score"] < both["score_before"]) | (both["score"] > both["score_before"])
    ].head(count)
    if wanted.empty:
        return
    remark, sources = "", dict[str, Sample]()
    seen: dict[str, tuple[str, ...]] = {}
    try:
        sources = asked(Path(line["folder"]), set(wanted.index), len(pruned))
        seen = {
            name: tuple(_pictures(source, wanted.loc[name].to_dict()))
            for name, source in sources.items()
        }
    except UsageError as error:  # the page shows the answers all the same
        remark = str(error)
    title = " ".join(
        str(part)
        for part in (line["model"], line["method"], line["variant"], line["budget"], line["task"])
        if part
    )
    for name, sample in wanted.iterrows():
        source = sources.get(str(name))
        yield Difference(
            cell=line["key"],
            title=title,
            sample=str(name),
            ability=str(sample["ability"]),
            question=source.question if source else str(sample.get("question", "")),
            truth=str(sample["truth"]),
            before=str(sample["answer_before"]),
            after=str(sample["answer"]),
            won=bool(sample["score"] > sample["score_before"]),
            pictures=seen.get(str(name), ()),
            remark=remark,
        )


def kept_of(folder: str, sample: str) -> list[Image.Image]:
    """Views of what a cell kept of a sample's pictures.

    Raises:
        UsageError: the cell has no such sample, or its pictures cannot be had.
    """
    records = frames.samples(folder)
    if sample not in records.index:
        raise unknown(f"sample of {folder}", sample, list(records.index[:5]))
    (source,) = asked(Path(folder), {sample}, len(records)).values()
    return _views(source, records.loc[[sample]].iloc[0].to_dict())


def _views(source: Sample, record: Mapping[Any, Any]) -> list[Image.Image]:
    """What was kept of each picture of a sample.

    Raises:
        UsageError: the record is none that a run writes.
    """
    try:
        items, boxes = _layout(record["layout"]), [_box(box) for box in record["seen"]]
        if isinstance(record.get("frames"), (list, tuple)) and record["frames"]:
            return _frame_views(source, record, items, boxes)
        pictures = of_pictures(items, len(source.images))
        kept = unpacked(record["last"], sum(len(item) for item in pictures))
        found = []
        for picture, item, box in zip(source.images, pictures, boxes, strict=True):
            found += views([picture], item, kept[item.start : item.stop], box)
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise UsageError(f"sample {shown(source.id)}: its record is damaged: {error}") from None
    return found


def _frame_views(
    source: Sample, record: Mapping[Any, Any], items: tuple[Item, ...], boxes: list[Box]
) -> list[Image.Image]:
    """What was kept of each frame of a video, or of the two that a Qwen reads together."""
    (numbers,) = record["frames"]
    frames = [source.images[number] for number in numbers]
    kept = unpacked(record["last"], sum(len(item) for item in items))
    if len(items) == 1:
        return views(frames, items[0], kept, boxes[0])
    found = []
    # a family whose frames are pictures has an item for each
    for frame, item in zip(frames, items, strict=True):
        found += views([frame], item, kept[item.start : item.stop], boxes[0])
    return found


def _layout(stored: Any) -> tuple[Item, ...]:
    """The items of a stored layout, of a size that can be drawn.

    Raises:
        ValueError, TypeError: it is no layout.
    """
    for length, parts in stored:
        grids = [(frames, height, width) for frames, height, width, *_ in parts]
        sizes = [length, *(side for grid in grids for side in grid)]
        if any(type(size) is not int or not 0 <= size <= TOKENS for size in sizes):
            raise ValueError("a layout of whole numbers is wanted")
        if sum(math.prod(grid) for grid in grids) > TOKENS or any(0 in grid for grid in grids):
            raise ValueError(f"grids of more than {TOKENS} tokens, or of none")
    if sum(length for length, _ in stored) > TOKENS:
        raise ValueError(f"more than {TOKENS} tokens")
    items = read(stored)
    if any(item.parts and sum(len(part) for part in item.parts) != len(item) for item in items):
        raise ValueError("grids and tokens differ in number")
    return items


def _box(stored: Any) -> Box:
    """A stored place in a picture.

    Raises:
        ValueError, TypeError: it is none.
    """
    left, top, right, bottom = (float(share) for share in stored)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("a box inside the picture is wanted")
    return left, top, right, bottom


def _pictures(source: Sample, record: Mapping[Any, Any]) -> Iterator[str]:
    """The pictures of a sample, and what was kept of each."""
    for picture in source.images:
        small = picture.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        yield _address(small)
    yield from map(_address, _views(source, record))


def _address(picture: Image.Image) -> str:
    """A picture inside the page."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
