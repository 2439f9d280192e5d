"""The learned importance scorer of VisionSelector, in plain torch, and the loading of its
weights.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
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
        """
        q_weight, q_bias, k_weight, k_bias = _placed(self, features.device, features.dtype)
        if features.shape[1] != q_weight.shape[1]:
            raise UsageError(
                f"the selector takes features of width {q_weight.shape[1]}; this model's are"
                f" {features.shape[1]} wide"
            )
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
    found: dict[str, Tensor] = {}
    unknown = []
    stored = _tensors(file)
    part_of_model = any(IN_A_MODEL in name for name in stored)
    for name, read in stored.items():
        if part_of_model and IN_A_MODEL not in name:
            continue  # the rest of a whole model
        short = name
        while cut := next((prefix for prefix in PREFIXES if short.startswith(prefix)), ""):
            short = short[len(cut) :]
        short = short.rpartition(IN_A_MODEL)[2]
        if short in TENSORS:
            found[short] = read().float()
        else:
            unknown.append(name)
    missing = [name for name in TENSORS if name not in found]
    if missing or unknown:
        raise UsageError(
            f"{file} is no selector: missing {missing or 'nothing'}, unknown"
            f" {unknown[:4] or 'nothing'}"
        )
    (hidden, width), shapes = (
        found["q_proj.weight"].shape,
        {name: tuple(tensor.shape) for name, tensor in found.items()},
    )
    if shapes != {
        "q_proj.weight": (hidden, width),
        "q_proj.bias": (hidden,),
        "k_proj.weight": (hidden, width),
        "k_proj.bias": (hidden,),
    }:
        raise UsageError(f"{file}: shapes of the selector do not fit each other: {shapes}")
    return Selector(found)


def _tensors(file: Path) -> dict[str, Any]:
    """A reader for each tensor of a file."""
    if file.suffix == ".safetensors":
        opened: Any = safe_open(file, framework="pt")
        return {name: lambda name=name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise UsageError(f"{file} is no file of tensors: {str(error).splitlines()[0]}") from None
    return {name: lambda value=value: value for name, value in state.items()}


@lru_cache(maxsize=4)
def _random(seed: int, width: int) -> Selector:
    generator = torch.Generator().manual_seed(seed)
    hidden = max(1, width // 2)
    shapes = {
        "q_proj.weight": (hidden, width),
        "q_proj.bias": (hidden,),
        "k_proj.weight": (hidden, width),
        "k_proj.bias": (hidden,),
    }
    return Selector(
        {
            name: torch.randn(shape, generator=generator) * width**-0.5
            for name, shape in shapes.items()
        }
    )
