"""The schema of a run. YAML files under ``configs`` fill it; the command line overrides it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from unibench.budget import Budget
from unibench.registry import parts_of as parts_of

INSIDE = "pkg://unibench."  # a place inside this package
_HERE = Path(__file__).parent


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
        quantization: 8bit or 4bit (nf4), by bitsandbytes; null leaves the weights in ``dtype``.
        trust_remote_code: whether code that comes with a checkpoint may run.
        threads: of torch on a CPU; null leaves it alone. A tiny model is several times faster with
            one.
        pixels: image settings by preset name.
        architecture: configuration for ``weights=random``; with pretrained weights it is not read.
        processor: image settings, pinned: they hold whatever the checkpoint's own file says;
            ``video`` holds those of the video processor.
        clip: folder or hub id of the CLIP that the vision tower comes from, for methods that
            compare patches with the question; loaded when such a method runs.
        selector: file or folder of a trained importance scorer for this model (visionselector,
            idpruner).
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
    quantization: str | None = None
    trust_remote_code: bool = False
    threads: int | None = None
    pixels: dict[str, Any] = field(default_factory=lambda: {"native": {}})
    architecture: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    clip: str | None = None
    selector: str | None = None


@dataclass
class MetricConfig:
    """One number that a harness reports for a benchmark.

    Attributes:
        name: accuracy, f1, anls, cider, ...; the same word in both harnesses only for the same
            rule.
        path: where it stands in the harness's result, see ``docs/harnesses.md``; several are added
            up.
        best: value of a faultless run: 1 for shares, 100 for per cent, 1000 for OCRBench, 2800 for
            the whole of MME. ``score_100`` is ``100 * score / best``.
        sample: where the score of one sample stands, the first of these that it has; empty if the
            harness scores only the whole. It is divided by ``sample_best``.
        sample_best: its best value.
    """

    name: str = MISSING
    path: list[str] = field(default_factory=list)
    best: float = 1.0
    sample: list[str] = field(default_factory=list)
    sample_best: float = 1.0


@dataclass
class HarnessTask:
    """A benchmark as one harness defines it.

    Attributes:
        name: the harness's own name of it.
        metrics: the first one is the row's score.
        judges: who may score answers that rules cannot, the first by default: ``none`` (the scoring
            has no place for a judge), ``exact`` (string rules stand in for the judge), ``endpoint``
            (an OpenAI-compatible server).
        size: number of samples of the published data.
        columns: wanted in a table of one's own (``task.data``).
        requires: what the scoring needs beside Python, for example java.
        blank: lmms-eval: what the scoring is given for an empty answer, where it ends with an error
            on one; always wrong.
    """

    name: str = MISSING
    metrics: list[MetricConfig] = field(default_factory=list)
    judges: list[str] = field(default_factory=lambda: ["none"])
    size: int | None = None
    columns: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)
    blank: str = ""


@dataclass
class TaskConfig:
    """What is asked.

    Attributes:
        name: file name of the YAML.
        kind: ``embedded`` (in this process) or ``harness`` (an official benchmark in a child
            process).
        target: ``module:Class`` of an embedded task.
        limit: number of samples, null for all.
        data: a local folder with the data.
        modality: image or video.
        options: arguments of an embedded task.
        ability: what a benchmark tests: comprehensive, mathematics, ocr, hallucination, ...
        vlmevalkit: the benchmark in VLMEvalKit, null if it has none.
        lmms_eval: the same in lmms-eval.
        prefer: the harness that ``harness=auto`` takes where both have it.
        differs: how the two differ in prompt, extraction or metric, in one sentence.
    """

    name: str = MISSING
    kind: str = "embedded"
    target: str | None = None
    limit: int | None = None
    data: str | None = None
    modality: str = "image"
    options: dict[str, Any] = field(default_factory=dict)
    ability: str | None = None
    vlmevalkit: HarnessTask | None = None
    lmms_eval: HarnessTask | None = None
    prefer: str = "vlmevalkit"
    differs: str | None = None


@dataclass
class BudgetConfig:
    """How the budget is meant.

    Attributes:
        mode: ``at_stage``: ``keep`` tokens after the last cut; ``layer_average``: ``keep`` tokens
            processed per decoder layer on average.
        scope: ``sequence``, ``item`` or ``tile``: for all images of a prompt, for each, or for each
            tile or frame.
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
class JudgeConfig:
    """Who scores the answers that rules cannot.

    Attributes:
        kind: auto takes the first of the benchmark's ``judges``; none, exact or endpoint.
        model: name that the endpoint is asked for.
        url: of an OpenAI-compatible server, up to ``/v1``.
        key: name of the environment variable that holds the key; the key itself is never written.
        timeout: seconds for one attempt.
        retries: further attempts after a failed one; then the cell fails and keeps its answers.
    """

    kind: str = "auto"
    model: str | None = None
    url: str | None = None
    key: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: int = 5


@dataclass
class HarnessOptions:
    """How a harness is run.

    Attributes:
        python: another interpreter that has the harness; null takes this one.
        wrapper: ``unibench``: our model object under the harness's prompts and scoring; ``native``:
            the harness's own model object, with our hooks on the torch module inside.
        judge: see :class:`JudgeConfig`.
    """

    python: str | None = None
    wrapper: str = "unibench"
    judge: JudgeConfig = field(default_factory=JudgeConfig)


@dataclass
class RunConfig:
    """One cell of a grid.

    Attributes:
        ratio: share of visual tokens REMOVED (0.889, 8/9); or
        retention: share kept; or
        keep: number kept. With none of the three, ratio is 0.889.
        seed: for methods that draw.
        pixels: preset of the model's image settings.
        batch_size: prompts read together, or ``auto``: as many as fit on the GPU, 1 on a CPU; time
            per sample is comparable at 1 only.
        harness: auto, vlmevalkit or lmms_eval, for tasks that a harness defines.
        out: folder of the results.
        timing: false leaves times out of the row, so that cells may share work.
        share: what cells of one model share: ``none``; or the vision features, in ``memory`` or on
            ``disk`` (below ``out``); needs ``timing=false``, since the tower's time would be
            missing.
        share_mib: most memory for shared features; when it is full, further ones are computed each
            time.
        shards: parts that several workers may answer at once; an unfinished cell keeps those it
            has.
    """

    model: ModelConfig = MISSING
    method: dict[str, Any] = MISSING
    task: TaskConfig = MISSING
    ratio: Any = None
    retention: Any = None
    keep: Any = None
    seed: int = 0
    pixels: str = "native"
    batch_size: Any = 1
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    harness: str = "auto"
    harness_options: HarnessOptions = field(default_factory=HarnessOptions)
    out: str = "outputs"
    timing: bool = True
    share: str = "none"
    share_mib: int = 1024
    shards: int = 1


def register() -> None:
    """Make the schema known to Hydra."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)


def budget_of(cell: RunConfig) -> Budget:
    """The budget of a cell; vanilla keeps everything."""
    if cell.method["name"] == "vanilla":
        return Budget.parse()
    if cell.ratio is None and cell.retention is None and cell.keep is None:
        return Budget.parse(ratio="0.889")
    return Budget.parse(cell.ratio, cell.retention, cell.keep)


def model_path(path: str | None) -> Path | None:
    """The folder that ``model.path`` names; ``pkg://unibench.models/tiny/x`` lies inside the
    package.
    """
    if path is None:
        return None
    if path.startswith(INSIDE):
        inside = path.removeprefix(INSIDE)
        return _HERE / inside if (_HERE / inside).exists() else _HERE.parent / inside
    return Path(path).expanduser()
