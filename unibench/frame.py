"""The tidy frame: one line for each finished cell, metric and ability, read from the cells' rows.

``<folder>/index.parquet`` keeps it, see :mod:`unibench.row_index`. The columns are
:data:`unibench.inference.row.LINE`; ``docs/statistics.md`` describes them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, islice, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unibench import row_index, score_index
from unibench.errors import UsageError, shown, unknown
from unibench.inference.record import COLUMNS as RECORD
from unibench.inference.record import stored
from unibench.inference.row import ALL as ALL
from unibench.inference.row import (
    LINE,
    MEASURED,
    NUMBERS,
    UNNAMED,
    Row,
    RowError,
    columns,
    read_row,
)
from unibench.row_index import Entry, Index, Stamp
from unibench.score_index import Array, Questions, Scores
from unibench.score_index import scores_kept as scores_kept
from unibench.store import manifest, read_samples, sealed_scores

log = logging.getLogger(__name__)

COLUMNS = LINE
BLOCK = 2000  # rows that are made lines together: few enough for memory, many for pandas
NAMED = 10  # cells without a line that are named one by one
SERIES = columns("series", "metric", "ability")  # of lines that seeds alone tell apart
PLACE = columns("setting", "metric", "ability")  # where a drop is measured against vanilla
MEANS = tuple(name for name in NUMBERS if name not in ("ratio", "low", "high"))
SETTING = columns(
    *("weights", "dtype", "attn", "batch", "pixels", "frames", "text_after_video"),
    "max_new_tokens",
    *("harness", "harness_version", "wrapper", "judge", "n", "data", "code", "setting"),
)  # what tells settings apart; the last one does wherever the others do not
METHOD = columns(
    *("variant", "params", "source", "budget", "budget_mode", "budget_scope", "positions"),
    *("device", "code", "key"),
)  # what tells results of one method in one setting apart
PRUNED = columns("method", *METHOD[:-3])  # vanilla has none of them
FILTERS = tuple(dict.fromkeys((*columns("model", "family", "task"), *PRUNED, *SETTING, *METHOD)))


ALIKE = (  # lines that agree in the first columns agree in the second, or must not stand together
    (columns("model"), "condition", "conditions of {model}"),
    (columns("model", "task"), "setting", "settings of {model} on {task}"),
    (
        columns("setting", "method", "variant", "budget", "budget_mode", "budget_scope"),
        "series",
        "versions of {method} at {budget}",
    ),
)


def load(folder: str | Path) -> pd.DataFrame:
    """The frame of all finished cells below a folder, in the order of their paths. Cells that
    cannot be read are left out, and named by a warning each time.

    Raises:
        UsageError: there is no such folder.
    """
    store = Path(folder).expanduser()
    if not store.is_dir():
        raise UsageError(
            f"{folder}: there is no such folder; out=<folder> names the results of earlier runs"
        )
    index = _index(store)
    _name_faults(_faults(store, index))
    frame = index.lines if index.lines is not None else of_rows([])
    start = f"{store}/"
    frame["folder"] = [start + name if name else str(store) for name in frame["folder"]]
    return frame


def over(own: pd.DataFrame, shared: pd.DataFrame) -> pd.DataFrame:
    """The cells of one's own store and of one that is shared; of a cell that both have, one's own.

    Args:
        own, shared: of :func:`load`.
    """
    added = shared[~shared["key"].isin(own["key"])]
    parts = [part for part in (own, added) if len(part)]
    if not parts:
        return own
    # a drop is against the vanilla of either
    return _with_vanilla(pd.concat(parts, ignore_index=True))


def left_out(folder: Path) -> dict[Path, str]:
    """Why cells of a store are in no table, by their folder."""
    store = folder.expanduser()
    return _faults(store, _index(store)) if store.is_dir() else {}


def note(folder: Path, found: Mapping[Path, str]) -> None:
    """Keep in the index what a check of a store found, so that no table shows those cells until one
    of their files changes.

    Args:
        folder: that was checked; what earlier checks found below it and this one did not is
            forgotten.
        found: what is wrong with finished cells, by their folder.
    """
    for root in row_index.roots(folder, found):
        kept = row_index.read(root)
        cells = dict(kept.cells)
        for name, one in kept.cells.items():
            cell = root / name
            if one.verified and cell not in found and cell.is_relative_to(folder):
                del cells[name]
        for cell, why in found.items():
            if cell != root and cell.is_relative_to(root):
                stamp = row_index.stamp_of(str(cell))
                fault = f"`store verify` found {why}"
                cells[str(cell.relative_to(root))] = Entry(stamp, 0, fault, verified=True)
        if cells != kept.cells:
            row_index.write(root, Index(cells, _lines_left(kept, cells)))


def _lines_left(kept: Index, cells: Mapping[str, Entry]) -> pd.DataFrame:
    """The lines of the cells that an index still shows."""
    if kept.lines is None:
        return of_rows([])
    owners = [name for name, one in kept.cells.items() for _ in range(one.lines)]
    left = [name in cells and cells[name].lines > 0 for name in owners]
    return _with_vanilla(kept.lines[np.array(left, dtype=bool)].reset_index(drop=True))


def verified(folder: Path) -> dict[Path, str]:
    """What the last check of a store found, see :func:`note`; not of cells changed since."""
    if not row_index.exists(folder):
        return {}
    known = row_index.read(folder).cells
    return {
        folder / name: one.fault
        for name, one in known.items()
        if one.verified and _is_unchanged(folder / name, one)
    }


def _is_unchanged(cell: Path, known: Entry) -> bool:
    try:
        return row_index.stamp_of(str(cell)) == known.stamp
    except OSError:
        return False


def _faults(store: Path, index: Index) -> dict[Path, str]:
    return {store / name: one.fault for name, one in index.cells.items() if one.fault}


def build(files: Iterable[Path]) -> pd.DataFrame:
    """The frame of the rows in these ``metrics.json`` files, each beside its cell's
    ``identity.json``.
    """
    rows, faults = _rows(file.parent for file in files)
    _name_faults(faults)
    return of_rows(rows)


def of_rows(rows: Iterable[Row]) -> pd.DataFrame:
    """The frame of rows that are already read."""
    return _with_vanilla(_lines_of(rows))


def _index(store: Path) -> Index:
    """The index of a store, up to date."""
    kept = row_index.read(store)
    now = {name: (stamp, why) for name, stamp, why in row_index.stamps(store, kept.cells)}
    same = {
        name
        for name, (stamp, why) in now.items()
        if not why and name in kept.cells and kept.cells[name].stamp == stamp
    }
    if len(same) == len(now) == len(kept.cells) and kept.lines is not None:
        return kept
    index = _joined_index(store, kept, now, same)
    row_index.write(store, index)
    return index


def _joined_index(
    store: Path, kept: Index, now: Mapping[str, tuple[Stamp, str]], same: set[str]
) -> Index:
    """An index of the cells that there are now, of which only new and changed ones are read."""
    frames = [] if kept.lines is None else [kept.lines]
    owners = [name for name, one in kept.cells.items() for _ in range(one.lines)]
    owners = [name if name in same else "" for name in owners]
    faults = {name: why for name, (_, why) in now.items() if why}
    faults |= {name: kept.cells[name].fault for name in same}
    new = [name for name, (_, why) in now.items() if not why and name not in same]
    for start in range(0, len(new), BLOCK):
        block = new[start : start + BLOCK]
        rows, wrong = _rows(store / name for name in block)
        names = {str(store / name): name for name in block}
        faults |= {names[str(place)]: why for place, why in wrong.items()}
        lines = _lines_of(rows)
        lines["folder"] = [names[place] for place in lines["folder"]]
        owners += lines["folder"].tolist()
        frames.append(lines)
    order = {name: place for place, name in enumerate(now)}
    ranks = np.array([order.get(name, -1) if name else -1 for name in owners], dtype=int)
    places = np.argsort(ranks, kind="stable")[int((ranks < 0).sum()) :]
    whole_lines = [frame for frame in frames if len(frame)]
    lines = pd.concat(whole_lines, ignore_index=True) if whole_lines else _lines_of([])
    lines = lines.iloc[places].reset_index(drop=True)
    for name in lines.select_dtypes(object).columns:  # empty in one part, text in another
        lines[name] = pd.Series(lines[name].tolist(), dtype=None if len(lines) else object)
    lines = _with_vanilla(lines)
    counts = np.bincount(ranks[ranks >= 0], minlength=len(now))
    cells = {
        name: Entry(
            stamp,
            int(counts[order[name]]),
            faults.get(name, ""),
            verified=name in same and kept.cells[name].verified,
        )
        for name, (stamp, _) in now.items()
    }
    return Index(cells, lines)


def _rows(folders: Iterable[Path]) -> tuple[list[Row], dict[Path, str]]:
    """The rows of cells that are as they were when they were finished, and why others have none."""
    rows: list[Row] = []
    faults: dict[Path, str] = {}
    for folder in folders:
        try:
            row = read_row(folder)
        except RowError as error:
            faults[folder] = f"{error}. The command that made it writes it again"
            continue
        if (why := manifest.changed(folder)) is not None:
            faults[folder] = f"{why}. `store verify` says more, and `store repair` mends it"
        else:
            rows.append(row)
    return rows, faults


def _name_faults(faults: Mapping[Path, str]) -> None:
    """Warn of cells that no table shows: of the first by name, of the others by their number."""
    for folder, why in islice(faults.items(), NAMED):
        log.warning("%s is left out of the tables: %s", folder, why)
    if (more := len(faults) - NAMED) > 0:
        log.warning("%s more cells are left out likewise; `store verify` names each", f"{more:,}")


def _lines_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The lines of rows, each as its row says."""
    lines = [line for row in rows for line in row.lines()]
    # a store's first index has a million entries: they are taken apart in C, line by line
    table: Iterable[tuple[Any, ...]] = repeat(())
    if lines:
        table = zip(*map(itemgetter(*COLUMNS), lines), strict=True)
    columns: dict[str, Any] = {}
    for name, entries in zip(COLUMNS, table, strict=False):
        if name in NUMBERS:
            columns[name] = pd.Series(list(entries), dtype=float)
            continue
        values = list(entries)
        if name != "folder":
            # texts of rows go to terminals, plots and pages; a folder is opened under its own name
            seen = {value: shown(value) for value in set(values) if isinstance(value, str)}
            values = [seen.get(value, value) for value in values]
        columns[name] = pd.Series(values, dtype=None if values else object)
    frame = pd.DataFrame(columns)
    return frame.astype({"n": int, "seed": int, "main": bool})


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines of each row's own metric over all samples: one for each cell, or series."""
    return frame[frame["main"] & (frame["ability"] == ALL)]


