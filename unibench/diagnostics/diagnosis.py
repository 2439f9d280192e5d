"""The diagnostics of a sample, and their means over samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from statistics import fmean
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a choice of tokens is like; None is unknown or not asked for.

    Attributes:
        coverage, edge, centre: see :mod:`unibench.diagnostics.places`.
        boxed: share of the tokens in the sample's boxes that are kept.
        effective_rank: of the kept tokens as the language model is given them, see
            :func:`unibench.ops.effective_rank`; with ``diagnostics=all``.
        nearest_cosine: mean cosine of a kept token and the one most like it; with
            ``diagnostics=all``.
        attention: share of the attention of the prompt's last token on visual tokens that goes to
            kept ones, mean over heads and over the layers that the method reads; with
            ``diagnostics=all``.
    """

    coverage: float | None = None
    edge: float | None = None
    centre: float | None = None
    boxed: float | None = None
    effective_rank: float | None = None
    nearest_cosine: float | None = None
    attention: float | None = None

    def as_json(self) -> dict[str, float]:
        """What is known, with six digits after the point."""
        return {name: round(value, 6) for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Any) -> Diagnosis:
        """The diagnosis of parsed JSON; of a later version, what is known here.

        Raises:
            ValueError: it is none.
        """
        if not is_diagnosis(values):
            raise ValueError("numbers by name are wanted")
        return cls(**{name: float(value) for name, value in values.items() if name in NAMES})


NAMES = tuple(field.name for field in fields(Diagnosis))


def is_diagnosis(values: Any) -> bool:
    """Whether parsed JSON holds numbers by name."""
    return isinstance(values, Mapping) and all(
        type(value) in (int, float) and isfinite(value) for value in values.values()
    )


def mean_diagnosis(found: Iterable[Diagnosis | None]) -> Diagnosis:
    """Means over samples, each over those that have a number."""
    given = [one for one in found if one is not None]
    means: dict[str, float | None] = {}
    for name in NAMES:
        values = [value for one in given if (value := getattr(one, name)) is not None]
        means[name] = fmean(values) if values else None
    return Diagnosis(**means)
