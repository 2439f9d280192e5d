"""What is here and what is missing, one line each."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from unibench.benchmark import DISTRIBUTIONS, MODULES, VERSIONS

GIB = 1 << 30
REPAIR = "from unibench._compat import repair_torchvision; repair_torchvision()"
IMPORT = REPAIR + "; import {module}"
TORCH = f"""{REPAIR}
import torch, torchvision, transformers
print(torch.__version__, 'with' if torch.cuda.is_available() else 'without', 'a GPU')
print(transformers.__version__)"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        what: its name.
        fine: whether it is as it should be.
        said: in words.
    """

    what: str
    fine: bool
    said: str


def show(needed: Sequence[Finding], optional: Sequence[Finding]) -> int:
    """Print findings; returns 1 if something needed is missing."""
    for finding in [*needed, *optional]:
        print(f"{'ok     ' if finding.fine else 'missing'} {finding.what:13s} {finding.said}")
    return 0 if all(finding.fine for finding in needed) else 1


def needed() -> list[Finding]:
    """What every run needs."""
    return [_python(), _torch()]


def optional(importing: bool) -> list[Finding]:
    """What some runs need."""
    return [_torchvision(), *_harnesses(importing), _java(), _key(), *_folders()]


def _python() -> Finding:
    interpreter = f"{platform.python_version()}, {sys.executable}"
    return Finding("python", sys.version_info >= (3, 11), interpreter)


def _torch() -> Finding:
    run = _run(TORCH)
    if run.returncode:
        return Finding("torch", False, run.stderr.strip().splitlines()[-1])
    torch, transformers = run.stdout.splitlines()[:2]
    return Finding("torch", True, f"{torch}, transformers {transformers}")


def _torchvision() -> Finding:
    """Whether a program that imports transformers or torchvision before unibench can."""
    if find_spec("torchvision") is None:
        return Finding("torchvision", True, "not installed; nothing here needs it")
    run = _run("import torchvision; print(torchvision.__version__)")
    if run.returncode == 0:
        return Finding("torchvision", True, f"{run.stdout.strip()}, imports before unibench too")
    last = run.stderr.strip().splitlines()[-1]
    return Finding(
        "torchvision",
        False,
        f"{last}: import unibench first, or repair this environment: {sys.executable} -m"
        " unibench._startup",
    )


def _harnesses(importing: bool) -> Iterator[Finding]:
    for harness, distribution in DISTRIBUTIONS.items():
        try:
            installed = version(distribution)
        except PackageNotFoundError:
            yield Finding(harness, False, f"{distribution} is not installed; make harnesses")
            continue
        fine = installed == VERSIONS[harness]
        said = f"{distribution} {installed}, verified {VERSIONS[harness]}"
        if fine and importing:
            run = _run(IMPORT.format(module=MODULES[harness]))
            fine = run.returncode == 0
            said += ", imports" if fine else f", but: {run.stderr.strip().splitlines()[-1]}"
        yield Finding(harness, fine, said)


def _run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _java() -> Finding:
    java = shutil.which("java")
    needed = "captions (coco_cap, nocaps, flickr30k) are scored with it"
    return Finding("java", java is not None, java or needed)


def _key() -> Finding:
    if "OPENAI_API_KEY" in os.environ:
        return Finding("judge key", True, "OPENAI_API_KEY is set")
    return Finding(
        "judge key", False, "OPENAI_API_KEY is not set; only benchmarks with a judge read it"
    )


def _folders() -> Iterator[Finding]:
    home = Path.home()
    usual = {"LMUData": home / "LMUData", "HF_HOME": home / ".cache" / "huggingface"}
    for name, place in usual.items():
        folder = Path(os.environ.get(name) or place)
        parent = next(path for path in (folder, *folder.parents) if path.exists())
        made = "" if folder.exists() else " (not yet made)"
        free = shutil.disk_usage(parent).free / GIB
        yield Finding(name, os.access(parent, os.W_OK), f"{folder}{made}, {free:.0f} GiB free")