def samples(folder: str | Path) -> pd.DataFrame:
    """The answered samples of a cell, by id.

    Raises:
        UsageError: the cell has no samples, or a line of them is damaged.
    """
    file = Path(folder) / "samples.jsonl"
    if not file.is_file():
        raise _missing(file)
    records = stored(Path(folder), _read(Path(folder)).values())
    table = pd.DataFrame([vars(record) for record in records], columns=list(RECORD))
    table["ability"] = table["ability"].map(shown)  # as the frame names it
    return table.set_index("id")


@dataclass(frozen=True, slots=True)
class Answer:
    """What comparisons read of a sample, see :class:`unibench.inference.record.Record`."""

    ability: str
    group: str
    answer: str
    score: float


def answers(folder: str | Path) -> dict[str, Answer]:
    """What comparisons need of a cell's samples, by id; a score that a harness did not give is NaN.

    Raises:
        UsageError: as :func:`samples`.
    """
    file = Path(folder) / "samples.jsonl"
    try:
        state = file.stat()
    except OSError:
        raise _missing(file) from None
    return _answers(str(folder), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)  # vanilla is compared with every method
def _answers(folder: str, *_: int) -> dict[str, Answer]:
    found = {}
    for name, line in _read(Path(folder)).items():
        score = np.nan if line["score"] is None else float(line["score"])
        # an ability as the frame names it
        found[name] = Answer(shown(line["ability"]), line["group"], line["answer"], score)
    return found


