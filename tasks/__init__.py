"""Tasks: what a model is asked and how its answers are scored.

An embedded task needs no download and is one class, in a module or package of its name here. The
others run an official definition inside a harness; each is a YAML in ``configs/task``.
"""

from __future__ import annotations

if __name__ != "unibench.tasks":  # a second name would make a second copy of every class
    raise ImportError("import unibench.tasks, not tasks")

from unibench.tasks._task import Sample as Sample
from unibench.tasks._task import Task as Task
