"""Methods made of named parts: a score, a way to combine scores, a choice, what becomes of the
rest, and where it happens.

    score: saliency; select: mmr(weight=0.5)

is a method. The parts are typed, so that a search knows what may stand where, see
:mod:`unibench.kit.search`.
"""

from __future__ import annotations

from unibench.composition.atoms import ATOMS as ATOMS
from unibench.composition.expression import Expression as Expression
from unibench.composition.expression import parsed as parsed
from unibench.composition.method import Composed as Composed
