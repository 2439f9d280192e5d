"""One folder that says what a method does, and lets anybody check that it was measured.

======================  =====================================================================
certificate.json        the method, its code's digest, the suite, when, with what; the results
conformance.json        every rule on every family
statistics.json         paired tests against the baselines and the best control
source/                 the author's files, to be read; nothing here imports them
cells/                  the rows with their samples, a store as ``out=`` is
manifest.json           SHA-256 of each file
======================  =====================================================================

A manifest tells damage. What tells edits by somebody who writes another manifest is
:mod:`unibench.kit.verifying`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unibench import __version__, frame
from unibench.comparison import against, compare
from unibench.errors import UsageError
from unibench.identity import Cell, code_digest
from unibench.inference.row import Row, read_row
from unibench.kit.checkup import Checkup, described
from unibench.kit.standard import Standard
from unibench.registry.cards import MethodCard
from unibench.store.index import cells_below

SCHEMA = 1
CELLS, SOURCE, MANIFEST = "cells", "source", "manifest.json"
CERTIFICATE, CONFORMANCE, STATISTICS = "certificate.json", "conformance.json", "statistics.json"
OWN = (CERTIFICATE, CONFORMANCE, STATISTICS)


@dataclass(frozen=True)
class Method:
    """The method that is certified.

    Attributes:
        name: as rows call it.
        class_name: of the class.
        file: name of its file.
        module: of a method of unibench's own, whose file is not beside the certificate; else empty.
        code: digest of everything that it reaches, see :func:`unibench.identity.code_digest`.
        options: its parameters.
        summary: first paragraph of its docstring.
        described: what it needs and where it cuts, for people.
        needs: words of :data:`unibench.registry.cards.NEEDS`.
        training_free, flash, text_aware, one_shot: by which a board is filtered.
        exact: whether it says that it meets its budget.
    """

    name: str
    class_name: str
    file: str
    module: str
    code: str
    options: Mapping[str, Any]
    summary: str
    described: Mapping[str, str]
    needs: tuple[str, ...]
    training_free: bool
    flash: bool
    text_aware: bool
    one_shot: bool
    exact: bool


def method_of(card: MethodCard, name: str, options: Mapping[str, Any]) -> Method:
    """What a certificate says of a method.

    Args:
        card: of its file.
        name: as rows call it.
        options: its parameters.
    """
    return Method(
        name=name,
        class_name=card.class_name,
        file=card.path.name,
        module="" if card.outside else str(card.module),
        code=code_digest([f"{card.module or card.path}:{card.class_name}"]),
        options=dict(options),
        summary=card.summary,
        described=dict(described(card)),
        needs=card.needs,
        training_free=not {"training", "calibration"} & {*card.needs},
        flash=card.flash,
        text_aware=card.text_aware,
        one_shot=len(card.cuts) == 1,
        exact=card.uses_budget and not card.adaptive,
    )


def write(
    folder: Path, method: Method, suite: Standard, checked: Checkup, sources: Sequence[Path]
) -> None:
    """Write what stands beside the cells of a certificate.

    Args:
        folder: the certificate, whose ``cells`` are finished.
        method: that is certified.
        suite: that was run.
        checked: its conformance.
        sources: the author's files.
    """
    (folder / SOURCE).mkdir(parents=True, exist_ok=True)
    for file in sources if not method.module else ():
        (folder / SOURCE / file.name).write_bytes(file.read_bytes())
    rows = rows_in(folder)
    environments = sorted({row.device for row in rows})
    whole = {
        "schema": SCHEMA,
        "method": asdict(method),
        "suite": asdict(suite),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "unibench": __version__,
        "devices": environments,
        "results": results(rows, method.name),
        "cost_board": None if "cpu" in "".join(environments) else "see prefill_ms of the results",
    }
    findings = {"passed": checked.passed, **asdict(checked)}
    for name, content in (
        (CERTIFICATE, whole),
        (CONFORMANCE, findings),
        (STATISTICS, statistics(folder, method.name, suite.baselines)),
    ):
        (folder / name).write_text(text_of(content), encoding="utf-8")
    seal(folder)


def rows_in(folder: Path) -> list[Row]:
    """The rows of a certificate's cells.

    Raises:
        UsageError: one cannot be read.
    """
    return [read_row(cell) for cell in cells_below(folder / CELLS)]


RESULT = (
    *("model", "task", "method", "variant", "budget", "seed", "key", "n", "score_100"),
    *("ci_low", "ci_high", "vanilla_100", "drop_pct", "kept_mean", "tokens_in"),
    *("tflops", "tflops_ratio", "kv_mib", "prefill_ms", "method_ms", "vision_ms", "device"),
)


def results(rows: Sequence[Row], name: str) -> list[dict[str, Any]]:
    """The columns of rows that a board shows, the certified method's first.

    Args:
        rows: of the cells.
        name: of the method.
    """
    order = sorted(rows, key=lambda row: (row.method != name, row.model, row.method, row.budget))
    return [{column: getattr(row, column) for column in RESULT} for row in order]


def statistics(folder: Path, name: str, baselines: Sequence[str]) -> dict[str, Any]:
    """Paired tests of the method against each baseline and against its best control.

    Args:
        folder: the certificate.
        name: of the method.
        baselines: of the suite.
    """
    cells = frame.build([cell / "metrics.json" for cell in cells_below(folder / CELLS)])
    others = [one for one in baselines if one != name]
    pairs: list[dict[str, Any]] = []
    for other in others:
        try:
            found = compare.compare(cells, [other, name])
        except UsageError as error:
            raise UsageError(f"{folder}: no comparison with {other}: {error}") from None
        pairs += [compare.as_record(one) for one in found]
    lines = frame.over_seeds(frame.whole(cells), intervals=False)
    best = against.against(lines)
    controls = []
    for _, line in lines[lines["method"] == name].iterrows():
        if (found_control := best.get(str(line["series"]))) is not None:
            result = found_control.result
            controls.append({
                "model": line["model"], "task": line["task"], "budget": line["budget"],
                "control": found_control.control, "beaten": found_control.beaten,
                "difference_100": 100 * result.difference,
                "low_100": 100 * result.low, "high_100": 100 * result.high, "n": result.n,
            })  # fmt: skip
    return {"baselines": pairs, "controls": controls}


def text_of(content: Any) -> str:
    """JSON in one form; NaN, which JSON does not have, is null."""
    return json.dumps(_plain(content), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()  # numpy's own numbers
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def seal(folder: Path) -> None:
    """Write the manifest of a certificate."""
    sums = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files(folder)
    }
    (folder / MANIFEST).write_text(text_of({"schema": SCHEMA, "files": sums}), encoding="utf-8")


def files(folder: Path) -> Iterator[str]:
    """Every plain file below a certificate but its manifest, by its name in the folder; links are
    not followed.
    """
    for path, names, entries in os.walk(folder):
        names.sort()
        for entry in sorted(entries):
            file = Path(path, entry)
            name = file.relative_to(folder).as_posix()
            if name != MANIFEST:
                yield name


def key_of_cell(cell: Cell) -> str:
    """What a message calls a cell."""
    seed = f" seed {cell.config.seed}" if cell.config.seed else ""
    return (
        f"{cell.config.model.name} {cell.config.task.name} {cell.method}@{cell.budget.label}{seed}"
    )
