"""Samples on which a pruned model and the whole one differ."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from PIL import Image

from unibench import frame as frames
from unibench.compose import typed
from unibench.errors import UsageError, unknown
from unibench.identity import cell_of
from unibench.plots.overlay import SIDE, of_pictures, views
from unibench.pruning.layout import read
from unibench.pruning.record import unpacked
from unibench.runner.embedded import load_task
from unibench.tasks import Sample


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
    pruned, before = frames.samples(line["folder"]), frames.samples(vanilla)
    both = pruned.join(before[["answer", "score"]], rsuffix="_before", how="inner")
    wanted = both[
        (both["score"] < both["score_before"]) | (both["score"] > both["score_before"])
    ].head(count)
    if wanted.empty:
        return
    remark, asked = "", dict[str, Sample]()
    shown: dict[str, tuple[str, ...]] = {}
    try:
        asked = _asked(Path(line["folder"]), set(wanted.index))
        shown = {
            name: tuple(_pictures(source, wanted.loc[name].to_dict()))
            for name, source in asked.items()
        }
    except UsageError as error:  # the page shows the answers all the same
        remark = str(error)
    title = " ".join(
        str(part)
        for part in (line["model"], line["method"], line["variant"], line["budget"], line["task"])
        if part
    )
    for name, sample in wanted.iterrows():
        source = asked.get(str(name))
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
            pictures=shown.get(str(name), ()),
            remark=remark,
        )


def _asked(folder: Path, wanted: set[str]) -> dict[str, Sample]:
    """The samples of an embedded task, as the cell was asked them.

    Raises:
        UsageError: a harness keeps its pictures to itself, or the data are not there any more or
            are others now.
    """
    config = typed(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    if config.task.kind != "embedded":
        raise UsageError(
            f"{folder}: the harness of this task keeps its pictures; they are shown of embedded"
            " tasks"
        )
    cell = cell_of(config)
    if (
        cell.identity["data"]
        != json.loads((folder / "identity.json").read_text(encoding="utf-8"))["data"]
    ):
        raise UsageError(
            f"{folder}: the pictures of task {config.task.name} are not those that this cell was"
            " asked about"
        )
    found: dict[str, Sample] = {}
    for sample in load_task(cell).samples(config.task.limit):
        if sample.id in wanted:
            found[sample.id] = sample
        if len(found) == len(wanted):
            return found
    raise UsageError(
        f"{folder}: task {config.task.name} has no sample {min(wanted - found.keys())} any more"
    )


def kept_of(folder: str, sample: str) -> list[Image.Image]:
    """Views of what a cell kept of a sample's pictures.

    Raises:
        UsageError: the cell has no such sample, or its pictures cannot be had.
    """
    records = frames.samples(folder)
    if sample not in records.index:
        raise unknown(f"sample of {folder}", sample, list(records.index[:5]))
    return _views(_asked(Path(folder), {sample})[sample], records.loc[[sample]].iloc[0].to_dict())


def _views(source: Sample, record: Mapping[Any, Any]) -> list[Image.Image]:
    """What was kept of each picture of a sample."""
    items = of_pictures(read(record["layout"]), len(source.images))
    kept = unpacked(record["last"], sum(len(item) for item in items))
    found = []
    for picture, item, seen in zip(source.images, items, record["seen"], strict=True):
        found += views([picture], item, kept[item.start : item.stop], tuple(seen))
    return found


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
