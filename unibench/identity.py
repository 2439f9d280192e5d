"""What makes a cell the same cell: everything that can change its numbers, hashed into one key.

Nothing here imports torch: a plan of thousands of cells takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from unibench import benchmark, engines, hub, lineage, registry, videos
from unibench.budget import Budget
from unibench.code.closure import Code
from unibench.config import (
    FITTED,
    BudgetConfig,
    ModelConfig,
    RunConfig,
    TaskConfig,
    budget_of,
    model_path,
)
from unibench.credentials import undisclosed
from unibench.device import device_type
from unibench.errors import UsageError
from unibench.inputs import (
    UNKNOWN,
    checkpoint_digest,
    data_digest,
    own_code,
    pinned_processor,
    value_digest,
)
from unibench.inputs import model_digest as model_digest

POSITIONS = RunConfig.positions  # of cells whose identity names none
TEXT_AFTER_VIDEO = RunConfig.text_after_video  # the same
NO_CONTROL = RunConfig.control
APART = RunConfig.fuse
DIAGNOSTICS = RunConfig.diagnostics
SCHEMA = 3  # of the files in a cell's folder
READABLE = (2, SCHEMA)  # of stored cells; 2 hashed the file of the method in place of its code

# What turns a prompt into a record, for every cell.
ENGINE = (
    "unibench.pruning:Session",
    "unibench.inference.ask:answer",
    "unibench.inference.features:FeatureCache",
    "unibench.models:load",
    "unibench.models:wrap",
    "unibench.budget:Budget",
)
# What answers the cells of a grid together, beside that.
FUSED = ("unibench.inference.together:answer_together",)
# What answers in the place of transformers.
SERVED = (
    "unibench.serving.child:Child",
    "unibench.serving.model:Pruned",
    "unibench.serving.processing:PrunedProcessor",
    "unibench.serving.plugin:check",
)
# What asks and scores beside the harness itself, whose version is in the key.
HARNESSES = {
    "vlmevalkit": (
        "unibench.harness.child.serve:Child",
        "unibench.harness.child.vlmevalkit:VLMEvalKit",
        "unibench.harness.child.vlmevalkit_models:native",
        "unibench.harness.child.vlmevalkit_models:asking",
    ),
    "lmms_eval": (
        "unibench.harness.child.serve:Child",
        "unibench.harness.child.lmms:LmmsEval",
    ),
}
# What finds, checks, reports and stores computes no number: the values that it settles are in the
# key themselves, and the classes that it finds are asked for by name.
OUTSIDE = (
    "unibench.benchmark",
    "unibench.checks",
    "unibench.compose",
    "unibench.config",
    "unibench.device",
    "unibench.engines",
    "unibench.errors",
    "unibench.facts",
    "unibench.hub",
    "unibench.identity",
    "unibench.inference.environment",
    "unibench.inputs",
    "unibench.lineage",
    "unibench.paths",
    "unibench.plan",
    "unibench.pruning.refusal",
    "unibench.registry",
    "unibench.runner",
    "unibench.store",
)


@dataclass(frozen=True)
class Cell:
    """One point of a grid.

    Attributes:
        config: the resolved configuration; where a harness asks, it is named, never ``auto``.
        benchmark: the task as its harness has it, None for an embedded task.
        budget: parsed.
        identity: all that the key hashes.
        key: hash of the identity.
    """

    config: RunConfig
    benchmark: benchmark.Benchmark | None
    budget: Budget
    identity: dict[str, Any]
    key: str

    @property
    def method(self) -> str:
        """What is compared by name: the method, or the control in its place."""
        control = self.config.control
        return str(self.config.method["name"]) if control == NO_CONTROL else control

    @cached_property
    def setting(self) -> str:
        """See :func:`setting_of`."""
        return setting_of(self.identity)

    @property
    def series(self) -> str:
        """See :func:`series_of`."""
        return series_of(self.identity)

    @property
    def loaded(self) -> str:
        """Hash of what is loaded to answer the cell: cells that share it take turns at one model
        in memory.
        """
        model, pixels = self.identity["model"], self.identity["pixels"]
        # the device by name: cuda:0 and cuda:1 are one key and two loadings
        return _hash([model, pixels, self.config.model.device])

    @property
    def final(self) -> bool:
        """Whether the key is known: the commit of a checkpoint is, once it is on this disk."""
        return not str(self.identity["model"]["weights"]).endswith(UNKNOWN)

    @cached_property
    def variant(self) -> str:
        """The method's parameters that are neither its defaults nor the model's own, for example
        ``layer=3``; behind them ``positions=compact``, ``after_state=true`` and
        ``rounding=python_int``, so that every label says them.
        """
        defaults = registry.method(
            self.config.method.get("source", self.config.method["name"])
        ).parameters
        given, selector = self.identity["method"], model_path(self.config.model.selector)
        # a scorer that the model's card names is a default of the model, not of the method
        own = () if selector is None else (value_digest(str(selector)),)
        changed = [
            f"{key}={given[key]}"
            for key, default in defaults.items()
            if given[key] not in (_listed(default), *own)
        ]
        places, budget = self.config.positions, self.budget
        more = [f"positions={places}"] if places != POSITIONS else []
        more += ["after_state=true"] if self.config.after_state else []
        more += [] if budget.factor is None else [f"rounding={budget.rounding}"]
        return ",".join([*changed, *more])

    @cached_property
    def folder(self) -> Path:
        """``<out>/<model>/<task>/<method>@<ratio>[+parameters][+seed]/<key>``."""
        parts = [
            f"{self.method}@{self.budget.label}",
            # for people; the key below tells cells apart whose labels were cut alike
            re.sub(r"[^\w=.,+-]", "_", self.variant)[:60],
        ]
        parts.append(f"seed{self.config.seed}" if self.config.seed else "")
        label = "vanilla" if self.method == "vanilla" else "+".join(part for part in parts if part)
        return Path(self.config.out, self.config.model.name, self.config.task.name, label, self.key)

    @property
    def shared_folder(self) -> Path | None:
        """Where the cell lies in the store of many people, if one is named."""
        shared = self.config.shared
        return Path(shared, self.folder.relative_to(self.config.out)) if shared else None

    @property
    def title(self) -> str:
        """For people: model, method, budget, task."""
        mode = "" if self.config.budget.mode == BudgetConfig().mode else self.config.budget.mode
        seed = f"seed {self.config.seed}" if self.config.seed else ""
        more = [self.variant, self.budget.label, mode, seed]
        parts = [
            self.method,
            *([] if self.method == "vanilla" else more),
            f"repeat {self.config.repeat}" if self.config.repeat else "",
        ]
        return (
            f"{self.config.model.name} x {' '.join(part for part in parts if part)} x"
            f" {self.config.task.name}"
        )


def _listed(value: Any) -> Any:
    """Tuples as YAML has them."""
    return [_listed(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def cell_of(config: RunConfig) -> Cell:
    """The cell of a checked configuration."""
    (cell,) = cells_of([config])
    return cell


def cells_of(configs: Iterable[RunConfig]) -> list[Cell]:
    """The cells of checked configurations; files that several of them name are looked at once.

    Raises:
        UsageError: something that decides a key cannot be read.
    """
    looked: dict[str, dict[str, Any]] = {}
    return [_cell(config, looked) for config in configs]


def _cell(config: RunConfig, looked: dict[str, dict[str, Any]]) -> Cell:
    if config.method["name"] == "vanilla":
        # one key for vanilla whatever budget or seed the command has
        config = _of_vanilla(config) if config.control == NO_CONTROL else of_control(config)
    asked = benchmark.benchmark_of(config)
    if asked is not None:
        # named, so that "auto" and the harness that it means have one key
        config = replace(config, harness=asked.harness)
    # by content, since cells of a grid may hold equal configurations of their own
    places = repr((config.model, config.task, config.harness, config.fuse, config.engine))
    if places not in looked:
        looked[places] = _files(config)
    return _made(config, asked, {**looked[places], **_protocol(config, asked)})


def settled(cells: Sequence[Cell]) -> list[Cell]:
    """The cells under the keys that they will have once their checkpoints are downloaded.

    Of a checkpoint that is not on this disk the configuration alone is fetched: it tells the
    commit, at which the model is then loaded.
    """
    final = []
    for cell in cells:
        model, clip = cell.config.model, cell.identity.get("clip")
        if not cell.final:
            # a branch would move under the key; its commit does not
            hub.resolve(str(model.checkpoint), model.revision)
        if str(clip).endswith(UNKNOWN):
            hub.resolve(str(model.clip), None)
        known = cell.final and not str(clip).endswith(UNKNOWN)
        final.append(cell if known else cell_of(cell.config))
    return final


def vanilla_of(cell: Cell) -> Cell:
    """The unpruned cell that a cell's drop is measured against: it differs in method, budget and
    seed alone.
    """
    config = _of_vanilla(replace(cell.config, method={"name": "vanilla"}, repeat=0))
    return _made(config, cell.benchmark, cell.identity)


def _of_vanilla(config: RunConfig) -> RunConfig:
    """The configuration without what does not concern the unpruned model."""
    # where nothing is removed, nothing moves
    config = replace(config, positions=POSITIONS, after_state=False)
    config = replace(config, control=NO_CONTROL, seed=0, budget=BudgetConfig())
    return replace(config, ratio=None, retention=None, keep=None, diagnostics=DIAGNOSTICS)


def of_control(config: RunConfig) -> RunConfig:
    """The configuration without what does not concern its control."""
    whole, control = _of_vanilla(config), config.control
    # only this control draws
    seed = config.seed if control == "blind_other" else 0
    if control not in FITTED:
        return replace(whole, control=control, seed=seed)
    whole = replace(whole, ratio=config.ratio, retention=config.retention, keep=config.keep)
    scope = BudgetConfig(scope=config.budget.scope)
    return replace(whole, control=control, seed=seed, budget=scope)


def _made(config: RunConfig, asked: benchmark.Benchmark | None, setting: Mapping[str, Any]) -> Cell:
    """A cell from its setting and what its configuration says of method, budget and seed."""
    budget, cards = budget_of(config), registry.parts_of(config.method)
    parameters = {key: value for key, value in config.method.items() if key != "source"}
    own = {
        "method": value_digest(parameters),
        "budget": _budget(budget, config),
        "seed": config.seed,
        # not named where they are the default: keys of before there was another stay what they are
        **({} if config.positions == POSITIONS else {"positions": config.positions}),
        **({"after_state": True} if config.after_state else {}),
        **({} if config.repeat == 0 else {"repeat": config.repeat}),
        **({} if config.control == NO_CONTROL else {"control": config.control}),
        **({} if config.diagnostics == DIAGNOSTICS else {"diagnostics": config.diagnostics}),
        "code": {**setting["code"], "method": code_digest(map(_root, cards))},
        **_clip_of(config, any(card.text_aware for card in cards)),
    }
    identity = {**_without(setting, *CANDIDATE, *RUNS), **own}
    # what came from a variable of the environment is in the key by digest alone
    identity = undisclosed(identity)
    return Cell(config, asked, budget, identity, key_of(identity))


def _budget(budget: Budget, config: RunConfig) -> dict[str, Any]:
    """What of the budget is in the key; keys of before there was another rounding stay what they
    are.
    """
    rule = {"label": budget.label, **asdict(config.budget)}
    del rule["rounding"]
    if budget.factor is None:
        return rule
    # where Python rounds, ratio=0.889 and retention=0.111 may keep different numbers
    return {**rule, "rounding": budget.rounding, "factor": repr(budget.factor)}


def _clip_of(config: RunConfig, read: bool) -> dict[str, Any]:
    """The CLIP that a method may compare patches in: its contents for one that reads the question,
    and its name for another, which no download then changes.
    """
    name = config.model.clip
    if name is None or config.method["name"] == "vanilla":
        return {}
    return {"clip": checkpoint_digest(name, None) if read else name}


def key_of(identity: Mapping[str, Any]) -> str:
    """The key that an identity hashes to; the name of the cell's folder."""
    # one text for one identity, whatever the order in which it was made
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    # 64 bits: among a million cells two share a key with a chance of 3 in 100 million
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -- what stored identities have in common, of every readable schema

