"""How the cost of a choice grows with the number of visual tokens, beside that of the Gram matrix.

Every method that compares tokens with each other pays for the Gram matrix of their features, so it
is the measure: what costs many times as much, or grows faster, eats what pruning saves. The
verdict is of operations and bytes, which are counted and the same on every machine; seconds are
shown and decide nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unibench.cost.memory import peak_memory
from unibench.kit.rules import Fault
from unibench.kit.trial import Shown, Trial
from unibench.kit.watching import Question
from unibench.ops import counted

SIDES = (12, 16, 24, 32)  # tokens along an edge of a square picture
PIXELS = 28  # of such a token along an edge, of Qwen's models
STEEPEST = 2.4  # exponent that is still called quadratic: sorting adds a logarithm
REPEATS = 3


@dataclass(frozen=True)
class Size:
    """What a choice costs at one number of tokens.

    Attributes:
        tokens: visual ones.
        flops, gram_flops: of the choice, and of the Gram matrix of the same features.
        bytes, gram_bytes: most memory at once, above what was held before.
        seconds, gram_seconds: the least of some repeats; of this machine.
    """

    tokens: int
    flops: int
    gram_flops: int
    bytes: int
    gram_bytes: int
    seconds: float
    gram_seconds: float


@dataclass(frozen=True)
class Growth:
    """Costs by number of tokens.

    Attributes:
        sizes: from few tokens to many.
        place: the line after which the largest local tensor was there.
    """

    sizes: tuple[Size, ...]
    place: str

    def exponent(self, name: str) -> float:
        """Of a power law through the last two sizes; 0 where nothing was counted."""
        first, last = self.sizes[-2], self.sizes[-1]
        below, above = getattr(first, name), getattr(last, name)
        if below <= 0 or above <= 0:
            return 0.0
        return math.log(above / below) / math.log(last.tokens / first.tokens)

    @property
    def summary(self) -> str:
        """One line for people."""
        last = self.sizes[-1]
        return (
            f"at {last.tokens} tokens {last.flops / last.gram_flops:.2g} x the operations,"
            f" {last.bytes / last.gram_bytes:.2g} x the memory and"
            f" {last.seconds / last.gram_seconds:.2g} x the time of the Gram matrix; operations"
            f" grow as N^{self.exponent('flops'):.1f}, memory as N^{self.exponent('bytes'):.1f}"
        )

    def check(self) -> None:
        """Whether it grows no faster than the Gram matrix.

        Raises:
            Fault: it does.
        """
        for name, what in (("flops", "operations grow"), ("bytes", "memory grows")):
            if (power := self.exponent(name)) > STEEPEST:
                last = self.sizes[-1]
                raise Fault(
                    f"{what} as N^{power:.1f}, the Gram matrix as N^2:"
                    f" {getattr(last, name) / getattr(last, f'gram_{name}'):.0f} x as much at"
                    f" {last.tokens} tokens",
                    self.place,
                )


def growth(trial: Trial, sides: Sequence[int] = SIDES) -> Growth:
    """The costs of the first stage that is asked, for square pictures of rising size.

    Args:
        trial: on a family that takes pictures in their own size (Qwen's).
        sides: tokens along an edge.

    Raises:
        Exception: anything that the method raises.
    """
    most = max(sides) ** 2 * PIXELS**2
    size = {"shortest_edge": 4 * PIXELS**2, "longest_edge": most}
    trial.loaded.processor.image_processor.size = size
    found: list[Size] = []
    place = ""
    for side in sides:
        asked: list[Size] = []

        def probe(question: Question, asked: list[Size] = asked) -> None:
            if not asked:
                asked.append(_measured(question))

        edge = side * PIXELS
        read = trial.read(Shown(1, size=(edge, edge)), probes=[probe])
        found += asked
        place = read.watch.largest
    return Growth(tuple(found), place)


def _measured(question: Question) -> Size:
    features = question.ctx.visual_hidden

    def gram() -> Tensor:
        unit = features / features.norm(dim=1, keepdim=True)
        product: Tensor = unit @ unit.T
        return product

    with counted() as work:
        question.again()
    with counted() as gram_work:
        gram()
    with peak_memory(features.device) as peak:
        question.again()
    with peak_memory(features.device) as gram_peak:
        gram()
    seconds, gram_seconds = math.inf, math.inf
    for _ in range(REPEATS):  # in turn, so that a busy moment meets both
        start = time.perf_counter()
        question.again()
        between = time.perf_counter()
        gram()
        end = time.perf_counter()
        seconds, gram_seconds = min(seconds, between - start), min(gram_seconds, end - between)
    return Size(
        len(features),
        work.flops,
        gram_work.flops,
        peak.extra,
        gram_peak.extra,
        seconds,
        gram_seconds,
    )
