"""From what the user typed to checked cells: overrides, sweeps, names, values, and all mistakes at
once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast, get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from unibench import catalogue, config, experiment, paths, registry, schema, suites
from unibench.beside import CONTROLS, beside
from unibench.checks import Known, mistakes, remarks
from unibench.config import BUDGETS, INSIDE, RunConfig, model_path
from unibench.credentials import followed
from unibench.errors import UsageError, UsageErrors, nearest, unknown
from unibench.overrides import combinations, is_plain, name_of, parse, refusing

log = logging.getLogger(__name__)

GROUPS = ("model", "method", "task")
BESIDE = "controls"
HERE = paths.PACKAGE
CONFIGS = paths.part("configs")
OPTIONS = ("score", "columns", "on_bad", "split")
"""Options of a task that may be written without ``options``: ``task.score=anls``."""
NAMES = ("task.name", "model.name")
FREE = (
    "task.options.",
    "model.architecture.",
    "model.processor.",
    "model.pixels.",
    "model.harness_entry.options.",
    "model.harness_entry.differs.",
    "serve.options.",
)  # where +key=value may add


@cache
def options(group: str) -> list[str]:
    """Names that a group offers: its YAML files, and every method and embedded task that there
    is.
    """
    files = (path.stem for path in (CONFIGS / group).glob("*.yaml"))
    classes: Iterable[str] = ()
    if group in ("method", "task"):
        classes = registry.methods() if group == "method" else registry.tasks()
    return sorted({*classes, *(name for name in files if not name.startswith("_"))})


def compose_cells(overrides: Sequence[str], *, sweep: bool) -> list[RunConfig]:
    """The checked configuration of every cell that the overrides name.

    Args:
        overrides: in Hydra's grammar, for example ``["method=divprune,fastv", "ratio=0.889"]``.
            ``keep`` or ``retention`` replaces the schema's ratio.
        sweep: whether comma lists make a grid (``-m``); an ``experiment=`` or a suite is one
            anyway.

    Raises:
        UsageErrors: every mistake found, before anything is loaded. Cells of an experiment that
            cannot be are left out with a warning that says why, as long as there are others.
    """
    found = cell_overrides(overrides, sweep=sweep)
    if is_experiment(overrides):
        return _possible(found)
    checked = _checked(found)
    if checked.errors:
        raise UsageErrors([UsageError(line) for line in checked.errors])
    for remark in remarks(checked.cells, [name_of(parse(line)) for line in _lines(overrides)]):
        log.warning("%s", remark)
    return [*checked.cells, *_controls(checked)]


def compose_experiment(found: experiment.Experiment, overrides: Sequence[str]) -> list[RunConfig]:
    """The checked configuration of every cell of an experiment that no file holds as it is.

    Args:
        found: the experiment.
        overrides: beside it; they choose a part of it, or replace what it says.

    Raises:
        UsageErrors: every mistake, where no cell is left.
    """
    lines = (line for given in given_by(overrides) for line in found.lines(given))
    return _possible(_with_implied(map(parse, line) for line in lines))


def given_by(overrides: Sequence[str]) -> list[dict[str, str]]:
    """What overrides give beside an experiment, key -> override; of a list each value by itself."""
    found = combinations([parse(line) for line in _lines(overrides)], True, options)
    return [{name_of(one): str(one.input_line) for one in combination} for combination in found]


@dataclasses.dataclass(frozen=True)
class _Checked:
    """What became of the cells that words name.

    Attributes:
        cells: those without a mistake.
        accompanied: those of them that controls are to be added beside.
        errors: how often each mistake was made: a grid of a thousand cells has one a thousand
            times.
        known: what was asked about models and methods on the way.
    """

    cells: list[RunConfig] = dataclasses.field(default_factory=list)
    accompanied: list[RunConfig] = dataclasses.field(default_factory=list)
    errors: Counter[str] = dataclasses.field(default_factory=Counter)
    known: Known = dataclasses.field(default_factory=Known)


def _checked(found: Iterable[Sequence[Override]]) -> _Checked:
    checked = _Checked()
    for combination in found:
        own = [one for one in combination if one.key_or_group != BESIDE]
        try:
            accompanied = _is_accompanied(combination)
            cell = _cell(own, checked.known)
        except UsageErrors as error:
            checked.errors.update(error.errors)
            continue
        checked.cells.append(cell)
        if accompanied:
            checked.accompanied.append(cell)
    return checked


def _possible(found: Iterable[Sequence[Override]]) -> list[RunConfig]:
    """The cells of an experiment that can be; what others are left out for is a warning.

    Raises:
        UsageErrors: none can be.
    """
    checked = _checked(found)
    if checked.errors and not checked.cells:
        raise UsageErrors([UsageError(line) for line in checked.errors])
    _warn("the experiment", checked.errors)
    return [*checked.cells, *_controls(checked)]


def _warn(place: str, errors: Counter[str]) -> None:
    """Say what is left out of a grid, and why."""
    for line, count in errors.items():
        plural = "" if count == 1 else "s"
        log.warning("left out of %s, %d cell%s: %s", place, count, plural, line)


def _is_accompanied(overrides: Iterable[Override]) -> bool:
    """Whether controls are to be added beside a cell.

    Raises:
        UsageErrors: ``controls`` has another value than :data:`~unibench.beside.CONTROLS`.
    """
    given = [str(one.value()) for one in overrides if one.key_or_group == BESIDE]
    if wrong := [value for value in given if value not in CONTROLS]:
        raise UsageErrors(
            [unknown(BESIDE, wrong[0], CONTROLS, "one control alone: control=resize")]
        )
    return given[-1:] == ["standard"]


def _controls(checked: _Checked) -> list[RunConfig]:
    """The controls beside cells; those that cannot be are named by a warning.

    Raises:
        UsageErrors: none of them can be.
    """
    there = {repr(cell) for cell in checked.cells}
    added: list[RunConfig] = []
    errors: Counter[str] = Counter()
    for control in beside(checked.accompanied):
        if repr(control) in there:
            continue
        if wrong := list(mistakes(control, checked.known)):
            errors.update(map(str, wrong))
        else:
            added.append(control)
    if errors and not added:
        raise UsageErrors([UsageError(f"{BESIDE}=standard: {line}") for line in errors])
    _warn(f"{BESIDE}=standard", errors)
    return added


def is_experiment(overrides: Iterable[str]) -> bool:
    """Whether the overrides name an experiment, whose cells are taken one by one: some may be
    impossible.
    """
    return any(line.startswith("experiment=") for line in overrides)


def cell_overrides(overrides: Sequence[str], *, sweep: bool) -> Iterator[list[Override]]:
    """The overrides of each cell: experiments, suites and sweeps spelled out.

    Raises:
        UsageError: a line that cannot be read, or a file that does not exist.
    """
    parsed = [parse(line) for line in _lines(overrides)]
    names = [override for override in parsed if override.key_or_group == "experiment"]
    rest = [override for override in parsed if override.key_or_group != "experiment"]
    # without -m a comma list is a mistake, and has to be told as one
    grid = sweep or bool(names) or suites.has_suite(overrides)
    cells = combinations(rest, grid, options)
    if names:
        choices = [one for name in names for (one,) in combinations([name], True, options)]
        files = [_experiment_file(str(choice.value())) for choice in choices]
        cells = _experiment(files, list(cells))
    yield from _with_implied(cells)


def _with_implied(found: Iterable[Iterable[Override]]) -> Iterator[list[Override]]:
    for combination in found:
        inside = [_optional(override) for override in _unwrapped(list(combination))]
        yield [*inside, *_implied(inside)]


def _lines(overrides: Sequence[str]) -> list[str]:
    """The overrides of cells, suites spelled out; those of Hydra's own configuration are none."""
    lines = suites.spelled_out(overrides, CONFIGS / "suite")
    return [line for line in lines if not line.startswith("hydra")]