# what is compared; diagnostics change no answer, so that a cell with all of them is compared too
CANDIDATE = (
    *("method", "source", "budget", "positions", "after_state", "control", "clip", "diagnostics"),
)
QUESTIONS = ("task", "data", "harness")  # what it is asked, and by whom
RUNS = ("seed", "repeat")  # what tells runs of one series apart


def setting_of(identity: Mapping[str, Any]) -> str:
    """Hash of all that an identity says but method, budget, seed and repetition: cells of one
    setting may be compared, and a drop is measured against vanilla of the same setting.
    """
    return _hash(_without(identity, *CANDIDATE, *RUNS, code=("method",)))


def question_setting_of(identity: Mapping[str, Any]) -> str:
    """Hash of a setting without the engine that answered, and without what an engine makes its own:
    two cells that share it answered the same questions of the same model.
    """
    names = ("engine", "timing", "batch_size", "device")
    return _hash(_without(identity, *CANDIDATE, *RUNS, *names, code=("method", "engine")))


def resampled_setting_of(identity: Mapping[str, Any]) -> str:
    """Hash of a setting without its frames and pixels: two cells that share it were asked the same
    about the same pictures or videos, of which one saw more.
    """
    kept = _without(identity, *CANDIDATE, *RUNS, "pixels", "video", code=("method",))
    if isinstance(asked := kept["harness"], Mapping) and "convention" in asked:
        convention = _without(asked["convention"], "frames", "video")
        kept["harness"] = {**asked, "convention": convention}
    readers = identity.get("video", {}).get("readers")
    return _hash({**kept, "readers": readers})


