"""Counts the floating point operations of any code from the operators that it calls.

What counts:

- a product (matrix, vector, convolution, attention) two for each multiply-add, as for the model;
- a pointwise operator one for each number that it makes, after broadcasting: sums, differences,
  quotients, roots, exponentials and other functions alike;
- a reduction what its definition does for each number that it reads: a sum or a mean one, a norm
  two (and its root), a softmax four, a variance four;
- a distance three for each pair of entries (difference, square, sum) and its root, whichever way
  its kernel goes.

What does not: views, copies, casts, indexing, fillings, random numbers; comparisons, and so maxima,
sorting, top-k, clamping and masks; changes of sign; everything on integers and booleans. An
operator that is in neither list counts nothing and is named. A model's FLOPs are those of its
products alone (:mod:`unibench.cost.flops`), as in every paper, so a selection is counted at least
as strictly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from unibench.cost.counter import PRODUCTS

# -- operators that make floating point numbers and count nothing

FREE = frozenset(
    """
    alias arange as_strided clone contiguous copy detach diagonal diagonal_copy empty empty_like
    empty_permuted empty_strided expand eye fill full full_like lift lift_fresh linspace new_empty
    new_empty_strided new_full new_ones new_zeros ones ones_like permute resize scalar_tensor select
    set slice split split_with_sizes squeeze t transpose tril triu unbind unfold unsafe_view
    unsqueeze view view_as_complex view_as_real zero zeros zeros_like _to_copy _reshape_alias
    _unsafe_view _local_scalar_dense _efficientzerotensor
    cat stack constant_pad_nd flip gather index index_copy index_fill index_select masked_fill
    masked_scatter masked_select pixel_shuffle pixel_unshuffle put repeat repeat_interleave roll
    scatter select_scatter slice_scatter diagonal_scatter as_strided_scatter take embedding
    channel_shuffle im2col block_diag
    bernoulli exponential multinomial native_dropout _fused_dropout normal normal_functional rand
    rand_like randn randn_like uniform
    amax amin aminmax clamp clamp_max clamp_min cummax cummin fmax fmin kthvalue max maximum median
    min minimum mode nanmedian relu sort threshold topk unique _unique _unique2 unique_dim
    unique_consecutive where hardtanh max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool2d adaptive_max_pool3d
    abs ceil conj _conj copysign fix floor frac heaviside imag nan_to_num neg _neg_view real round
    sgn sign trunc
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d
    """.split()  # noqa: SIM905 - ten names a line are read more easily than one
)

# -- reductions: operations for each number that is read

PER_INPUT = {
    "sum": 1,
    "nansum": 1,
    "mean": 1,
    "prod": 1,
    "cumsum": 1,
    "cumprod": 1,
    "trace": 1,
    "var": 4,
    "std": 4,
    "var_mean": 4,
    "std_mean": 4,
    "logsumexp": 3,
    "logcumsumexp": 3,
    "_softmax": 4,
    "_log_softmax": 4,
    "_safe_softmax": 4,
    "native_layer_norm": 7,
    "native_group_norm": 7,
    "native_batch_norm": 7,
    "_native_batch_norm_legit": 7,
    "_native_batch_norm_legit_no_training": 4,
    "_fused_rms_norm": 4,
    "dist": 3,
    "avg_pool2d": 1,
    "avg_pool3d": 1,
    "_adaptive_avg_pool2d": 1,
    "_adaptive_avg_pool3d": 1,
    "histc": 1,
    "renorm": 3,
}

# -- operators that do more than one thing for each number that they make

PER_OUTPUT = {
    "addcmul": 2,
    "addcdiv": 2,
    "lerp": 3,
    "mse_loss": 3,
    "smooth_l1_loss": 3,
    # weighted means of 2, 4 and 8 neighbours
    "upsample_linear1d": 3,
    "upsample_bilinear2d": 7,
    "upsample_trilinear3d": 15,
    "grid_sampler_2d": 7,
}

Count = Callable[[tuple[Any, ...], dict[str, Any], Any], int]


def _pairs(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    width: int = args[0].shape[-1]
    return int(out.numel()) * (3 * width + 1)


def _norm(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    order = args[1] if len(args) > 1 else kwargs.get("ord", kwargs.get("p", 2))
    if order in (math.inf, -math.inf):
        return 0  # a maximum of magnitudes
    if order in (0, 1):
        return int(args[0].numel())
    return 2 * int(args[0].numel()) + sum(part.numel() for part in _tensors(out))


def _scattered(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    source = kwargs.get("src", kwargs.get("source", args[3] if len(args) > 3 else None))
    return int(source.numel()) if isinstance(source, Tensor) else 0


def _put(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    adds = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
    return int(args[2].numel()) if adds else 0


def _scaled_sum(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    return int(out.numel()) * (1 if kwargs.get("alpha", 1) == 1 else 2)


def _eigenvectors(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    # Golub and Van Loan, Matrix Computations, section 8.3: about 9 n^3 with the vectors
    return 9 * int(args[0].numel()) * int(args[0].shape[-1])


SPECIAL: dict[str, Count] = {
    "linalg_eigh": _eigenvectors,
    "_linalg_eigh": _eigenvectors,
    "_cdist_forward": _pairs,
    "_euclidean_dist": _pairs,
    "_pdist_forward": _pairs,
    "linalg_vector_norm": _norm,
    "norm": _norm,
    "scatter_add": _scattered,
    "scatter_reduce": _scattered,
    "index_add": _scattered,
    "index_reduce": _scattered,
    "index_put": _put,
    "_index_put_impl": _put,
    "_unsafe_index_put": _put,
    "add": _scaled_sum,
    "sub": _scaled_sum,
    "rsub": _scaled_sum,
}


class Operations(FlopCounterMode):
    """Counts what runs inside the block. It nests.

    Attributes:
        others: operations that are no products.
        uncounted: operators without a formula, for example ``linalg_svd``, and ``numpy`` where
            numbers left torch.
    """

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=PRODUCTS)
        self.others = 0
        self.uncounted: set[str] = set()
        self._leaks = _Leaks(self.uncounted)

    def __enter__(self) -> Operations:
        super().__enter__()  # type: ignore[no-untyped-call]
        self._leaks.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> Any:
        self._leaks.__exit__(*error)  # type: ignore[no-untyped-call]
        return super().__exit__(*error)  # type: ignore[no-untyped-call]

    @property
    def products(self) -> int:
        """Operations of products, two for each multiply-add."""
        return int(self.get_total_flops())

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        # the only place where torch's counter shows an operator that it has no formula for
        if func_packet in self.flop_registry:
            return super()._count_flops(  # type: ignore[no-untyped-call]
                func_packet, out, args, kwargs
            )
        if _floating(out):
            count = _formula(func_packet)
            if count is None:
                self.uncounted.add(_name(func_packet).strip("_"))
            else:
                self.others += count(args, kwargs, out)
        return out


class _Leaks(TorchFunctionMode):
    """Notes that numbers leave torch, outside of which operations are not counted."""

    def __init__(self, noted: set[str]) -> None:
        super().__init__()
        self._noted = noted

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # whole numbers and masks that leave are indices, which count nothing anyway
        if func in (Tensor.numpy, Tensor.__array__) and args[0].is_floating_point():
            self._noted.add("numpy")
        return func(*args, **(kwargs or {}))


def unseen() -> Any:
    """A context whose operations outer counters do not count."""
    return _disable_current_modes()


def _name(packet: Any) -> str:
    """An operator's name; that of ``add_`` is ``add``."""
    name: str = packet.__name__
    return name if name.startswith("__") else name.rstrip("_")


@cache
def _formula(packet: Any) -> Count | None:
    """How an operator that makes floating point numbers is counted; None if nobody knows."""
    name = _name(packet)
    if name in SPECIAL:
        return SPECIAL[name]
    if name in PER_INPUT:
        weight = PER_INPUT[name]
        return lambda args, kwargs, out: weight * _first(args).numel()
    if name in FREE:
        return lambda args, kwargs, out: 0
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    pointwise = any(torch.Tag.pointwise in overload.tags for overload in overloads)
    if pointwise or name in PER_OUTPUT:
        each = PER_OUTPUT.get(name, 1)
        return lambda args, kwargs, out: each * sum(part.numel() for part in _tensors(out))
    # torch marks most views itself, those of later versions too
    if all(overload.is_view for overload in overloads):
        return lambda args, kwargs, out: 0
    return None


def _first(args: tuple[Any, ...]) -> Tensor:
    return next(_tensors(args))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _floating(values: Any) -> bool:
    return any(part.is_floating_point() or part.is_complex() for part in _tensors(values))
