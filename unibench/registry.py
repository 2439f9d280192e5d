"""What exists, read from the source files without importing them: listing stays fast and needs no
torch.

A method is ``methods/<name>.py`` with one dataclass; a family is ``models/<name>.py`` with one
subclass of ``Family``. Files whose names start with an underscore are private.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from unibench.errors import UsageError, unknown

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """One class as its source file describes it.

    Attributes:
        name: what users type.
        class_name: the class.
        path: its source file.
        module: its import name, or None for a file outside the package.
        doc: its docstring.
        parameters: default of each dataclass field; :data:`REQUIRED` where there is none.
        constants: class attributes with a literal value.
    """

    name: str
    class_name: str
    path: Path
    module: str | None
    doc: str
    parameters: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First paragraph of the docstring, on one line."""
        return " ".join(self.doc.strip().partition("\n\n")[0].split())

    @property
    def sections(self) -> dict[str, str]:
        """Sections of the docstring (``Paper: ...``, ``Attributes:`` and the lines below) on one
        line each, by lower-case title.
        """
        found: dict[str, list[str]] = {"": []}
        title = ""
        for line in self.doc.splitlines():
            start = re.match(r"([A-Z][a-z]+):(?:\s+(.*))?$", line)
            if start:
                title, line = start[1].lower(), start[2] or ""
            elif line and not line.startswith(" "):
                title = ""
            found.setdefault(title, []).append(line.strip())
        return {key: " ".join(" ".join(lines).split()) for key, lines in found.items()}

    def load(self) -> type[Any]:
        """Import the class."""
        module = importlib.import_module(self.module) if self.module else _import_file(self.path)
        loaded: type[Any] = getattr(module, self.class_name)
        return loaded


REQUIRED = object()


@cache
def methods() -> dict[str, Card]:
    """The methods in the repository and those of installed packages (entry points
    ``unibench.methods``).
    """
    found = _scan("methods")
    for point in entry_points(group="unibench.methods"):
        spec = importlib.util.find_spec(point.module)
        if spec is not None and spec.origin is not None:
            found[point.name] = _card(point.name, Path(spec.origin), point.module, point.attr)
    return found


@cache
def families() -> dict[str, Card]:
    """The model families."""
    return {name: card for name, card in _scan("models").items() if "model_types" in card.constants}


def method(name: str) -> Card:
    """The card of a method by name, or of ``path/to/file.py:Class``.

    Raises:
        UsageError: no such method, file or class.
    """
    if ".py:" in name or name.endswith(".py"):
        path, _, class_name = name.partition(".py:")
        file = Path(path if path.endswith(".py") else path + ".py").expanduser().resolve()
        if not file.is_file():
            raise UsageError(f"method={name}: there is no file {file}")
        if not class_name:
            raise UsageError(
                f"method={name}: name the class as well, for example method={name}:MyMethod"
            )
        return _card(class_name.lower(), file, None, class_name)
    known = methods()
    if name not in known:
        raise unknown(
            "method",
            name,
            known,
            "python -m unibench list methods; your own: method=./file.py:Class",
        )
    return known[name]


def family_of(model_type: str) -> Card:
    """The family that serves a ``config.model_type``."""
    known = {
        served: card for card in families().values() for served in card.constants["model_types"]
    }
    if model_type not in known:
        raise unknown("model type", model_type, known, "add a family: one file in models/")
    return known[model_type]


def serving(requires: frozenset[str]) -> list[str]:
    """Names of the families that provide what a method requires."""
    return [
        name
        for name, card in families().items()
        if requires <= card.constants.get("provides", frozenset())
    ]


def _scan(package: str) -> dict[str, Card]:
    folder = ROOT / package
    folder = folder if folder.is_dir() else ROOT.parent / package
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    return {path.stem: _card(path.stem, path, f"unibench.{package}.{path.stem}") for path in files}


def _card(name: str, path: Path, module: str | None, class_name: str | None = None) -> Card:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UsageError(f"{path} line {error.lineno}: {error.msg}") from None
    classes = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    chosen = [node for node in classes if class_name in (None, node.name)]
    if not chosen:
        raise UsageError(
            f"{path} defines no class {class_name!r}; it has"
            f" {', '.join(node.name for node in classes) or 'none'}"
        )
    node = chosen[0]
    parameters: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            into = constants if "ClassVar" in ast.unparse(line.annotation) else parameters
            into[line.target.id] = REQUIRED if line.value is None else _value(line.value)
        elif isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            constants[line.targets[0].id] = _value(line.value)
    return Card(name, node.name, path, module, ast.get_docstring(node) or "", parameters, constants)


def _value(node: ast.expr) -> Any:
    """A literal, ``frozenset({...})``, or the expression's text."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "frozenset":
        return frozenset(ast.literal_eval(node.args[0])) if node.args else frozenset()
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _import_file(path: Path) -> ModuleType:
    name = f"unibench_external_{path.stem}_{abs(hash(str(path)))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