def _unwrapped(overrides: Sequence[Override]) -> list[Override]:
    """The overrides with ``method=divprune wrap=[cen_prune]`` written as what it stands for,
    ``method=cen_prune method.inner=divprune``; the first wrapper is the outermost.

    Vanilla, the reference of the others, is never wrapped.

    Raises:
        UsageError: ``wrap`` is no list of names.
    """
    given = [override for override in overrides if override.key_or_group == "wrap"]
    rest = [override for override in overrides if override.key_or_group != "wrap"]
    if not given:
        return rest
    line, value = str(given[-1].input_line), given[-1].value()
    entries = value if isinstance(value, list) else [value]
    nodes = [dict(registry.wrapper_of(line, entry)) for entry in entries]
    names = [str(override.value()) for override in rest if override.key_or_group == "method"]
    method = names[-1] if names else str(_written("method", _defaults())["name"])
    if not nodes or method == "vanilla":
        return rest
    # method's own overrides move inside with it, those of the wrapper stay outside
    inner: dict[str, Any] = {"source" if ".py" in method else "name": method}
    for override in rest:
        if name_of(override).startswith("method."):
            inner[name_of(override).removeprefix("method.")] = override.value()
    # from the innermost outwards
    for node in reversed(nodes[1:]):
        inner = {**node, "inner": inner}
    others = [override for override in rest if not name_of(override).startswith("method")]
    outer = {**nodes[0], "inner": inner if len(inner) > 1 else method}
    lines = [f"method={outer.pop('name')}"]
    return [*others, *map(parse, [*lines, *(f"method.{k}={_flow(v)}" for k, v in outer.items())])]


