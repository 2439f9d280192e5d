"""What a class or function can reach: the digest of the code that decides what it does.

A digest covers every function, class and constant that the code reaches by name: through imports,
aliases, what a package's ``__init__`` hands on, base classes, decorators and default values. What
the modules imported on the way do beyond binding names is covered too. Nothing is imported to find
out, and a definition that nothing reaches is in no digest.

- A module that is used as a value (``getattr(ops, name)``), and one that reaches code by a computed
  name (``import_module(name)``, ``eval``, ``globals()``), counts as a whole; beside a file of one's
  own that does so, every Python file in its folder counts.
- Modules outside this package count unless they belong to the standard library or are installed in
  site-packages: what lies on ``sys.path`` or beside a file of one's own counts. A method of an
  installed package reaches the rest of that package.
- A module that is not found counts as missing, so that the digest changes once it is there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from unibench import digests, jsoncache
from unibench.errors import UsageError
from unibench.source import Chain, Source, Target, read

PACKAGE = Path(__file__).parent
BESIDE = ("methods", "models", "tasks")  # folders of a checkout that links lead to
ACTS, WHOLE = "<statements>", "<whole>"  # what else of a module can be reached than a name
MISSING = "missing "  # in front of the name of a module that is not found
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


@dataclass(frozen=True)
class Reach:
    """What some code reaches.

    Attributes:
        digests: of each definition, by ``module:name``.
        files: of the modules outside this package, by import name.
        missing: modules that were not found.
    """

    digests: Mapping[str, str]
    files: Mapping[str, Path]
    missing: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """One digest for all of it."""
        text = "\n".join(f"{name} {digest}" for name, digest in sorted(self.digests.items()))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Code:
    """The source code of this package, read as far as it is asked for.

    A file of the package is read once in the life of this object, since what a process has imported
    does not change either; files outside the package are read again for each question.

    Args:
        package: folder of unibench, or of a copy of it.
        outside: modules of the package that are not followed.
    """

    def __init__(self, package: Path = PACKAGE, outside: Iterable[str] = ()) -> None:
        self.package, self.outside = package, tuple(outside)
        self.modules: dict[str, Module | str] = {}
        self._known: dict[tuple[str, ...], tuple[str, dict[Path, bytes]]] = {}
        self._stored: dict[str, Any] | None = None

    def digest(self, roots: Iterable[str]) -> str:
        """The digest of :meth:`reach`, remembered as long as nothing that it covers changes.

        The digests of this package's own definitions are also remembered from one process to the
        next, for the names, sizes and times of the package's files.
        """
        wanted = tuple(roots)
        digest, files = self._known.get(wanted, (None, {}))
        if digest is not None and all(_is(file, text) for file, text in files.items()):
            return digest
        if self._stored is None:
            self._stored = jsoncache.read(self._place)
        name = " ".join(wanted)
        if name in self._stored:
            self._known[wanted] = str(self._stored[name]), {}
            return str(self._stored[name])
        reach = self.reach(wanted)
        if not reach.missing:  # what is missing may be there the next time
            self._known[wanted] = (
                reach.digest,
                {file: _bytes(file) for file in reach.files.values()},
            )
        if not reach.missing and not reach.files:
            self._stored[name] = reach.digest
            jsoncache.write(self._place, self._stored)
        return reach.digest

    def files(self) -> dict[str, Path]:
        """Every module of the package and its file."""
        folders = {"unibench": self.package}
        for name in BESIDE:
            if not (self.package / name).is_dir() or (self.package / name).is_symlink():
                folders[f"unibench.{name}"] = self.package.parent / name
        found = {}
        for name, folder in folders.items():
            for file in sorted(folder.rglob("*.py")):
                inner = file.relative_to(folder).with_suffix("").parts
                found[".".join((name, *inner)).removesuffix(".__init__")] = file
        return found

    @cached_property
    def _place(self) -> str:
        """Name of the file of remembered digests."""
        state = [(name, *digests.stamp(file)) for name, file in self.files().items()]
        text = json.dumps([sys.version_info[:2], self.outside, state])
        return f"code-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"

    def reach(self, roots: Iterable[str]) -> Reach:
        """Everything that definitions reach, themselves included.

        Args:
            roots: each ``module:name`` or ``/path/file.py:name``; the name :data:`WHOLE` stands for
                everything in it.

        Raises:
            UsageError: a file outside the package does not exist or is no Python.
            LookupError: there is no such definition.
        """
        walk = _Walk(self)
        for root in roots:
            walk.start(root)
        return walk.end()


class _Walk:
    """One question to a :class:`Code`.

    What is reached is a module with a name of it, or :data:`ACTS` or :data:`WHOLE` in the place of
    a name. A string stands for what is not followed.
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self.modules: dict[str, Module | str] = {}  # outside the package
        self.own: set[str] = set()  # installed packages whose methods are asked for
        self.near: list[str] = []  # folders of the files that are asked for
        self.found: dict[str, str] = {}
        self.seen: set[tuple[Module, str]] = set()
        self.pending: list[tuple[Module, str]] = []
        self.open: set[tuple[Module, Chain]] = set()

    def start(self, root: str) -> None:
        place, _, name = root.rpartition(":")
        if place.endswith(".py"):
            self.near.append(str(Path(place).parent))
            module: Module | str = self._of_file(Path(place))
        else:
            self.own.add(place.partition(".")[0])
            module = self.module(place)
            self.pending += self._loaded(Target(place))
        hits = [] if isinstance(module, str) else list(self._named(module, {}, (name,)))
        if name == WHOLE and not isinstance(module, str):
            hits = [(module, WHOLE)]
        if not hits:
            raise LookupError(f"{place} does not define {name}")
        self.pending += [hit for hit in hits if not isinstance(hit, str)]

    def end(self) -> Reach:
        while self.pending:
            place = self.pending.pop()
            if place not in self.seen:
                self.seen.add(place)
                self._visit(*place)
        files = {module.name: module.file for module, _ in self.seen if module.file is not None}
        missing = [name for name, module in self.modules.items() if module == f"{MISSING}{name}"]
        return Reach(self.found, files, tuple(missing))

    def _visit(self, module: Module, name: str) -> None:
        """Note a definition, and what it leads to."""
        source = module.source
        if name == WHOLE:
            self.pending += [(module, each) for each in (*source.names, ACTS)]
            for alias in source.imports:
                hits = self._named(module, {}, (alias,))
                self.pending += [hit for hit in hits if not isinstance(hit, str)]
            return
        loads = set(source.loads)
        if name != ACTS:
            loads = {Target(module.name)}
            self.pending.append((module, ACTS))
        lines = []
        for statement in source.acts if name == ACTS else source.names[name]:
            lines.append(statement.digest)
            loads |= statement.loads
            for chain in sorted(statement.uses):
                for hit in self._named(module, statement.imports, chain):
                    # the same words may mean another thing once an import is changed
                    what = hit if isinstance(hit, str) else f"{hit[0].name}:{hit[1]}"
                    lines.append(f"{'.'.join(chain)}={what}")
                    self.pending += [] if isinstance(hit, str) else [hit]
            if statement.dynamic:
                self.pending.append((module, WHOLE))
                self.pending += [(beside, WHOLE) for beside in self._beside(module)]
        for target in loads:
            self.pending += self._loaded(target)
        if lines:
            digest = hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()
            key = f"{module.name}:{name}"
            self.found[key] = self.found.get(key, "") + digest  # two files may have one name

    def _named(
        self, module: Module, imports: Mapping[str, tuple[Target, ...]], chain: Chain
    ) -> Iterator[tuple[Module, str] | str]:
        """What a dotted name means in a module, or in a function with imports of its own."""
        source, name = module.source, chain[0]
        if (module, chain) in self.open:
            return  # modules that import a name from each other
        self.open.add((module, chain))
        targets = imports.get(name) or source.imports.get(name) or source.lazy.get(name) or ()
        for target in targets:
            yield from self._imported(target, chain[1:])
        if name in source.names and name not in imports:
            yield module, name
        elif not targets:
            for star in map(self.module, source.stars):
                if not isinstance(star, str):
                    yield from self._named(star, {}, chain)
        self.open.discard((module, chain))

    def _imported(self, target: Target, chain: Chain) -> Iterator[tuple[Module, str] | str]:
        """What an import, and the attributes that follow it, mean."""
        module = self.module(target.module)
        chain = chain if target.attribute is None else (target.attribute, *chain)
        while chain:
            if isinstance(module, str):
                yield ".".join((module, *chain))
                return
            if hits := list(self._named(module, {}, chain)):
                yield from hits
                return
            inner = self.module(f"{module.name}.{chain[0]}") if module.folders else MISSING
            if isinstance(inner, str) and inner.startswith(MISSING):
                break  # found by __getattr__, or set from elsewhere
            module, chain = inner, chain[1:]
        yield module if isinstance(module, str) else (module, WHOLE)

    def _loaded(self, target: Target) -> Iterator[tuple[Module, str]]:
        """The modules that an import runs: the packages around it, itself, and a submodule."""
        parts = target.module.split(".")
        names = [".".join(parts[: place + 1]) for place in range(len(parts))]
        for name in names:
            if not isinstance(module := self.module(name), str):
                yield module, ACTS
        module = self.module(target.module)
        if target.attribute and not isinstance(module, str) and module.folders:
            inner = self.module(f"{target.module}.{target.attribute}")
            if not isinstance(inner, str):
                yield inner, ACTS

    def module(self, name: str) -> Module | str:
        """A module by its import name; a string if it is missing or not followed."""
        top = name.partition(".")[0]
        inside = top == "unibench"
        known = self.code.modules if inside else self.modules
        if name not in known:
            known[name] = self._inside(name) if inside else self._outside(name, top)
        return known[name]

    def _inside(self, name: str) -> Module | str:
        if any(f"{name}.".startswith(f"{outside}.") for outside in self.code.outside):
            return name
        package, parts = self.code.package, name.split(".")[1:]
        base = package.joinpath(*parts)
        if parts and not (package / parts[0]).is_dir() and not base.with_suffix(".py").is_file():
            base = package.parent.joinpath(*parts)  # a checkout without symbolic links
        return _module(name, base) or f"{MISSING}{name}"

    def _outside(self, name: str, top: str) -> Module | str:
        if top in sys.stdlib_module_names:
            return name
        if top != name:
            parent = self.module(name.rpartition(".")[0])
            if isinstance(parent, str):
                return f"{parent}.{name.rpartition('.')[2]}"
            bases = [folder / name.rpartition(".")[2] for folder in parent.folders]
            found = filter(None, (_module(name, base, outside=True) for base in bases))
            return next(found, f"{MISSING}{name}")
        spec = _spec(top, self.near)
        if spec is None:
            return f"{MISSING}{name}"
        folders = tuple(map(Path, spec.submodule_search_locations or ()))
        file = Path(spec.origin) if spec.origin is not None and spec.has_location else None
        place = file or folders[0]
        if top not in self.own and (
            {*INSTALLED} & {*place.parts} or any(place.is_relative_to(path) for path in STANDARD)
        ):
            return name
        if file is None:  # a folder without __init__.py
            return Module(name, read(b"", name), folders)
        if file.suffix != ".py":
            return f"{name} {hashlib.blake2b(_bytes(file), digest_size=8).hexdigest()}"
        return Module(name, _source(file, name if folders else ""), folders, file)

    def _of_file(self, file: Path) -> Module:
        """A module that is given by the path of its file."""
        known = self.modules.get(str(file))
        if known is None or isinstance(known, str):
            name = f"<{file.stem}>"  # not what another module imports by the same name
            known = self.modules[str(file)] = Module(name, _source(file, ""), (), file)
        return known

    def _beside(self, module: Module) -> list[Module]:
        """The other files of the folder of a module outside the package."""
        files = [] if module.file is None else sorted(module.file.parent.glob("*.py"))
        return [self._of_file(file) for file in files if file != module.file]


def _module(name: str, base: Path, *, outside: bool = False) -> Module | None:
    """A module whose file is ``base.py`` or, for a package, ``base/__init__.py``."""
    plain, package = base.parent / f"{base.name}.py", base / "__init__.py"
    if package.is_file():
        return Module(name, _source(package, name), (base,), package if outside else None)
    if plain.is_file():
        source = _source(plain, name.rpartition(".")[0])
        return Module(name, source, (), plain if outside else None)
    return None


def _spec(name: str, near: list[str]) -> ModuleSpec | None:
    """Where an import of a top-level module finds it, from a file in one of the folders."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    return found or PathFinder.find_spec(name, near)


def _source(file: Path, package: str) -> Source:
    try:
        return read(_bytes(file), package)
    except SyntaxError as error:
        raise UsageError(f"{file} line {error.lineno}: {error.msg}") from None
    except ValueError as error:
        raise UsageError(f"{file} is no Python file: {error}") from None


def _is(file: Path, text: bytes) -> bool:
    return file.is_file() and file.read_bytes() == text


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
