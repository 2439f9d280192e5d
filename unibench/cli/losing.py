"""``lost``: the samples that one method answers and another does not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

from unibench import frame
from unibench.cli.parser import Options
from unibench.cli.results import finished
from unibench.cli.terminal import console, say
from unibench.comparison.lost import Changed, changed
from unibench.errors import shown


def lost(options: Options) -> int:
    """``lost A B [ability=..] [model=..] [task=..] [budget=..] [out=outputs] [--json]``."""
    wanted = tuple(filter(None, (options.ability or "").split(",")))
    found = changed(finished(options), options.first, options.second, wanted)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return 0
    place: tuple[str, ...] = ()
    for one in found:
        here = (one.change, one.model, one.task, one.budget)
        if here != place:
            place = here
            where = f"{one.model} on {one.task}, {one.budget}"
            say(f"{one.change} by {one.second} against {one.first}: {where}")
        _print(one)
    counts = Counter(one.change for one in found)
    say(f"{counts['lost']} lost, {counts['won']} won by {options.second}")
    return 0


def _print(one: Changed) -> None:
    screen = console()
    ability = "" if one.ability == frame.ALL else f" ({one.ability})"
    screen.print(f"  {shown(one.id)}{ability}", style="bold")
    entries = (
        ("question", one.question or "not stored"),
        ("truth", one.truth),
        (one.first, one.first_answer),
        (one.second, one.second_answer),
    )
    for name, text in entries:
        screen.print(f"    {name}: {shown(text)}")