def scores(folder: str | Path) -> Scores:
    """The scores of a cell's samples; inside of :func:`scores_kept`, from the index of its store.

    Raises:
        UsageError: as :func:`samples`.
    """
    try:
        return score_index.scores(str(folder), _scores)
    except OSError:
        raise _missing(Path(folder) / "samples.jsonl") from None


def _scores(folder: str) -> Scores:
    sealed = sealed_scores(Path(folder))
    if sealed is not None:
        abilities = tuple(map(_named, sealed.abilities))
        return Scores(_asked(Questions(sealed.ids, abilities, sealed.groups)), sealed.scores)
    found = _read(Path(folder)).values()
    asked = (
        tuple(line["id"] for line in found),
        tuple(_named(line["ability"]) for line in found),
        tuple(line["group"] for line in found),
    )
    values = [np.nan if line["score"] is None else float(line["score"]) for line in found]
    return Scores(_asked(Questions(*asked)), np.array(values))


_named = lru_cache(maxsize=1024)(shown)  # an ability as the frame names it


@lru_cache(maxsize=64)
def _asked(questions: Questions) -> Questions:
    """The same object for the same questions, which all cells of a setting have."""
    return questions


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """The samples of a finished cell, which has some.

    Raises:
        UsageError: no line of the file can be read.
    """
    found = read_samples(folder)[0]
    if not found:
        raise UsageError(
            f"{folder}/samples.jsonl holds no sample that can be read; python -m unibench store"
            f" verify {folder} says more"
        )
    return found


