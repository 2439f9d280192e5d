"""The tidy frame: one line for each finished cell, metric and ability, read from the cells' rows.

``<folder>/index.parquet`` keeps it; it is a copy, made again whenever a row below the folder is
new, changed or gone, and may be deleted at any time. The columns are described in
``docs/statistics.md``.
"""

from __future__ import annotations

import hashlib
import io
import json
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

from unibench.errors import UsageError
from unibench.identity import setting_of
from unibench.stats import mean_interval
from unibench.store.data import read_bytes
from unibench.store.files import fresh
from unibench.store.folder import parsed

log = logging.getLogger(__name__)

INDEX = "index.parquet"
LARGEST_INDEX = 1 << 30
SCHEMA = 1  # of the index
ALL = "all"  # the ability of a line that covers every sample

CELL = (
    "key",
    "folder",
    "setting",
    "model",
    "family",
    "task",
    "pixels",
    "batch",
    "dtype",
    "attn",
    "device",
    "max_new_tokens",
)
PROVENANCE = ("weights", "data", "code", "harness", "judge")
METHOD = ("method", "variant", "params", "ratio", "budget", "budget_mode", "budget_scope", "seed")
SCORE = (
    "metric",
    "main",
    "ability",
    "n",
    "score",
    "score_100",
    "low",
    "high",
    "vanilla_100",
    "drop_pct",
    "retention_pct",
)
COSTS = (
    *(
        "tokens_in",
        "text_tokens",
        "kept_mean",
        "kept_min",
        "kept_max",
        "equiv_tokens",
        "tflops",
        "tflops_ratio",
        "kv_mib",
    ),
    *("total_s", "vision_ms", "prefill_ms", "method_ms", "decode_ms_per_token", "peak_mib"),
)
COLUMNS = (*CELL, *PROVENANCE, *METHOD, *SCORE, *COSTS)
NUMBERS = (
    "ratio",
    "score",
    "score_100",
    "low",
    "high",
    "vanilla_100",
    "drop_pct",
    "retention_pct",
    *COSTS,
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
    files = sorted(folder.rglob("metrics.json"))
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
    lines = [line for file in files for line in _lines(file)]
    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    for name in NUMBERS:
        frame[name] = pd.to_numeric(frame[name]).astype(float)
    frame = frame.astype({"n": int, "seed": int, "main": bool})
    return _with_vanilla(frame)


def samples(folder: str | Path) -> pd.DataFrame:
    """The answered samples of a cell, by id.

    Raises:
        UsageError: the cell has no samples, or a line of them is damaged.
    """
    file = Path(folder) / "samples.jsonl"
    if not file.is_file():
        raise UsageError(f"{file} is missing: the cell's samples were removed or lie elsewhere")
    records = [parsed(line) for line in file.read_bytes().split(b"\n")[:-1]]
    if None in records:
        raise UsageError(f"{file} has a damaged line: python -m unibench store repair {folder}")
    return pd.DataFrame(records).drop_duplicates("id").set_index("id")


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the seeds of a method joined: seeds are ordinary cells, this is their mean.

    Returns:
        ``score``, ``score_100``, drops and costs are means over seeds; ``std`` is their standard
        deviation (ddof 1, NaN for one seed), ``seeds`` their number; ``seed``, ``key`` and
        ``folder`` are lists. The interval of several seeds is that of the samples' mean scores over
        them.
    """
    same = [
        "setting",
        "device",
        "method",
        "variant",
        "params",
        "budget",
        "budget_mode",
        "budget_scope",
        "metric",
        "ability",
    ]
    lines = [_joined(group) for _, group in frame.groupby(same, sort=False, dropna=False)]
    return pd.DataFrame(lines, columns=[*COLUMNS, "std", "seeds"])


def mean_scores(folders: Sequence[str], ability: str = ALL) -> pd.DataFrame:
    """Score of each sample, averaged over cells that differ in their seed alone.

    Returns:
        Columns ``score`` and ``group`` (the picture), by id; samples that all the cells have.
    """
    tables = [samples(folder) for folder in folders]
    tables = [table if ability == ALL else table[table["ability"] == ability] for table in tables]
    scores = pd.concat([table["score"].astype(float) for table in tables], axis=1, join="inner")
    return pd.DataFrame(
        {"score": scores.mean(axis=1), "group": tables[0]["group"].reindex(scores.index)}
    )


def _joined(group: pd.DataFrame) -> dict[Any, Any]:
    line: dict[Any, Any] = group.iloc[0].to_dict()
    means = [name for name in NUMBERS if name not in ("ratio", "low", "high")]
    line.update(group[means].mean().to_dict())
    line.update({name: group[name].tolist() for name in ("seed", "key", "folder")})
    line.update({"std": float(group["score_100"].std(ddof=1)), "seeds": len(group)})
    if len(group) > 1 and line["main"] and pd.notna(line["low"]):
        scores = mean_scores(line["folder"], line["ability"])
        interval = mean_interval(scores["score"].tolist(), scores["group"].tolist())
        line.update({"low": 100 * interval.low, "high": 100 * interval.high})
    return line


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of one cell."""
    try:
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        identity = json.loads(file.with_name("identity.json").read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        log.warning(
            "%s is left out of the tables: %s. The command that made it writes it again",
            file.parent,
            error,
        )
        return
    same = {name: row.get(name) for name in (*CELL, *PROVENANCE, *METHOD, *COSTS)}
    same |= {
        "folder": str(file.parent),
        "setting": setting_of(identity),
        "params": json.dumps(row["method_options"], sort_keys=True),
    }
    for metric, values in _metrics(row).items():
        yield {
            **same,
            "metric": metric,
            "main": metric == row["metric"],
            "ability": ALL,
            **_numbers(values),
        }
    for ability, values in row["abilities"].items():
        yield {
            **same,
            "metric": row["metric"],
            "main": True,
            "ability": ability,
            **_numbers(values),
        }


def _metrics(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The row's own metric, and the others that a harness gave, each with its number of samples."""
    others = {name: {"n": row["n"], **values} for name, values in row.get("metrics", {}).items()}
    return {**others, row["metric"]: row}


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "n": "n",
        "score": "score",
        "score_100": "score_100",
        "low": "ci_low",
        "high": "ci_high",
        "vanilla_100": "vanilla_100",
    }
    return {name: values.get(given) for name, given in names.items()}


def _with_vanilla(frame: pd.DataFrame) -> pd.DataFrame:
    """Drops against the unpruned cell of the same setting, metric and ability.

    Where that cell is not in the folder, the row's own note of it serves, which covers the main
    metric.
    """
    place = ["setting", "metric", "ability"]
    vanilla = (
        frame[frame["method"] == "vanilla"].drop_duplicates(place).set_index(place)["score_100"]
    )
    wanted = pd.MultiIndex.from_frame(frame[place])
    found = (
        vanilla.reindex(wanted).to_numpy(dtype=float)
        if len(vanilla)
        else np.full(len(frame), np.nan)
    )
    reference = frame["vanilla_100"].fillna(pd.Series(found, index=frame.index))
    frame["vanilla_100"] = reference
    frame["retention_pct"] = 100 * frame["score_100"] / reference.where(reference != 0)
    frame["drop_pct"] = 100 - frame["retention_pct"]
    return frame


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
    except OSError as error:
        log.warning(
            "%s cannot be written (%s); the rows are read one by one each time", index, error
        )
