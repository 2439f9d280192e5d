"""Which type of device ``model.device=auto`` is on this machine, told without loading torch.

The type is in the key of a cell, since a GPU and a processor round otherwise. Loading a model asks
here as well, so a model is never on another device than its key says.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

AUTO = "auto"
# what torch calls CUDA: the libraries of a build that has it, NVIDIA's or AMD's
BUILDS = ("libtorch_cuda.so", "libtorch_hip.so", "torch_cuda.dll")
AMD = "/dev/kfd"


def device_type(asked: str) -> str:
    """``cpu`` or ``cuda``; another device that was named by its own type.

    >>> device_type("cuda:1"), device_type("cpu")
    ('cuda', 'cpu')
    """
    if asked != AUTO:
        return asked.partition(":")[0]
    return "cuda" if _has_gpu(os.environ.get("CUDA_VISIBLE_DEVICES")) else "cpu"


@cache
def _has_gpu(visible: str | None) -> bool:
    """Whether torch will find a GPU: its build can use one, and the driver counts one."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda"):
        return bool(torch.cuda.is_available())  # it knows, and has paid for it
    if visible is not None and not visible.strip().startswith((*"0123456789", "GPU-", "MIG-")):
        return False  # empty, -1 or NoDevFiles hides every GPU
    spec = find_spec("torch")
    folders = [] if spec is None else [Path(path) for path in spec.submodule_search_locations or ()]
    if not any((folder / "lib" / build).exists() for folder in folders for build in BUILDS):
        return False
    return _count() > 0


def _count() -> int:
    """GPUs that the driver knows; its management library may be asked before a fork, CUDA not."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
        number = ctypes.c_uint(0)
        if nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetCount_v2(ctypes.byref(number)) == 0:
            return number.value
    except (OSError, AttributeError):
        pass
    # without that library: the tool beside the driver, or AMD's device
    return int(shutil.which("nvidia-smi") is not None or Path(AMD).exists())
