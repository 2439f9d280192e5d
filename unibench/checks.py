"""What is wrong with a composed cell, before anything is loaded: every mistake, each with what is
allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from unibench import benchmark, config, engines, hub, registry
from unibench.budget import TextAfterVideo
from unibench.config import Control, ModelConfig, RunConfig, budget_of, model_path
from unibench.errors import UsageError, unknown
from unibench.facts import ModelFacts, misplaced
from unibench.registry import answers
from unibench.registry.cards import FamilyCard, MethodCard

# what a folder with a processor has at least one of; the last is a hub cache's
PROCESSOR = ("tokenizer_config.json", "preprocessor_config.json", "tokenizer.json", "snapshots")
DEVICE = r"auto|(cpu|cuda|mps|xpu)(:[0-9]+)?"  # torch has more names than kinds that run here


@dataclass
class Known:
    """What was found about values that cells of one command share; files are read once for all.

    Attributes:
        found: by what was asked about which objects, which are held so that none takes the place of
            another.
    """

    found: dict[tuple[Any, ...], tuple[Any, Any]] = field(default_factory=dict)

    def once(self, find: Callable[[], Any], what: str, *objects: Any, more: Any = None) -> Any:
        """What ``find`` finds, the first time that these objects are asked about."""
        # by id, since configurations are not hashable; held in found, so that no id is given away
        key = what, *map(id, objects), more
        if key not in self.found:
            self.found[key] = objects, find()
        return self.found[key][1]


def mistakes(cell: RunConfig, known: Known | None = None) -> Iterator[UsageError]:
    """What is wrong with the values of a cell, each with what is allowed.

    Args:
        cell: of a command.
        known: what cells of the same command have found out; added to.
    """
    known = known or Known()
    try:
        budget_of(cell)
    except UsageError as error:
        yield error
    own = [*config.mistakes(cell), *_secrets(cell, known)]
    yield from own
    if cell.pixels not in cell.model.pixels:
        yield unknown(f"pixels of model {cell.model.name}", cell.pixels, cell.model.pixels)
    if cell.share in ("memory", "disk") and cell.timing:
        yield UsageError(
            f"share={cell.share} leaves the vision tower's time out of all cells but one: add"
            " timing=false"
        )
    yield from _fuse_mistakes(cell)
    yield from _engine_mistakes(cell)
    if re.fullmatch(DEVICE, cell.model.device) is None:
        yield UsageError(
            f"model.device={cell.model.device} is no device; for example auto, cpu, cuda, cuda:1"
        )
    yield from _control_mistakes(cell)
    yield from _place_mistakes(cell)
    yield from known.once(
        lambda: list(_model_mistakes(cell)), "model", cell.model, more=cell.batch_size
    )
    yield from _method_mistakes(cell, known, sound=not own)
    yield from known.once(
        lambda: list(_task_mistakes(cell)),
        *("task", cell.task, cell.harness_options, cell.model),
        # all that the harness part looks at: of a sweep over one of them each cell has its own
        more=(
            *(cell.harness, cell.shards, cell.batch_size, cell.pixels),
            *(cell.convention, cell.prompt, cell.system, cell.prefix, *vars(cell.video).values()),
        ),
    )


def _secrets(cell: RunConfig, known: Known) -> Iterator[UsageError]:
    """Secrets in the values of a cell; what cells share is looked through once."""
    for key, value in vars(cell).items():
        if isinstance(value, str):
            yield from config.secrets(key, value)
        elif value is not None and not isinstance(value, (bool, int, float)):
            yield from known.once(partial(_listed, key, value), "secrets", value, more=key)


def _listed(key: str, value: Any) -> list[UsageError]:
    return list(config.secrets(key, value))


def _place_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    """A rule for the text behind videos, where there is no video or no such rule."""
    family, rule = registry.families().get(cell.model.family), cell.text_after_video
    if family is None or rule not in get_args(TextAfterVideo):
        return  # said elsewhere
    if reason := misplaced(rule, family.provides, f"model={cell.model.name}"):
        yield UsageError(reason)
    elif rule != RunConfig.text_after_video and cell.task.modality != "video":
        yield UsageError(
            f"text_after_video={rule}: task={cell.task.name} shows pictures, behind which there is"
            " one place only; leave it away"
        )


def _control_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    """A control changes the picture, then the model runs as it is."""
    if cell.control == "none" or cell.control not in get_args(Control):
        return  # a wrong name is said elsewhere
    if cell.method["name"] != "vanilla":
        yield UsageError(
            f"control={cell.control} stands in the place of a method: leave"
            f" method={cell.method['name']} out"
        )
    if cell.batch_size != 1:
        yield UsageError(
            f"control={cell.control} fits each prompt by itself: leave"
            f" batch_size={cell.batch_size} out"
        )
    video, thins = cell.task.modality == "video", cell.control == "fewer_frames"
    if thins and not video:
        yield UsageError(
            f"control=fewer_frames leaves frames of a video out, and task={cell.task.name} shows"
            " pictures: take control=resize"
        )
    if video and not thins and cell.control not in ("blind", "blind_grey"):
        yield UsageError(
            f"control={cell.control} changes pictures, and task={cell.task.name} shows videos: take"
            " control=fewer_frames"
        )
    if cell.task.kind == "embedded":
        return
    if cell.control == "native_budget" and cell.keep is None:
        yield UsageError(
            "control=native_budget has one setting for all pictures of a task, and a harness hands"
            " them over one by one: give the tokens of a picture, keep=64 for example"
        )
    # a harness's own model object hands pictures to the processor itself
    if cell.convention != "model" or cell.harness_options.wrapper != "unibench":
        yield UsageError(
            f"control={cell.control} changes what unibench's own model object is asked, and"
            f" task={cell.task.name} is asked by the harness's: add convention=model"
        )
    if cell.control == "blind_other":
        yield UsageError(
            "control=blind_other takes the pictures of other questions, which a harness hands over"
            " one by one: take control=blind or blind_grey"
        )


def _fuse_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    """Cells that are answered together have no times of their own, and share one prompt."""
    if cell.fuse == "none":
        return
    if cell.timing:
        yield UsageError(
            f"fuse={cell.fuse} answers many cells at once, so that none has a time of its own: add"
            " timing=false"
        )
    if cell.batch_size != 1:
        yield UsageError(
            f"fuse={cell.fuse} makes a batch of the cells: leave batch_size={cell.batch_size} out"
        )


def _engine_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    """A serving engine encodes each picture once for all prompts, and batches by itself."""
    if cell.engine not in get_args(config.Engine) or cell.engine == engines.HF:
        return
    said, spec, name = f"engine={cell.engine}", cell.model, str(cell.method["name"])
    if cell.timing:
        yield UsageError(f"{said} measures no times of single samples: add timing=false")
    if cell.task.modality != "image":
        yield UsageError(f"{said} answers tasks of pictures, which task={cell.task.name} is not")
    own = cell.convention == "model" and cell.harness_options.wrapper == "unibench"
    if cell.task.kind == "harness" and not own:
        yield UsageError(
            f"{said} answers what unibench's own model object is asked, and task={cell.task.name}"
            " is asked by the harness's: add convention=model"
        )
    if spec.family not in engines.FAMILIES:
        yield UsageError(
            f"{said} has no family {spec.family} of model={spec.name}; it has"
            f" {', '.join(engines.FAMILIES)}"
        )
    if name != "vanilla" and cell.budget.scope != "item":
        yield UsageError(
            f"{said} encodes each picture once for all prompts, so that a budget is one picture's:"
            " add budget.scope=item"
        )
    if cell.positions not in ("original", "compact"):
        yield UsageError(f"{said} knows positions=original and compact, not {cell.positions}")
    wanted = {
        "weights": (spec.weights, "pretrained"),
        "adapter": (spec.adapter, None),
        "quantization": (spec.quantization, None),
        "processor_path": (spec.processor_path, None),
    }
    alone = {
        "batch_size": (cell.batch_size, 1),
        "control": (cell.control, "none"),
        "share": (cell.share, "none"),
        "fuse": (cell.fuse, "none"),
        "budget.mode": (cell.budget.mode, "at_stage"),
        "budget.rounding": (cell.budget.rounding, "half_up"),
        "scores": (cell.scores, False),
        **{f"model.{key}": pair for key, pair in wanted.items()},
    }
    for key, (given, only) in alone.items():
        if given != only:
            yield UsageError(f"{said} cannot follow {key}={given}; it runs under {key}={only}")
    yield from _unservable(cell, said)


def _unservable(cell: RunConfig, said: str) -> Iterator[UsageError]:
    """Why the method of a cell cannot run inside a serving engine."""
    name = str(cell.method["name"])
    if name == "vanilla":
        return
    if cell.method.get("relevance") == "auto" and cell.model.clip is not None:
        yield UsageError(
            f"{said} does not hand over what CLIP compares: method.relevance=auto would mean"
            " another relevance than under engine=hf; say method.relevance=embedding"
        )
    try:
        reasons = answers.unservable(cell.method)
    except UsageError:
        return  # said where the method itself is looked at
    if reasons:
        yield UsageError(f"method={name} cannot run under {said}: {'; '.join(reasons)}")


def remarks(cells: Sequence[RunConfig], given: Sequence[str]) -> Iterator[str]:
    """What a command says in vain: keys that none of its cells uses.

    Cells of a grid share their keys, so a key counts as used where one cell uses it.

    Args:
        cells: of one command, free of mistakes.
        given: the keys that the command sets, for example ``ratio``.
    """
    budgets = [key for key in ("ratio", "retention", "keep") if key in given]
    used = any(
        cell.budget.mode == "layer_average"
        or cell.control in config.FITTED
        or answers.uses_budget(cell.method)
        for cell in cells
    )
    if budgets and not used:
        names = sorted({_contender(cell) for cell in cells})
        yield (
            f"{', '.join(budgets)} is not used: {' and '.join(names)} keeps as many tokens as its"
            " own rule says"
        )
    takers = any(
        "model.selector" in card.follows.values()
        for cell in cells
        for card in registry.parts_of(cell.method)
    )
    named = "model.selector" in given and any(cell.model.selector for cell in cells)
    if named and not takers:
        takes = [n for n, c in registry.methods().items() if "model.selector" in c.follows.values()]
        yield f"model.selector is not used: only {', '.join(takes)} take a trained scorer"


def _contender(cell: RunConfig) -> str:
    """The name of what a cell compares: a method, or a control."""
    return str(cell.method["name"]) if cell.control == "none" else cell.control


def facts_of(spec: ModelConfig) -> ModelFacts:
    """What is known here of a model without reading its weights."""
    text, model_type = _configuration(spec)
    more: dict[str, Any] = {
        "name": f"model={spec.name}",
        "family": spec.family,
        "kernel": spec.attn,
        "tower_kernel": spec.attn,
        "clip": spec.clip is not None,
        "selector": None if spec.selector is None else str(model_path(spec.selector)),
    }
    return ModelFacts(**more) if text is None else answers.facts(text, model_type, **more)


def _configuration(spec: ModelConfig) -> tuple[str | None, str | None]:
    """The text of the model's configuration, if it is here, and its type if the text omits it."""
    if spec.weights == "random":
        return (json.dumps(spec.architecture), spec.family) if spec.architecture else (None, None)
    path = model_path(spec.path)
    file = hub.config_file(spec) if path is None else _checkpoint(spec, path) / "config.json"
    try:
        text = None if file is None else file.read_text(encoding="utf-8")
        known = text is not None and isinstance(json.loads(text), dict)
    except (OSError, ValueError, RecursionError):
        return None, None  # said where the model is looked at
    return (text if known else None), None


