"""Which harness asks a benchmark, under which conventions, and who judges: read from its card,
without a harness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from unibench.config import Harness, HarnessTask, JudgeConfig, RunConfig, TaskConfig, Wrapper
from unibench.errors import UsageError, unknown

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
    """What a harness does differently for a model family.

    Attributes:
        prompts: VLMEvalKit: whose prompt rules; lmms-eval: the model name that picks a task's
            ``lmms_eval_specific_kwargs``.
        max_new_tokens: of the harness's own wrapper, where the task does not say.
        native: name of the harness's own model object, None if it has none that can be pruned.
        frames: that a video is shown as, evenly spaced; all of a shorter one. 0 serves no video.
    """

    prompts: str
    max_new_tokens: int
    native: str | None = None
    frames: int = 0


LMMS_FRAMES = 32  # max_num_frames, the default of lmms-eval's own model objects

_QWEN = {
    "vlmevalkit": Convention("qwen", 2048, "Qwen2VLChat"),
    "lmms_eval": Convention("qwen2_5_vl", 128, "qwen2_5_vl", LMMS_FRAMES),
}
_LLAVA = {
    "vlmevalkit": Convention("llava", 2048),
    "lmms_eval": Convention("llava_hf", 1024, "llava_hf", LMMS_FRAMES),
}
CONVENTIONS: dict[str, dict[str, Convention]] = {
    "qwen2_5_vl": _QWEN,
    "qwen2_vl": {**_QWEN, "lmms_eval": Convention("qwen2_vl", 128, frames=LMMS_FRAMES)},
    "llava": _LLAVA,
    "llava_next": _LLAVA,
    "llava_onevision": _LLAVA,
    "internvl": {
        "vlmevalkit": Convention("internvl", 4096),
        "lmms_eval": Convention("internvl_hf", 1024, "internvl_hf", LMMS_FRAMES),
    },
}
PLAIN = {
    "vlmevalkit": Convention("dataset", 2048),
    "lmms_eval": Convention("default", 128, frames=LMMS_FRAMES),
}  # families of which neither knows


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as one cell runs it.

    Attributes:
        harness: that asks it.
        card: the benchmark in that harness.
        convention: of the model's family.
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
    harness = chosen(config.task, config.harness)
    card = getattr(config.task, harness)
    asked = config.harness_options.judge
    kind = card.judges[0] if asked.kind == "auto" else asked.kind
    named = asdict(asked) if kind == "endpoint" else {}
    return Benchmark(
        harness,
        card,
        convention_of(config.model.family, harness),
        JudgeConfig(**{**named, "kind": kind}),
    )


def chosen(task: TaskConfig, harness: str) -> Harness:
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


def convention_of(family: str, harness: str) -> Convention:
    """How a harness treats a family."""
    return CONVENTIONS.get(family, PLAIN)[harness]


def identity_of(benchmark: Benchmark | None, wrapper: str) -> Any:
    """What of the harness can change a number; ``"none"`` for an embedded task."""
    if benchmark is None:
        return "none"
    judge = benchmark.judge
    return {
        "name": benchmark.harness,
        "version": VERSIONS[benchmark.harness],
        "task": benchmark.card.name,
        "wrapper": wrapper,
        "convention": asdict(benchmark.convention),
        "judge": [judge.kind, judge.model, judge.url] if judge.kind == "endpoint" else [judge.kind],
    }


def data_of(task: TaskConfig, harness: str) -> list[Path]:
    """The local files and folders that stand in for a benchmark's published data, whether they
    exist or not.
    """
    if task.data is None:
        return []
    folder, name = Path(task.data).expanduser(), getattr(task, harness).name
    if harness == "vlmevalkit":
        return [folder / f"{name}.tsv"]
    return [
        folder / name,
        *sorted(folder.glob("*__*")),
    ]  # with the further data sets that tasks load


def mistakes(config: RunConfig) -> Iterator[UsageError]:
    """What is wrong with the harness part of a cell."""
    if config.harness not in ("auto", *VERSIONS):
        yield unknown("harness", config.harness, ("auto", *VERSIONS))
        return
    if config.task.kind != "harness":
        if config.harness != "auto":
            yield UsageError(
                f"harness={config.harness}: task={config.task.name} is asked by unibench itself;"
                " leave harness away"
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
    if config.shards != 1:
        yield UsageError(
            f"shards={config.shards}: a harness scores a benchmark as a whole; use shards=1"
        )
    if config.batch_size != 1:
        yield UsageError(
            f"batch_size={config.batch_size}: a harness asks one sample at a time; use batch_size=1"
        )
    for path in data_of(config.task, benchmark.harness):
        if not path.exists():
            yield UsageError(
                f"task.data={config.task.data}: {benchmark.harness} looks for {path.name} there, "
                f"with the columns {', '.join(benchmark.card.columns)}"
            )


def _judge_mistakes(config: RunConfig, benchmark: Benchmark) -> Iterator[UsageError]:
    judge, allowed = benchmark.judge, benchmark.card.judges
    if judge.kind not in allowed:
        where = f"task={config.task.name} in {benchmark.harness}"
        yield unknown(f"judge of {where} (harness_options.judge.kind)", judge.kind, allowed)
    elif judge.kind == "endpoint" and not (judge.url and judge.model):
        yield UsageError(
            f"task={config.task.name} in {benchmark.harness} is scored by a judge: give"
            " harness_options.judge.url=<server>/v1 (OpenAI-compatible) and"
            f" harness_options.judge.model=<its model>; the key is read from ${judge.key}"
        )


def _wrapper_mistakes(config: RunConfig, benchmark: Benchmark) -> Iterator[UsageError]:
    wrapper = config.harness_options.wrapper
    if wrapper not in WRAPPERS:
        yield unknown("harness_options.wrapper", wrapper, WRAPPERS)
    elif wrapper == "native" and benchmark.convention.native is None:
        served = [
            family
            for family, known in CONVENTIONS.items()
            if known[benchmark.harness].native is not None
        ]
        yield UsageError(
            f"harness_options.wrapper=native: {benchmark.harness} has no model object for family"
            f" {config.model.family} that can be pruned; it has one for {', '.join(served)}"
        )
    elif wrapper == "native" and config.model.weights == "random":
        yield UsageError(
            "harness_options.wrapper=native loads a checkpoint; it cannot take model.weights=random"
        )
