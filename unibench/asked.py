"""The questions and pictures that a stored cell was asked.

A stored configuration is data: what it names is compared with the task cards of this installation,
and only a card's own target is imported. So a page of a stranger's results runs none of the
stranger's code; where no card fits, the page shows the answers without pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from unibench import registry
from unibench.config import TaskConfig
from unibench.errors import UsageError
from unibench.identity import samples_digest
from unibench.paths import expanded
from unibench.store.cards import is_code, own_target
from unibench.store.data import (
    UnreadableError,
    check_bounded,
    parsed_json,
    read_bytes,
    seen_mapping,
    shown,
)
from unibench.tasks import Sample, Task

Scorer = dict[str, Callable[[str], float]]  # of an answer, by sample


def asked(folder: Path, wanted: set[str], count: int) -> dict[str, Sample]:
    """The samples of an embedded task, as the cell was asked them.

    Args:
        folder: of the cell.
        wanted: their ids.
        count: samples that the cell has; no more are looked through.

    Raises:
        UsageError: a harness keeps its pictures to itself; no card of this installation is the
            cell's task; or the data are not there any more or are others now.
    """
    config = _checked(folder)
    # pictures and questions take no scorer, so that a stranger's need not be refused
    options = {key: value for key, value in config.options.items() if key != "score"}
    config = replace(config, options=options)
    task, found = _task(config), dict[str, Sample]()
    for sample in islice(task.samples(config.limit), count):
        if sample.id in wanted:
            found[sample.id] = sample
        if len(found) == len(wanted):
            return found
    raise UsageError(
        f"{folder}: task {config.name} has no sample {shown(min(wanted - found.keys()))} any more"
    )


def scorer_of(
    folder: Path, count: int, known: dict[str, Scorer], trusted: Collection[str] = ()
) -> Scorer:
    """What scores the answers of a cell, by sample: the present task of this installation.

    Args:
        folder: of the cell.
        count: samples that the cell has.
        known: scorers of other cells, so that a task's samples are drawn once; added to.
        trusted: scorers in files of one's own, ``<path>:<function>``, that the user names.

    Raises:
        UsageError: as :func:`asked`; or the scorer is a file that nobody named.
    """
    config = _checked(folder)
    score = str(config.options.get("score") or "")
    if is_code(score) and score not in trusted:
        raise UsageError(
            f"{folder}: score not re-checked: its scorer is a file of its own, {shown(score)};"
            f" --score {shown(score)} runs it"
        )
    name = f"{config} {count}"
    if name not in known:
        task = _task(config)
        known[name] = {
            # without its pictures, of which there may be thousands
            sample.id: partial(task.score, replace(sample, images=()))
            for sample in islice(task.samples(config.limit), count)
        }
    return known[name]


def _checked(folder: Path) -> TaskConfig:
    """The task of a stored cell, if its data are those that the cell was asked about.

    Raises:
        UsageError: as :func:`asked`.
    """
    config = _config_of(folder)
    try:
        identity = parsed_json(read_bytes(folder / "identity.json"))
        known = identity["data"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder}: identity.json cannot be read") from None
    if config.data is not None:
        folder_of_data = expanded(config.data)
        if not folder_of_data.exists():
            raise UsageError(f"{shown(config.data)}: there is no such folder of pictures any more")
        check_bounded(folder_of_data)
    if known != samples_digest(config, "auto"):
        raise UsageError(
            f"{folder}: the pictures of task {config.name} are not those that this cell was asked"
            " about"
        )
    return config


def _config_of(folder: Path) -> TaskConfig:
    """The task of a stored cell under this installation's own card.

    Raises:
        UsageError: there is no such card, or the stored values are of other types.
    """
    stored = seen_mapping(folder / "config.yaml").get("task")
    if not isinstance(stored, Mapping):
        raise UnreadableError(f"{shown(folder)}: config.yaml has no task")
    if stored.get("kind") != "embedded":
        raise UsageError(
            f"{shown(folder)}: the harness of this task keeps its pictures; they are shown of"
            " embedded tasks"
        )
    name, target = stored.get("name"), own_target(stored)
    if target is None:
        raise UsageError(f"{shown(folder)}: task {shown(name)} draws no pictures here")
    data, limit, given = stored.get("data"), stored.get("limit"), stored.get("options") or {}
    plain = isinstance(given, dict) and all(
        isinstance(key, str) and (_is_plain(value) or _is_columns(key, value))
        for key, value in given.items()
    )
    if not (plain and isinstance(data, (str, type(None))) and _is_count(limit)):
        raise UnreadableError(f"{shown(folder)}: task of config.yaml has values of other types")
    return TaskConfig(name=str(name), target=target, limit=limit, data=data, options=dict(given))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, type(None)))


def _is_columns(key: str, value: Any) -> bool:
    """Whether it says which columns of a table hold what."""
    names = key == "columns" and isinstance(value, dict)
    return names and all(isinstance(one, str) for pair in value.items() for one in pair)


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _task(config: TaskConfig) -> Task:
    """A task whose target is that of this installation's own card."""
    data = {} if config.data is None else {"data": config.data}
    try:
        return registry.build_task(str(config.target), config.name, {**config.options, **data})
    except UsageError as error:  # it may quote what is stored
        raise UsageError(shown(error)) from None