def _checkpoint(spec: ModelConfig, path: Path) -> Path:
    """The folder of the files; a repository's folder in the hub's cache holds one per revision."""
    if not (path / "snapshots").is_dir():
        return path
    named = path / "refs" / (spec.revision or "main")
    revision = named.read_text().strip() if named.is_file() else str(spec.revision)
    return path / "snapshots" / revision


def _model_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    spec, families = cell.model, registry.families()
    if spec.family not in families:
        yield unknown("family", spec.family, families)
        return
    if spec.weights == "random" and spec.quantization is not None:
        yield UsageError(
            "model.quantization needs a checkpoint: random weights have nothing to quantise; take"
            " model.weights=pretrained"
        )
    if spec.weights == "random" and (spec.adapter or spec.processor_path):
        key = "adapter" if spec.adapter else "processor_path"
        yield UsageError(
            f"model.{key} needs a checkpoint: random weights have nothing that it fits; take"
            " model.weights=pretrained"
        )
    yield from _adapter_mistakes(spec)
    yield from _processor_mistakes(spec)
    native = cell.task.kind == "harness" and cell.harness_options.wrapper == "native"
    for key in ("adapter", "processor_path", "quantization"):
        if native and getattr(spec, key) is not None:
            yield UsageError(
                f"model.{key} is not read by the harness's own model object; take"
                " harness_options.wrapper=unibench"
            )
    if spec.weights == "random" and not spec.architecture:
        yield UsageError(
            f"model={spec.name} has no architecture to build with random weights; give"
            " model.path=<folder>"
        )
    family = families[spec.family]
    if not family.batches and isinstance(cell.batch_size, int) and cell.batch_size > 1:
        yield UsageError(
            f"batch_size={cell.batch_size}: family {spec.family} reads pictures of one prompt at a"
            " time, its code mixes those of a batch; take batch_size=1"
        )
    yield from _checkpoint_mistakes(spec, family)