def _flow(value: Any) -> str:
    """A value in the grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return json.dumps(value) if isinstance(value, str) and not value.isidentifier() else str(value)


def _optional(override: Override) -> Override:
    """``task.score=anls`` as ``++task.options.score=anls``, and a file of one's own by its whole
    path, since a worker may run elsewhere.
    """
    group, _, key = name_of(override).partition(".")
    if group != "task" or key not in OPTIONS:
        return override
    value = str(override.input_line).partition("=")[2]
    if key == "score" and ".py:" in value:
        file, _, function = value.strip("'\"").rpartition(":")
        value = f"'{Path(file).expanduser().absolute()}:{function}'"
    return parse(f"++task.options.{key}={value}")


def _implied(overrides: Sequence[Override]) -> list[Override]:
    """The overrides that others imply: another way to state the budget replaces the ratio, and a
    control stands in the place of a method.
    """
    stated = {override.key_or_group: override.value() for override in overrides}
    others = [key for key in BUDGETS if key != "ratio" and stated.get(key) is not None]
    # a ratio that the user states too is a mistake for the budget to tell
    implied = [parse("ratio=null")] if others and "ratio" not in stated else []
    if stated.get("control", "none") != "none" and "method" not in stated:
        implied.append(parse("method=vanilla"))
    return implied


def _experiment(files: Iterable[Path], given: Sequence[list[Override]]) -> Iterator[list[Override]]:
    """The overrides of each cell of the experiments, with what the command line gives."""
    for file in files:
        read, said = experiment.read(file), set[str]()
        for combination in given:
            over = {name_of(override): str(override.input_line) for override in combination}
            replaced = read.replaced(over)
            if replaced and replaced not in said and read.is_protocol:
                said.add(replaced)
                log.warning(
                    "experiment=%s: %s, so its table will not be filled", file.stem, replaced
                )
            yield from ([parse(line) for line in lines] for lines in read.lines(over))


def _experiment_file(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        return Path(name).expanduser()
    if name not in options("experiment"):
        raise unknown(
            "experiment",
            name,
            options("experiment"),
            "python -m unibench list experiments; your own: experiment=./file.yaml",
        )
    return CONFIGS / "experiment" / f"{name}.yaml"


def _cell(overrides: Sequence[Override], known: Known) -> RunConfig:
    """One checked cell.

    Raises:
        UsageErrors: every mistake in it.
    """
    errors: list[UsageError] = []
    chosen: dict[str, str] = {}
    for override in overrides:
        if override.key_or_group in GROUPS:
            try:
                chosen[override.key_or_group] = option(override)
            except UsageError as error:
                errors.append(error)
    # & binds weaker than -: groups that were named and not found
    failed = {override.key_or_group for override in overrides} & set(GROUPS) - chosen.keys()
    lines: dict[str, list[str]] = {key: [] for key in _hints()}
    for override in overrides:
        key, line = name_of(override).partition(".")[0], str(override.input_line)
        if name_of(override) in NAMES or override.key_or_group in GROUPS or key in failed:
            continue  # the keys below a choice that does not exist are unknown
        try:
            _part(key, chosen.get(key), (*lines.get(key, ()), line))
            lines[key].append(line)
        except UsageError as error:
            errors.append(error)
            if key in BUDGETS:  # nothing more can be said about the budget
                failed |= set(BUDGETS)
                lines |= {budget: [] for budget in BUDGETS}
    try:
        cell = _called(assembled(chosen, lines), overrides)
        errors += mistakes(cell, known)
    except UsageError as error:
        errors.append(error)
    if errors:
        raise UsageErrors(errors)
    return cell


def _called(cell: RunConfig, overrides: Sequence[Override]) -> RunConfig:
    """A cell whose checkpoint or data have the name that the user gives them.

    Raises:
        UsageError: they are not his own, or the name is that of another card.
    """
    stated = {name_of(override): override.value() for override in overrides}
    own = {"task": ("task.data",), "model": ("model.path", "model.checkpoint")}
    for key in NAMES:
        if key not in stated:
            continue
        group, name = key.partition(".")[0], str(stated[key])
        part = cell.task if group == "task" else cell.model
        if not {*own[group]} & stated.keys():
            words = " or ".join(f"{word}=" for word in own[group])
            raise UsageError(f"unknown key {key!r}: only your own can be named, with {words}")
        if re.fullmatch(r"\w[\w.+-]{0,63}", name) is None:
            raise UsageError(f"{key}={name}: a word of letters, digits, _ . + - is wanted")
        if name in options(group) and name != part.name:
            raise UsageError(f"{key}={name} is the name of another {group}; choose one of your own")
        named: Any = dataclasses.replace(part, name=name, card=part.name)
        cell = dataclasses.replace(cell, **{group: named})
    return cell


def assembled(chosen: Mapping[str, str], lines: Mapping[str, Sequence[str]]) -> RunConfig:
    """What Hydra composes from choices and overrides, put together from parts that cells share.

    Args:
        chosen: group -> choice.
        lines: key of the root -> overrides below it.

    Raises:
        UsageError: a key that does not exist, or a value that does not fit.
    """
    parts = [_part(key, chosen.get(key), tuple(lines.get(key, ()))) for key in _hints()]
    values = {part.key: _built(part) for part in parts if not part.interpolated}
    # an interpolation may follow any key of the root, so the text is searched for their names
    text = " ".join(str(part.plain) for part in parts if part.interpolated)
    if text:
        # an interpolation names what it follows: cells that say the same there share the result
        named = [part for part in parts if part.interpolated or part.key in text]
        values |= _resolved(tuple(parts if "${${" in text else named))
    for name in ("out", "shared"):
        values[name] = values[name] and str(Path(values[name]).expanduser())
    return RunConfig(**values)


def option(override: Override) -> str:
    """The name under which Hydra finds the choice of an override such as ``method=./mine.py:Mine``.

    Raises:
        UsageError: there is none.
    """
    group, line, name = override.key_or_group, override.input_line, override.value()
    if not is_plain(override) or not isinstance(name, str | int | float):
        raise UsageError(f"{line}: a cell has one {group}; write {group}=<name>")
    if str(name) in options(group):
        return str(name)
    node = _described(group, str(name))
    if node is None:
        said = unknown(group, str(name), options(group), f"python -m unibench list {group}s")
        raise UsageError(f"{said}{catalogue.where(str(name)) if group == 'task' else ''}")
    # the content is in the name: a file that was edited meanwhile is another choice
    digest = hashlib.blake2b(json.dumps(node, default=str).encode(), digest_size=4).hexdigest()
    stored = f"external_{node['name']}_{digest}"
    ConfigStore.instance().store(group=group, name=stored, node=node)
    return stored


def _described(group: str, name: str) -> dict[str, Any] | None:
    """The configuration of a choice that no file here describes, None where there is none."""
    if group == "method":
        return registry.method(name).config()
    if group == "task" and ".py" in name:
        return registry.task(name).config()
    return catalogue.card(name) if group == "task" else None


def hydra_lines(overrides: Sequence[Override]) -> list[str]:
    """The overrides of a cell with each choice under the name by which Hydra finds it."""
    return [
        f"{override.key_or_group}={option(override)}"
        if override.key_or_group in GROUPS
        else str(override.input_line)
        for override in overrides
        if override.key_or_group != BESIDE
    ]


@cache
def register() -> None:
    """Make the schema, every method and every embedded task known to Hydra."""
    config.register()
    for group, cards in (("method", registry.methods()), ("task", registry.tasks())):
        for name, card in cards.items():
            ConfigStore.instance().store(group=group, name=name, node=card.config())


def composed(overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes. It takes 60 ms and more."""
    register()
    # Hydra keeps one composition per process, and a caller may have begun another
    GlobalHydra.instance().clear()
    with initialize_config_module("unibench.configs", version_base="1.3"):
        whole: DictConfig = compose("config", overrides=list(overrides))
    return whole


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """A key of a cell's configuration.

    Attributes:
        key: first word of the keys in it, for example model.
        lines: overrides that it was made with.
        node: a configuration of this key alone.
        plain: its value as YAML has it, interpolations as they are written.
        interpolated: whether there are any.
    """

    key: str
    lines: tuple[str, ...]
    node: DictConfig
    plain: Any
    interpolated: bool


