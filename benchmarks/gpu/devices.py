"""Tensors that some code makes are made on a device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors


class MadeOn(TorchFunctionMode):
    """Within, what the code of some packages makes without naming a device is made on this one.

    ``torch.device`` as a context would hold for methods and the engine too, whose tensors of their
    own are the processor's (draws, numbers on their way into a record) and must be found at fault
    where they are not moved.

    Args:
        device: where.
        packages: whose files.
    """

    def __init__(self, device: torch.device | str, *packages: ModuleType) -> None:
        super().__init__()
        self._device = torch.device(device)
        self._folders = tuple(str(Path(str(package.__file__)).parent) for package in packages)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if (
            func in _device_constructors()
            and kwargs.get("device") is None
            # the frame below is the code that called torch
            and sys._getframe(1).f_code.co_filename.startswith(self._folders)
        ):
            kwargs = {**kwargs, "device": self._device}
        return func(*args, **kwargs)
