"""Hydra configuration: one YAML per model, method and task. Their schema is
``unibench/config.py``.
"""

from __future__ import annotations

if __name__ != "unibench.configs":
    raise ImportError("import unibench.configs, not configs")