def _checkpoint_mistakes(spec: ModelConfig, family: FamilyCard) -> Iterator[UsageError]:
    """What is wrong with a checkpoint of one's own: no folder of one, or another family's."""
    path = model_path(spec.path)
    if path is None:
        return
    if path.is_file():
        yield UsageError(
            f"model.path={spec.path} is a file; give the folder with config.json and the tokenizer:"
            f" {path.parent}"
        )
        return
    file = _checkpoint(spec, path) / "config.json"
    if not file.is_file():
        yield UsageError(
            f"model.path={spec.path}: there is no config.json in {file.parent}; give the folder of"
            " a Hugging Face checkpoint"
        )
        return
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        yield UsageError(f"model.path={spec.path}: {file} cannot be read as JSON")
        return
    if kind not in family.model_types:
        yield UsageError(
            f"model.path={spec.path} holds a {kind!r} checkpoint, but model={spec.name} is of"
            f" family {spec.family} ({', '.join(family.model_types)})"
        )


def _adapter_mistakes(spec: ModelConfig) -> Iterator[UsageError]:
    """What is wrong with an adapter that can be said before a model is loaded, if anything is: the
    first of it.
    """
    folder = model_path(spec.adapter)
    if folder is None or spec.weights == "random":
        return
    if spec.quantization is not None and spec.adapter_mode == "merge":
        yield UsageError(
            f"model.adapter merged into {spec.quantization} weights would be rounded with them;"
            " take model.adapter_mode=wrap"
        )
    elif not (folder / "adapter_config.json").is_file():
        yield UsageError(
            f"model.adapter={spec.adapter}: there is no adapter_config.json in {folder}; give the"
            " folder that peft's save_pretrained wrote"
        )
    elif find_spec("peft") is None:
        yield UsageError(f"model.adapter={spec.adapter} needs the package peft: pip install peft")


