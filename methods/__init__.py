"""Pruning methods: one file each, one frozen dataclass of parameters in it.

A method imports torch and the names of ``unibench``; it knows neither transformers nor any model.
To add one, write ``methods/<name>.py``: its class says all that the rest needs to know.
"""

from __future__ import annotations

if __name__ != "unibench.methods":  # a second name would make a second copy of every class
    raise ImportError("import unibench.methods, not methods")
