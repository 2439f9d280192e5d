"""Searching for a method among expressions, on questions that no result is ever taken from.

Whoever chooses a method by its score on some questions has fitted it to them. So the questions are
split before anything is asked: a trial is scored on the calibration part alone, and the one
expression that is chosen is asked about the test part once. The parts share no picture.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from unibench.composition import ATOMS, Composed, parsed
from unibench.errors import UsageError

INSTALL = "pip install optuna"
Ask = Callable[[str, Sequence[str]], Mapping[str, float]]
"""Scores of samples by id: of an expression, for these ids and no others."""


@dataclass(frozen=True)
class Split:
    """Questions by what they are for.

    Attributes:
        calibration, test: ids; no picture is in both.
    """

    calibration: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def of(cls, groups: Mapping[str, str], share: float = 0.5) -> Split:
        """Questions split by their pictures, the same in every run and on every machine.

        Args:
            groups: picture of each question, by id.
            share: of the pictures that are for calibration, about.

        Raises:
            UsageError: a part would be empty.
        """
        calibration = [name for name, group in groups.items() if _place(group) < share]
        chosen = {*calibration}
        test = [name for name in groups if name not in chosen]
        if not calibration or not test:
            raise UsageError(
                f"{len(set(groups.values()))} pictures cannot be split into calibration and test;"
                " ask more questions: task.limit="
            )
        return cls(tuple(calibration), tuple(test))


def _place(group: str) -> float:
    """A number in [0, 1) that only the name of a picture decides."""
    digest = hashlib.blake2b(f"calibration/{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class Guard:
    """Lets a search ask about the calibration part only, and about the test part once.

    Args:
        ask: answers questions.
        split: of the questions.

    Attributes:
        asked: how often the test part was asked about.
    """

    def __init__(self, ask: Ask, split: Split) -> None:
        self._ask, self._split, self.asked = ask, split, 0

    def calibrate(self, expression: str) -> float:
        """The mean score on the calibration part."""
        return self._mean(expression, self._split.calibration)

    def test(self, expression: str) -> float:
        """The mean score on the test part.

        Raises:
            UsageError: it was asked about before; whoever looks twice chooses by it.
        """
        if self.asked:
            raise UsageError("the test part was asked about already; a choice by it is no result")
        self.asked += 1
        return self._mean(expression, self._split.test)

    def _mean(self, expression: str, names: Sequence[str]) -> float:
        scores = self._ask(expression, names)
        if strange := set(scores) - {*names}:
            raise UsageError(f"{min(strange)} was answered and is not of the part that was asked")
        if missing := set(names) - {*scores}:
            raise UsageError(f"{min(missing)} was not answered")
        return math.fsum(scores.values()) / len(scores)


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        expression: the best on the calibration part.
        calibration, test: its mean scores there and on the test part.
        trials: every expression that was tried, with its calibration score.
    """

    expression: str
    calibration: float
    test: float
    trials: tuple[tuple[str, float], ...]


def search(guard: Guard, trials: int, seed: int = 0) -> Found:
    """The best of some expressions that Optuna proposes.

    Args:
        guard: asks.
        trials: how many expressions.
        seed: of the proposals.

    Raises:
        UsageError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError(f"search needs the package optuna: {INSTALL}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    tried: dict[str, float] = {}

    def objective(trial: Any) -> float:
        expression = proposed(trial)
        if expression not in tried:  # the same parts may be proposed again
            tried[expression] = guard.calibrate(expression)
        return tried[expression]

    study.optimize(objective, n_trials=trials)
    best = max(tried, key=lambda expression: tried[expression])
    return Found(best, tried[best], guard.test(best), tuple(tried.items()))


def proposed(trial: Any) -> str:
    """An expression of parts that fit.

    Args:
        trial: of Optuna; asked by ``suggest_categorical`` and ``suggest_float`` alone.
    """
    select = trial.suggest_categorical("select", sorted(ATOMS["select"]))
    parts = list(_scores(trial)) if select != "max_min" else []
    if len(parts) > 1:
        first = trial.suggest_float("first", 0.1, 0.9, step=0.1)
        parts = [f"score: {', '.join(parts)}", f"combine: weighted(first={first:.1f})"]
    elif parts:
        parts = [f"score: {parts[0]}"]
    parts.append(f"select: {_with_numbers(trial, select)}")
    if any("attention" in part for part in parts):
        parts.append("schedule: behind(layer=2)")
    expression = "; ".join(parts)
    parsed(expression)
    return expression


def _scores(trial: Any) -> Iterator[str]:
    yield trial.suggest_categorical("score", sorted(ATOMS["score"]))
    second = trial.suggest_categorical("second score", ["none", *sorted(ATOMS["score"])])
    if second not in ("none", trial.params["score"]):
        yield second


def _with_numbers(trial: Any, name: str) -> str:
    values = []
    for one in fields(ATOMS["select"][name]):
        value = trial.suggest_float(f"{name} {one.name}", 0.0, 1.0, step=0.1)
        values.append(f"{one.name}={value:.1f}")
    return f"{name}({', '.join(values)})" if values else name


def method_of(expression: str) -> Composed:
    """The method that an expression says."""
    return Composed(expression)
