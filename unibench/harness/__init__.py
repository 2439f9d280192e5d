"""The parent's half of a run in a harness: the job file, the events and the process.

The process itself, which imports a harness, is :mod:`unibench.harness.child`.
"""

from __future__ import annotations

from unibench.harness.client import HarnessError as HarnessError
from unibench.harness.client import HarnessProcess as HarnessProcess
