"""``search``: the best of methods made of parts, chosen on a calibration split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from unibench.cli.grid import Grid
from unibench.cli.parser import Options
from unibench.cli.terminal import say
from unibench.composition import method as composed
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of
from unibench.kit.search import Guard, Split
from unibench.kit.search import search as look_for


def search(options: Options) -> int:
    """``search key=value ... [trials=30] [calibration=0.5] [to=FILE.json]``."""
    own = f"method={Path(composed.__file__)}:Composed"
    if any(word.startswith("method=") for word in options.words):
        raise UsageError("search proposes the method itself; leave method= out")
    options.words = [*options.words, own]
    (cell, *others) = Grid(options, sweep=False).cells
    if others or cell.benchmark is not None:
        raise UsageError("search asks one model about one embedded task at one budget")
    from unibench.inference.ask import answer  # loads torch
    from unibench.runner import Embedded
    from unibench.runner.embedded import load_task
    from unibench.runner.questions import samples_of

    task, executor = load_task(cell), Embedded()
    samples = {sample.id: (index, sample) for index, sample in samples_of(task, cell.config.task)}
    split = Split.of({name: one.group for name, (_, one) in samples.items()}, options.calibration)

    def ask(expression: str, names: Sequence[str]) -> Mapping[str, float]:
        told = _saying(cell, expression)
        wanted = iter([samples[name] for name in names])
        records = answer(told, task, executor.model_of(told), wanted)
        scores = {record.id: float(record.score or 0.0) for record in records}
        say(f"{sum(scores.values()) / len(scores):6.1%}  {expression}")
        return scores

    say(f"{len(split.calibration)} questions to choose by, {len(split.test)} that nobody looks at")
    found = look_for(Guard(ask, split), options.trials, options.seed_of_search)
    say(f"best of {len(found.trials)}: {found.expression}")
    say(f"calibration {found.calibration:.1%}, test {found.test:.1%}")
    if options.to is not None:
        plain = {**asdict(found), "split": asdict(split)}
        Path(options.to).expanduser().write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return 0


def _saying(cell: Cell, expression: str) -> Cell:
    """The cell under another expression."""
    method = {**cell.config.method, "expression": expression}
    return cell_of(replace(cell.config, method=method))
