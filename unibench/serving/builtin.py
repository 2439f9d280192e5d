"""vLLM's own pruning of videos, beside which methods of the plugin are measured.

``--video-pruning-rate`` with ``--video-pruning-method`` of vLLM 0.32. On a CPU both need the
plugin in the environment, whose ``repair_cpu_runner`` mends vLLM's; without it the first request
with a video ends the engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from unibench.budget import Budget
from unibench.errors import UsageError, unknown
from unibench.serving.pruner import Pruner
from unibench.serving.settings import Settings

Builtin = Literal["evs", "vidcom2"]
BUILTIN: Mapping[str, tuple[Builtin, ...]] = {
    "Qwen2_5_VLForConditionalGeneration": ("evs",),
    "Qwen3VLForConditionalGeneration": ("evs", "vidcom2"),
}
"""By architecture, of those that the plugin has; the others' servers would start and prune nothing,
since vLLM compares the method with a list that is empty there, and takes that for no objection."""
VIDEOS: Mapping[str, bool] = {
    "Qwen2VLForConditionalGeneration": True,
    "Qwen2_5_VLForConditionalGeneration": True,
    "LlavaOnevisionForConditionalGeneration": True,
    "Qwen3VLForConditionalGeneration": False,
    "InternVLForConditionalGeneration": False,
}
"""Architectures that read videos, and whether the plugin prunes them."""
JOINED = 2  # frames to one, in both families
RATE = "--video-pruning-rate"
LIMIT, LOADING = "--limit-mm-per-prompt", "--media-io-kwargs"
FPS = 2.0  # of a clip that is sent frame by frame, which tells no rate of its own


@dataclass(frozen=True)
class Own:
    """A pruning of vLLM, and what it leaves.

    Attributes:
        name: vLLM's.
        budget: of a video.
    """

    name: Builtin
    budget: Budget

    @classmethod
    def of(cls, name: str, ratio: str) -> Own:
        """The pruning that a command names.

        Raises:
            UsageError: vLLM has none of this name, or the ratio is none.
        """
        for known in get_args(Builtin):
            if known == name:
                return cls(known, Budget.parse(ratio))
        raise unknown("pruning of vLLM", name, get_args(Builtin))

    @property
    def arguments(self) -> tuple[str, ...]:
        """What a server is told."""
        assert self.budget.retention is not None
        removed = float(1 - self.budget.retention)
        return (RATE, f"{removed:g}", "--video-pruning-method", self.name)


def of_videos(options: Sequence[str]) -> list[str]:
    """What every server of a load of videos is told; the user's words go first.

    Frames without pictures leave out a profile run with pictures, and let methods in that compare
    frames.
    """
    found = list(options)
    if not _told(LIMIT, options):
        found += [LIMIT, json.dumps({"image": 0, "video": 1})]
    if not _told(LOADING, options):
        found += [LOADING, json.dumps({"video": {"num_frames": -1, "fps": FPS}})]
    return found


def _told(option: str, options: Sequence[str]) -> bool:
    """Whether an option is there; vLLM takes it with underscores and with its value behind ``=``,
    too.
    """
    return any(word.replace("_", "-").startswith(option) for word in options)


def check(
    folder: Path,
    frames: int | None,
    methods: Sequence[Settings],
    own: Sequence[Own],
    options: Sequence[str] = (),
) -> None:
    """Refuse what could only be seen once servers run, or would go wrong in silence.

    Args:
        folder: of the checkpoint.
        frames: of the videos that are sent; None sends pictures.
        methods: of the plugin.
        own: of vLLM.
        options: of every server.

    Raises:
        UsageError: a contender cannot prune what is sent.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = str(config["architectures"][0])
    if _told("--video-pruning", options):
        raise UsageError(f"server= is told to every server, vanilla's too: not {RATE}, builtin=evs")
    for one in own:
        _check_own(architecture, frames, one)
    if frames is not None:
        _check_videos(architecture, frames, methods)
    width = _width(config)
    for settings in methods:
        if width is not None:  # what the plugin tries when the server's configuration is made
            Pruner(settings).tried(width, video=frames is not None)


def _check_own(architecture: str, frames: int | None, own: Own) -> None:
    name, budget = own.name, own.budget
    if frames is None:
        raise UsageError(f"builtin={name} prunes videos alone: add frames=8, or leave it out")
    taken = BUILTIN.get(architecture, ())
    if name not in taken:
        others = f"it has {' and '.join(taken)}" if taken else "it has none, and would prune none"
        raise UsageError(f"builtin={name}: vLLM's {architecture} has no such pruning; {others}")
    assert budget.retention is not None
    if budget.everything:
        raise UsageError(f"builtin={name} at a ratio of 0 is switched off, which is vanilla")
    steps = frames // JOINED
    if name == "evs" and budget.retention * steps < 1:
        raise UsageError(
            f"builtin=evs keeps one of {steps} joined frames at least: of frames={frames} no more"
            f" than {float(1 - 1 / steps):.3g} goes, and ratio={budget.label} is asked for"
        )


def _check_videos(architecture: str, frames: int, methods: Sequence[Settings]) -> None:
    if architecture not in VIDEOS:
        raise UsageError(
            f"frames={frames}: {architecture} is not known to read videos; {', '.join(VIDEOS)} are"
        )
    if methods and not VIDEOS[architecture]:
        raise UsageError(
            f"method={methods[0].method}: the plugin leaves videos of {architecture} whole, so that"
            " the row would be vanilla's; leave method= out"
        )


def _width(config: Mapping[str, Any]) -> int | None:
    """Of the language model."""
    for entry in (config.get("text_config", {}), config):
        if "hidden_size" in entry:
            return int(entry["hidden_size"])
    return None
