"""What a stored configuration names, compared with what this installation has.

A stored configuration is data. What it names is looked up among the cards of this installation; a
target, a file of source or a callable that it names is never imported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unibench import registry
from unibench.compose import CONFIGS, options
from unibench.config import RunConfig, model_path, typed
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of
from unibench.store.data import UnreadableError, check_bounded, read_mapping, shown
from unibench.store.index import cells_below

# of a model: what is hashed for its key
FOLDERS = ("path", "clip", "selector", "adapter", "processor_path")


@dataclass(frozen=True)
class Judged:
    """Which cells of a store the present code and files would not write any more.

    Attributes:
        outdated: their configuration has another key now.
        unknown: why others cannot be judged, by folder; nothing removes them.
    """

    outdated: tuple[Path, ...]
    unknown: Mapping[Path, str]


def judged(folder: Path, trusted: Collection[str] = ()) -> Judged:
    """Compare every cell of a store with what its configuration would be called today.

    Args:
        folder: of results.
        trusted: methods in files of one's own, ``<path>:<class>``, that the user names; a stored
            name alone has no file opened.

    Raises:
        UsageError: there is no such folder.
    """
    outdated: list[Path] = []
    unknown: dict[Path, str] = {}
    for cell in cells_below(folder):
        try:
            # the folder's name is the key under which the cell was finished
            if cell_in(cell, trusted).key != cell.name:
                outdated.append(cell)
        except UsageError as error:
            unknown[cell] = str(error)
    return Judged(tuple(outdated), unknown)


def cell_in(folder: Path, trusted: Collection[str] = ()) -> Cell:
    """The cell that the configuration in a cell's folder is today.

    Raises:
        UsageError: it cannot be told without a stranger's code, or cannot be read.
    """
    try:
        stored = read_mapping(folder / "config.yaml")
        _check(stored, trusted)
        return cell_of(typed(stored))
    except UsageError:
        raise
    # whatever a value of another type leads to, it says nothing about the cell
    except Exception as error:
        raise UnreadableError(f"{type(error).__name__}: {shown(error)}") from None


def check_runnable(config: RunConfig) -> None:
    """Refuse to run a stored configuration that would start or ask what its author chose.

    Raises:
        UsageError: it names an interpreter, a server, or code of a checkpoint's own.
    """
    options = config.harness_options
    chosen = {
        "model.trust_remote_code": config.model.trust_remote_code,
        "harness_options.python": options.python,
        "harness_options.judge.url": options.judge.url,
    }
    for name, value in chosen.items():
        if value:
            raise UsageError(
                f"its configuration says {name}={shown(value)}, which nothing but a command may"
                " ask for; run the cell again instead"
            )


def own_target(task: Mapping[str, Any]) -> str | None:
    """What this installation's own card of a stored task has as its target.

    Raises:
        UsageError: there is no such card, or the stored task has another target.
    """
    # data of one's own may have a name of their own
    name, given = task.get("card") or task.get("name"), task.get("target")
    # a name is looked up among the files there are and never made into a path
    known = name in options("task")
    target = _target_of(str(name)) if known else None
    if not known or target != given:
        of = "" if given is None else f" ({shown(given)})"
        raise UsageError(
            f"task {shown(name)}{of} is not one of this installation; nothing of it is imported"
        )
    return None if target is None else str(target)


@cache
def _target_of(card: str) -> Any:
    if card in registry.tasks():
        return registry.tasks()[card].target
    return read_mapping(CONFIGS / "task" / f"{card}.yaml").get("target")


def _check(stored: Mapping[str, Any], trusted: Collection[str]) -> None:
    """Refuse a stored configuration whose key could not be told without a stranger's code.

    Raises:
        UsageError: what of it is not this installation's.
    """
    task, model, method = (stored.get(name) for name in ("task", "model", "method"))
    if not (
        isinstance(task, Mapping) and isinstance(model, Mapping) and isinstance(method, Mapping)
    ):
        raise UnreadableError("config.yaml lacks its task, model or method")
    own_target(task)
    for text in _texts(task.get("options")):
        if is_code(text) and text not in trusted:
            raise UsageError(
                f"its scorer is a file of its own, {shown(text)}, which is not opened; run the cell"
                " again instead"
            )
    for text in _texts(stored):
        if "${" in text:
            raise UsageError(
                f"its configuration follows the environment ({shown(text)}), which is not looked at"
                " for a stored one"
            )
    for text in _texts(method):
        if is_code(text) and text not in trusted:
            raise UsageError(
                f"its method is a file of its own, {shown(text)}, which is not opened unless the"
                f" command names it: --method {shown(text)}"
            )
    places = [*(model.get(name) for name in FOLDERS), task.get("data")]
    for text in {*_texts(method), *(place for place in places if isinstance(place, str))}:
        # names without a slash are cards or hub ids, and open nothing
        place = model_path(text)
        if "/" in text and place is not None and place.is_dir():
            check_bounded(place)


def is_code(text: str) -> bool:
    """Whether a stored text names a file of code."""
    return ".py:" in text or text.endswith(".py")


def _texts(value: Any) -> Iterator[str]:
    """Every string in a stored value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
