"""Where the modules of a program lie, found without importing them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from unibench.code.source import Source, read
from unibench.errors import UsageError

NAME = "unibench"
BESIDE = ("methods", "models", "tasks")  # folders of a checkout that links inside it lead to
MISSING = "missing "  # in front of the name of a module that is not found
ELSEWHERE = ("vllm",)  # of other environments: their versions are in a key by themselves
INSTALLED = ("site-packages", "dist-packages")
STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


@dataclass(frozen=True, eq=False)
class Module:
    """A module as its file describes it.

    Attributes:
        name: its import name; ``<stem>`` for a file that is given by its path.
        source: its statements.
        folders: where its submodules lie; empty for a plain module.
        file: the file, for a module outside this package.
    """

    name: str
    source: Source
    folders: tuple[Path, ...] = ()
    file: Path | None = None


class Package:
    """The modules of this package, each read once in the life of this object.

    What a process has imported does not change with its file either.

    Args:
        folder: of unibench, or of a copy of it.
        outside: modules that are not followed.
    """

    def __init__(self, folder: Path, outside: tuple[str, ...]) -> None:
        self.folder, self.outside = folder, outside
        self._known: dict[str, Module | str] = {}

    def find(self, name: str) -> Module | str:
        """A module by its import name; a string if it is missing or not followed."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def files(self) -> dict[str, Path]:
        """Every module, followed or not, and its file."""
        folders = {NAME: self.folder}
        for name in BESIDE:
            if not (self.folder / name).is_dir() or (self.folder / name).is_symlink():
                folders[f"{NAME}.{name}"] = self.folder.parent / name
        files = {}
        for name, folder in folders.items():
            for file in sorted(folder.rglob("*.py")):
                inner = file.relative_to(folder).with_suffix("").parts
                files[".".join((name, *inner)).removesuffix(".__init__")] = file
        return files

    def _read(self, name: str) -> Module | str:
        # with the dot, or unibench.codes would pass for a module inside unibench.code
        if any(f"{name}.".startswith(f"{outside}.") for outside in self.outside):
            return name
        parts = name.split(".")[1:]
        base = self.folder.joinpath(*parts)
        if parts and parts[0] in BESIDE and not (self.folder / parts[0]).is_dir():
            base = self.folder.parent.joinpath(*parts)  # a checkout without symbolic links
        return _module(name, base) or f"{MISSING}{name}"


class Finder:
    """The modules that one question meets; those outside the package are read anew for it.

    Args:
        package: this package.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._known: dict[str, Module | str] = {}
        self._followed: set[str] = set()
        self._near: list[str] = []

    def follow(self, name: str) -> Module | str:
        """A module that is asked for, and whose package counts although it may be installed."""
        self._followed.add(name.partition(".")[0])
        return self.find(name)

    def file(self, file: Path) -> Module:
        """A module that is given by the path of its file; what lies beside it can be imported.

        Raises:
            UsageError: there is no such file, or it is no Python.
        """
        known = self._known.get(str(file))
        if known is None or isinstance(known, str):
            self._near.append(str(file.parent))
            # another module that imports its name finds it on sys.path, or finds another
            known = Module(f"<{file.stem}>", _source(file, ""), (), file)
            self._known[str(file)] = known
        return known

    def beside(self, module: Module) -> list[Module]:
        """The other Python files in the folder of a module outside the package."""
        files = [] if module.file is None else sorted(module.file.parent.glob("*.py"))
        return [self.file(file) for file in files if file != module.file]

    def find(self, name: str) -> Module | str:
        """A module by its import name; a string if it is missing or not followed."""
        if name.partition(".")[0] == NAME:
            return self._package.find(name)
        if name not in self._known:
            self._known[name] = self._submodule(name) if "." in name else self._top(name)
        return self._known[name]

    def _submodule(self, name: str) -> Module | str:
        above, _, own = name.rpartition(".")
        package = self.find(above)
        if isinstance(package, str):
            return f"{package}.{own}"
        for folder in package.folders:
            if (module := _module(name, folder / own, outside=True)) is not None:
                return module
        return f"{MISSING}{name}"

    def _top(self, name: str) -> Module | str:
        if name in ELSEWHERE:
            return name
        spec = None if name in sys.stdlib_module_names else _spec(name, self._near)
        if spec is None:
            return name if name in sys.stdlib_module_names else f"{MISSING}{name}"
        folders = tuple(map(Path, spec.submodule_search_locations or ()))
        file = Path(spec.origin) if spec.origin is not None and spec.has_location else None
        place = next((path for path in (file, *folders) if path is not None), None)
        if place is None or (_is_installed(place) and name not in self._followed):
            return name
        if file is None:  # a folder without __init__.py
            return Module(name, read(b"", name), folders)
        if file.suffix != ".py":  # compiled
            return f"{name} {hashlib.blake2b(bytes_of(file), digest_size=8).hexdigest()}"
        return Module(name, _source(file, name if folders else ""), folders, file)


def bytes_of(file: Path) -> bytes:
    """The contents of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _spec(name: str, near: list[str]) -> ModuleSpec | None:
    """Where an import finds a top-level module, or where it lies in one of the folders."""
    try:
        # a top-level name only: for a dotted one find_spec would import its package
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    return found or PathFinder.find_spec(name, near)


def _is_installed(place: Path) -> bool:
    standard = any(place.is_relative_to(folder) for folder in STANDARD)
    return standard or bool({*INSTALLED} & {*place.parts})


def _module(name: str, base: Path, *, outside: bool = False) -> Module | None:
    """A module whose file is ``base.py`` or, for a package, ``base/__init__.py``."""
    plain, package = base.parent / f"{base.name}.py", base / "__init__.py"
    if package.is_file():
        return Module(name, _source(package, name), (base,), package if outside else None)
    if plain.is_file():
        source = _source(plain, name.rpartition(".")[0])
        return Module(name, source, (), plain if outside else None)
    return None


def _source(file: Path, package: str) -> Source:
    try:
        return read(bytes_of(file), package)
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UsageError(f"{file}{line}: {str(error).partition(' (<')[0]}") from None
