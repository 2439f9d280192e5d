"""The schema of a run. YAML files under ``configs`` fill it, and the command line overrides it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from unibench import schema
from unibench.budget import Budget, BudgetMode, Positions, Rounding, Scope, TextAfterVideo
from unibench.credentials import FromEnvironment, check_name, followed, secret_in
from unibench.errors import UsageError
from unibench.paths import expanded
from unibench.schema import Least

# OmegaConf's own sign of a value that must be given; Hydra and OmegaConf themselves are imported
# where they are used, so that models, methods and profiles also run where they are not installed
MISSING: Any = "???"
INSIDE = "pkg://unibench."  # a place inside this package
_HERE = Path(__file__).parent

Weights = Literal["pretrained", "random"]
Dtype = Literal["float32", "bfloat16", "float16"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
Quantization = Literal["8bit", "4bit"]
AdapterMode = Literal["merge", "wrap"]
TaskKind = Literal["embedded", "harness"]
Modality = Literal["image", "video"]
Harness = Literal["vlmevalkit", "lmms_eval"]
Wrapper = Literal["unibench", "native"]
Share = Literal["none", "memory", "disk"]
Fuse = Literal["none", "cells"]
Engine = Literal["hf", "vllm"]
Prompts = Literal["dataset", "custom"]
Diagnostics = Literal["default", "all"]
VideoReader = Literal["unibench", "qwen_vl_utils", "processor"]
Control = Literal[
    "none",
    "resize",
    "resize_blur",
    "resize_divisor",
    "centre_crop",
    "native_budget",
    "fewer_frames",
    "blind",
    "blind_grey",
    "blind_other",
]
FITTED = (
    *("resize", "resize_blur", "resize_divisor", "centre_crop", "native_budget", "fewer_frames"),
)
"""Controls that are given a budget."""


Natural = Annotated[int, Least(0)]
Count = Annotated[int, Least(1)]
Positive = Annotated[float, Least(0, above=True)]
MOST_SHARDS = 100_000  # each is looked for, and marked, by itself
Shards = Annotated[int, Least(1, most=MOST_SHARDS)]
# OpenMP ends a process whose threads it cannot start
Threads = Annotated[int, Least(1, most=1024)]


@dataclass
class HarnessEntry:
    """The model object of each harness that asks a checkpoint as the harness itself would.

    Attributes:
        vlmevalkit: key of VLMEvalKit's ``supported_VLM``; null where it has none for this model.
        lmms_eval: name of a model class of lmms-eval, as ``lmms_eval --model`` takes it.
        options: by harness, arguments over those of the entry, for example the pixel limits of a
            checkpoint that was made with others.
        differs: by harness, what of the entry is not kept here, in one sentence for the row.
    """

    vlmevalkit: str | None = None
    lmms_eval: str | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)


@dataclass
class ModelConfig:
    """A checkpoint and how it is loaded.

    Attributes:
        name: file name of the YAML.
        family: adapter in ``models/``.
        checkpoint: hub id.
        revision: branch, tag or commit of the hub repository.
        path: a local folder that is loaded instead; ``pkg://`` means inside this package.
        adapter: folder of a LoRA adapter that peft saved, over the checkpoint's weights.
        adapter_mode: ``merge``: added to the weights once; ``wrap``: run beside them, as peft does.
        processor_path: folder or hub id that tokenizer and image processor are read from in place
            of the checkpoint's, as of a fine-tuned model that was saved without them.
        weights: ``pretrained``, or ``random``: the real architecture without a download.
        dtype: precision of the weights; selections are float32 whatever it is.
        attn: attention implementation of transformers.
        device: auto, cpu, cuda, cuda:1.
        device_map: accelerate's device map for several GPUs, for example auto.
        quantization: bitsandbytes' 8bit or 4bit (nf4); null leaves the weights in ``dtype``.
        trust_remote_code: whether code that comes with a checkpoint may run.
        threads: torch's threads on a CPU; null leaves them alone. A tiny model is several times
            faster with one.
        pixels: image settings by preset name.
        architecture: configuration for ``weights=random``; with pretrained weights it is not read.
        processor: image settings, pinned: they hold whatever the checkpoint's own file says;
            ``video`` holds those of the video processor. Those of a card hold for the card's own
            checkpoint; one in a folder (``path``) has its own, unless a command says otherwise.
        clip: folder or hub id of the CLIP that the vision tower comes from, for methods that
            compare patches with the question; loaded when such a method runs.
        selector: file or folder of a trained importance scorer for this model (visionselector,
            idpruner).
        harness_entry: what the harnesses call this model, see :class:`HarnessEntry`.
        card: file name of the YAML, where a checkpoint of one's own has another name.
    """

    name: str = MISSING
    family: str = MISSING
    checkpoint: str | None = None
    revision: str | None = None
    path: str | None = None
    adapter: str | None = None
    adapter_mode: AdapterMode = "merge"
    processor_path: str | None = None
    weights: Weights = "pretrained"
    dtype: Dtype = "bfloat16"
    attn: Attention = "sdpa"
    device: str = "auto"
    device_map: str | None = None
    quantization: Quantization | None = None
    trust_remote_code: bool = False
    threads: Threads | None = None
    pixels: dict[str, dict[str, Any]] = field(default_factory=lambda: {"native": {}})
    architecture: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    clip: str | None = None
    selector: str | None = None
    harness_entry: HarnessEntry = field(default_factory=HarnessEntry)
    card: str | None = None


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
        sample_best: best value of one sample's score.
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
        metrics: numbers that it reports; the first one is the row's score.
        judges: who may score answers that rules cannot, the first by default: ``none`` (the scoring
            has no place for a judge), ``exact`` (string rules stand in for the judge), ``endpoint``
            (an OpenAI-compatible server).
        size: number of samples of the published data.
        columns: columns that a table of one's own (``task.data``) must have.
        requires: what the scoring needs beside Python, for example java.
        by: a column whose values the scores are also given by, for example ``duration``.
        blank: lmms-eval: what the scoring is given for an empty answer, where it ends with an error
            on one; always wrong.
    """

    name: str = MISSING
    metrics: list[MetricConfig] = field(default_factory=list)
    judges: list[str] = field(default_factory=lambda: ["none"])
    size: int | None = None
    columns: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)
    by: str | None = None
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
        data: a local folder with the data, or of questions of one's own their file.
        modality: what the pictures of a prompt are.
        options: arguments of an embedded task.
        ability: what a benchmark tests: comprehensive, mathematics, ocr, hallucination, ...
        vlmevalkit: the benchmark in VLMEvalKit, null if it has none.
        lmms_eval: the same in lmms-eval.
        prefer: the harness that ``harness=auto`` takes where both have it.
        differs: how the two differ in prompt, extraction or metric, in one sentence.
        card: file name of the YAML or of the task's module, where data of one's own have another
            name.
    """

    name: str = MISSING
    kind: TaskKind = "embedded"
    target: str | None = None
    limit: Count | None = None
    data: str | None = None
    modality: Modality = "image"
    options: dict[str, Any] = field(default_factory=dict)
    ability: str | None = None
    vlmevalkit: HarnessTask | None = None
    lmms_eval: HarnessTask | None = None
    prefer: Harness = "vlmevalkit"
    differs: str | None = None
    card: str | None = None


@dataclass
class BudgetConfig:
    """How the budget is meant.

    Attributes:
        mode: ``at_stage``: ``keep`` tokens after the last cut; ``layer_average``: ``keep`` tokens
            processed per decoder layer on average.
        scope: ``sequence``, ``item`` or ``tile``: for all images of a prompt, for each, or for each
            tile or frame; ``first_tile``: one for the first tile of the prompt and one for all
            others, as UniPruneBench's code has it.
        rounding: of a share of tokens: ``half_up``, or ``python_round`` and ``python_int`` as
            released code has it, see :mod:`unibench.budget`.
    """

    mode: BudgetMode = "at_stage"
    scope: Scope = "sequence"
    rounding: Rounding = "half_up"


@dataclass
class VideoConfig:
    """How a video becomes frames and pixels; null leaves it to the convention. A harness's own
    model object takes ``frames``, ``fps`` and the bounds of a frame; an embedded clip ``frames``
    and the bounds. :mod:`unibench.videos` has the rules.

    Attributes:
        frames: so many, evenly spaced from the first to the last; all of a shorter video.
        fps: so many a second instead.
        most: most frames by ``fps``.
        thin: so many, evenly spaced, of the frames taken by ``fps`` are shown: a second sampling,
            of which the processor is not told.
        min_pixels, max_pixels: bounds of a frame; null is the processor's or the reader's own.
        total_pixels: bound of all frames of a video together, before a second sampling.
        reader: ``unibench`` (frames by decord, sizes by the model's processor), ``qwen_vl_utils``
            (its ``fetch_video`` takes the frames and resizes them), or ``processor`` (the model's
            video processor says which frames, as vLLM has it).
    """

    frames: Count | None = None
    fps: Positive | None = None
    most: Count | None = None
    thin: Count | None = None
    min_pixels: Count | None = None
    max_pixels: Count | None = None
    total_pixels: Count | None = None
    reader: VideoReader | None = None


@dataclass
class GenerationConfig:
    """Greedy decoding, pinned: a checkpoint's own sampling settings are not read.

    Attributes:
        max_new_tokens: most tokens of an answer; null takes the task's number.
        repetition_penalty: 1 is none; null takes the convention's: with a harness's own model
            object what that and the checkpoint say (Qwen2.5-VL's file says 1.05), 1 otherwise.
    """

    max_new_tokens: Count | None = None
    # null and not 1: a harness's own object decides unless the command does
    repetition_penalty: Positive | None = None

    @property
    def penalty(self) -> float:
        """The repetition penalty where no harness's model object sets one."""
        return 1.0 if self.repetition_penalty is None else self.repetition_penalty


@dataclass
class JudgeConfig:
    """Who scores the answers that rules cannot.

    Attributes:
        kind: auto takes the first of the benchmark's ``judges``; else one of them.
        model: name that the endpoint is asked for.
        url: address of an OpenAI-compatible server, up to ``/v1``.
        key: name of the environment variable, or of the file, that holds the key; the key itself is
            never written.
        timeout: seconds for one attempt.
        retries: further attempts after a failed one; then the cell fails and keeps its answers.
    """

    kind: str = "auto"
    model: str | None = None
    url: str | None = None
    key: str = "OPENAI_API_KEY"
    timeout: Positive = 60.0
    retries: Natural = 5


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
    wrapper: Wrapper = "unibench"
    judge: JudgeConfig = field(default_factory=JudgeConfig)


@dataclass
class ServeOptions:
    """How a serving engine is run.

    Attributes:
        python: interpreter of its environment; null takes that of ``make serve``.
        options: arguments of ``vllm.LLM``, for example ``{max_model_len: 8192}``.
    """

    python: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunConfig:
    """One cell of a grid.

    Attributes:
        model: the checkpoint.
        method: name and parameters of the method; ``source`` where it is a file of one's own.
        task: what is asked.
        ratio: share of visual tokens REMOVED; a fraction such as 7/9 is exact. Giving ``retention``
            or ``keep`` instead sets it to null (:func:`unibench.compose.compose_cells`).
        retention: share kept.
        keep: number kept.
        seed: seed of methods that draw.
        repeat: number of a repetition: cells that differ in it alone are one measurement made
            several times, and averaged like seeds; vanilla, which no seed concerns, has it too.
        control: what stands in a method's place: the picture is made smaller until it has the
            budget's number of tokens (``resize``; ``resize_blur`` makes it as coarse and leaves its
            size; ``resize_divisor`` divides both sides, as VTC-Bench does), cut to its middle
            (``centre_crop``), read under the processor's own setting of so many tokens
            (``native_budget``), shown in fewer frames (``fewer_frames``), or withheld (``blind``:
            no picture, ``blind_grey``, ``blind_other``: the picture of another question). See
            :mod:`unibench.controls`.
        positions: where the tokens that go on stand: ``original``; ``compact``: at 0, 1, 2, ...;
            ``centre``: a merged one amid those it stands for; ``original_then_compact`` and
            ``compact_then_original``: generated ones elsewhere, as released code has them. See
            :mod:`unibench.pruning.positions`.
        after_state: whether a cut may come after layers that carry a state (linear attention), in
            which what it drops stays; otherwise such a cut is refused.
        text_after_video: where the text behind a video starts on Qwen2-VL and Qwen2.5-VL:
            ``max_side`` (the longer side of a frame behind the video's first position, as
            transformers has it) or ``last`` (behind its last position, as vLLM has it).
        pixels: preset of the model's image settings; ``native`` leaves them to the convention.
        video: how a video becomes frames and pixels, see :class:`VideoConfig`.
        convention: how a harness's questions are put: ``harness`` (as its own model object does,
            that the model's card names), ``model`` (the model's own template and processor), or
            ``paper:<name>`` (as the code of a paper does, ``configs/papers``).
        prompt: text of a question, over the convention's: ``dataset`` (the data set's own), or
            ``custom`` (the model class's).
        system: system text over the convention's; ``none`` for none.
        prefix: what a reply begins with, over the convention's.
        batch_size: prompts read together, or ``auto``: as many as fit on the GPU, 1 on a CPU; time
            per sample is comparable at 1 only.
        budget: how the budget is meant.
        generation: decoding.
        harness: who asks a benchmark; auto takes the harness that its card prefers.
        harness_options: how a harness is run.
        engine: what answers: ``hf`` (the model of transformers in this process, whose times can be
            measured), or ``vllm`` (all open samples at once, in an environment of its own; see
            :mod:`unibench.serving`).
        serve: how a serving engine is run.
        diagnostics: what is measured of a choice beside its score: ``default``, where the kept
            tokens lie; ``all``, also how alike they are and how much attention they have. See
            :class:`unibench.diagnostics.Diagnosis`.
        scores: keep beside each sample the scores by which the first cut chose, for the heat maps
            of ``page``: about 3 bytes for each visual token. They change no answer and no time, so
            a finished cell stays finished without them.
        out: folder of the results.
        shared: another one, of many people, that is read and never written: a cell that is finished
            there counts as done.
        timing: false leaves times out of the row, so that cells may share work.
        share: what cells of one model share: ``none``; or the vision features, in ``memory`` or on
            ``disk`` (below ``out``); needs ``timing=false``, since the tower's time would be
            missing.
        share_mib: most memory for shared features; when it is full, further ones are computed each
            time.
        fuse: ``cells``: the open cells of a model and a task are answered together, prompt by
            prompt; needs ``timing=false``, since what they share is nobody's time. ``none``: one
            cell after the other.
        fuse_rows: most cells that are in memory together; it is halved when memory runs out.
        shards: number of parts that several workers may answer at once; an unfinished cell keeps
            the number it began with.
    """

    model: ModelConfig = MISSING
    method: dict[str, Any] = MISSING
    task: TaskConfig = MISSING
    ratio: int | float | str | None = 0.889
    retention: int | float | str | None = None
    keep: int | None = None
    seed: Natural = 0
    repeat: Natural = 0
    control: Control = "none"
    positions: Positions = "original"
    after_state: bool = False
    text_after_video: TextAfterVideo = "max_side"
    pixels: str = "native"
    video: VideoConfig = field(default_factory=VideoConfig)
    convention: str = "harness"
    prompt: Prompts | None = None
    system: str | None = None
    prefix: str | None = None
    batch_size: Count | Literal["auto"] = 1
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    harness: Harness | Literal["auto"] = "auto"
    harness_options: HarnessOptions = field(default_factory=HarnessOptions)
    engine: Engine = "hf"
    serve: ServeOptions = field(default_factory=ServeOptions)
    diagnostics: Diagnostics = "default"
    scores: bool = False
    out: str = "outputs"
    shared: str | None = None
    timing: bool = True
    share: Share = "none"
    share_mib: Count = 1024
    fuse: Fuse = "none"
    fuse_rows: Count = 64
    shards: Shards = 1


BUDGETS = ("ratio", "retention", "keep")
"""Ways to state the budget."""


def typed(plain: Mapping[str, Any]) -> RunConfig:
    """A cell from plain values, as YAML and JSON have them; what is left out has its default.

    Raises:
        UsageError: a key that the schema does not have, or an entry of another form.
    """
    # until ratio had a default in the schema, a cell was stored with none of the three for it
    unstated = all(key in plain and plain[key] is None for key in BUDGETS)
    if unstated and plain.get("method", {}).get("name") != "vanilla":
        plain = {**plain, "ratio": RunConfig.ratio}
    cell: RunConfig = schema.build(RunConfig, plain)
    return cell


def mistakes(cell: RunConfig) -> Iterator[UsageError]:
    """Values of a cell that are of the right type, but outside of a closed set or a range."""
    yield from schema.mistakes(cell)
    try:
        check_name("harness_options.judge.key", cell.harness_options.judge.key)
    except UsageError as error:
        yield error


def secrets(name: str, value: Any) -> Iterator[UsageError]:
    """What of a cell's value, by its key, holds a secret, which would be stored."""
    for key, text in _texts(value, name):
        kind = None if isinstance(text, FromEnvironment) else secret_in(text)
        if kind is not None and key != "harness_options.judge.key":
            yield UsageError(
                f"{key} holds {kind}, which would be stored with the results (it is not shown);"
                " the key of a judge is read from the environment or a file that"
                " harness_options.judge.key names"
            )


def resolved(plain: Any) -> Any:
    """Plain values of a configuration of one's own, with what they take from the environment.

    Raises:
        UsageError: a variable is not set.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return followed(plain, OmegaConf.to_container(OmegaConf.create(plain), resolve=True))
    except OmegaConfBaseException as error:
        raise UsageError(str(error).splitlines()[0]) from None


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in plain values, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping) or is_dataclass(value):
        entries = value if isinstance(value, Mapping) else vars(value)
        for name, entry in entries.items():
            yield from _texts(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _texts(entry, key)


def register() -> None:
    """Make the schema known to Hydra."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="run_schema", node=schema.without_literals(RunConfig))


def budget_of(cell: RunConfig) -> Budget:
    """The budget of a cell; vanilla keeps everything.

    Raises:
        UsageError: there is none, or it is out of range.
    """
    if cell.method["name"] == "vanilla" and cell.control not in FITTED:
        return Budget.parse()
    if cell.ratio is None and cell.retention is None and cell.keep is None:
        raise UsageError("no budget: give ratio=0.889, retention=0.111 or keep=64")
    return Budget.parse(cell.ratio, cell.retention, cell.keep, cell.budget.rounding)


def model_path(path: str | None) -> Path | None:
    """The folder that ``model.path`` names; ``pkg://unibench.models/tiny/x`` lies inside the
    package.
    """
    if path is None:
        return None
    if path.startswith(INSIDE):
        inside = path.removeprefix(INSIDE)
        # a checkout without symbolic links has models beside the package
        return _HERE / inside if (_HERE / inside).exists() else _HERE.parent / inside
    return expanded(path)