def series_of(identity: Mapping[str, Any]) -> str:
    """Hash of all that an identity says but seed and repetition: cells of one series, and no
    others, are averaged.
    """
    return _hash(_without(identity, *RUNS))


def condition_of(identity: Mapping[str, Any]) -> str:
    """Hash of a setting without its questions: cells of one condition may stand in one line or
    average over tasks.
    """
    kept = _without(identity, *CANDIDATE, *QUESTIONS, *RUNS, code=("method", "task"))
    decoding = dict(kept.get("generation", {}))
    # two tasks differ in who decides the penalty, and still average
    if decoding.get("repetition_penalty") in (None, 1.0):  # the harness's own, or none
        decoding.pop("repetition_penalty", None)
    return _hash({**kept, "generation": decoding})


def candidate_of(identity: Mapping[str, Any]) -> str:
    """Hash of what is compared over tasks: a method's parameters and code, its budget, and where
    its tokens stand.
    """
    parts = [identity["method"], source_of(identity), identity["budget"], identity.get("clip")]
    more = [identity[key] for key in ("control", "after_state") if key in identity]
    return _hash([*parts, identity.get("positions", POSITIONS), *more])


def source_of(identity: Mapping[str, Any]) -> str:
    """Digest of the method's code; in schema 2, of the file that it stands in."""
    return str(identity["source"] if "source" in identity else identity["code"]["method"])


