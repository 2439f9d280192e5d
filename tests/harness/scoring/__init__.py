"""Scores computed again from a stand-in's table and the raw answers: nothing here imports a
harness.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from tests.harness.scoring import _lmms_eval, _vlmevalkit

Scores = dict[str, float]
NAMES = {
    "vlmevalkit": (*_vlmevalkit.SCORERS, *_vlmevalkit.JUDGED),
    "lmms_eval": (*_lmms_eval.SCORERS, "vinoground"),
}


def score(
    harness: str,
    name: str,
    folder: Path,
    answers: Mapping[str, str],
    replies: Mapping[str, str] | None = None,
) -> Scores:
    """The numbers that a harness should report, by the paths of the task cards.

    Args:
        harness: ``vlmevalkit`` or ``lmms_eval``.
        name: official name.
        folder: with the stand-in's tables, as ``task.data``.
        answers: raw answers by sample id (VLMEvalKit: ``index``; lmms-eval: number of the
            document).
        replies: what the judge said, by the same ids; an absent id was not asked.
    """
    if harness == "lmms_eval":
        documents = _documents(folder / name)
        # as every task sees them; RefCOCO asks each document once for every expression
        given = [answers[str(number)].strip() for number in range(len(answers))]
        if name == "vinoground":
            return _lmms_eval.vinoground(documents, given, _vinoground_truths(folder / name))
        return _lmms_eval.SCORERS[name](documents, given)
    rows = _rows(folder / f"{name}.tsv")
    saved = _as_saved([answers[str(row["index"])] for row in rows])
    if name in _vlmevalkit.JUDGED:
        return _vlmevalkit.JUDGED[name](
            rows, saved, [(replies or {}).get(str(row["index"]), "") for row in rows]
        )
    return _vlmevalkit.SCORERS[name](rows, saved)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [
        {str(key): value for key, value in row.items()}
        for row in pd.read_csv(path, sep="\t").to_dict("records")
    ]


def _as_saved(answers: list[str]) -> list[str]:
    """Answers after VLMEvalKit wrote and read its table of predictions: ``None`` and nothing become
    ``nan``.
    """
    table = pd.DataFrame({"prediction": answers}).to_csv(sep="\t", index=False)
    return [
        str(answer)
        for answer in pd.read_csv(io.StringIO(table), sep="\t", skip_blank_lines=False)[
            "prediction"
        ]
    ]


def _documents(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("data/*.parquet")
    return list(pq.read_table(path).to_pylist())


def _vinoground_truths(folder: Path) -> dict[str, dict[str, str]]:
    home = folder / "hf_home" / "vinoground"
    places = {"text": "vinoground_videos", "video": "vinoground_videos_concated"}
    tables = {
        way: json.loads((home / place / f"vinoground_{way}score.json").read_text())
        for way, place in places.items()
    }
    return {way: {entry["idx"]: entry["GT"] for entry in table} for way, table in tables.items()}
