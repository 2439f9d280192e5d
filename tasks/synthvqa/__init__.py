"""synthvqa: the embedded benchmark, drawn from a seed."""

from __future__ import annotations

if __name__ != "unibench.tasks.synthvqa":  # a second name would make a second copy of every class
    raise ImportError("import unibench.tasks.synthvqa, not tasks.synthvqa")

from unibench.tasks.synthvqa._task import SynthVQA as SynthVQA
