"""Which harness asks a benchmark, under which conventions, and who judges: read from its card,
without a harness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from unibench import catalogue, papers, tables, videos
from unibench.config import (
    Harness,
    HarnessTask,
    JudgeConfig,
    ModelConfig,
    RunConfig,
    TaskConfig,
    Wrapper,
)
from unibench.errors import UsageError, unknown
from unibench.paths import expanded

VERSIONS: dict[Harness, str] = {
    "vlmevalkit": "0.0.20",
    "lmms_eval": "0.7.3",
}  # the ones verified; requirements/harness-nodeps.txt
DISTRIBUTIONS: dict[Harness, str] = {"vlmevalkit": "ms-vlmeval", "lmms_eval": "lmms-eval"}
MODULES: dict[Harness, str] = {"vlmevalkit": "vlmeval", "lmms_eval": "lmms_eval"}
JUDGES = ("none", "exact", "endpoint")
WRAPPERS = get_args(Wrapper)


@dataclass(frozen=True)
class Convention:
    """How a harness's questions reach a model: prompts, pictures and decoding as one named whole.

    Attributes:
        name: ``harness``, ``model`` or ``paper:<name>``.
        entry: the harness's own model object that builds prompts and pictures and decodes: a key of
            VLMEvalKit's ``supported_VLM``, or a model class of lmms-eval. None: the data set's
            own prompt under the model's own chat template, through the model's own processor.
        options: arguments over those of the entry.
        resize: sides of a picture are first brought to multiples of this by qwen_vl_utils.
        max_new_tokens: of an answer where the task does not say; None leaves it to the entry.
        frames: that a video is shown as without an entry, evenly spaced; all of a shorter one.
        video: how a video becomes frames and pixels, over that: fields of
            :class:`~unibench.config.VideoConfig`.
        prompt, system, prefix: what was put in place of that part, see
            :class:`~unibench.config.RunConfig`.
        note: what of the harness or the paper is not kept, for the row; None where nothing is
            known. It is in no key.
    """

    name: str
    entry: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    resize: int | None = None
    max_new_tokens: int | None = None
    frames: int = 0
    video: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None
    system: str | None = None
    prefix: str | None = None
    note: str | None = None

    def as_identity(self) -> dict[str, Any]:
        """What of it can change a number."""
        # a remark may be worded better without a new key
        plain = {key: value for key, value in asdict(self).items() if key != "note"}
        # not named where nothing is said: keys of before there was a choice stay what they are
        return plain if self.video else {key: plain[key] for key in plain if key != "video"}

    @property
    def sampling(self) -> dict[str, Any]:
        """How a video is read without an entry: its own frames where nothing else is said."""
        counted = {} if "fps" in self.video else {"frames": self.frames}
        return {"reader": "unibench", **counted, **self.video}


PAPER = "paper:"
CONVENTION = ("convention", "prompt", "system", "prefix")  # keys of a cell that are about it
LENGTHS: dict[Harness, int] = {"vlmevalkit": 2048, "lmms_eval": 128}
"""Tokens of an answer without an entry, where the task does not say: what most classes have."""
FRAMES: dict[Harness, int] = {"vlmevalkit": 0, "lmms_eval": 32}
"""Frames of a video without an entry; 32 is the max_num_frames of lmms-eval's classes."""
# Entries whose classes load a checkpoint of transformers by themselves (wrapper=native). The others
# want code that is on no index: the package llava, or the remote code of OpenGVLab's checkpoints.
NATIVE: dict[Harness, tuple[str, ...]] = {
    "vlmevalkit": ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
    "lmms_eval": (
        *("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
        *("llava", "llava_next", "llava_onevision", "internvl"),
    ),
}
PACKAGED = ("llava",)  # classes of lmms-eval that need the package llava


def convention_of(config: RunConfig, harness: Harness) -> Convention:
    """The convention that a configuration names, with what it puts in place of parts.

    Raises:
        UsageError: there is none of this name, or it says nothing about the model's family.
    """
    name, spec = config.convention, config.model
    if name == "harness":
        found = _of_entry(spec, harness)
    elif name == "model":
        found = Convention("model", max_new_tokens=LENGTHS[harness], frames=FRAMES[harness])
    elif name.startswith(PAPER):
        found = Convention(name, **papers.settings(name.removeprefix(PAPER), spec.family, harness))
    else:
        allowed = ("harness", "model", *(PAPER + paper for paper in papers.names()))
        raise unknown("convention", name, allowed)
    video = {**found.video, **videos.given(config)}
    return replace(
        found, video=video, prompt=config.prompt, system=config.system, prefix=config.prefix
    )


def _of_entry(spec: ModelConfig, harness: Harness) -> Convention:
    """What the model's card names; the model's own where it names nothing."""
    card = spec.harness_entry
    entry, note = getattr(card, harness), card.differs.get(harness)
    if entry is not None:
        return Convention("harness", entry, card.options.get(harness, {}), note=note)
    note = note or (
        f"convention: the card of {spec.name} names no model object of {harness}: the data set's"
        " prompt under the model's own template and processor"
    )
    return Convention("harness", max_new_tokens=LENGTHS[harness], frames=FRAMES[harness], note=note)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as one cell runs it.

    Attributes:
        harness: that asks it.
        card: the benchmark in that harness.
        convention: how its questions are put.
        judge: with its kind settled.
    """

    harness: Harness
    card: HarnessTask
    convention: Convention
    judge: JudgeConfig


def benchmark_of(config: RunConfig) -> Benchmark | None:
    """The benchmark of a cell, None for an embedded task.

    Raises:
        UsageError: the harness does not have it.
    """
    if config.task.kind != "harness":
        return None
    harness = harness_of(config.task, config.harness)
    card = getattr(config.task, harness)
    asked = config.harness_options.judge
    kind = card.judges[0] if asked.kind == "auto" else asked.kind
    # settings of a server that nobody asks change no number
    named = asdict(asked) if kind == "endpoint" else {}
    return Benchmark(
        harness,
        card,
        convention_of(config, harness),
        JudgeConfig(**{**named, "kind": kind}),
    )


def harness_of(task: TaskConfig, harness: str) -> Harness:
    """The harness of a task: the one asked for, or with ``auto`` the one that the card prefers.

    Raises:
        UsageError: no such harness, or it does not have the task.
    """
    if harness not in ("auto", *VERSIONS):
        raise unknown("harness", harness, ("auto", *VERSIONS))
    having = [name for name in VERSIONS if getattr(task, name) is not None]
    if harness == "auto":
        return task.prefer if task.prefer in having or not having else having[0]
    for name in having:
        if name == harness:
            return name
    raise UsageError(
        f"harness={harness} does not have task={task.name}; it is in {', '.join(having) or 'none'}"
    )


def identity_of(benchmark: Benchmark | None, wrapper: str) -> Any:
    """What of the harness can change a number; ``"none"`` for an embedded task."""
    if benchmark is None:
        return "none"
    judge = benchmark.judge
    return {
        "name": benchmark.harness,
        "version": VERSIONS[benchmark.harness],
        "task": benchmark.card.name,
        "metrics": [asdict(metric) for metric in benchmark.card.metrics],
        "blank": benchmark.card.blank,
        "wrapper": wrapper,
        "convention": benchmark.convention.as_identity(),
        "judge": [judge.kind, judge.model, judge.url] if judge.kind == "endpoint" else [judge.kind],
    }


def data_of(task: TaskConfig, harness: str) -> list[Path]:
    """The local files and folders that stand in for a benchmark's published data, whether they
    exist or not.
    """
    if task.data is None:
        return []
    folder, name = expanded(task.data), getattr(task, harness).name
    if harness == "vlmevalkit":
        return [folder / (catalogue.video_folder(name) or f"{name}.tsv")]
    return [
        folder / name,
        *sorted(folder.glob("*__*")),
    ]  # with the further data sets that tasks load


SHOWN = 5  # mistakes of one table


def mistakes(config: RunConfig) -> Iterator[UsageError]:
    """What is wrong with the harness part of a cell."""
    if config.harness not in ("auto", *VERSIONS):
        yield unknown("harness", config.harness, ("auto", *VERSIONS))
        return
    if config.task.kind != "harness":
        yield from videos.mistakes(config, None, None, videos.given(config))
        if config.harness != "auto":
            yield UsageError(
                f"harness={config.harness}: task={config.task.name} is asked by unibench itself;"
                " leave harness away"
            )
        for part in CONVENTION:
            if getattr(config, part) != getattr(RunConfig, part):
                yield UsageError(
                    f"{part}={getattr(config, part)}: task={config.task.name} is asked by unibench"
                    " itself, under the model's own template; leave it away"
                )
        return
    try:
        benchmark = benchmark_of(config)
    except UsageError as error:
        yield error
        return
    assert benchmark is not None
    yield from _judge_mistakes(config, benchmark)
    yield from _wrapper_mistakes(config, benchmark)
    yield from _part_mistakes(config, benchmark)
    yield from videos.mistakes(
        config, benchmark.harness, benchmark.convention.entry, benchmark.convention.video
    )
    if config.shards != 1:
        yield UsageError(
            f"shards={config.shards}: a harness scores a benchmark as a whole; use shards=1"
        )
    if config.batch_size != 1:
        yield UsageError(
            f"batch_size={config.batch_size}: a harness asks one sample at a time; use batch_size=1"
        )
    columns = benchmark.card.columns  # of a benchmark without a card nobody says which
    named = f", with the columns {', '.join(columns)}" if columns else ""
    for path in data_of(config.task, benchmark.harness):
        if not path.exists():
            yield UsageError(
                f"task.data={config.task.data}: {benchmark.harness} looks for {path.name} there"
                f"{named}"
            )
        elif path.suffix == ".tsv":
            reasons = tables.mistakes(path, columns)
            yield from map(UsageError, reasons[:SHOWN])
            if len(reasons) > SHOWN:
                yield UsageError(f"{path}: {len(reasons) - SHOWN} more rows like these")


def _judge_mistakes(config: RunConfig, benchmark: Benchmark) -> Iterator[UsageError]:
    judge, allowed = benchmark.judge, benchmark.card.judges
    if judge.kind not in allowed:
        where = f"task={config.task.name} in {benchmark.harness}"
        yield unknown(f"judge of {where} (harness_options.judge.kind)", judge.kind, allowed)
    elif judge.kind == "endpoint" and not (judge.url and judge.model):
        url, model = "judge.url=<server>/v1 (OpenAI-compatible)", "judge.model=<its model>"
        missing = [text for text, there in ((url, judge.url), (model, judge.model)) if not there]
        named = " and ".join(f"harness_options.{text}" for text in missing)
        yield UsageError(
            f"task={config.task.name} in {benchmark.harness} is scored by a judge: give {named};"
            f" the key is read from ${judge.key}"
        )


def _wrapper_mistakes(config: RunConfig, benchmark: Benchmark) -> Iterator[UsageError]:
    wrapper, harness, entry = (
        config.harness_options.wrapper,
        benchmark.harness,
        benchmark.convention.entry,
    )
    if wrapper not in WRAPPERS:
        yield unknown("harness_options.wrapper", wrapper, WRAPPERS)
    if wrapper != "native":
        return
    asked = "harness_options.wrapper=native"
    if entry is None:
        yield UsageError(
            f"{asked}: convention={config.convention} has no model object of {harness} for"
            f" model={config.model.name}; leave it away"
        )
    elif config.model.family not in NATIVE[harness] or entry in PACKAGED:
        yield UsageError(
            f"{asked}: {harness}'s {entry} needs code that is on no index to load a checkpoint;"
            " leave it away: the same class then asks the model that unibench has loaded"
        )
    elif config.model.weights == "random":
        yield UsageError(f"{asked} loads a checkpoint; it cannot take model.weights=random")


def _part_mistakes(config: RunConfig, benchmark: Benchmark) -> Iterator[UsageError]:
    """Parts of a convention that cannot be put in place of the entry's own."""
    entry, preset = benchmark.convention.entry, config.model.pixels.get(config.pixels, {})
    if entry is None:
        for part in ("prompt", "system", "prefix"):
            if getattr(config, part) is not None:
                yield UsageError(
                    f"{part}={getattr(config, part)} takes the place of a part of a harness's model"
                    f" object, and convention={config.convention} has none for model="
                    f"{config.model.name}"
                )
    elif config.prompt is not None and benchmark.harness == "lmms_eval":
        yield UsageError(
            f"prompt={config.prompt}: lmms-eval's tasks build the prompt, by the name of the model"
            " class; leave it away"
        )
    elif config.pixels != "native" and not _takes(config.model.family, limits_of(preset)):
        yield UsageError(
            f"pixels={config.pixels}: {entry} of {benchmark.harness} prepares pictures itself and"
            " takes no such setting; take convention=model, or leave pixels away"
        )


def _takes(family: str, limits: Mapping[str, int] | None) -> bool:
    """Whether the model classes of a family have these arguments."""
    if limits is None:
        return False
    return family == "internvl" if "max_patches" in limits else family.startswith("qwen")


def limits_of(preset: Mapping[str, Any]) -> dict[str, int] | None:
    """The arguments of harnesses' model classes that say what a pixel preset says; None where they
    have none.

    >>> limits_of({"size": {"shortest_edge": 3136, "longest_edge": 12544}})
    {'min_pixels': 3136, 'max_pixels': 12544}
    >>> limits_of({"crop_to_patches": False, "min_patches": 1, "max_patches": 1})
    {'max_patches': 1}
    """
    size = preset.get("size", {})
    if set(preset) == {"size"} and set(size) == {"shortest_edge", "longest_edge"}:
        return {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    if "max_patches" in preset and set(preset) <= {"crop_to_patches", "min_patches", "max_patches"}:
        return {"max_patches": preset["max_patches"] if preset.get("crop_to_patches", True) else 1}
    return None
