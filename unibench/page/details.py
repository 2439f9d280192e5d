"""What the explorer loads when somebody asks for it: answers that differ, pictures, configurations.

A page opened from disk may load scripts but not read files, so each detail is a script that hands
one JSON value over. Questions and pictures are written once for all cells that were asked them.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from unibench import frame as frames
from unibench.asked import asked
from unibench.comparison.recommend import cost
from unibench.errors import UsageError
from unibench.inference.record import Record, stored
from unibench.inference.row import RowError, read_row
from unibench.page.gallery import laid
from unibench.page.lines import rounded
from unibench.plots.overlay import View
from unibench.store import read_samples
from unibench.store.data import MIB, UnreadableError, read_text
from unibench.store.files import replace
from unibench.store.listing import environments
from unibench.tasks import Sample

log = logging.getLogger(__name__)
SAMPLES = 60_000  # answers that a page reads; the cells beyond have no details, and it says so
PICTURES = 2000
LONGEST = 4000  # signs of a text; the folder of the cell has the whole
SIDE, QUALITY = 448, 80  # of a picture
OURS = re.compile(r"(cell|questions)\d+\.js|[0-9a-f]{16}\.webp")  # files of an earlier page


@dataclass(frozen=True)
class Detail:
    """Where the details of a cell are.

    Attributes:
        script: number of its own script.
        questions: number of the script with what it was asked; None if no answer differs.
        differ: samples that it answers otherwise than vanilla.
    """

    script: int
    questions: int | None
    differ: int


@dataclass(frozen=True)
class Details:
    """What was written.

    Attributes:
        cells: by the key of the cell.
        times: interval of the median prefill of a series, by its hash.
        left: number of cells without details, since there are too many or they are damaged.
        remarks: why pictures are missing.
    """

    cells: Mapping[str, Detail]
    times: Mapping[str, tuple[float | None, float | None]]
    left: int
    remarks: tuple[str, ...]


Records = dict[str, Record]


def write(frame: pd.DataFrame, to: Path) -> Details:
    """Write the scripts and pictures of a page, and remove those of an earlier one.

    Args:
        frame: finished cells, not joined over seeds.
        to: folder of the page.

    Raises:
        UsageError: a folder of the page is a link.
    """
    writer = _Writer(to)
    for _, group in frames.whole(frame).groupby("setting", sort=False):
        writer.add(group)
    writer.clear()
    times = {series: _interval(seeds) for series, seeds in writer.clock.items()}
    return Details(writer.cells, times, writer.left, tuple(dict.fromkeys(writer.remarks)))


class _Writer:
    """Writes the details of one setting after the other."""

    def __init__(self, to: Path) -> None:
        self.cells: dict[str, Detail] = {}
        self.clock: dict[str, list[pd.Series[float]]] = {}
        self.remarks: list[str] = []
        self.left = self._answered = self._asked = 0
        self._scripts, self._pictures = _folder(to / "details"), _folder(to / "pictures")
        self._written: set[Path] = set()
        self._known: dict[str, str] = {}  # file of a picture, by the hash of its pixels

    def add(self, group: pd.DataFrame) -> None:
        """The cells of one setting, which were all asked the same."""
        vanilla = group[group["method"] == "vanilla"]
        base: Records = {}
        if len(vanilla) == 1:  # of several versions none is the one to compare to
            base = self._records(vanilla.to_dict("records")[0]) or {}
        changed: dict[str, list[Record]] = {}
        for line in group.to_dict("records"):
            whole = line["method"] == "vanilla"
            records = base if whole and base else self._records(line)
            if records is None:
                self.left += 1
                continue
            times = {name: one.prefill_ms for name, one in records.items()}
            self.clock.setdefault(line["series"], []).append(pd.Series(times, dtype=float))
            changed[line["key"]] = [] if whole else list(_changed(records, base))
        differing = {one.id: base[one.id] for found in changed.values() for one in found}
        sources = self._sources(vanilla, differing, len(base))
        questions = _Questions(sources)
        for line in group.to_dict("records"):
            if line["key"] in changed:
                self._cell(line, changed[line["key"]], questions)
        if differing:
            shown = {name: self._shown(sources.get(name), one) for name, one in differing.items()}
            self._script(f"questions{self._asked}", questions.told(differing, shown))
            self._asked += 1

    def clear(self) -> None:
        """Remove what an earlier page left."""
        for folder in (self._scripts, self._pictures):
            for file in folder.iterdir():
                if OURS.fullmatch(file.name) and file not in self._written:
                    file.unlink()

    def _records(self, line: Mapping[Any, Any]) -> Records | None:
        """The samples of a cell; None if they are too many or damaged."""
        if self._answered and self._answered + line["n"] > SAMPLES:
            return None
        self._answered += line["n"]
        place = Path(line["folder"])
        try:
            return {one.id: one for one in stored(place, read_samples(place)[0].values())}
        except UsageError as error:  # it costs the page nothing else
            log.warning("%s", error)
            return None

    def _sources(
        self, vanilla: pd.DataFrame, wanted: Iterable[str], count: int
    ) -> Mapping[str, Sample]:
        names = set(wanted)
        if not names:
            return {}
        try:
            return asked(Path(vanilla["folder"].iloc[0]), names, count)
        except UsageError as error:  # the page shows the answers all the same
            self.remarks.append(f"No pictures: {error}")
            return {}

    def _cell(
        self, line: Mapping[Any, Any], changed: Sequence[Record], questions: _Questions
    ) -> None:
        number = len(self.cells)
        folder = Path(line["folder"])
        told = {
            "folder": line["folder"],
            "config": _text(folder / "config.yaml"),
            "environment": _text(folder / "env.json"),
            "videos": _videos(folder),
            "scored": any(run.get("scores") for run in environments(folder)),
            "samples": [questions.answer(one) for one in changed],
        }
        self._script(f"cell{number}", told)
        asked_in = self._asked if changed else None
        self.cells[line["key"]] = Detail(number, asked_in, len(changed))

    def _shown(self, source: Sample | None, asked_: Record) -> list[str | None]:
        """The files of a sample's pictures; of a video, of the frames that the model was shown."""
        if source is None:
            return []
        frames = {number for video in asked_.frames for number in video}
        return [
            self._picture(picture) if not frames or number in frames else None
            for number, picture in enumerate(source.images)
        ]

    def _picture(self, picture: Image.Image) -> str | None:
        """The name of a picture's file, which is written once; None of too many pictures."""
        small = picture.convert("RGB")
        name = hashlib.sha256(small.tobytes() + repr(small.size).encode()).hexdigest()[:16]
        if name in self._known:
            return self._known[name]
        if len(self._known) == PICTURES:
            self.remarks.append(f"The first {PICTURES:,} pictures are shown.")
            return None
        small.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        small.save(stream, "WEBP", quality=QUALITY)
        self._write(self._pictures / f"{name}.webp", stream.getvalue())
        self._known[name] = f"{name}.webp"
        return self._known[name]

    def _script(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(self._scripts / f"{name}.js", f'explorer.take("{name}", {as_json(content)});\n')

    def _write(self, file: Path, content: str | bytes) -> None:
        replace(file, content)
        self._written.add(file)


class _Questions:
    """What the cells of one setting were asked, and how the tokens of their prompts lie."""

    def __init__(self, sources: Mapping[str, Sample]) -> None:
        self._sources = sources
        self._layouts: dict[str, int] = {}  # many samples share one
        self._places: list[Any] = []

    def answer(self, one: Record) -> list[Any]:
        """The row of an answer."""
        scores = one.scores
        shown = scores and [scores.layer, rounded(scores.low), rounded(scores.high), scores.values]
        layout = self._layout(one)
        return [one.id, clipped(one.answer), one.score, one.last, layout, one.kept, shown]

    def told(
        self, wanted: Mapping[str, Record], shown: Mapping[str, Sequence[str | None]]
    ) -> dict[str, Any]:
        """The questions with vanilla's answers."""
        found = {}
        for name, one in wanted.items():
            source = self._sources.get(name)
            question = source.question if source else one.question or ""
            texts = [clipped(text) for text in (one.ability, question, one.truth)]
            found[name] = [*texts, shown[name], self.answer(one)[1:], one.visual_tokens]
        return {"asked": found, "layouts": self._places}

    def _layout(self, one: Record) -> int | None:
        """The number of a layout; None where it is not known where tokens lie."""
        source = self._sources.get(one.id)
        if source is None:
            return None
        sizes = [picture.size for picture in source.images]
        text = json.dumps([one.layout, one.seen, one.frames, sizes])
        if text not in self._layouts:
            self._layouts[text] = len(self._places)
            try:
                self._places.append([_placed(view) for view in laid(sizes, one)])
            except UsageError:  # a damaged record: its answer is shown without places
                self._places.append([])
        return self._layouts[text]


def _placed(view: View) -> list[Any]:
    """A view as JSON: its picture, and the grids on it."""
    grids = []
    for grid in view.grids:
        first, count = grid.tokens[0], len(grid.tokens)
        is_run = grid.tokens == tuple(range(first, first + count))
        box = [rounded(share) for share in grid.box]
        grids.append([first if is_run else grid.tokens, grid.height, grid.width, box])
    return [view.picture, grids]


def _changed(records: Records, base: Records) -> Iterator[Record]:
    """The samples that a cell answers or scores otherwise than vanilla."""
    for name, one in records.items():
        before = base.get(name)
        if before is not None and (one.answer, one.score) != (before.answer, before.score):
            yield one


def _interval(seeds: Sequence[pd.Series[float]]) -> tuple[float | None, float | None]:
    """The 95 % interval of the median prefill; of several seeds, of a sample's mean over them."""
    times = pd.concat(seeds, axis=1, join="inner").mean(axis=1)
    if times.empty or times.isna().any():
        return None, None
    found = cost(pd.DataFrame({"prefill_ms": times}), "prefill_ms")
    return rounded(found.low), rounded(found.high)


def as_json(content: Any) -> str:
    """JSON that may stand in a script or an element of a page: no sign of it ends either.

    >>> "<" in as_json("</script>")
    False
    """
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def clipped(text: str) -> str:
    """A text as long as a page shows it.

    >>> clipped("a" * 5000)[-24:]
    'a ... (1,000 more signs)'
    """
    more = len(text) - LONGEST
    return text if more <= 0 else f"{text[:LONGEST]} ... ({more:,} more signs)"


def _videos(folder: Path) -> str:
    """How a cell's videos were read, and what stayed of them, in one line; empty for pictures."""
    try:
        told = read_row(folder).frames
    except RowError:  # a damaged row is named elsewhere
        return ""
    known = {key: value for key, value in (told or {}).items() if value is not None}
    # of a stranger's file anything may be there
    return clipped(", ".join(f"{key} {value}" for key, value in known.items()))


def _text(file: Path) -> str:
    """The text of a stored file; why there is none where it cannot be shown."""
    try:
        return read_text(file, MIB)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnreadableError as error:  # one cell's file does not cost the page
        return f"({error})"


def _folder(place: Path) -> Path:
    """A folder of the page, made if need be.

    Raises:
        UsageError: it is a link, through which nothing is written.
    """
    if place.is_symlink():
        raise UsageError(f"{place} is a link; nothing is written through it")
    place.mkdir(parents=True, exist_ok=True)
    return place
