"""The learned importance scorer of VisionSelector, in plain torch, and the loading of its
weights.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unibench import UsageError
from unibench.ops import product

TENSORS = ("q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias")
IN_A_MODEL = (  # where a whole VisionSelector checkpoint has the four tensors
    "visual.importance_scorer."
)
PREFIXES = ("module.", "_orig_mod.", IN_A_MODEL)
RELEASED = (
    "AngelSlim/Qwen2.5-VL-7B-Instruct-Selector or the VisionSelector checkpoints of JulietChoo on"
    " the Hugging Face hub"
)


@dataclass(frozen=True, eq=False)
class Selector:
    """``score_i = mean_j q_i . k_j / sqrt(h)``, without softmax.

    Attributes:
        weights: ``q_proj.weight [h, D]``, ``q_proj.bias [h]`` and the same for ``k_proj``.
    """

    weights: Mapping[str, Tensor]

    def scores(self, features: Tensor) -> Tensor:
        """Importance of each row of ``features [N, D]``, ``[N]``.

        The mean over keys is taken first, then its product with the query's weights: no N x N and
        no N x h matrix.

        Raises:
            UsageError: the weights are of another width.
        """
        q_weight, q_bias, k_weight, k_bias = _placed(self, features.device, features.dtype)
        if features.shape[1] != q_weight.shape[1]:
            raise UsageError(_other_width(q_weight.shape[1], features.shape[1]))
        # the mean over j of q_i . k_j is q_i . mean(k)
        mean_key = product(features.mean(0), k_weight.T) + k_bias
        agreement: Tensor = product(features, product(mean_key, q_weight)) + product(
            q_bias, mean_key
        )
        return agreement / math.sqrt(len(q_bias))


@lru_cache(maxsize=4)
def _placed(selector: Selector, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The four tensors where the features are; moved once, not for every prompt."""
    return tuple(selector.weights[name].to(device, dtype) for name in TENSORS)


def check(path: str | None, method: str) -> None:
    """Raise unless ``path`` can be a selector.

    Raises:
        UsageError: no path, or nothing there.
    """
    if path is None:
        raise UsageError(
            f"{method} needs trained weights: method.selector_path=<file.safetensors> (released:"
            f" {RELEASED})"
        )
    if path.startswith("random:"):
        return
    _weight_file(path)


def unfit(path: str, width: int | None) -> str | None:
    """Why the weights at ``path`` cannot score features of a model, as far as a file's header says.

    Args:
        path: see :func:`load`.
        width: of the features, None where it is not known.
    """
    if path.startswith("random:"):
        seed = path.partition(":")[2]
        return None if seed.isdecimal() else f"selector_path={path}: a whole number is wanted"
    try:
        file = _weight_file(path)
        if file.suffix != ".safetensors":
            return None  # the shapes in a pickled file are known when it is read
        stored = _tensors(file)
        names = _four(file, stored)
    except UsageError as error:
        return str(error)
    taken = stored[names["q_proj.weight"]].shape[1]
    return None if width in (None, taken) else _other_width(taken, width)


def load(path: str, width: int) -> Selector:
    """The selector at ``path``: a file or folder, or ``random:<seed>``, which exists for tests
    alone.

    Args:
        path: a ``.safetensors`` file, a ``.bin`` or ``.pt`` file of tensors, or a folder with one
            of them. No code beside the weights is run.
        width: of the features, for a random selector.

    Raises:
        UsageError: not exactly the four tensors, or shapes that do not fit each other.
    """
    if path.startswith("random:"):
        return _random(int(path.partition(":")[2]), width)
    file = _weight_file(path)
    return _from_file(file, (file.stat().st_mtime_ns, file.stat().st_size))


def _weight_file(path: str) -> Path:
    place = Path(path).expanduser()
    if place.is_dir():
        files = [
            file
            for ending in ("*.safetensors", "*.bin", "*.pt")
            for file in sorted(place.glob(ending))
        ]
        if len(files) != 1:
            raise UsageError(
                f"selector_path={path}: the folder holds {len(files)} weight files, not one; name"
                " the file"
            )
        return files[0]
    if not place.is_file():
        raise UsageError(
            f"selector_path={path}: there is no such file (released weights: {RELEASED})"
        )
    return place


@lru_cache(maxsize=4)
def _from_file(file: Path, version: tuple[int, int]) -> Selector:
    stored = _tensors(file)
    return Selector(
        {short: stored[name].read().float() for short, name in _four(file, stored).items()}
    )


def _four(file: Path, stored: Mapping[str, _Stored]) -> dict[str, str]:
    """What the file calls each of the four tensors.

    Raises:
        UsageError: it has others, or shapes that do not fit each other.
    """
    names: dict[str, str] = {}
    unknown = []
    part_of_model = any(IN_A_MODEL in name for name in stored)
    for name in stored:
        # attention elsewhere in a model has a q_proj.weight too
        if part_of_model and IN_A_MODEL not in name:
            continue  # the rest of a whole model
        short = name
        while cut := next((prefix for prefix in PREFIXES if short.startswith(prefix)), ""):
            short = short[len(cut) :]
        short = short.rpartition(IN_A_MODEL)[2]
        if short in TENSORS:
            names[short] = name
        else:
            unknown.append(name)
    missing = [name for name in TENSORS if name not in names]
    if missing or unknown:
        raise UsageError(
            f"{file} is no selector: missing {missing or 'nothing'}, unknown"
            f" {unknown[:4] or 'nothing'}"
        )
    shapes = {short: stored[name].shape for short, name in names.items()}
    matrix = shapes["q_proj.weight"]
    if len(matrix) != 2 or shapes != _shapes(*matrix):
        raise UsageError(f"{file}: shapes of the selector do not fit each other: {shapes}")
    return names


class _Stored(NamedTuple):
    """A tensor of a file, before and after reading it."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def _tensors(file: Path) -> dict[str, _Stored]:
    """The tensors of a file."""
    if file.suffix == ".safetensors":
        try:
            opened: Any = safe_open(file, framework="pt")
        except (OSError, SafetensorError) as error:
            raise UsageError(f"{file} is no file of tensors: {error}") from None
        return {
            # the shape stands in the header, so a check reads no weights
            name: _Stored(
                tuple(opened.get_slice(name).get_shape()), partial(opened.get_tensor, name)
            )
            for name in opened.keys()  # noqa: SIM118
        }
    try:
        # weights_only: a pickle may run any code when it is read
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise UsageError(f"{file} is no file of tensors: {str(error).splitlines()[0]}") from None
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise UsageError(f"{file} is no file of tensors")
    return {
        name: _Stored(tuple(value.shape), partial(torch.Tensor.float, value))
        for name, value in state.items()
    }


def _shapes(hidden: int, width: int) -> dict[str, tuple[int, ...]]:
    return {
        "q_proj.weight": (hidden, width),
        "q_proj.bias": (hidden,),
        "k_proj.weight": (hidden, width),
        "k_proj.bias": (hidden,),
    }


def _other_width(taken: int, given: int) -> str:
    return f"the selector takes features of width {taken}; this model's are {given} wide"


@lru_cache(maxsize=4)
def _random(seed: int, width: int) -> Selector:
    generator = torch.Generator().manual_seed(seed)
    return Selector(
        {
            name: torch.randn(shape, generator=generator) * width**-0.5
            for name, shape in _shapes(max(1, width // 2), width).items()
        }
    )
