"""What each rule's finding means, and how grave it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fault", "doubt", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "doubt", "note")


@dataclass(frozen=True)
class Rule:
    """A rule of the audit.

    Attributes:
        severity: ``fault``: the numbers contradict each other or arithmetic, one of them is
            wrong; ``doubt``: hard to explain without a fault; ``note``: may well be right.
        why: what the rule compares, in one sentence.
    """

    severity: Severity
    why: str


RULES = {
    "average": Rule("fault", "the average is computed again, by the formula of most lines"),
    "sum": Rule("fault", "a printed sum is not that of its parts"),
    "ratio": Rule("fault", "a share does not follow from the numbers beside it"),
    "change": Rule("fault", "a printed change against vanilla does not follow from the scores"),
    "sign": Rule("fault", "a printed change against vanilla has the other sign"),
    "copied block": Rule("fault", "lines after lines are printed twice"),
    "copied line": Rule("fault", "two lines have the same number in every column"),
    "copied part": Rule("doubt", "two lines share more numbers than chance explains"),
    "impossible": Rule("fault", "outside of the scale, or exactly 0"),
    "digits": Rule(
        "fault",
        "with n questions only 100 k / n can be printed; chance is how many numbers with these"
        " digits would fit n if they were drawn",
    ),
    "digits, n unknown": Rule(
        "doubt", "as above, for the number of questions, of those known, that fits best"
    ),
    "foreign lines": Rule(
        "fault",
        "a method's numbers fit n as drawn numbers do, where all of other methods fit: its lines"
        " were rescaled, averaged or taken from elsewhere",
    ),
    "two readers": Rule(
        "doubt",
        "lines collapse that hold in the same questions in another language: exact rules count"
        " answers wrong that a judge would read",
    ),
    "subset": Rule("doubt", "scores of pruned lines are parts of a few hundred samples"),
    "apart": Rule("doubt", "vanilla, or a whole group, is far from all others at any budget"),
    "swap": Rule("doubt", "two columns stand the other way round than in tables of other models"),
    "disagreement": Rule("fault", "one run has two numbers in two tables"),
    "below random": Rule(
        "doubt", "a method that equals random pruning elsewhere loses 30 % to it in one column"
    ),
    "above vanilla": Rule("note", "more than 10 % better than the unpruned model"),
    "rises": Rule("note", "better with fewer tokens"),
    "gap": Rule("note", "a method lacks a budget, a line a number"),
}