def _processor_mistakes(spec: ModelConfig) -> Iterator[UsageError]:
    """A processor of its own that is none, where that can be seen without a download."""
    place = model_path(spec.processor_path)
    if place is None or spec.weights == "random":
        return
    if not str(spec.processor_path).strip():
        yield UsageError("model.processor_path= is empty; give a folder or a hub id")
    elif place.is_dir() and not any((place / name).exists() for name in PROCESSOR):
        yield UsageError(
            f"model.processor_path={spec.processor_path}: there is no {PROCESSOR[0]} in it; give"
            " the folder that the processor's save_pretrained wrote"
        )


def _method_mistakes(cell: RunConfig, known: Known, *, sound: bool) -> Iterator[UsageError]:
    """Values that the annotations refuse; if there are none, and the values of the cell itself are
    sound, what the method refuses.
    """
    card = registry.method(str(cell.method.get("source") or cell.method["name"]))
    wrong = known.once(
        lambda: list(_value_mistakes(card, cell.method, "method")), "method", cell.method
    )
    yield from wrong
    # a method cannot be made of such values, or asked about such a model
    if wrong or cell.model.family not in registry.families():
        return
    try:
        budget = budget_of(cell)
    except UsageError:
        return  # said already
    facts = known.once(lambda: facts_of(cell.model), "facts", cell.model)
    if budget.tokens is not None and facts.positions and budget.tokens > facts.positions:
        yield UsageError(
            f"keep={budget.tokens} is more than the {facts.positions} tokens that {facts.name} can"
            " read, so nothing would be removed"
        )
    if not sound:
        return  # a mode of the budget that does not exist, for one

    def refused(family: str, facts: ModelFacts) -> str | None:
        rules = cell.budget.mode, cell.positions, cell.after_state
        return answers.refusal(cell.method, budget, family, facts, *rules)

    reason = known.once(
        lambda: refused(cell.model.family, facts),
        *("refusal", cell.method, cell.model),
        more=(budget, cell.budget.mode, cell.positions, cell.after_state),
    )
    if reason is None:
        return
    # a reason that holds whatever the model is due to the family, or to the method alone
    unknown_model = ModelFacts()
    if refused(cell.model.family, unknown_model) is not None:
        served = [name for name in registry.families() if refused(name, unknown_model) is None]
        reason += f"; it runs on {', '.join(served)}" if served else ""
    yield UsageError(reason)