def no_common_sample(first: object, second: object) -> UsageError:
    """The mistake of comparing cells that share no sample."""
    return UsageError(f"{first} and {second} have no sample in common that has a score")


def _missing(file: Path) -> UsageError:
    return UsageError(f"{file} is missing: the cell's samples were removed or lie elsewhere")


def selected(frame: pd.DataFrame, given: Mapping[str, str], folder: Path) -> pd.DataFrame:
    """The lines that filters let pass; vanilla, which what is left is compared to, passes those of
    methods and budgets.

    Args:
        frame: not joined over seeds.
        given: value by column, of :data:`FILTERS`; or several, between commas. ``n`` is that of a
            whole cell.
        folder: of the results, for the message.

    Raises:
        UsageError: no line has such a value.
    """
    for name, value in given.items():
        column = (_of_cells(frame) if name == "n" else frame[name]).astype(str)
        known = set(column)
        wanted = [value] if value in known else value.split(",")
        for one in wanted if known else ():
            if one not in known:
                raise unknown(name, one, known, f"of the finished cells in {folder}")
        vanilla = (frame["method"] == "vanilla") & (name in PRUNED)
        frame = frame[column.isin(wanted) | vanilla]
    return frame


def _of_cells(frame: pd.DataFrame) -> pd.Series[int]:
    """The samples of the whole cell, for the lines of its abilities and other metrics too."""
    counts = whole(frame).set_index("folder")["n"]
    return frame["folder"].map(counts).fillna(frame["n"]).astype(int)


def over_seeds(frame: pd.DataFrame, *, intervals: bool = True) -> pd.DataFrame:
    """The frame with the seeds of each series joined: seeds are ordinary cells, this is their mean.

    Args:
        frame: finished cells.
        intervals: of several seeds, from their samples; False reads no file and leaves them NaN.

    Returns:
        ``score``, ``score_100``, drops and costs are means over seeds; ``std`` is their standard
        deviation (ddof 1, NaN for one seed), ``seeds`` their number; ``seed``, ``key`` and
        ``folder`` are lists. The interval of several seeds is that of the samples' mean scores over
        them. Where seeds ran on different devices, what was measured there is NaN.
    """
    groups = frame.groupby(list(SERIES), sort=False)
    joined = groups.head(1).reset_index(drop=True)  # in the order of the groups
    for name in MEANS:
        joined[name] = groups[name].mean().to_numpy()
    for name in ("seed", "key", "folder"):
        joined[name] = pd.Series(groups[name].agg(list).to_numpy(), dtype=object)
    joined["std"] = groups["score_100"].std(ddof=1).to_numpy()
    joined["seeds"] = groups.size().to_numpy()
    whole_intervals = (groups["low"].count() == groups.size()).to_numpy()
    several = joined["seeds"] > 1
    joined.loc[several, ["low", "high"]] = np.nan
    if intervals:
        spans = [*map(_interval, joined[several & whole_intervals].itertuples())]
        # one assignment: a thousand of single places take longer than the intervals themselves
        joined.loc[several & whole_intervals, ["low", "high"]] = np.reshape(spans, (-1, 2))
    for place, names in _several(groups["device"]):
        joined.loc[place, "device"] = " + ".join(names)
        joined.loc[place, list(MEASURED)] = np.nan
    for place, texts in _several(groups["versions"]):
        joined.loc[place, "versions"] = " + ".join(filter(None, texts))
    return joined[[*COLUMNS, "std", "seeds"]]


