"""Where it ran: the device, its driver, its clocks and power, and the kernels that did the work."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from unibench.inference.environment import code_version

PACKAGES = ("torch", "transformers", "triton", "torchvision", "tokenizers", "numpy", "pillow")
ASKED = (
    *("name", "driver_version", "memory.total", "pstate", "clocks.sm", "clocks.mem"),
    *("clocks.max.sm", "power.draw", "power.limit", "temperature.gpu"),
    "clocks_throttle_reasons.active",
)  # of nvidia-smi
SEVERAL = 12  # kernels that are named


@dataclass(frozen=True)
class Machine:
    """What a number may depend on.

    Attributes:
        device: its name.
        memory_gib: of it.
        facts: everything else, in words.
    """

    device: str
    memory_gib: float
    facts: tuple[str, ...]

    def __str__(self) -> str:
        memory = f", {self.memory_gib:.0f} GiB" if self.memory_gib else ""
        return f"Machine: {self.device}{memory}, {', '.join(self.facts)}."


@dataclass(frozen=True)
class State:
    """Clocks, power and temperature at one moment.

    Attributes:
        when: what had just been done.
        values: by name of nvidia-smi's column; empty without that tool.
    """

    when: str
    values: tuple[tuple[str, str], ...]


def machine(device: torch.device) -> Machine:
    """This machine."""
    facts = [
        f"python {platform.python_version()}",
        *(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
        f"unibench {code_version()}",
        f"{os.cpu_count()} cores",
    ]
    if device.type != "cuda":
        return Machine(f"{_processor()} (no GPU)", 0.0, tuple(facts))
    properties = torch.cuda.get_device_properties(device)
    facts += [
        f"CUDA {torch.version.cuda}",
        f"compute capability {properties.major}.{properties.minor}",
        f"{properties.multi_processor_count} multiprocessors",
    ]
    return Machine(properties.name, properties.total_memory / 2**30, tuple(facts))


def state(when: str) -> State:
    """What nvidia-smi says now."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return State(when, ())
    command = [tool, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return State(when, ())
    first = (said.stdout.splitlines() or [""])[0]
    return State(when, tuple(zip(ASKED, (part.strip() for part in first.split(",")), strict=False)))


def flash_first() -> AbstractContextManager[None]:
    """SDPA takes its flash kernel wherever that serves, then the efficient one, then plain products
    (a single query of decoding or a mask of padding may have no flash kernel).
    """
    backends = [
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    found: AbstractContextManager[None] = sdpa_kernel(backends, set_priority=True)
    return found


def kernels(run: Callable[[], object], device: torch.device) -> Sequence[str]:
    """The kernels of a run by the time they took, the longest first, each with its share."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as watched:
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
    taken = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.key)
        for event in watched.key_averages()
    ]
    whole = sum(time for time, _ in taken) or 1
    # signatures of templates are lines long
    return [
        f"{100 * time / whole:.1f} % {name[:100]}"
        for time, name in sorted(taken, reverse=True)[:SEVERAL]
        if time
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
