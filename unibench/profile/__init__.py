"""Cost on fixed inputs, apart from accuracy runs.

What loads torch (:mod:`~unibench.profile.measure`, :mod:`~unibench.profile.table`) is not named
here: a mistaken command is answered without it.
"""

from __future__ import annotations

from unibench.profile.protocol import PROTOCOLS as PROTOCOLS
from unibench.profile.request import Request as Request
