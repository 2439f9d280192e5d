"""From what the user typed to checked cells: overrides, sweeps, names, values, all mistakes at once."""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unibench import benchmark, config, registry, suites
from unibench.budget import Budget
from unibench.config import RunConfig
from unibench.errors import UsageError, UsageErrors, nearest, unknown

GROUPS = ("model", "method", "task")
HERE = Path(__file__).parent
CONFIGS = HERE / "configs" if (HERE / "configs").is_dir() else HERE.parent / "configs"
CHOICES = {
    "model.weights": ("pretrained", "random"),
    "model.dtype": ("float32", "bfloat16", "float16"),
    "model.attn": ("sdpa", "eager", "flash_attention_2"),
    "budget.mode": ("at_stage", "layer_average"),
    "budget.scope": ("sequence", "item"),
    "share": ("none", "memory", "disk"),
}
INSIDE = "pkg://unibench."  # a place inside this package
LEAST = {"batch_size": 1, "seed": 0, "task.limit": 1, "generation.max_new_tokens": 1, "share_mib": 1, "shards": 1}
FREE = ("task.options.", "model.architecture.", "model.processor.", "model.pixels.")  # where +key=value may add


@cache
def options(group: str) -> list[str]:
    """Names of the YAML files of a group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_"))


def compose_cells(overrides: Sequence[str], *, sweep: bool) -> list[RunConfig]:
    """The checked configuration of every cell that the overrides name.

    Args:
        overrides: in Hydra's grammar, for example ``["method=divprune,fastv", "ratio=0.889"]``.
        sweep: whether comma lists make a grid (``-m``); a suite is one anyway.

    Raises:
        UsageErrors: every mistake found, before anything is loaded.
    """
    errors: list[UsageError] = []
    cells: list[RunConfig] = []
    spelled_out = suites.spelled_out(overrides, CONFIGS / "suite")
    for combination in _combinations(_parsed(spelled_out), sweep or suites.has_suite(overrides)):
        try:
            cells.append(_cell(combination))
        except UsageErrors as error:
            errors += [UsageError(line) for line in error.errors]
    if errors:
        raise UsageErrors(errors)
    return cells


def budget_of(cell: RunConfig) -> Budget:
    """The budget of a cell; vanilla keeps everything."""
    if cell.method["name"] == "vanilla":
        return Budget.parse()
    if cell.ratio is None and cell.retention is None and cell.keep is None:
        return Budget.parse(ratio="0.889")
    return Budget.parse(cell.ratio, cell.retention, cell.keep)


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        return list(OverridesParser.create().parse_overrides(list(overrides)))
    except OverrideParseException as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UsageError(f"cannot read {error.override!r}: {reason}. Write key=value, for example ratio=0.889") from None


def _combinations(overrides: list[Override], sweep: bool) -> Iterator[list[Override]]:
    """Each cell's overrides, sweeps spelled out, the last one given varying fastest."""
    axes: list[list[Override]] = []
    for override in overrides:
        if not override.is_sweep_override():
            axes.append([override])
            continue
        if not sweep:
            raise UsageError(f"{override.input_line} is a list: add -m to run one cell for each of its values")
        key = override.get_key_element()
        axes.append(_parsed([f"{key}={value!s}" for value in override.sweep_string_iterator()]))
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
    failed = {override.key_or_group for override in overrides if override.key_or_group in GROUPS} - chosen.keys()
    plain = _plain(chosen)
    for override in values:
        group = override.get_key_element().lstrip("+~").partition(".")[0]
        if group in failed:
            continue  # its keys are those of a choice that does not exist
        try:
            _set(plain, *_converted(((group, chosen[group]),) if group in chosen else (), str(override.input_line)))
        except UsageError as error:
            errors.append(error)
    _follow(plain)
    cell = config.run_config(plain)
    errors += _mistakes(cell)
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
    if group != "method" or (name not in registry.methods() and ".py" not in name):
        raise unknown(group, name, options(group), f"python -m unibench list {group}s")
    card = registry.method(name)
    missing = [key for key, default in card.parameters.items() if default is registry.REQUIRED]
    if missing:
        raise UsageError(f"method={name}: {card.class_name} has no default for {', '.join(missing)}; give every field one")
    node = {"name": card.name, **({} if card.module else {"source": f"{card.path}:{card.class_name}"}), **card.parameters}
    stored = f"external_{card.name}_{hashlib.blake2b(str(card.path).encode(), digest_size=4).hexdigest()}"
    ConfigStore.instance().store(group="method", name=stored, node=node)
    return stored


@cache
def _composed(chosen: tuple[tuple[str, str], ...]) -> DictConfig:
    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_module("unibench.configs", version_base="1.3"):
        cell: DictConfig = compose("config", overrides=[f"{group}={name}" for group, name in chosen])
    return cell


