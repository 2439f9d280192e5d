"""Somebody else's run beside ours: what his code kept and answered, sample by sample."""

from __future__ import annotations

from unibench.parity.cells import imported as imported
from unibench.parity.compared import Parity as Parity
from unibench.parity.compared import compared as compared
from unibench.parity.foreign import Foreign as Foreign
from unibench.parity.foreign import read as read
