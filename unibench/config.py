"""The schema of a run. YAML files under ``configs`` fill it; the command line overrides it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class ModelConfig:
    """A checkpoint and how it is loaded.

    Attributes:
        name: file name of the YAML.
        family: adapter in ``models/``.
        checkpoint: hub id.
        revision: of the hub repository.
        path: a local folder that is loaded instead; ``pkg://`` means inside this package.
        weights: ``pretrained``, or ``random``: the real architecture without a download.
        dtype: of the weights; selections are float32 whatever it is.
        attn: attention implementation of transformers: sdpa, eager, flash_attention_2.
        device: auto, cpu, cuda, cuda:1.
        device_map: of accelerate, for several GPUs, for example auto.
        threads: of torch on a CPU; null leaves it alone. A tiny model is several times faster with one.
        pixels: image settings by preset name.
        architecture: configuration for ``weights=random``; with pretrained weights it is not read.
        processor: image settings for ``weights=random``.
        clip: folder or hub id of the CLIP that the vision tower comes from, for methods that compare patches with
            the question; loaded when such a method runs.
        selector: file or folder of a trained importance scorer for this model (visionselector, idpruner).
    """

    name: str = MISSING
    family: str = MISSING
    checkpoint: str | None = None
    revision: str | None = None
    path: str | None = None
    weights: str = "pretrained"
    dtype: str = "bfloat16"
    attn: str = "sdpa"
    device: str = "auto"
    device_map: str | None = None
    threads: int | None = None
    pixels: dict[str, Any] = field(default_factory=lambda: {"native": {}})
    architecture: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    clip: str | None = None
    selector: str | None = None


@dataclass
class TaskConfig:
    """What is asked.

    Attributes:
        name: file name of the YAML.
        kind: ``embedded`` (in this process).
        target: ``module:Class`` of an embedded task.
        limit: number of samples, null for all.
        data: a local folder with the data.
        modality: image or video.
        options: arguments of an embedded task.
    """

    name: str = MISSING
    kind: str = "embedded"
    target: str | None = None
    limit: int | None = None
    data: str | None = None
    modality: str = "image"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class BudgetConfig:
    """How the budget is meant.

    Attributes:
        mode: ``at_stage``: ``keep`` tokens after the last cut; ``layer_average``: ``keep`` tokens
            processed per decoder layer on average.
        scope: ``sequence`` or ``item``: for all images of a prompt, or for each.
    """

    mode: str = "at_stage"
    scope: str = "sequence"


@dataclass
class GenerationConfig:
    """Greedy decoding, pinned: a checkpoint's own sampling settings are not read.

    Attributes:
        max_new_tokens: null takes the task's.
        repetition_penalty: 1 is none (Qwen2.5-VL's own file says 1.05).
    """

    max_new_tokens: int | None = None
    repetition_penalty: float = 1.0


@dataclass
class RunConfig:
    """One cell of a grid.

    Attributes:
        ratio: share of visual tokens REMOVED (0.889, 8/9); or
        retention: share kept; or
        keep: number kept. With none of the three, ratio is 0.889.
        seed: for methods that draw.
        pixels: preset of the model's image settings.
        batch_size: prompts read together; time per sample is comparable at 1 only.
        out: folder of the results.
    """

    model: ModelConfig = MISSING
    method: dict[str, Any] = MISSING
    task: TaskConfig = MISSING
    ratio: Any = None
    retention: Any = None
    keep: Any = None
    seed: int = 0
    pixels: str = "native"
    batch_size: int = 1
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    out: str = "outputs"


def register() -> None:
    """Make the schema known to Hydra."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