@cache
def _part(key: str, choice: str | None, lines: tuple[str, ...]) -> _Part:
    """What Hydra composes below one key of a cell, from the overrides of this key.

    Composing takes 60 ms, and a plan has thousands of cells. The keys of the root do not depend on
    each other but by interpolations, which :func:`assembled` resolves, so each is composed once for
    all cells that say the same about it. Hydra does it, but for what makes nearly all of them: a
    choice without a defaults list is merged with its schema, and ``key=value`` updates, as Hydra
    does. ``tests/compose/test_hydra.py`` compares the two over all choices and forms.

    Raises:
        UsageError: a key that does not exist, or a value that does not fit.
    """
    line = lines[-1] if lines else f"{key}={choice}"
    with refusing(line):
        if not lines:
            node = _chosen(key, choice)
        else:
            override, node = parse(line), _part(key, choice, lines[:-1]).node.copy()
            _check_key(override, node)
            if is_plain(override):
                _update(node, override)
            else:
                group = [] if choice is None else [f"{key}={choice}"]
                node = _only(key, composed([*group, *lines]))
        plain = cast(dict[str, Any], OmegaConf.to_container(node, throw_on_missing=True)).get(key)
    return _Part(key, lines, node, plain, "${" in str(plain))


def _update(node: DictConfig, override: Override) -> None:
    try:
        OmegaConf.update(node, override.key_or_group, override.value(), merge=True)
    except ValidationError:
        wanted = schema.wanted(RunConfig, override.key_or_group)
        raise UsageError(f"{override.input_line}: {wanted} is wanted") from None


