"""What is asked for: the ``unibench`` entry of a model's configuration inside vLLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, get_args

from unibench.budget import Budget
from unibench.errors import UsageError, unknown
from unibench.pruning.servable import obstacles
from unibench.pruning.stage import Method
from unibench.registry import build_method

PREFIX = "Unibench"  # before the name of a class of vLLM: the same model, pruned
Places = Literal["original", "compact"]
ARCHITECTURES: Mapping[str, str] = {
    "Qwen2VLForConditionalGeneration": "qwen:PrunedQwen2VL",
    "Qwen2_5_VLForConditionalGeneration": "qwen:PrunedQwen2_5VL",
    "Qwen3VLForConditionalGeneration": "qwen:PrunedQwen3VL",
    "LlavaForConditionalGeneration": "llava:PrunedLlava",
    "LlavaOnevisionForConditionalGeneration": "llava_onevision:PrunedLlavaOnevision",
    "InternVLForConditionalGeneration": "internvl:PrunedInternVL",
}
"""Of a checkpoint: module here and class."""


@dataclass(frozen=True)
class Settings:
    """A method and its budget, as ``--hf-overrides`` has them.

    Attributes:
        method: name of a method, or ``file.py:Class``.
        ratio: share of visual tokens REMOVED of each picture; or
        retention: share kept; or
        keep: number kept.
        parameters: of the method.
        seed: for methods that draw.
        positions: ``original``: kept tokens stay where they stood; ``compact``: the tokens of a
            prompt close up to 0, 1, 2, ...
        videos: whether videos are pruned as pictures are, in the families that can.
        trace: file to which each encoded picture is written as a line of JSON; None writes nothing.
    """

    method: str
    ratio: str | float | None = None
    retention: str | float | None = None
    keep: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    positions: Places = "original"
    videos: bool = True
    trace: str | None = None

    @classmethod
    def of(cls, hf_config: Any) -> Settings:
        """The settings that a configuration of a model carries.

        Raises:
            UsageError: none are there, one is unknown, or a value is outside of its range.
        """
        given = getattr(hf_config, "unibench", None)
        if not given:
            raise UsageError(
                "name a method: --hf-overrides"
                ' \'{"unibench": {"method": "divprune", "ratio": "0.889"}, ...}\''
            )
        if not isinstance(given, Mapping):
            raise UsageError(f"unibench={given!r}: a mapping of settings wanted")
        names = [entry.name for entry in fields(cls)]
        for name in given:
            if name not in names:
                raise unknown("setting of unibench", name, names)
        if "method" not in given:
            raise UsageError('the settings of unibench lack "method"')
        return cls(**given)

    def __post_init__(self) -> None:
        if self.positions not in get_args(Places):
            raise unknown("positions", str(self.positions), get_args(Places))
        if self.ratio is self.retention is self.keep is None:
            raise UsageError(
                f"{self.method} needs a budget for each picture: ratio (share removed), retention"
                " (share kept) or keep (number kept)"
            )
        self.budget  # noqa: B018 - refused here, before anything is loaded

    @cached_property
    def budget(self) -> Budget:
        """The budget of each picture."""
        return Budget.parse(self.ratio, self.retention, self.keep)

    def build(self) -> Method:
        """The method.

        Raises:
            UsageError: there is none of that name, it refuses its parameters, or it cannot run in
                front of a language model that another engine runs.
        """
        method = build_method(self.method, **self.parameters)
        if reasons := obstacles(method):
            raise UsageError(f"{self.method} cannot run inside vLLM: {'; '.join(reasons)}")
        return method

    @property
    def stamp(self) -> str:
        """Text that tells choices apart, for the hash that names what an engine has cached."""
        parts = [self.method, self.budget.label, dict(self.parameters), self.seed, self.positions]
        return json.dumps([*parts, self.videos], sort_keys=True, default=str)

    def overrides(self, architecture: str) -> dict[str, Any]:
        """What ``--hf-overrides`` takes for a checkpoint of an architecture.

        Raises:
            UsageError: the plugin has no such architecture.
        """
        check_architecture(architecture)
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        set_ = {name: value for name, value in given.items() if value is not None}
        set_["parameters"] = dict(self.parameters)
        return {"architectures": [PREFIX + architecture], "unibench": set_}


def check_architecture(architecture: str) -> None:
    """Refuse an architecture that the plugin does not have.

    Raises:
        UsageError: it lists those that it has.
    """
    if architecture not in ARCHITECTURES:
        raise unknown("architecture inside vLLM", architecture, ARCHITECTURES)
