"""A processor on which ``x @ x.T`` is not symmetric: ``pytest -p tests.support.asymmetric``.

Some kernels give ``(i, j)`` and ``(j, i)`` of a product of a matrix with itself another last bit. With
this plugin every square product has entries below the diagonal that are one step larger, so that a
test (or code) that relies on the symmetry of a product fails on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten: Any = torch.ops.aten
PRODUCTS = (aten.mm.default, aten.bmm.default)


class AsymmetricProducts(TorchDispatchMode):
    """Square products with a last bit more below the diagonal."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function not in PRODUCTS or not _square(result):
            return result
        larger = torch.nextafter(result, torch.full_like(result, torch.inf))
        below = torch.ones_like(result, dtype=torch.bool).tril(-1)
        # a sum of zeros is zero in every order
        return torch.where(below & (result != 0), larger, result)


def _square(result: Tensor) -> bool:
    return result.is_floating_point() and result.shape[-1] == result.shape[-2] > 1


@pytest.fixture(autouse=True)
def _asymmetric_products() -> Iterator[None]:
    with AsymmetricProducts():
        yield
