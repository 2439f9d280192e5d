"""``check method=``, ``new``, ``debug``, ``certify``, ``verify``: for authors of methods."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from unibench import registry
from unibench.cli.parser import Options
from unibench.cli.terminal import say
from unibench.errors import UsageError, UsageErrors, unknown
from unibench.kit.checkup import GROWS, Checkup, Finding, checkup, described
from unibench.kit.growth import Growth
from unibench.kit.rules import QUICK, RULES
from unibench.kit.trial import cards, files_of
from unibench.pruning import Method
from unibench.registry.cards import MethodCard


def check_method(options: Options) -> int:
    """``check method=NAME [families=A,B] [rules=A,B]``: exit code 1 if a rule does not hold."""
    card, method = method_of(options)
    families = _among("family", options.families, cards())
    rules = _among("rule", options.rules, (*RULES, GROWS, "quick")) or [*RULES, GROWS]
    if rules == ["quick"]:
        rules = list(QUICK)
    start = time.monotonic()
    found = examined(method, families, rules, quiet=options.json)
    if options.json:
        plain = {"passed": found.passed, **asdict(found)}
        print(json.dumps(plain, indent=1))
    else:
        for line in verdict(card, found, time.monotonic() - start):
            say(line)
        if left := [rule for rule in (*RULES, GROWS) if rule not in rules]:
            say(f"  {'not tried:':15s} {', '.join(left)}")
    return 0 if found.passed else 1


def new(options: Options) -> int:
    """``new method|task|family NAME [needs=A,B] [form=score] [like=llava] [into=FOLDER]``."""
    from unibench.kit.skeleton import new as write

    needs = [word for word in (options.needs or "").split(",") if word]
    written = write(
        options.kind, options.name, Path(options.into),
        needs=needs, form=options.form, like=options.like,
    )  # fmt: skip
    for file in written.files:
        say(file)
    say("next:")
    for command in written.next:
        say(f"  {command}")
    return 0


def debug(options: Options) -> int:
    """``debug method=NAME [sample=ID] [key=value ...] [to=FILE.html]``."""
    from unibench.cli.grid import Grid
    from unibench.inference.session import method_of as method_of_cell
    from unibench.kit.looking import look, page
    from unibench.models import load
    from unibench.runner.embedded import load_task

    (cell, *others) = Grid(options, sweep=False).cells
    if others or cell.benchmark is not None:
        raise UsageError("debug asks one method about one sample of an embedded task")
    method, task = method_of_cell(cell), load_task(cell)
    sample = next((one for one in task.samples() if options.sample in (None, one.id)), None)
    if sample is None:
        raise UsageError(f"task {cell.config.task.name} has no sample {options.sample}")
    loaded = load(cell.config.model, cell.config.pixels)
    tokens = cell.config.generation.max_new_tokens or task.max_new_tokens
    looked = look(method, files_of(method), loaded, sample, cell.budget, tokens, cell.config.seed)
    for one in looked.looks:
        say(f"layer {one.layer}: {int(one.kept.sum())} stay of {one.shown} shown; {one.place}")
        for logged in one.logged:
            say(f"  {logged.name}: {logged.summary}")
    say(f"answer: {looked.answer}; unpruned: {looked.plain}")
    place = Path(options.to).expanduser()
    place.write_text(page(looked, f"{type(method).__name__} {cell.budget.label}"), encoding="utf-8")
    say(place)
    return 0


def method_of(options: Options) -> tuple[MethodCard, Method]:
    """The method that a command names, with its parameters.

    Raises:
        UsageErrors: there is none, or words that are no parameters of it.
    """
    mistakes, values = list(options.mistakes), dict[str, Any]()
    for word in options.words:
        key, equals, value = word.partition("=")
        if not equals or not key.startswith("method."):
            mistakes.append(UsageError(f"{word}: method.PARAM=VALUE is wanted here"))
            continue
        values[key.removeprefix("method.")] = yaml.safe_load(value)
    if mistakes:
        raise UsageErrors(mistakes)
    card = registry.method(options.method)
    try:
        return card, registry.build_method(options.method, **values)
    except TypeError as error:  # a field without a default
        raise UsageError(f"{card.path}: {error}; give it with method.PARAM=VALUE") from None


def examined(
    method: Method, families: Sequence[str] | None, rules: Sequence[str], *, quiet: bool = False
) -> Checkup:
    """A method's findings, with a line for each family as it is done."""
    findings: list[Finding] = []
    grown: Growth | None = None
    shown = ""
    for one in checkup(method, families, rules):
        if isinstance(one, Growth):
            grown = one
            continue
        findings.append(one)
        if quiet:
            continue
        if sys.stderr.isatty():
            print(f"\r\033[K{one.family}: {one.rule}", end="", file=sys.stderr, flush=True)
        elif one.family != shown:
            print(one.family, file=sys.stderr, flush=True)
        shown = one.family
    if sys.stderr.isatty() and not quiet:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return Checkup(tuple(findings), grown)


def verdict(card: MethodCard, found: Checkup, seconds: float) -> list[str]:
    """What an author reads: one screen."""
    ran, every = found.ran, list(dict.fromkeys(one.family for one in found.findings))
    refused = {one.family: one.reason for one in found.findings if one.rule in ("runs", "build")}
    kept = sum(one.verdict == "ok" for one in found.findings)
    lines = [
        f"{card.class_name}: {'passed' if found.passed else 'FAILED'}",
        f"  {kept} checks hold, {len(found.faults)} do not; ran on {len(ran)} of {len(every)}"
        f" families in {seconds:.0f} s",
    ]
    for one, families in found.grouped():
        where = "every family" if set(families) >= set(ran) and len(ran) > 1 else _some(families)
        lines += [f"  FAILED {one.rule} on {where}: {one.reason}"]
        if one.place:
            lines += [f"         {one.place}"]
    if not ran:
        lines += ["  FAILED runs: on no family"]
    for reason in dict.fromkeys(refused.values()):
        families = [family for family, said in refused.items() if said == reason]
        lines += [f"  left out {_some(families)}: {reason}"]
    lines += [f"  {what + ':':15s} {said}" for what, said in described(card).items()]
    if found.growth is not None:
        lines += [f"  {'cost:':15s} {found.growth.summary}"]
    return lines


def _some(names: Sequence[str]) -> str:
    """Some names, and how many more."""
    more = f" and {len(names) - 4} more" if names[4:] else ""
    return ", ".join(names[:4]) + more


def _among(kind: str, text: str | None, names: Any) -> list[str] | None:
    """A list of names as a word gives it; None where it is not given.

    Raises:
        UsageError: a name that is none of them.
    """
    if text is None:
        return None
    given = [name.strip() for name in text.split(",")]
    for name in given:
        if name not in names:
            raise unknown(kind, name, names)
    return given
