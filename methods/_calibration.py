"""Files of numbers that ``calibrate`` found on a model: one safetensors file each, which says what
it was made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unibench import UsageError

FORMAT = "unibench.calibration.1"


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was found for a method.

    Attributes:
        tensors: by name.
        facts: what the file says about itself: method, model, data, samples, code.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def made_of(self) -> str:
        """Model and samples, for a remark."""
        model = self.facts.get("model", "{}")
        try:
            name = json.loads(model).get("name", "?") if model.startswith("{") else model
        except (ValueError, RecursionError):
            name = "?"
        return f"{name}, {self.facts.get('samples', '?')} samples"

    def save(self, path: str | Path) -> None:
        """Write a file that :func:`load` reads."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, path, {"format": FORMAT, **self.facts})


def load(path: str, method: str, names: Mapping[str, int]) -> Calibration:
    """The calibration of a method in a file.

    Args:
        path: of the file.
        method: whose it must be.
        names: of its tensors, and how many axes each has.

    Raises:
        UsageError: no such file, or not this method's.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(
            f"method.calibration={path}: there is no such file; `python -m unibench calibrate"
            f" method={method} model=.. to={path}` writes it"
        )
    found = read(file)
    made_for = found.facts.get("method", "")
    if made_for != method:
        what = f"the calibration of {made_for}" if made_for else "no calibration"
        raise UsageError(f"method.calibration={path} is {what}; {method} wants its own")
    wrong = [
        name
        for name, axes in names.items()
        if name not in found.tensors or found.tensors[name].ndim != axes
    ]
    if wrong or found.tensors.keys() - names.keys():
        held = (
            ", ".join(f"{name} {list(x.shape)}" for name, x in found.tensors.items()) or "nothing"
        )
        raise UsageError(
            f"method.calibration={path} holds {held}; {method} reads {', '.join(names)}"
        )
    return found


def read(file: Path) -> Calibration:
    """What is in a file, read again only after it has changed.

    Raises:
        UsageError: it is no safetensors file.
    """
    state = file.stat()
    # time and size are only a key of the cache: a file written anew is read anew
    return _read(file, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=16)
def _read(file: Path, version: tuple[int, int]) -> Calibration:
    try:
        with safe_open(file, framework="pt") as opened:
            facts = dict(opened.metadata() or {})
            names = list(opened.keys())
            tensors = {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file} is no safetensors file: {error}") from None
    return Calibration(tensors, facts)
