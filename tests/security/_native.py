"""Run in a process of its own: a harness's own model object on checkpoints that are not what they seem.

    python -m tests.security._native HARNESS FOLDER REPORT.json

FOLDER holds one copy of a checkpoint for each case. REPORT.json gets what loading each one raised.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from unibench.compose import compose_cells

MODULES = {"lmms_eval": "lmms_models", "vlmevalkit": "vlmevalkit_models"}


def main(harness: str, folder: Path, report: Path) -> None:
    """Load each checkpoint."""
    native = importlib.import_module(f"unibench.harness.child.{MODULES[harness]}").native
    found = {}
    for place in sorted(folder.iterdir()):
        words = ["model=tiny_qwen2_5_vl", f"model.path={place}", "task=pope", f"harness={harness}"]
        (config,) = compose_cells(
            [*words, "method=vanilla", "harness_options.wrapper=native"], sweep=False
        )
        try:
            native(config)
            found[place.name] = "loaded"
        except Exception as error:
            found[place.name] = f"{type(error).__name__}: {error}"
    report.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