def questions_of(identity: Mapping[str, Any]) -> str:
    """Hash of what is asked, whatever the model: such cells have the same number of samples."""
    return _hash({name: identity[name] for name in QUESTIONS})


def _without(identity: Mapping[str, Any], *names: str, code: Sequence[str] = ()) -> dict[str, Any]:
    """An identity without some of its entries, and without some of its digests of code."""
    kept = {name: value for name, value in identity.items() if name not in names}
    if "code" in kept:
        kept["code"] = {name: value for name, value in kept["code"].items() if name not in code}
    return kept


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


# -- what a setting consists of


def _protocol(config: RunConfig, asked: benchmark.Benchmark | None) -> dict[str, Any]:
    """What of a setting the configuration says by itself."""
    behind = config.text_after_video
    return {
        "schema": SCHEMA,
        "device": device_type(config.model.device),
        "pixels": {config.pixels: config.model.pixels[config.pixels]},
        "generation": _generation(config, asked),
        "batch_size": config.batch_size,
        "harness": benchmark.identity_of(asked, config.harness_options.wrapper),
        **({} if config.timing else {"timing": False}),
        # what stands beside a row changes sums in half precision
        **({} if config.fuse == APART else {"fuse": config.fuse}),
        **_videos(config),
        **({} if behind == TEXT_AFTER_VIDEO else {"text_after_video": behind}),
        **engines.identity_of(config),
    }


