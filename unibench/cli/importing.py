"""``import-run``: somebody else's run beside ours."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unibench.cli.parser import COMMAND, Options
from unibench.cli.terminal import console, new_table, print_table
from unibench.cli.watching import cell_folder
from unibench.errors import UsageError, lines_shown

if TYPE_CHECKING:
    from unibench.parity import Parity


def import_run(options: Options) -> int:
    """``import-run FILE.jsonl cell=CELL [out=outputs] [--json]``."""
    if options.cell is None:
        raise UsageError(
            "import-run beside which cell? cell=FOLDER or its key: the cell of ours with the same"
            " model, task, method and budget"
        )
    file = Path(options.file).expanduser()
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file")
    reference = cell_folder(options.cell, options.out, "cell")
    from unibench import parity  # loads torch, which a mistake need not wait for

    run = parity.read(file)
    row = parity.imported(run, reference)
    found = parity.compared(reference, Path(row.folder))
    if options.json:
        print(json.dumps(_record(found, row.folder), indent=1))
        return 0
    _print(found, f"{row.model} x {row.method} {row.budget} x {row.task}")
    console().print(lines_shown(f"imported into {row.folder}"), soft_wrap=True)
    store = Path(row.folder).parents[3]
    line = f"{COMMAND} compare {row.method} {row.method}+{row.variant} out={store}"
    console().print(lines_shown(line), soft_wrap=True)
    return 0


def _print(found: Parity, title: str) -> None:
    n, test = len(found.pairs), found.scores
    table = new_table(title, ("", "alike", "of", "more"))
    table.columns[-1].justify = "left"
    table.add_row("kept sets", str(found.same_sets), str(n), f"Jaccard {found.jaccard:.3f}")
    table.add_row("numbers kept", str(found.same_numbers), str(n), "")
    table.add_row("answers", str(found.same_answers), str(n), "")
    scores = (
        f"unibench {100 * test.first:.1f}, imported {100 * test.second:.1f}: difference"
        f" {100 * test.difference:+.1f} ({100 * test.low:+.1f} to {100 * test.high:+.1f}),"
        f" p {test.p:.3g} ({test.test})"
    )
    table.add_row("scores", str(n - test.won - test.lost), str(n), scores)
    print_table(table, sentence=True)
    if not found.furthest:
        return
    heads = ("sample", "unibench keeps", "imported keeps", "Jaccard", "answers")
    table = new_table("kept sets that differ most", heads)
    for pair in found.furthest:
        answers = " / ".join(repr(answer) for answer in pair.answers)
        table.add_row(pair.id, *map(str, pair.kept), f"{pair.jaccard:.3f}", answers)
    print_table(table, keys=1, sentence=True)


def _record(found: Parity, folder: str) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "folder": folder,
        "n": len(found.pairs),
        "same_sets": found.same_sets,
        "same_answers": found.same_answers,
        "jaccard": found.jaccard,
        "scores": asdict(found.scores),
        "samples": [asdict(pair) for pair in found.pairs],
    }