def _plain(chosen: dict[str, str]) -> dict[str, Any]:
    """The composed values of a combination of choices, as plain dictionaries. Groups do not depend on each other."""
    plain = copy.deepcopy(_container(()))
    plain.update({group: copy.deepcopy(_container(((group, name),))[group]) for group, name in chosen.items()})
    return plain


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
    (override,) = _parsed([line])
    cell, key = _composed(chosen).copy(), override.get_key_element().lstrip("+~")
    if key not in _keys(cell) and not (override.is_add() and key.startswith(FREE)):
        more = " Keys may be added below " + ", ".join(place.rstrip(".") for place in FREE) if override.is_add() else ""
        raise UsageError(f"unknown key {key!r}.{nearest(key, _keys(cell))}{more} (python -m unibench --help)")
    try:
        OmegaConf.update(cell, key, override.value(), force_add=override.is_add())
    except OmegaConfBaseException as error:
        raise UsageError(f"{line}: {str(error).splitlines()[0]}") from None
    value = OmegaConf.select(cell, key)
    return key, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _set(plain: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key."""
    *path, last = key.split(".")
    for part in path:
        plain = plain.setdefault(part, {})
    plain[last] = copy.deepcopy(value)


def _follow(plain: dict[str, Any]) -> None:
    """Give a method's fields that say ``${model.x}`` the model's value; files of this package by their place."""
    for key, value in plain["method"].items():
        if isinstance(value, str) and value.startswith("${model."):
            given = plain["model"][value.removeprefix("${model.").rstrip("}")]
            plain["method"][key] = str(model_path(given)) if str(given).startswith(INSIDE) else given


def _value(cell: RunConfig, key: str) -> Any:
    """The value of a dotted key."""
    return functools.reduce(getattr, key.split("."), cell)


def _keys(node: Any, prefix: str = "") -> list[str]:
    """Every dotted key that may be set, inner nodes too; names are chosen, not set."""
    found: list[str] = []
    if isinstance(node, DictConfig) and not node._is_missing() and not node._is_none():
        for key in map(str, node):
            if key == "name":
                continue
            found += [f"{prefix}{key}", *_keys(node._get_node(key), f"{prefix}{key}.")]
    return found


def _mistakes(cell: RunConfig) -> Iterator[UsageError]:
    """What is wrong with the values of a cell, each with what is allowed."""
    try:
        budget_of(cell)
    except UsageError as error:
        yield error
    for key, allowed in CHOICES.items():
        if (given := _value(cell, key)) not in allowed:
            yield unknown(key, str(given), allowed)
    if cell.pixels not in cell.model.pixels:
        yield unknown(f"pixels of model {cell.model.name}", cell.pixels, cell.model.pixels)
    if cell.share != "none" and cell.timing:
        yield UsageError(f"share={cell.share} leaves the vision tower's time out of all cells but one: add timing=false")
    for key, least in LEAST.items():
        if (given := _value(cell, key)) is not None and given < least:
            yield UsageError(f"{key}={given} is too small; at least {least}")
    yield from _model_mistakes(cell)
    yield from _method_mistakes(cell)
    if cell.task.data is not None and not Path(cell.task.data).expanduser().is_dir():
        yield UsageError(f"task.data={cell.task.data}: there is no such folder")
    else:
        yield from benchmark.mistakes(cell)


def _model_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    families = registry.families()
    if cell.model.family not in families:
        yield unknown("family", cell.model.family, families)
        return
    path = model_path(cell.model.path)
    if path is None:
        return
    if not (path / "config.json").is_file():
        yield UsageError(f"model.path={cell.model.path}: there is no config.json in {path}; give the folder of a Hugging Face checkpoint")
        return
    found = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
    served = families[cell.model.family].constants["model_types"]
    if found not in served:
        yield UsageError(
            f"model.path={cell.model.path} holds a {found!r} checkpoint, "
            f"but model={cell.model.name} is of family {cell.model.family} ({', '.join(served)})"
        )


def _method_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    card = registry.method(cell.method.get("source", cell.method["name"]))
    for key, default in card.parameters.items():
        given = cell.method.get(key)
        if isinstance(default, str) and default in registry.methods():
            if given not in registry.methods():
                yield unknown(f"method.{key}", str(given), registry.methods())
        elif type(default) in (int, float, bool, str) and not _fits(given, default):
            yield UsageError(f"method.{key}={given}: {type(default).__name__} wanted, for example {default}")
    requires = frozenset().union(*(part.constants.get("requires", frozenset()) for part in parts_of(cell.method)))
    if cell.model.family in registry.families() and cell.model.family not in registry.serving(requires):
        served = ", ".join(registry.serving(requires)) or "no family yet"
        yield UsageError(
            f"method={cell.method['name']} needs {', '.join(sorted(requires))}, which family {cell.model.family} lacks; it runs on {served}"
        )


def parts_of(method: Mapping[str, Any]) -> list[registry.Card]:
    """The card of a configured method, and of the methods that its parameters name."""
    card = registry.method(method.get("source") or method["name"])
    named = [method.get(key) for key, default in card.parameters.items() if isinstance(default, str) and default in registry.methods()]
    return [card, *(registry.methods()[name] for name in named if name in registry.methods())]


def _fits(given: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(given, bool):
        return isinstance(given, bool) and isinstance(default, bool)
    return isinstance(given, (int, float) if isinstance(default, float) else type(default))


def model_path(path: str | None) -> Path | None:
    """The folder that ``model.path`` names; ``pkg://unibench.models/tiny/x`` lies inside the package."""
    if path is None:
        return None
    if path.startswith(INSIDE):
        inside = path.removeprefix(INSIDE)
        return HERE / inside if (HERE / inside).exists() else HERE.parent / inside
    return Path(path).expanduser()