def _videos(config: RunConfig) -> dict[str, Any]:
    """What decides the frames and pixels of videos beside the convention, which says the rest."""
    if config.task.modality != "video":
        return {}
    own = videos.given(config) if config.task.kind == "embedded" else {}
    return {"video": {**own, "readers": videos.versions(config)}}


def _generation(config: RunConfig, asked: benchmark.Benchmark | None) -> dict[str, Any]:
    """Settings of decoding; a penalty that nothing else decides is stated."""
    decoding = asdict(config.generation)
    if asked is None or asked.convention.entry is None:
        # stated where nobody else decides it, so that null and 1 have one key
        decoding["repetition_penalty"] = config.generation.penalty
    return decoding


def _files(config: RunConfig) -> dict[str, Any]:
    """What of a setting lies in files: the checkpoint, the data, the code."""
    model, task = config.model, config.task
    given = task.options.items()
    code = {
        "engine": code_digest(_engine(config)),
        "family": code_digest([_root(registry.families()[model.family])]),
        "task": code_digest(
            HARNESSES[config.harness]
            if task.kind == "harness"
            else [_target(task), *_own_scorer(task)]
        ),
    }
    return {
        "code": code,
        "model": {
            "name": model.name,
            "weights": model_digest(vars(model)),
            # code from another repository is in no digest of the weights
            "own_code": own_code(model),
            "dtype": model.dtype,
            "attn": model.attn,
            "quantization": model.quantization,
            "processor": pinned_processor(model),
            **_processor_of(model),
            # pretrained weights bring their own, and do not read the card's
            "architecture": model.architecture if model.weights == "random" else None,
        },
        "task": {
            "name": task.name,
            "limit": task.limit,
            # the code of a scorer counts, wherever its file lies
            "options": {k: Path(v).name if v in _own_scorer(task) else v for k, v in given},
            "modality": task.modality,
        },
        "data": samples_digest(task, config.harness),
    }


def _engine(config: RunConfig) -> tuple[str, ...]:
    """What turns a prompt of a cell into a record."""
    if config.engine != engines.HF:
        return (*ENGINE, *SERVED)
    return ENGINE if config.fuse == APART else (*ENGINE, *FUSED)


def _processor_of(model: ModelConfig) -> dict[str, str]:
    """Where tokenizer and image processor are from, if not from the checkpoint."""
    if model.processor_path is None or model.weights == "random":
        return {}
    return {"processor_of": checkpoint_digest(model.processor_path, None)}


def samples_digest(task: TaskConfig, harness: str) -> str:
    """What identifies the samples: their files or published name, or the code that draws them."""
    return data_digest(task, harness) or f"code:{code_digest([_target(task)])}"


def code_digest(roots: Iterable[str]) -> str:
    """Digest of what definitions reach, see :mod:`unibench.code.closure`, or the earlier one that
    stands for it since it was shown to give the same numbers.

    Args:
        roots: each ``module:name`` or ``/path/file.py:name``.
    """
    return lineage.canonical(_CODE.digest(roots))


_CODE = Code(outside=OUTSIDE)


def _root(card: registry.Card) -> str:
    return f"{card.module or card.path}:{card.class_name}"


def _own_scorer(task: TaskConfig) -> list[str]:
    """The scorer of one's own that a task is given, ``/path/mine.py:function``."""
    score = task.options.get("score")
    return [score] if isinstance(score, str) and ".py:" in score else []


def _target(task: TaskConfig) -> str:
    if task.target is None:
        raise UsageError(f"task={task.name} is embedded and names no target")
    return task.target