def _several(groups: Any) -> Iterator[tuple[int, Sequence[str]]]:
    """The groups with more than one text, by their place, and these."""
    if (groups.nunique(dropna=False) > 1).any():
        yield from ((at, each) for at, each in enumerate(groups.unique()) if len(each) > 1)


def _interval(line: Any) -> tuple[float, float]:
    """The interval of the samples' mean scores over the seeds of a series."""
    from unibench.stats import (
        mean_interval,
    )  # scipy takes a second, which a table need not wait for

    scores = means(line.folder, line.ability)
    found = mean_interval(scores.values, scores.questions.groups)
    return 100 * found.low, 100 * found.high


def difference(lines: pd.DataFrame) -> str:
    """What tells lines apart, as the filter that chooses one of them: ``source=5e0c or 77ab``.

    Args:
        lines: two or more, joined over seeds or not; of several settings, or of one method.
    """
    for name in SETTING if lines["setting"].nunique() > 1 else METHOD:
        values = list(dict.fromkeys(lines[name].map(_shown)))
        if len(values) > 1:
            return f"{name}={' or '.join(values)}"
    return "out=" + " or ".join(dict.fromkeys(lines["folder"].map(_shown)))


def labels(lines: pd.DataFrame, by: str) -> dict[str, str]:
    """What tells groups of lines apart, for a heading: ``batch=4, n=40`` by group; empty where
    there is only one group.

    Args:
        lines: joined over seeds or not.
        by: the column that makes the groups: setting, condition or candidate.
    """
    first = lines.drop_duplicates(by).set_index(by)
    names = dict.fromkeys(map(str, first.index), "")
    for column in (METHOD if by == "candidate" else SETTING)[:-1]:
        if len(set(names.values())) == len(names):
            break
        groups = lines.groupby(by, sort=False)[column]
        values = {str(group): set(map(_shown, part)) for group, part in groups}
        apart = len(set().union(*values.values())) > 1
        if apart and all(len(value) == 1 for value in values.values()):
            for group, (value,) in values.items():
                names[group] += f"{', ' * bool(names[group])}{column}={value}"
    if len(set(names.values())) < len(names):  # nothing that a heading shows tells them apart
        return {group: f"{by} {group}" for group in names}
    return names


