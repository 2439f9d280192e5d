"""From what the user typed to checked cells: overrides, sweeps, names, values, all mistakes at
once.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unibench import config, experiment, registry, suites
from unibench.checks import mistakes, remarks
from unibench.config import INSIDE, ModelConfig, RunConfig, TaskConfig, model_path
from unibench.errors import UsageError, UsageErrors, nearest, unknown

log = logging.getLogger(__name__)

GROUPS = ("model", "method", "task")
HERE = Path(__file__).parent
CONFIGS = HERE / "configs" if (HERE / "configs").is_dir() else HERE.parent / "configs"
SCHEMAS = {"model": ModelConfig, "task": TaskConfig}
FREE = (
    "task.options.",
    "model.architecture.",
    "model.processor.",
    "model.pixels.",
)  # where +key=value may add


@cache
def options(group: str) -> list[str]:
    """Names of the YAML files of a group."""
    return sorted(
        path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_")
    )


def compose_cells(overrides: Sequence[str], *, sweep: bool) -> list[RunConfig]:
    """The checked configuration of every cell that the overrides name.

    Args:
        overrides: in Hydra's grammar, for example ``["method=divprune,fastv", "ratio=0.889"]``.
        sweep: whether comma lists make a grid (``-m``); an ``experiment=`` or a suite is one
            anyway.

    Raises:
        UsageErrors: every mistake found, before anything is loaded. Cells of an experiment that
            cannot be are left out with a warning that says why, as long as there are others.
    """
    parsed = _parsed(suites.spelled_out(overrides, CONFIGS / "suite"))
    names = [override for override in parsed if override.key_or_group == "experiment"]
    rest = [override for override in parsed if override.key_or_group != "experiment"]
    combinations = _combinations(rest, sweep or bool(names) or suites.has_suite(overrides))
    if names:
        combinations = _experiment(names, list(combinations))
    errors: Counter[str] = Counter()
    cells: list[RunConfig] = []
    for combination in combinations:
        try:
            cells.append(_cell(combination))
        except UsageErrors as error:
            errors.update(error.errors)
    if errors and not (names and cells):
        raise UsageErrors([UsageError(line) for line in errors])
    if not names:
        given = [override.get_key_element().lstrip("+~") for override in rest]
        for remark in remarks(cells, given):
            log.warning("%s", remark)
    for line, count in errors.items():
        log.warning(
            "left out of the experiment, %d cell%s: %s", count, "" if count == 1 else "s", line
        )
    return cells


def is_experiment(overrides: Iterable[str]) -> bool:
    """Whether the overrides name an experiment, whose cells are taken one by one: some may be
    impossible.
    """
    return any(line.startswith("experiment=") for line in overrides)


def _experiment(
    names: Iterable[Override], given: Sequence[Sequence[Override]]
) -> Iterator[list[Override]]:
    """The overrides of each cell of the experiments, with what the command line gives."""
    files = [_experiment_file(str(name)) for override in names for name in _values(override)]
    for file, combination in itertools.product(files, given):
        over = {
            override.get_key_element().lstrip("+~"): str(override.input_line)
            for override in combination
        }
        yield from (list(map(_override, lines)) for lines in experiment.read(file).lines(over))


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


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        return list(OverridesParser.create().parse_overrides(list(overrides)))
    except OverrideParseException as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UsageError(
            f"cannot read {error.override!r}: {reason}. Write key=value, for example ratio=0.889"
        ) from None


@cache
def _override(line: str) -> Override:
    """One override. Reading one takes milliseconds, and the cells of a grid share most of them."""
    (override,) = _parsed([line])
    return override


def _values(override: Override) -> list[Any]:
    return (
        list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.value()]
    )


def _combinations(overrides: list[Override], sweep: bool) -> Iterator[list[Override]]:
    """Each cell's overrides, sweeps spelled out, the last one given varying fastest."""
    axes: list[list[Override]] = []
    for override in overrides:
        if not override.is_sweep_override():
            axes.append([override])
            continue
        if not sweep:
            raise UsageError(
                f"{override.input_line} is a list: add -m to run one cell for each of its values"
            )
        key = override.get_key_element()
        axes.append([_override(f"{key}={value!s}") for value in _values(override)])
    yield from (list(combination) for combination in itertools.product(*axes))


def _cell(overrides: list[Override]) -> RunConfig:
    """One checked cell from simple overrides."""
    errors: list[UsageError] = []
    chosen: dict[str, str] = {}
    values: list[Override] = []
    for override in overrides:
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if key not in GROUPS:
            values.append(override)
            continue
        try:
            chosen[key] = _option(key, override.get_value_string())
        except UsageError as error:
            errors.append(error)
    failed = {
        override.key_or_group for override in overrides if override.key_or_group in GROUPS
    } - chosen.keys()
    plain = _plain(chosen)
    for override in values:
        group = override.get_key_element().lstrip("+~").partition(".")[0]
        if group in failed:
            continue  # its keys are those of a choice that does not exist
        try:
            _set(
                plain,
                *_converted(
                    ((group, chosen[group]),) if group in chosen else (), str(override.input_line)
                ),
            )
        except UsageError as error:
            errors.append(error)
    _follow(plain)
    cell = typed(plain)
    errors += mistakes(cell)
    if errors:
        raise UsageErrors(errors)
    return cell


