"""Which cells a command means, and how far each of them is: what ``plan`` prints and what a run
works off.
"""

from __future__ import annotations

from unibench.plan.estimate import History as History
from unibench.plan.estimate import history_of as history_of
from unibench.plan.estimate import rows_below as rows_below
from unibench.plan.needs import downloads as downloads
from unibench.plan.needs import judge_of as judge_of
from unibench.plan.sizes import GPU as GPU
from unibench.plan.sizes import seconds_of as seconds_of
from unibench.plan.sizes import to_fetch as to_fetch
from unibench.plan.survey import PlannedCell as PlannedCell
from unibench.plan.survey import ordered as ordered
from unibench.plan.survey import survey as survey