def _value_mistakes(card: MethodCard, node: Mapping[str, Any], prefix: str) -> Iterator[UsageError]:
    """Keys that a method does not have, and values that its annotations do not allow."""
    for key in node:
        if key not in card.parameters and key not in ("name", "source"):
            yield unknown(f"parameter of method {card.name}", key, card.parameters)
    for key, parameter in card.fields.items():
        if key not in node:
            continue
        try:
            if parameter.method:
                options = node.get(parameter.options) if parameter.options else None
                inner = registry.submethod_node(node[key], options)
                inner_card = registry.method(str(inner.get("source") or inner["name"]))
                yield from _value_mistakes(inner_card, inner, f"{prefix}.{key}")
            else:
                parameter.check(f"{prefix}.{key}", node[key])
        except UsageError as error:
            yield UsageError(f"{prefix}.{key}: {error}") if parameter.method else error


def _task_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    data = None if cell.task.data is None else Path(cell.task.data).expanduser()
    if data is not None and not (data.is_dir() or (cell.task.kind == "embedded" and data.exists())):
        files = " or file" if cell.task.kind == "embedded" else ""
        yield UsageError(f"task.data={cell.task.data}: there is no such folder{files}")
        return
    if cell.task.kind == "embedded" and cell.task.target is not None:
        options = dict(cell.task.options)
        if cell.task.data is not None:
            options["data"] = cell.task.data
        if reason := answers.task_refusal(cell.task.name, cell.task.target, options):
            yield UsageError(reason)
    yield from benchmark.mistakes(cell)