def _option(group: str, name: str) -> str:
    """The name under which Hydra finds a choice of a group.

    Raises:
        UsageError: there is none.
    """
    if name in options(group):
        return name
    if group != "method":
        raise unknown(group, name, options(group), f"python -m unibench list {group}s")
    card = registry.method(name)
    node = card.config()
    stored = f"external_{card.name}_{hashlib.blake2b(str(card.path).encode(), digest_size=4).hexdigest()}"
    ConfigStore.instance().store(group="method", name=stored, node=node)
    return stored


@cache
def _composed(chosen: tuple[tuple[str, str], ...]) -> DictConfig:
    """The defaults, with at most one choice."""
    direct = _direct(*chosen[0]) if chosen else None
    if direct is not None:
        cell = _composed(()).copy()
        cell[chosen[0][0]] = direct
        return cell
    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_module("unibench.configs", version_base="1.3"):
        composed: DictConfig = compose(
            "config", overrides=[f"{group}={name}" for group, name in chosen]
        )
    return composed


def _direct(group: str, name: str) -> Any:
    """A choice whose file stands for itself, under its schema: what Hydra composes in twenty times
    the time.

    None for a file with a defaults list, and for a method that has no file.
    """
    file = CONFIGS / group / f"{name}.yaml"
    loaded = OmegaConf.load(file) if file.is_file() else None
    if not isinstance(loaded, DictConfig) or "defaults" in loaded:
        return None
    return OmegaConf.merge(SCHEMAS[group], loaded) if group in SCHEMAS else loaded


def _plain(chosen: dict[str, str]) -> dict[str, Any]:
    """The composed values of a combination of choices. Groups do not depend on each other; cells
    share the inner dictionaries.
    """
    return {
        **_container(()),
        **{group: _container(((group, name),))[group] for group, name in chosen.items()},
    }


@cache
def _container(chosen: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    found: Any = OmegaConf.to_container(_composed(chosen), resolve=False)
    return dict(found)


@cache
def _converted(chosen: tuple[tuple[str, str], ...], line: str) -> tuple[str, Any]:
    """Key and value of an override, checked against the schema and the choice it applies to.

    Raises:
        UsageError: the key does not exist, or the value is of another type.
    """
    override = _override(line)
    cell, key = _composed(chosen).copy(), override.get_key_element().lstrip("+~")
    if key not in _keys(cell) and not (override.is_add() and key.startswith(FREE)):
        more = (
            " Keys may be added below " + ", ".join(place.rstrip(".") for place in FREE)
            if override.is_add()
            else ""
        )
        raise UsageError(
            f"unknown key {key!r}.{nearest(key, _keys(cell))}{more} (python -m unibench --help)"
        )
    try:
        OmegaConf.update(cell, key, override.value(), force_add=override.is_add())
    except OmegaConfBaseException as error:
        raise UsageError(f"{line}: {str(error).splitlines()[0]}") from None
    value = OmegaConf.select(cell, key)
    return key, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _set(plain: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; dictionaries on the way are copied, since other cells have them too."""
    *path, last = key.split(".")
    for part in path:
        plain[part] = dict(plain.get(part) or {})
        plain = plain[part]
    plain[last] = copy.deepcopy(value)


def _follow(plain: dict[str, Any]) -> None:
    """Give a method's fields that say ``${model.x}`` the model's value; files of this package by
    their place.
    """
    method = dict(plain["method"])
    for key, value in method.items():
        if isinstance(value, str) and value.startswith("${model."):
            given = plain["model"][value.removeprefix("${model.").rstrip("}")]
            method[key] = str(model_path(given)) if str(given).startswith(INSIDE) else given
    plain["method"] = method


def typed(plain: Mapping[str, Any]) -> RunConfig:
    """A cell from plain values, as YAML and JSON have them."""
    cell: RunConfig = _built(RunConfig, plain)
    return cell


def _built(kind: type, plain: Mapping[str, Any]) -> Any:
    """A dataclass of the schema from plain values, the ones inside it too."""
    values = dict(plain)
    for name, inner in _inner(kind).items():
        given = values[name]
        if given is not None:
            values[name] = (
                [_built(inner, entry) for entry in given]
                if isinstance(given, list)
                else _built(inner, given)
            )
    return kind(**values)


@cache
def _inner(kind: type) -> dict[str, type]:
    """Fields of a dataclass that hold dataclasses, or lists of them."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        for inner in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                found[name] = inner
    return found


def _keys(node: Any, prefix: str = "") -> list[str]:
    """Every dotted key that may be set, inner nodes too; names are chosen, not set."""
    found: list[str] = []
    if isinstance(node, DictConfig) and not node._is_missing() and not node._is_none():
        for key in map(str, node):
            if key == "name":
                continue
            found += [f"{prefix}{key}", *_keys(node._get_node(key), f"{prefix}{key}.")]
    return found
