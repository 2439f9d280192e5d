"""What a process needs to have a benchmark asked by a harness in another one: the job, its events,
the child.

The child itself is :mod:`unibench.harness.child`.
"""

from __future__ import annotations

from unibench.harness.client import HarnessError as HarnessError
from unibench.harness.client import HarnessProcess as HarnessProcess
