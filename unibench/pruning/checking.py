"""A method's answer is checked before it is used; what is no valid selection is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unibench.errors import UsageError


class SelectionError(UsageError, ValueError):
    """A method's answer is no valid selection."""


class BudgetError(UsageError, RuntimeError):
    """A method that must meet its budget kept another number of tokens."""


def shaped_scores(scores: Any, count: int, who: str) -> Tensor:
    """The scores of ``count`` tokens; nothing here waits for a GPU.

    Args:
        scores: what a method's ``score`` returned.
        count: of visual tokens.
        who: the method, for messages.

    Raises:
        SelectionError: they are no tensor, or not one number for each token.
    """
    if not isinstance(scores, Tensor):
        raise SelectionError(
            f"{who} returned {named(scores)}; a tensor of one number per visual token is wanted"
        )
    if scores.shape != (count,):
        raise SelectionError(
            f"{who} returned scores of shape {_shape(scores)} for {count} visual tokens; ({count},)"
            " is wanted"
        )
    return scores


def check_scores(scores: Tensor, who: str) -> None:
    """Refuses scores ``[N]`` that no order is defined for.

    Raises:
        SelectionError: some are not finite.
    """
    finite = scores.isfinite()
    if bool(finite.all()):
        return
    first, count = scores[~finite][0].item(), len(scores)
    raise SelectionError(
        f"{who} gave {count - int(finite.sum())} of {count} tokens the score {first}, which no"
        " order is defined for; a division by zero, or an overflow in half precision? A token that"
        " must not stay has the score torch.finfo(torch.float32).min"
    )


def indices(keep: Any, count: int, who: str) -> Tensor:
    """Distinct indices below ``count``, in any order.

    Raises:
        SelectionError: they are something else.
    """
    if not isinstance(keep, Tensor):
        raise SelectionError(f"{who} kept {named(keep)}; a tensor of indices is wanted")
    if keep.ndim != 1:
        raise SelectionError(f"{who} kept indices of shape {_shape(keep)}; one axis is wanted")
    if keep.dtype == torch.bool:
        raise SelectionError(f"{who} kept a mask; indices are wanted: mask.nonzero()[:, 0]")
    if keep.is_floating_point() or keep.is_complex():
        raise SelectionError(f"{who} kept indices of {keep.dtype}; whole numbers are wanted")
    # sorted once: bounds are its ends, and doubles stand side by side
    ordered = keep.sort().values
    if len(ordered) and not (int(ordered[0]) >= 0 and int(ordered[-1]) < count):
        raise SelectionError(f"{who} kept a token outside 0..{count - 1}")
    if bool((ordered[1:] == ordered[:-1]).any()):
        raise SelectionError(f"{who} kept a token twice")
    return keep


def checked_mask(mask: Any, count: int, who: str) -> Tensor:
    """``[count]`` True on what stays.

    Raises:
        SelectionError: it is something else.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (count,):
        found = f"{mask.dtype} {_shape(mask)}" if isinstance(mask, Tensor) else named(mask)
        raise SelectionError(f"{who} returned {found}; a mask of {count} truth values is wanted")
    return mask


def check_numbers(numbers: Any, shape: tuple[int, ...], what: str) -> None:
    """Refuses what is no tensor of finite numbers of this shape.

    Raises:
        SelectionError: it is not.
    """
    if not isinstance(numbers, Tensor) or tuple(numbers.shape) != shape:
        found = _shape(numbers) if isinstance(numbers, Tensor) else named(numbers)
        raise SelectionError(f"{what} are {found}; a tensor of shape {shape} is wanted")
    if not bool(numbers.isfinite().all()):
        raise SelectionError(f"{what} are not all finite numbers")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def named(value: object) -> str:
    """What a value is, for a message that it should be something else."""
    return "nothing (is a return missing?)" if value is None else f"a {type(value).__name__}"


class Lent:
    """What a method is lent while it is asked, to tell afterwards whether it was left alone.

    Hidden states and keys are the model's own: what is changed in place goes into the answer, past
    the selection.

    Args:
        tensors: by name; None where there is none.
    """

    def __init__(self, tensors: Mapping[str, Tensor | None]) -> None:
        self._tensors = {name: value for name, value in tensors.items() if value is not None}
        self._copies = {name: value.clone() for name, value in self._tensors.items()}

    def check(self, who: str) -> None:
        """See whether all of it is as it was.

        Raises:
            SelectionError: it is not.
        """
        for name, copy in self._copies.items():
            # NaN equals nothing, and a model in half precision may hold some before any method runs
            if not torch.equal(self._tensors[name].nan_to_num(), copy.nan_to_num()):
                raise SelectionError(
                    f"{who} changed {name} in place, which belongs to the model; work on a copy,"
                    f" {name}.clone(), and hand new values over as Selection(keep, values)"
                )
