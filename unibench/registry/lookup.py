"""Finding a part by its name: its card from the cache, or from the class itself after an edit."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from unibench import __version__, jsoncache, paths
from unibench.annotations import fields_of
from unibench.errors import UsageError, unknown
from unibench.registry.cards import (
    Card,
    FamilyCard,
    MethodCard,
    TaskCard,
    from_plain,
    to_plain,
)
from unibench.registry.importing import (
    class_in,
    file_digest,
    import_part,
    own_files,
    own_line,
    place_of,
)

if TYPE_CHECKING:
    from unibench.pruning import Method
    from unibench.tasks import Task

log = logging.getLogger(__name__)
C = TypeVar("C", bound=Card)

# what a method or a family may import of this package
SOURCES = ("methods", "models", "ops", "pruning", "cost", "budget.py", "errors.py", "facts.py")
OWN = ("registry", "annotations.py")


def methods() -> dict[str, MethodCard]:
    """The methods in the repository and those of installed packages, by name."""
    return {**_own_methods(), **_entry_points()[0]}


def families() -> dict[str, FamilyCard]:
    """The model families, by name."""
    return _families()


def method(name: str) -> MethodCard:
    """The card of a method by name, or of ``path/to/file.py:Class``.

    Raises:
        UsageError: no such method, file or class; or its file cannot be imported.
    """
    if ".py:" in name or name.endswith(".py"):
        return _checked(_of_file("method", name), MethodCard)
    known, faults = methods(), _entry_points()[1]
    if name in known:
        return known[name]
    if name in faults:
        raise UsageError(f"method={name}: {faults[name]}")
    raise unknown(
        "method", name, known, "python -m unibench list methods; your own: method=./file.py:Class"
    )


def tasks() -> dict[str, TaskCard]:
    """The embedded tasks in the repository, by name."""
    return _own_tasks()


def task(target: str) -> TaskCard:
    """The card of an embedded task by ``module:Class``, or by ``path/to/file.py:Class``.

    Raises:
        UsageError: no such module, file or class, or it is no task.
    """
    if ".py:" in target or target.endswith(".py"):
        return _checked(_of_file("task", target), TaskCard)
    return _task(target)


def family_of(model_type: str) -> FamilyCard:
    """The family that serves a ``config.model_type``.

    Raises:
        UsageError: none does.
    """
    served = {kind: card for card in families().values() for kind in card.model_types}
    if model_type not in served:
        raise unknown("model type", model_type, served, "add a family: one file in models/")
    return served[model_type]


def serving(wants: frozenset[str]) -> list[str]:
    """Names of the families that provide what a method wants."""
    return [name for name, card in families().items() if wants <= card.provides]


def category(name: str, grouping: str) -> str:
    """The group of a method in a table: its ``category`` (where it cuts) or its ``aim``; ``other``
    for methods that are not known here.
    """
    card = methods().get(name)
    if card is None:
        return "other"
    return card.aim if grouping == "aim" else card.category


def parts_of(node: Mapping[str, Any]) -> list[MethodCard]:
    """The card of a configured method, and of the methods that its fields name.

    Args:
        node: ``name``, perhaps ``source``, and parameters.
    """
    card = method(str(node.get("source") or node["name"]))
    cards = [card]
    for key, options in card.submethods.items():
        # a method inside another may be a name alone, its own parts the defaults
        inner = node.get(key, card.parameters[key])
        cards += parts_of(submethod_node(inner, node.get(options) if options else None))
    return list({(part.path, part.class_name): part for part in cards}.values())


def build_method(name: str, /, **parameters: Any) -> Method:
    """A method by name (or ``file.py:Class``) with its parameters.

    Args:
        name: of the method.
        **parameters: of the method. For a field that holds another method: an instance, a name,
            ``file.py:Class`` or a mapping with ``name`` and parameters; and, beside it, the mapping
            that the field calls its ``options``.

    Raises:
        UsageError: no such method, no such parameter, or a value that the method refuses.
    """
    from unibench.pruning import Method

    card = method(name)
    if wrong := [key for key in parameters if key not in card.parameters]:
        raise unknown(
            f"parameter of method {name}",
            wrong[0],
            card.parameters,
            f"python -m unibench show method {name}",
        )
    cls = card.load()
    if not issubclass(cls, Method):
        raise UsageError(f"{card.class_name} in {card.path} is no subclass of unibench.Method")
    options = {key for key in card.submethods.values() if key is not None}
    allowed = fields_of(cls)
    values = {
        key: allowed[key].typed(value) for key, value in parameters.items() if key not in options
    }
    for key, options_key in card.submethods.items():
        more = parameters.get(options_key) if options_key else None
        if key in values or more:
            values[key] = _submethod(values.get(key, card.parameters[key]), more)
    built: Method = cls(**values)
    return built


def _submethod(value: Any, options: Mapping[str, Any] | None) -> Any:
    """The method that a field holds, from what a configuration says of it."""
    if not isinstance(value, (str, Mapping)):
        return value  # an instance; anything else is refused by the class
    node = submethod_node(value, options)
    name = str(node.pop("source", None) or node["name"])
    return build_method(name, **{key: entry for key, entry in node.items() if key != "name"})


def submethod_node(value: Any, options: Any) -> dict[str, Any]:
    """A field that holds a method, as the configuration of that method.

    Raises:
        UsageError: it names none, or its parameters are no mapping.
    """
    if options is not None and not isinstance(options, Mapping):
        raise UsageError(
            f"its parameters are {options!r}; a mapping is wanted, for example {{layer: 3}}"
        )
    if isinstance(value, str):
        return {"name": value, **(options or {})}
    if isinstance(value, Mapping) and ("name" in value or "source" in value):
        return {**value, **(options or {})}
    raise UsageError(
        f"{value!r} names no method; write a name, file.py:Class or {{name: fastv, layer: 3}}"
    )


def wrapper_of(line: str, entry: Any) -> Mapping[str, Any]:
    """A wrapper as ``wrap`` names it: a name, or a mapping with its parameters.

    Raises:
        UsageError: it is none.
    """
    node = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(node, Mapping) or not isinstance(node.get("name"), str):
        raise UsageError(
            f"{line}: wrap takes names of wrappers, or {{name: debias, prior: file}}, for example"
            " wrap=[cen_prune]"
        )
    card = method(node["name"])
    if "inner" not in card.submethods:
        cards = methods().items()
        known = ", ".join(sorted(name for name, one in cards if "inner" in one.submethods))
        raise UsageError(f"{line}: {node['name']} is no wrapper; known: {known}")
    return node


def build_task(target: str, name: str, options: Mapping[str, Any]) -> Task:
    """An embedded task with its options.

    Args:
        target: ``module:Class`` or ``path/to/file.py:Class``.
        name: of the task, for messages.
        options: arguments of the class.

    Raises:
        UsageError: no such class or option, or a value that the task refuses.
    """
    card = task(target)
    for key in options:
        if key not in card.options:
            raise unknown(f"option of task {name}", key, card.options)
    try:
        built: Task = card.load()(**options)
    except UsageError:
        raise
    except Exception as error:
        if card.outside and own_line(error, [card.path]):
            raise UsageError(place_of(error, card.path)) from None
        if not isinstance(error, (TypeError, ValueError)):
            raise
        raise UsageError(f"task.options of {name}: {' '.join(str(error).split())}") from None
    if not hasattr(built, "max_new_tokens"):
        raise UsageError(f"{card.path}: {card.class_name} has no max_new_tokens")
    return built


# -- the parts of the repository


@cache
def _own_methods() -> dict[str, MethodCard]:
    cards = _index("methods")
    return {name: card for name, card in cards.items() if isinstance(card, MethodCard)}


@cache
def _families() -> dict[str, FamilyCard]:
    cards = _index("models")
    return {name: card for name, card in cards.items() if isinstance(card, FamilyCard)}


@cache
def _own_tasks() -> dict[str, TaskCard]:
    cards = _index("tasks")
    return {name: card for name, card in cards.items() if isinstance(card, TaskCard)}


def _index(package: str) -> dict[str, Card]:
    """The cards of all files of ``methods``, ``models`` or ``tasks``, from the cache if nothing
    changed.
    """
    digest = tasks_digest() if package == "tasks" else core_digest()
    name = f"{package}-{digest}"
    try:
        stored = jsoncache.read(name)
        return {key: from_plain(plain) for key, plain in stored["cards"].items()}
    except (KeyError, TypeError, ValueError):
        cards = _asked(package, digest)
    jsoncache.write(name, {"cards": {key: to_plain(card) for key, card in cards.items()}})
    return cards


def _asked(package: str, digest: str) -> dict[str, Card]:
    """The cards of all files of a folder, from the classes themselves."""
    if package == "tasks":
        return dict(_asked_tasks(digest))
    from unibench.pruning import Family, Method
    from unibench.registry.declarations import family_card, method_card

    modules = {}
    for path in sorted(paths.part(package).glob("*.py")):
        if not path.name.startswith("_"):
            modules[path] = import_part(f"unibench.{package}.{path.stem}", path)
    if package == "models":
        classes = {path: class_in(module, path, Family) for path, module in modules.items()}
        return {
            path.stem: family_card(path.stem, cls, path, f"unibench.models.{path.stem}", digest)
            for path, cls in classes.items()
        }
    classes = {path: class_in(module, path, Method) for path, module in modules.items()}
    names = {cls: path.stem for path, cls in classes.items()}
    return {
        path.stem: method_card(
            path.stem, cls, path, f"unibench.methods.{path.stem}", digest, lambda: names
        )
        for path, cls in classes.items()
    }


def _asked_tasks(digest: str) -> Iterator[tuple[str, Card]]:
    """The embedded tasks by name: modules and packages, each with a class of that ``name``."""
    from unibench.registry.declarations import task_card

    folder = paths.part("tasks")
    for path in sorted([*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]):
        name = path.parent.name if path.stem == "__init__" else path.stem
        module = f"unibench.tasks.{name}"
        imported = import_part(module, path)
        for cls in vars(imported).values():
            if isinstance(cls, type) and cls.__dict__.get("name") == name:
                yield name, task_card(name, cls, path, module, digest)


@cache
def core_digest() -> str:
    """Hash of the source that methods and families are made of, and of where it lies."""
    return _digest((*SOURCES, *OWN))


@cache
def tasks_digest() -> str:
    """The same of embedded tasks."""
    return _digest(("tasks", "errors.py", *OWN))


def _digest(names: Iterable[str]) -> str:
    digest = blake2b(f"{__version__}:{paths.PACKAGE}".encode(), digest_size=8)
    for name in names:
        place = paths.part(name)
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(str(file).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


# -- the parts of users


@cache
def _entry_points() -> tuple[dict[str, MethodCard], dict[str, str]]:
    """The methods of installed packages, and what is wrong with those that cannot be used."""
    cards: dict[str, MethodCard] = {}
    faults: dict[str, str] = {}
    for point in entry_points(group="unibench.methods"):
        try:
            spec = importlib.util.find_spec(point.module)
            if spec is None or spec.origin is None:
                raise UsageError(f"there is no module {point.module}")
            card = _external("method", point.name, Path(spec.origin), point.module, point.attr)
            cards[point.name] = _checked(card, MethodCard)
        except (UsageError, ImportError) as error:
            faults[point.name] = str(error)
            log.warning("method %s of an installed package cannot be used: %s", point.name, error)
    return cards, faults


def _of_file(group: str, name: str) -> Card:
    path, _, class_name = name.partition(".py:")
    file = Path(path if path.endswith(".py") else path + ".py").expanduser().resolve()
    if not file.is_file():
        raise UsageError(f"{group}={name}: there is no file {file}")
    if not class_name:
        raise UsageError(
            f"{group}={name}: name the class as well, for example"
            f" {group}={name.rstrip(':')}:My{group.capitalize()}"
        )
    return _external(group, class_name.lower(), file, None, class_name)


_EXTERNAL: dict[tuple[str, Path, str], tuple[dict[str, tuple[int, int]], Card]] = {}


def _external(group: str, name: str, path: Path, module: str | None, class_name: str) -> Card:
    """The card of a user's method or task: from memory or the cache as long as no file of it
    changed.
    """
    known = _EXTERNAL.get((group, path, class_name))
    if known is not None and known[0] == _stats(known[0]):
        return known[1]
    place = blake2b(f"{path}:{class_name}:{module}".encode(), digest_size=8).hexdigest()
    stored = jsoncache.read(f"{group}-{place}")
    card = _unchanged(stored)
    if card is None:
        imported = import_part(module, path)
        files = {str(own): digest for own, digest in own_files(path, module).items()}
        card = _asked_external(group, name, imported, path, module, class_name, files)
        stored = {"core": core_digest(), "files": files, "card": to_plain(card)}
        jsoncache.write(f"{group}-{place}", stored)
    _EXTERNAL[group, path, class_name] = (_stats(stored["files"]), card)
    return card


def _checked(card: Card, kind: type[C]) -> C:
    assert isinstance(card, kind)
    return card


def _unchanged(stored: Mapping[str, Any]) -> Card | None:
    """The card in a cache file, if nothing it was made from has changed."""
    try:
        same = stored["core"] == core_digest() and all(
            file_digest(Path(path)) == content for path, content in stored["files"].items()
        )
        return from_plain(stored["card"]) if same else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _asked_external(
    group: str,
    name: str,
    imported: ModuleType,
    path: Path,
    module: str | None,
    class_name: str,
    files: Mapping[str, str],
) -> Card:
    from unibench.registry.declarations import method_card, task_card

    source = blake2b(f"{core_digest()}:{sorted(files.items())}".encode(), digest_size=8)
    base = object if group == "task" else _method_base()
    cls = class_in(imported, path, base, class_name)
    try:
        if group == "task":
            return task_card(name, cls, path, module, source.hexdigest())
        return method_card(name, cls, path, module, source.hexdigest(), _names)
    except UsageError:
        raise
    except Exception as error:  # it is made once, to see what holds under its defaults
        raise UsageError(place_of(error, path)) from None


def _method_base() -> type:
    from unibench.pruning import Method  # torch, which a task of one's own may do without

    return Method


def _names() -> dict[type, str]:
    """The names of the repository's own methods, by class."""
    return {card.load(): name for name, card in _own_methods().items()}


def _stats(files: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Time of change and size of files, which tell an edit without reading them."""
    found = {}
    for file in files:
        try:
            stat = os.stat(file)
            found[file] = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            found[file] = (0, 0)
    return found


# -- embedded tasks


@cache
def _task(target: str) -> TaskCard:
    from unibench.registry.declarations import task_card

    module, _, class_name = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # ValueError: an empty name
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(f"task.target={target}: there is no module {module}")
    path = Path(spec.origin)
    imported = import_part(module, path)
    cls = class_in(imported, path, object, class_name)
    return task_card(class_name, cls, path, module, "")