@cache
def _defaults() -> DictConfig:
    return composed([])


@cache
def _chosen(key: str, choice: str | None) -> DictConfig:
    """One key of the configuration, with a choice if it is a group; empty for an unknown key."""
    register()
    file = CONFIGS / key / f"{choice}.yaml"
    if key not in _hints():
        return OmegaConf.create()
    if choice is None:
        return _only(key, _defaults())
    # a defaults list or another package is Hydra's own work to read
    if file.is_file() and re.search(r"(?m)^defaults:|@package", file.read_text("utf-8")):
        return _only(key, composed([f"{key}={choice}"]))
    stored = None if file.is_file() else ConfigStore.instance().load(f"{key}/{choice}.yaml")
    given = {key: OmegaConf.load(file) if stored is None else stored.node}
    part = cast(DictConfig, OmegaConf.merge(_empty(key), given))
    # an unknown key is then an error and not a new entry
    OmegaConf.set_struct(part, True)
    return part


@cache
def _empty(key: str) -> DictConfig:
    """A configuration of one key, of the schema's type."""
    kind = dataclasses.make_dataclass(
        "Part", [(key, schema.without_literals(_hints()[key]), MISSING)]
    )
    empty: DictConfig = OmegaConf.structured(kind)
    return empty


def _only(key: str, whole: DictConfig) -> DictConfig:
    """A configuration of one key of a whole one."""
    part = _empty(key).copy()
    part[key] = _written(key, whole)
    OmegaConf.set_struct(part, True)
    return part


