"""Whether a model keeps the rules that every method relies on: checked with random weights, at
reduced size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from unibench.config import ModelConfig
from unibench.conformance.checks import CHECKS, FailedError, SkippedError, Subject

Verdict = Literal["ok", "failed", "left out"]
KERNELS = ("sdpa", "eager")


@dataclass(frozen=True)
class Outcome:
    """One rule on one model.

    Attributes:
        model: name of the card.
        family: of the model.
        kernel: attention implementation.
        rule: name of the rule.
        verdict: whether it holds.
        reason: why not, or why it was left out.
        seconds: that it took.
    """

    model: str
    family: str
    kernel: str
    rule: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


def check(spec: ModelConfig, kernel: str) -> Iterator[Outcome]:
    """Try every rule on a model.

    Args:
        spec: configuration of the model, with its architecture.
        kernel: attention implementation.

    Raises:
        UsageError: the model cannot be built at reduced size.
    """
    try:
        subject = Subject.of(spec, kernel)
    except (ValueError, ImportError) as error:  # a kernel that a class of transformers lacks
        reason = str(error).strip().splitlines()[0].partition(". ")[0]
        yield from (
            Outcome(spec.name, spec.family, kernel, rule, "left out", reason) for rule in CHECKS
        )
        return
    for rule, holds in CHECKS.items():
        verdict: Verdict = "ok"
        reason, start = "", time.monotonic()
        try:
            holds(subject)
        except SkippedError as skipped:
            verdict, reason = "left out", str(skipped)
        except FailedError as failed:
            verdict, reason = "failed", str(failed)
        except Exception as error:  # an adapter that is wrong fails in the model's own code
            lines = str(error).strip().splitlines() or [""]
            verdict, reason = "failed", f"{type(error).__name__}: {lines[0]}"
        seconds = time.monotonic() - start
        yield Outcome(spec.name, spec.family, kernel, rule, verdict, reason, seconds)
