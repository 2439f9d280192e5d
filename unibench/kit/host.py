"""Finds tensors that a method leaves on the processor, where no GPU is there to refuse them.

What a context holds is taken to be on the device. A tensor made without a device (``arange(n)``),
drawn there (``generator=``) or moved there (``.cpu()``) is marked, and so is whatever is computed
from marked ones alone. An operation of a marked one with one on the device is what a GPU refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MARK = "_unibench_host"
MADE = frozenset(
    getattr(torch, name)
    for name in (
        *("arange", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint"),
        *("randn", "randperm", "tensor", "zeros", "as_tensor", "from_numpy", "normal"),
    )
)
# CUDA takes indices from the processor, and copies from it on purpose
ALLOWED = frozenset(
    (
        *(Tensor.__getitem__, Tensor.__setitem__, Tensor.to, Tensor.type_as, Tensor.copy_),
        *(Tensor.index_put_, Tensor.index_put, Tensor.cpu, Tensor.device.__get__),
    )
)
READS = ("__get__", "size", "dim", "__len__", "numel", "shape", "stride", "is_floating_point")


class MixedError(RuntimeError):
    """An operation on tensors of two devices."""


class Host(TorchFunctionMode):
    """Refuses operations that mix the processor and the device, for the length of the block."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if name in READS:
            return result
        tensors = list(_tensors((args, kwargs)))
        marked = [tensor for tensor in tensors if getattr(tensor, MARK, False)]
        if func in MADE:
            host = "device" not in kwargs and len(marked) == len(tensors)
        elif func in (Tensor.cpu, Tensor.numpy, Tensor.tolist):
            host = True
        elif func is Tensor.to or func is Tensor.type_as:
            host = _moved(tensors, args, kwargs)
        else:
            others = [tensor for tensor in tensors if not getattr(tensor, MARK, False)]
            if func not in ALLOWED and others and any(tensor.ndim for tensor in marked):
                raise MixedError(
                    f"{name} on a tensor of the processor and one of the device, which a GPU"
                    " refuses; give device=ctx.visual.device where the first is made"
                )
            host = bool(marked) and not others
        for tensor in _tensors(result):
            if host:
                setattr(tensor, MARK, True)
            elif func in (Tensor.to, Tensor.type_as) and getattr(tensor, MARK, False):
                # to() gives the same tensor where nothing changes here, which is another on a GPU
                return result.view_as(result) if isinstance(result, Tensor) else result
        return result


def _moved(tensors: list[Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether what ``to`` gives lies on the processor."""
    target = next((value for value in (*args[1:], *kwargs.values()) if _is_place(value)), None)
    if isinstance(target, str):
        return target.startswith("cpu")
    if isinstance(target, torch.device):
        return False  # of another tensor: nobody writes torch.device("cpu") for the model's
    other = tensors[1] if len(tensors) > 1 else tensors[0]
    return bool(getattr(other, MARK, False))


def _is_place(value: Any) -> bool:
    return isinstance(value, (str, torch.device))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)