def conditions(lines: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The lines of each model under each condition, which alone may stand in one table or average
    over tasks; with a name.
    """
    for model, part in lines.groupby("model", sort=False):
        names = labels(part, "condition")
        for condition, group in part.groupby("condition", sort=False):
            yield ", ".join(filter(None, (str(model), names[str(condition)]))), group


def check_alike(lines: pd.DataFrame, what: str) -> None:
    """Refuse lines that must not stand in one table or plot, see :data:`ALIKE`.

    Args:
        lines: joined over seeds or not.
        what: the table or plot.

    Raises:
        UsageError: says what tells them apart, and how to choose.
    """
    for same, hashed, name in ALIKE:
        groups = lines.groupby(list(same), sort=False, dropna=False)
        if groups[hashed].nunique(dropna=False).max() <= 1:
            continue  # nearly always, and much faster than a look at each group
        for _, group in groups:
            others = group.drop_duplicates(hashed)
            if len(others) > 1:
                raise UsageError(
                    f"{what} never mixes {len(others)} {name.format(**others.iloc[0])}; choose one"
                    f" with {difference(others)}"
                )


def vanillas(lines: pd.DataFrame) -> pd.DataFrame:
    """The unpruned lines by their setting.

    Args:
        lines: of :func:`whole`.

    Raises:
        UsageError: a setting has several, for example of two versions of the code.
    """
    found = lines[lines["method"] == "vanilla"]
    for _, versions in found.groupby("setting", sort=False):
        if len(versions) > 1:
            raise UsageError(
                f"there are {len(versions)} versions of vanilla on {versions.iloc[0]['task']};"
                f" choose one with {difference(versions)}"
            )
    return found.set_index("setting", drop=False)


def mean_scores(folders: Sequence[str], ability: str = ALL) -> dict[str, tuple[float, str]]:
    """Score and picture of each sample by id, as :func:`means` has them."""
    found = means(folders, ability)
    pairs = zip(found.values.tolist(), found.questions.groups, strict=True)
    return dict(zip(found.questions.ids, pairs, strict=True))


def means(folders: Sequence[str], ability: str = ALL) -> Scores:
    """The score of each sample, averaged over cells that differ in their seed alone; of samples
    that all the cells have. NaN where no cell has a score.

    Raises:
        UsageError: as :func:`samples`.
    """
    cells = _in_common([scores(folder) for folder in folders])
    found = cells[0]
    if len(cells) > 1:
        columns = np.stack([cell.values for cell in cells])  # [cells, samples]
        unknown = np.isnan(columns)  # a harness may leave samples without a score
        counts = (~unknown).sum(0)
        # row by row, as one adds up by hand: the sum does not depend on the number of samples
        total = np.where(unknown, 0.0, columns).sum(0)
        found = Scores(found.questions, total / np.where(counts == 0, np.nan, counts))
    if ability == ALL:
        return found
    wanted = ALL if ability == UNNAMED else ability
    return _chosen(found, np.array([tested == wanted for tested in found.questions.abilities]))


def paired_scores(
    one: Sequence[str], other: Sequence[str], ability: str = ALL
) -> tuple[Array, Array, tuple[str, ...]]:
    """The mean scores of two series and the pictures, of the samples that both have a score of.

    Args:
        one, other: folders of their cells, one for each seed.
        ability: whose samples are compared.

    Raises:
        UsageError: as :func:`samples`, or they have no such sample.
    """
    first, second = _in_common([means(one, ability), means(other, ability)])
    known = ~(np.isnan(first.values) | np.isnan(second.values))
    if not known.any():
        raise no_common_sample(one[0], other[0])
    first, second = _chosen(first, known), _chosen(second, known)
    return first.values, second.values, first.questions.groups


def _chosen(found: Scores, which: npt.NDArray[np.bool_]) -> Scores:
    """The scores of some samples."""
    if which.all():
        return found
    asked = found.questions
    columns = (asked.ids, asked.abilities, asked.groups)
    kept = Questions(*(tuple(compress(column, which.tolist())) for column in columns))
    return Scores(kept, found.values[which])


def _in_common(cells: Sequence[Scores]) -> Sequence[Scores]:
    """The scores of the samples that all of several cells have, in the order of the first."""
    first = cells[0].questions
    if all(cell.questions is first for cell in cells):
        return cells
    tables = [dict(zip(cell.questions.ids, cell.values.tolist(), strict=True)) for cell in cells]
    shared = [all(name in table for table in tables) for name in first.ids]
    asked = _chosen(cells[0], np.array(shared, dtype=bool)).questions
    return [Scores(asked, np.array([table[name] for name in asked.ids])) for table in tables]


def _with_vanilla(frame: pd.DataFrame) -> pd.DataFrame:
    """Drops against the unpruned cell of the same setting, metric and ability.

    A row notes its own vanilla, which covers the main metric; the others are looked up, and stay
    empty where the folder has no such cell, or several.
    """
    own = frame["main"] & (frame["ability"] == ALL)
    frame.loc[~own, "vanilla_100"] = np.nan  # of an index: vanilla may be another now
    vanilla = frame[frame["method"] == "vanilla"].drop_duplicates([*PLACE, "series"])
    single = vanilla[~vanilla.duplicated(list(PLACE), keep=False)]
    scores = single.set_index(list(PLACE))["score_100"]
    wanted = pd.MultiIndex.from_frame(frame[list(PLACE)])
    found = (
        scores.reindex(wanted).to_numpy(dtype=float) if len(scores) else np.full(len(frame), np.nan)
    )
    reference = frame["vanilla_100"].fillna(pd.Series(found, index=frame.index))
    frame["vanilla_100"] = reference
    frame["retention_pct"] = 100 * frame["score_100"] / reference.where(reference != 0)
    frame["drop_pct"] = 100 - frame["retention_pct"]
    return frame


def _shown(value: Any) -> str:
    """A value as a filter takes it; of several seeds each."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
