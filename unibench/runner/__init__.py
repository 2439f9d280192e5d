"""Running cells: load once, answer what is missing, write rows, beside any number of other
workers.
"""

from __future__ import annotations

from unibench.runner.embedded import Embedded as Embedded
from unibench.runner.harnessed import Harnessed as Harnessed
from unibench.runner.listener import Listener as Listener
from unibench.runner.processes import outcome_of as outcome_of
from unibench.runner.processes import work_in_processes as work_in_processes
from unibench.runner.served import Served as Served
from unibench.runner.stopping import Stop as Stop
from unibench.runner.work import Executor as Executor
from unibench.runner.work import Outcome as Outcome
from unibench.runner.work import forgive as forgive
from unibench.runner.work import work as work
