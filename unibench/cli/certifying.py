"""``certify``, ``verify``, ``board``: what a method is published with."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

from unibench import registry
from unibench.cli.authoring import examined, method_of, verdict
from unibench.cli.parser import COMMAND, Options
from unibench.cli.progress import Progress
from unibench.cli.terminal import say
from unibench.errors import UsageError, UsageErrors
from unibench.kit import certificate as parts
from unibench.kit.checkup import GROWS
from unibench.kit.rules import RULES
from unibench.kit.standard import standard
from unibench.kit.trial import files_of
from unibench.kit.verifying import opened, stated
from unibench.kit.verifying import verify as look_at


def certify(options: Options) -> int:
    """``certify method=FILE.py:Class [suite=tiny] to=FOLDER``: exit code 1 where the method fails
    its check, or a cell has no row; the certificate is written with what failed.
    """
    if options.method is None or options.to is None:
        raise UsageError(
            f"certify what? method= and to= are wanted; for example {COMMAND} certify"
            " method=./mine.py:Mine suite=tiny to=mine_certificate"
        )
    suite, folder = standard(options.suite), Path(options.to).expanduser()
    card, method = method_of(options)
    words = [f"method={options.method}", *options.words]
    every = [*suite.required(folder / parts.CELLS), *suite.cells(words, folder / parts.CELLS)]
    cells = list({cell.key: cell for cell in every}.values())
    from unibench.runner import Stop, work  # loads torch

    stop = Stop()
    with stop.listening():
        outcome = work(cells, listener=Progress(), stop=stop)
    if outcome.failures:
        raise UsageErrors([
            UsageError(f"{parts.key_of_cell(one.cell)}: {one.error}") for one in outcome.failures
        ])  # fmt: skip
    if stop.asked:
        say("stopped; the same command continues")
        return 1
    checked = examined(method, list(suite.families) or None, [*RULES, GROWS])
    own = next(cell for cell in cells if cell.config.method.get("name") == card.name)
    given = {key: value for key, value in own.identity["method"].items() if key != "name"}
    told = parts.method_of(card, own.method, given)
    parts.write(folder, told, suite, checked, files_of(method))
    for line in verdict(card, checked, sum(one.seconds for one in checked.findings)):
        say(line)
    say(f"{folder}: {len(cells)} cells, {suite.title}")
    say(f"next: {COMMAND} verify {folder}")
    return 0 if checked.passed else 1


def verify(options: Options) -> int:
    """``verify FOLDER [--rerun method=FILE.py:Class]``: exit code 1 where something does not
    fit.
    """
    folder = Path(options.folder).expanduser()
    if options.rerun != (options.method is not None):
        raise UsageError(
            f"a re-run needs --rerun and the file that may be run: {COMMAND} verify {folder}"
            " --rerun method=./mine.py:Mine"
        )
    found = look_at(folder)
    problems = list(found.problems)
    lines = [*found.notes]
    if options.rerun and not problems:
        from unibench.kit.rerun import claims, rerun, words_of

        it, card = opened(folder), registry.method(options.method)
        words = words_of(it, card, options.method)
        problems += claims(it, card)
        draw = random.Random(random.SystemRandom().getrandbits(64))
        for asked in rerun(it, words, options.share, draw):
            if not options.json:
                state = f"{len(asked.problems)} differ" if asked.problems else "equal"
                say(f"{asked.name}: {len(asked.samples)} asked again, {state}")
            problems += asked.problems
    lines += stated(found.samples, options.share)
    if options.json:
        plain = {"problems": [asdict(one) for one in problems], "notes": lines}
        print(json.dumps(plain, indent=1))
        return 1 if problems else 0
    for one in problems:
        say(f"{one.kind}: {one.where}: {one.what}")
    if options.rerun and found.problems:
        say("nothing was asked again: the certificate does not hold what it says")
    for line in lines:
        say(line)
    say("does not hold" if problems else "everything fits")
    return 1 if problems else 0


def board(options: Options) -> int:
    """``board FOLDER to=SITE``."""
    from unibench.board import build

    site = build(Path(options.folder).expanduser(), Path(options.to).expanduser())
    for place, why in site.refused.items():
        say(f"left out {place}: {why}")
    say(f"{site.index}: {len(site.methods)} methods")
    return 1 if site.refused else 0
