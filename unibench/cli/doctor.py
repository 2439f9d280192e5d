"""``doctor``: what is here and what is missing, one line each."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from unibench.benchmark import DISTRIBUTIONS, MODULES, VERSIONS
from unibench.errors import UsageError

GIB = 1 << 30
REPAIR = "from unibench._compat import repair_torchvision; repair_torchvision()"
IMPORT = REPAIR + "; import {module}"
TORCH = f"""{REPAIR}
import torch, torchvision, transformers
print(torch.__version__, 'with' if torch.cuda.is_available() else 'without', 'a GPU')
print(transformers.__version__)"""

Finding = tuple[str, bool, str]  # what, whether it is fine, in words


def doctor(words: list[str]) -> int:
    """``doctor [--import]``: exit code 1 if something that every run needs is missing; ``--import``
    imports both harnesses.

    With ``cluster=slurm|ray|local`` the nodes of a cluster are asked, see
    :mod:`unibench.cli.nodes`.
    """
    if any(word.startswith("cluster=") for word in words):
        return int(importlib.import_module("unibench.cli.nodes").doctor(words))
    if set(words) - {"--import"}:
        raise UsageError(
            "doctor takes no arguments but --import (imports both harnesses, half a minute) and"
            " cluster=slurm|ray|local"
        )
    return show(needed(), optional("--import" in words))


def show(needed: Sequence[Finding], optional: Sequence[Finding]) -> int:
    """Print findings; returns 1 if something needed is missing."""
    for what, fine, said in [*needed, *optional]:
        print(f"{'ok     ' if fine else 'missing'} {what:13s} {said}")
    return 0 if all(fine for _, fine, _ in needed) else 1


def needed() -> list[Finding]:
    """What every run needs."""
    return [_python(), _torch()]


def optional(importing: bool) -> list[Finding]:
    """What some runs need."""
    return [*_harnesses(importing), _java(), _key(), *_folders()]


def _python() -> Finding:
    return "python", sys.version_info >= (3, 11), f"{platform.python_version()}, {sys.executable}"


def _torch() -> Finding:
    found = subprocess.run(
        [sys.executable, "-c", TORCH], capture_output=True, text=True, check=False
    )
    if found.returncode:
        return "torch", False, found.stderr.strip().splitlines()[-1]
    torch, transformers = found.stdout.splitlines()[:2]
    return "torch", True, f"{torch}, transformers {transformers}"


def _harnesses(importing: bool) -> Iterator[Finding]:
    for harness, distribution in DISTRIBUTIONS.items():
        try:
            found = version(distribution)
        except PackageNotFoundError:
            yield harness, False, f"{distribution} is not installed; make harnesses"
            continue
        fine, said = (
            found == VERSIONS[harness],
            f"{distribution} {found}, verified {VERSIONS[harness]}",
        )
        if fine and importing:
            tried = subprocess.run(
                [sys.executable, "-c", IMPORT.format(module=MODULES[harness])],
                capture_output=True,
                text=True,
                check=False,
            )
            fine = tried.returncode == 0
            said += ", imports" if fine else f", but: {tried.stderr.strip().splitlines()[-1]}"
        yield harness, fine, said


def _java() -> Finding:
    found = shutil.which("java")
    return (
        "java",
        found is not None,
        found or "captions (coco_cap, nocaps, flickr30k) are scored with it",
    )


def _key() -> Finding:
    known = "OPENAI_API_KEY" in os.environ
    return (
        "judge key",
        known,
        (
            "OPENAI_API_KEY is set"
            if known
            else "OPENAI_API_KEY is not set; only benchmarks with a judge read it"
        ),
    )


def _folders() -> Iterator[Finding]:
    home = Path.home()
    for name, usual in (
        ("LMUData", home / "LMUData"),
        ("HF_HOME", home / ".cache" / "huggingface"),
    ):
        folder = Path(os.environ.get(name) or usual)
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free / GIB
        yield (
            name,
            os.access(there, os.W_OK),
            f"{folder}{'' if folder.exists() else ' (not yet made)'}, {free:.0f} GiB free",
        )