def _written(key: str, node: DictConfig) -> Any:
    """A value as it is written: an interpolation is not followed."""
    return dict(node.items_ex(resolve=False)).get(key, MISSING)


def _check_key(override: Override, node: DictConfig) -> None:
    """Refuse a key that does not exist, unless it may be added.

    Raises:
        UsageError: with the nearest key that exists.
    """
    key, known = name_of(override), _keys(node)
    adding = override.is_add() or override.is_force_add()
    if key in known or (adding and key.startswith(FREE)):
        return
    more = f" Keys may be added below {', '.join(start.rstrip('.') for start in FREE)}"
    raise UsageError(
        f"unknown key {key!r}.{nearest(key, known or _keys(_defaults()))}"
        f"{more if adding else ''} (python -m unibench --help)"
    )


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Every dotted key that may be set, inner nodes too; names are chosen, not set."""
    found: list[str] = []
    for key in map(str, node):
        if key in ("name", "card"):
            continue
        found.append(f"{prefix}{key}")
        # reading either would raise
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if OmegaConf.is_dict(inner := node[key]):
            found += _keys(inner, f"{prefix}{key}.")
    return found


@cache
def _hints() -> dict[str, Any]:
    """The types of a cell's configuration by key."""
    return get_type_hints(RunConfig)


@cache
def _built(part: _Part) -> Any:
    built = schema.build(_hints()[part.key], part.plain)
    return _placed(built) if part.key == "method" else built


def _placed(method: Mapping[str, Any]) -> dict[str, Any]:
    """A method with the files of this package (``pkg://...``) followed to their places."""
    return {
        key: str(model_path(value)) if str(value).startswith(INSIDE) else value
        for key, value in method.items()
    }


@cache
def _resolved(parts: tuple[_Part, ...]) -> dict[str, Any]:
    """The values of the parts that have interpolations, which follow each other and the others.

    A file of this package (``model.selector: pkg://...``) is followed to its place.
    """
    following = [part for part in parts if part.interpolated]
    lines = " ".join(line for part in following for line in part.lines if "${" in line)
    with refusing(lines or following[0].key):
        whole = OmegaConf.structured(schema.without_literals(RunConfig))
        for part in parts:
            whole[part.key] = _written(part.key, part.node)
        # tells what came from the environment, so that a stored configuration names the variable
        as_written = OmegaConf.to_container(whole, resolve=False)
        plain: Any = OmegaConf.to_container(whole, resolve=True)
        # where results lie is told by the results themselves
        places = {name: plain[name] for name in ("out", "shared")}
        plain = {**followed(as_written, {**plain, **dict.fromkeys(places)}), **places}
        values = {part.key: schema.build(_hints()[part.key], plain[part.key]) for part in following}
    if "method" in values:
        values["method"] = _placed(values["method"])
    return values
