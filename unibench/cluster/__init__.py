"""Workers elsewhere: SLURM through submitit, Ray, Hydra's launchers. They share a folder, and
claims do the rest.
"""

from __future__ import annotations

from unibench.cluster.launching import launch as launch
from unibench.cluster.plan import PLAN as PLAN
from unibench.cluster.plan import code_digest as code_digest
from unibench.cluster.plan import read_plan as read_plan
from unibench.cluster.plan import write_plan as write_plan
from unibench.cluster.rays import on_each_node as on_each_node
from unibench.cluster.rays import run_tasks as run_tasks
from unibench.cluster.submitting import ENGINES as ENGINES
from unibench.cluster.submitting import Resources as Resources
from unibench.cluster.submitting import submit as submit
from unibench.cluster.submitting import warning as warning
from unibench.cluster.worker import Worker as Worker
