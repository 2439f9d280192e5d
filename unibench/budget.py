"""How many visual tokens stay: one rule for every method.

``keep = max(1, floor((1 - ratio) * N + 1/2))``. Decimals are taken exactly as written (0.9 is nine
tenths, not its nearest binary fraction), so a ratio and the retention that complements it agree for
every N.

Released code rounds otherwise, and on products of binary fractions: ``round(N * (1 - ratio))`` in
AngelSlim, ``int(N * retention)`` in most of UniPruneBench. ``python_round`` and ``python_int`` give
those numbers, at least 1; under ``python_round`` a ratio and its retention need not agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from unibench.errors import UsageError

Number = int | float | str | Fraction
BudgetMode = Literal["at_stage", "layer_average"]
Scope = Literal["sequence", "item", "tile", "first_tile"]
Positions = Literal[
    "original", "compact", "centre", "original_then_compact", "compact_then_original"
]
Rounding = Literal["half_up", "python_round", "python_int"]
TextAfterVideo = Literal["max_side", "last"]


def as_fraction(value: Number, name: str) -> Fraction:
    """The exact value of a number, a decimal or a fraction such as ``7/9``.

    Raises:
        UsageError: if it is none of these.
    """
    try:
        return Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"{name}={value} is not a number; write a decimal or a fraction, for example 0.889"
            " or 7/9"
        ) from None


@dataclass(frozen=True)
class Budget:
    """The share of visual tokens kept, or their absolute number.

    Attributes:
        retention: share KEPT in (0, 1], or None when ``tokens`` is given.
        tokens: number kept, or None.
        rounding: how a share of a number of tokens becomes a whole number.
        factor: that the number of tokens is multiplied by where Python rounds, in binary: the
            share kept, or for ``python_round`` ``1 - ratio`` where a ratio was stated; None where
            it does not.
    """

    retention: Fraction | None = None
    tokens: int | None = None
    rounding: Rounding = "half_up"
    factor: float | None = None

    @classmethod
    def parse(
        cls,
        ratio: Number | None = None,
        retention: Number | None = None,
        keep: Number | None = None,
        rounding: Rounding = "half_up",
    ) -> Budget:
        """A budget stated in one of three ways; with none, everything is kept.

        Args:
            ratio: share REMOVED, in [0, 1).
            retention: share KEPT, in (0, 1].
            keep: number of tokens kept, at least 1.
            rounding: of a share of tokens.

        Raises:
            UsageError: out of range, not a number, or two statements that disagree.
        """
        shares = []
        if ratio is not None:
            shares.append(1 - _checked_ratio(ratio))
        if retention is not None:
            shares.append(_checked_retention(retention))
        if keep is not None:
            if shares:
                raise UsageError(f"state the budget once: keep={keep} and a share were both given")
            count = as_fraction(keep, "keep")
            if count.denominator != 1 or count < 1:
                raise UsageError(f"keep={keep} must be a whole number of tokens, at least 1")
            return cls(tokens=int(count))
        if len(set(shares)) > 1:
            raise UsageError(
                f"ratio={ratio} removes {float(1 - shares[0]):g} but retention={retention} removes"
                f" {float(1 - shares[1]):g}; give one"
            )
        share = shares[0] if shares else Fraction(1)
        if rounding == "half_up" or share == 1:
            return cls(retention=share)
        # in binary 1 - 0.889 is no 0.111, and the product with N may lie below a whole number;
        # AngelSlim is told what goes and rounds, UniPruneBench is told what stays and truncates
        by_ratio = ratio is not None and rounding == "python_round"
        factor = 1 - float(as_fraction(str(ratio), "ratio")) if by_ratio else float(share)
        return cls(retention=share, rounding=rounding, factor=factor)

    @property
    def everything(self) -> bool:
        """Whether no token is removed."""
        return self.retention == 1

    def keep(self, total: int) -> int:
        """The number of tokens kept of ``total``.

        >>> Budget.parse(ratio=0.889).keep(576), Budget.parse(ratio="7/9").keep(2880)
        (64, 640)
        >>> Budget.parse(keep=64).keep(50)
        50
        >>> Budget.parse(ratio=0.75).keep(10)
        3
        >>> Budget.parse(ratio=0.75, rounding="python_round").keep(10)
        2
        """
        if self.tokens is not None:
            return min(self.tokens, total)
        assert self.retention is not None
        if self.factor is not None:
            share = self.factor * total
            return max(1, int(share) if self.rounding == "python_int" else round(share))
        return min(total, max(1, (self.retention * total + Fraction(1, 2)).__floor__()))

    @property
    def label(self) -> str:
        """As it stands in tables and folder names: the ratio removed, or ``keep64``.

        >>> Budget.parse(ratio=0.889).label, Budget.parse(ratio="7/9").label
        ('0.889', '7of9')
        >>> Budget.parse(keep=64).label
        'keep64'
        """
        if self.tokens is not None:
            return f"keep{self.tokens}"
        assert self.retention is not None
        ratio = 1 - self.retention
        decimal = f"{float(ratio):g}"
        return decimal if Fraction(decimal) == ratio else f"{ratio.numerator}of{ratio.denominator}"

    @property
    def ratio(self) -> float | None:
        """Share removed, or None where a number of tokens was asked for."""
        return None if self.retention is None else float(1 - self.retention)


def _checked_ratio(ratio: Number) -> Fraction:
    value = as_fraction(ratio, "ratio")
    if 0 <= value < 1:
        return value
    percent = f" Did you mean {float(value / 100):g}?" if 1 < value < 100 else ""
    whole = " To remove every token is no pruning; use keep=1 for the least." if value == 1 else ""
    raise UsageError(
        f"ratio={ratio} is outside [0, 1): it is the share of visual tokens"
        f" removed.{percent}{whole}"
    )


def _checked_retention(retention: Number) -> Fraction:
    value = as_fraction(retention, "retention")
    if 0 < value <= 1:
        return value
    percent = f" Did you mean {float(value / 100):g}?" if 1 < value <= 100 else ""
    raise UsageError(
        f"retention={retention} is outside (0, 1]: it is the share of visual tokens kept.{percent}"
    )
