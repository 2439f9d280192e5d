"""The tidy frame: one line for each finished cell, metric and ability, read from the cells' rows.

``<folder>/index.parquet`` keeps it; it is a copy, made again whenever a row below the folder is
new, changed or gone, and may be deleted at any time. The columns are
:data:`unibench.inference.row.LINE`; ``docs/statistics.md`` describes them.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

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
from unibench.stats import mean_interval
from unibench.store import cells_below, read_samples
from unibench.store.data import read_bytes
from unibench.store.files import fresh

log = logging.getLogger(__name__)

INDEX = "index.parquet"
LARGEST_INDEX = 1 << 30
SCHEMA = 2  # of the index
COLUMNS = LINE
SERIES = columns("series", "metric", "ability")  # of lines that seeds alone tell apart
PLACE = columns("setting", "metric", "ability")  # where a drop is measured against vanilla
MEANS = tuple(name for name in NUMBERS if name not in ("ratio", "low", "high"))
SETTING = columns(
    *("weights", "dtype", "attn", "batch", "pixels", "max_new_tokens"),
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


def load(folder: Path) -> pd.DataFrame:
    """The frame of all finished cells below a folder, in the order of their paths.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: there is no such folder; out=<folder> names the results of earlier runs"
        )
    files = [cell / "metrics.json" for cell in cells_below(folder)]
    files = [file for file in files if file.is_file()]
    stamp, index = _stamp(folder, files), folder / INDEX
    kept = _read(index, stamp)
    if kept is None:
        kept = build(files)
        _write(kept, index, stamp)
    return kept


def build(files: Iterable[Path]) -> pd.DataFrame:
    """The frame of the rows in these ``metrics.json`` files, each beside its cell's
    ``identity.json``.
    """
    rows: list[Row] = []
    for file in files:
        try:
            rows.append(read_row(file.parent))
        except RowError as error:
            log.warning(
                "%s is left out of the tables: %s. The command that made it writes it again",
                file.parent,
                error,
            )
    return of_rows(rows)


def of_rows(rows: Iterable[Row]) -> pd.DataFrame:
    """The frame of rows that are already read."""
    frame = pd.DataFrame([line for row in rows for line in row.lines()], columns=list(COLUMNS))
    for name in frame.columns.difference([*NUMBERS, "folder"]):
        # texts of rows go to terminals, plots and pages; a folder is opened under its own name
        frame[name] = frame[name].map(lambda text: shown(text) if isinstance(text, str) else text)
    for name in NUMBERS:
        frame[name] = pd.to_numeric(frame[name]).astype(float)
    frame = frame.astype({"n": int, "seed": int, "main": bool})
    return _with_vanilla(frame)


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
        raise UsageError(f"{file} is missing: the cell's samples were removed or lie elsewhere")
    records = stored(Path(folder), read_samples(Path(folder))[0].values())
    table = pd.DataFrame([vars(record) for record in records], columns=list(RECORD))
    table["ability"] = table["ability"].map(shown)  # as the frame names it
    return table.set_index("id")


def selected(frame: pd.DataFrame, given: Mapping[str, str], folder: Path) -> pd.DataFrame:
    """The lines that filters let pass; vanilla, which what is left is compared to, passes those of
    methods and budgets.

    Args:
        frame: not joined over seeds.
        given: value by column, of :data:`FILTERS`; or several, between commas.
        folder: of the results, for the message.

    Raises:
        UsageError: no line has such a value.
    """
    for name, value in given.items():
        column = frame[name].astype(str)
        known = set(column)
        wanted = [value] if value in known else value.split(",")
        for one in wanted if known else ():
            if one not in known:
                raise unknown(name, one, known, f"of the finished cells in {folder}")
        vanilla = (frame["method"] == "vanilla") & (name in PRUNED)
        frame = frame[column.isin(wanted) | vanilla]
    return frame


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
    lines = [_joined(group, intervals) for _, group in groups]
    return pd.DataFrame(lines, columns=[*COLUMNS, "std", "seeds"])


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
        for _, group in lines.groupby(list(same), sort=False, dropna=False):
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


def mean_scores(folders: Sequence[str], ability: str = ALL) -> pd.DataFrame:
    """Score of each sample, averaged over cells that differ in their seed alone.

    Returns:
        Columns ``score`` and ``group`` (the picture), by id; samples that all the cells have.
    """
    tables = [samples(folder) for folder in folders]
    if ability != ALL:
        name = ALL if ability == UNNAMED else ability
        tables = [table[table["ability"] == name] for table in tables]
    scores = pd.concat([table["score"].astype(float) for table in tables], axis=1, join="inner")
    return pd.DataFrame(
        {"score": scores.mean(axis=1), "group": tables[0]["group"].reindex(scores.index)}
    )


def _joined(group: pd.DataFrame, interval: bool) -> dict[Any, Any]:
    line: dict[Any, Any] = group.iloc[0].to_dict()
    line.update(group[list(MEANS)].mean().to_dict())
    line.update({name: group[name].tolist() for name in ("seed", "key", "folder")})
    line.update({"std": float(group["score_100"].std(ddof=1)), "seeds": len(group)})
    if group["device"].nunique() > 1:
        line.update(
            {"device": " + ".join(group["device"].unique()), **dict.fromkeys(MEASURED, np.nan)}
        )
    if len(group) > 1:
        line.update({"low": np.nan, "high": np.nan})
    if len(group) > 1 and interval and group["low"].notna().all():
        scores = mean_scores(line["folder"], line["ability"])
        found = mean_interval(scores["score"].tolist(), scores["group"].tolist())
        line.update({"low": 100 * found.low, "high": 100 * found.high})
    return line


def _with_vanilla(frame: pd.DataFrame) -> pd.DataFrame:
    """Drops against the unpruned cell of the same setting, metric and ability.

    A row notes its own vanilla, which covers the main metric; the others are looked up, and stay
    empty where the folder has no such cell, or several.
    """
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


def _stamp(folder: Path, files: Iterable[Path]) -> bytes:
    """What the index was made of: names, times and sizes of the rows, under this user's secret.

    An index is trusted without a look at the rows, so a store that comes from elsewhere must not be
    able to bring one along.
    """
    digest = hashlib.blake2b(
        f"{SCHEMA}:{folder}:{','.join(COLUMNS)}".encode(), digest_size=16, key=_secret()
    )
    for file in files:
        state = file.stat()
        digest.update(f"{file.relative_to(folder)}:{state.st_mtime_ns}:{state.st_size}".encode())
    return digest.hexdigest().encode()


@cache
def _secret() -> bytes:
    """Random bytes of this user; others for each process where none can be kept."""
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unibench"
    file, made = place / "index.key", secrets.token_bytes(32)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(file, "xb", opener=_private) as stream:
            stream.write(made)
        kept = file.read_bytes()
    except OSError:
        return made
    return kept if len(kept) == len(made) else made


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(index: Path, stamp: bytes) -> pd.DataFrame | None:
    """The index, unless it is missing, damaged or made of other rows."""
    try:
        table = pq.read_table(io.BytesIO(read_bytes(index, LARGEST_INDEX)))
    except (OSError, UsageError, pa.ArrowException):
        return None
    if (table.schema.metadata or {}).get(b"stamp") != stamp:
        return None
    kept: pd.DataFrame = table.to_pandas()
    return kept


def _write(frame: pd.DataFrame, index: Path, stamp: bytes) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"stamp": stamp})
    try:
        with fresh(index) as stream:
            pq.write_table(table, stream)
    except (OSError, pa.ArrowException) as error:
        log.warning(
            "%s cannot be written (%s); the rows are read one by one each time", index, error
        )
