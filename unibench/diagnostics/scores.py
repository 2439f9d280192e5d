"""The scores by which a method chose, one for each visual token of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """The scores behind the first cut of a sample that was made by scores; with ``scores=true``.

    Attributes:
        layer: whose input was cut.
        low, high: the lowest and the highest score.
        values: ``[N]`` how far each visual token's score lies on the way from ``low`` to ``high``,
            as float16 (little endian, base64), see :func:`unibench.pruning.record.scored`; NaN
            where the method was not shown the token, minus infinity where it must not stay.
    """

    layer: int
    low: float
    high: float
    values: str

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> TokenScores:
        """The scores of parsed JSON; of a later version, what is known here.

        Raises:
            ValueError: it is none.
        """
        if not is_token_scores(values):
            raise ValueError("scores with a layer, a range and values are wanted")
        low, high = float(values["low"]), float(values["high"])
        return cls(layer=values["layer"], low=low, high=high, values=values["values"])


def is_token_scores(values: Any) -> bool:
    """Whether parsed JSON holds the scores of a sample."""
    if not isinstance(values, Mapping):
        return False
    layer = values.get("layer")
    ends: tuple[Any, Any] = (values.get("low"), values.get("high"))
    # type() and not isinstance: True is an int
    known = type(layer) is int and layer >= 0 and isinstance(values.get("values"), str)
    return known and all(type(end) in (int, float) and isfinite(end) for end in ends)
