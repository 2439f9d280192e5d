"""Whether a method keeps every rule on every family, and what it needs and costs."""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from unibench.budget import Budget
from unibench.errors import UsageError
from unibench.kit.growth import SIDES, Growth, growth
from unibench.kit.rules import RULES, Fault, LeftOut, held
from unibench.kit.trial import RATIO, Trial, cards, files_of, spec_of
from unibench.pruning import Method
from unibench.pruning.refusal import facts_of, refusal
from unibench.registry.cards import MethodCard

Verdict = Literal["ok", "failed", "left out"]
GROWS = "growth"  # name of the rule that is tried on one family
MEASURED = ("qwen2_5_vl", "qwen2_vl")  # families whose pictures have any size


@dataclass(frozen=True)
class Finding:
    """One rule on one family.

    Attributes:
        family: by name.
        rule: by name.
        verdict: whether it holds.
        reason: why not, or why it was left out.
        place: the author's line.
        seconds: that it took.
    """

    family: str
    rule: str
    verdict: Verdict
    reason: str = ""
    place: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkup:
    """What was found of a method.

    Attributes:
        findings: by family and rule.
        growth: cost beside the Gram matrix; None where it was not measured.
    """

    findings: tuple[Finding, ...]
    growth: Growth | None

    @property
    def faults(self) -> list[Finding]:
        """Rules that do not hold."""
        return [one for one in self.findings if one.verdict == "failed"]

    @property
    def ran(self) -> list[str]:
        """Families on which it ran."""
        found = [one.family for one in self.findings if one.verdict != "left out"]
        return list(dict.fromkeys(found))

    @property
    def passed(self) -> bool:
        """Whether it ran somewhere and kept every rule there."""
        return bool(self.ran) and not self.faults

    def grouped(self) -> list[tuple[Finding, list[str]]]:
        """Each kind of fault once, with the families where it was found."""
        groups: dict[tuple[str, str], tuple[Finding, list[str]]] = {}
        for one in self.faults:
            # one line is one fault, whatever numbers the reason holds on each family
            _, families = groups.setdefault((one.rule, one.place or one.reason), (one, []))
            families.append(one.family)
        return list(groups.values())


def checkup(
    method: Method,
    families: Collection[str] | None = None,
    rules: Sequence[str] = (*RULES, GROWS),
    sides: Sequence[int] = SIDES,
) -> Iterator[Finding | Growth]:
    """Try every rule; yields findings as they come, and the growth of costs.

    Args:
        method: of an author.
        families: by name; None is every one.
        rules: by name.
        sides: see :func:`unibench.kit.growth.growth`.
    """
    files = files_of(method)
    for name in cards() if families is None else families:
        try:
            trial = Trial.of(method, files, spec_of(name))
        except (ValueError, ImportError, UsageError) as error:
            yield Finding(name, "build", "left out", str(error).strip().splitlines()[0])
            continue
        yield from _of_family(trial, name, rules)
        gc.collect()
    if GROWS in rules and (measured := next(iter(_measured(families)), None)) is not None:
        yield from _grown(Trial.of(method, files, spec_of(measured)), measured, sides)


def _measured(families: Collection[str] | None) -> list[str]:
    return [name for name in MEASURED if families is None or name in families]


def _of_family(trial: Trial, name: str, rules: Sequence[str]) -> Iterator[Finding]:
    try:
        reason = trial.refused
    except Exception as error:  # the stages are the author's code
        yield Finding(name, "stages", "failed", *_told(error, trial))
        return
    if reason is not None:
        yield Finding(name, "runs", "left out", f"refused: {reason}")
        return
    for rule in rules:
        if rule != GROWS:
            yield _tried(trial, name, rule)


def _tried(trial: Trial, name: str, rule: str) -> Finding:
    start = time.monotonic()
    verdict: Verdict = "ok"
    reason = place = ""
    try:
        held(RULES[rule], trial)
    except LeftOut as left:
        verdict, reason = "left out", left.reason
    except Fault as fault:
        verdict, reason, place = "failed", fault.reason, fault.place
    return Finding(name, rule, verdict, reason, place, time.monotonic() - start)


def _grown(trial: Trial, name: str, sides: Sequence[int]) -> Iterator[Finding | Growth]:
    if trial.refused is not None:
        return
    found: list[Growth] = []

    def rule(subject: Trial) -> None:
        grown = growth(subject, sides)
        if len(grown.sizes) < 2:
            raise LeftOut("nothing was asked")
        found.append(grown)
        grown.check()

    start = time.monotonic()
    finding = Finding(name, GROWS, "ok")
    try:
        held(rule, trial)
    except LeftOut as left:
        finding = replace(finding, verdict="left out", reason=left.reason)
    except Fault as fault:
        finding = replace(finding, verdict="failed", reason=fault.reason, place=fault.place)
    yield replace(finding, seconds=time.monotonic() - start)
    yield from found


def _told(error: Exception, trial: Trial) -> tuple[str, str]:
    """Reason and place of an error in the author's code."""

    def raising(subject: Trial) -> None:
        raise error

    try:
        held(raising, trial)
    except Fault as fault:
        return fault.reason, fault.place
    except LeftOut as left:
        return left.reason, ""
    raise AssertionError("an error was raised and not told") from error


def flash_safe(method: Method, spec: Any) -> str | None:
    """Why a method cannot run under FlashAttention on a family; None if it can.

    Args:
        method: of an author.
        spec: card of a model.
    """
    trial = Trial.of(method, [], spec)
    family = trial.loaded.family
    facts = replace(facts_of(family), kernel="flash_attention_2")
    return refusal(method, Budget.parse(ratio=RATIO), type(family), facts)


def described(card: MethodCard) -> Mapping[str, str]:
    """What a method says that it needs, for people."""
    return {
        "needs": ", ".join(card.needs) or "nothing beside the tokens",
        "cuts at": ", ".join(card.cuts) or "layers that its parameters decide",
        "FlashAttention": "yes" if card.flash else "no: its tokens are weighed",
        "training-free": "no" if {"training", "calibration"} & {*card.needs} else "yes",
        "text-aware": "yes" if card.text_aware else "no",
        "budget": "decides by itself" if card.adaptive or not card.uses_budget else "exact",
    }
