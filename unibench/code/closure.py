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
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unibench import digests, jsoncache, paths
from unibench.code.modules import MISSING, NAME, Finder, Module, Package, bytes_of
from unibench.code.source import Dotted, Target

ACTS, WHOLE = "<statements>", "<whole>"  # what else of a module can be reached than a name
Definition = tuple[Module, str]  # a module with a name of it, or one of the two above
Imports = Mapping[str, tuple[Target, ...]]


@dataclass(frozen=True)
class Reach:
    """What some code reaches.

    Attributes:
        digests: of each definition, by ``module:name``.
        files: of the modules outside this package, by import name.
        missing: what was not found.
    """

    digests: Mapping[str, str]
    files: Mapping[str, Path]
    missing: frozenset[str]

    @property
    def digest(self) -> str:
        """One digest for all of it."""
        return _hash(f"{name} {digest}" for name, digest in sorted(self.digests.items()))


class Code:
    """The source code of this package, and of what lies beside it as far as the package reaches it.

    Args:
        package: folder of unibench, or of a copy of it.
        outside: modules of the package that are not followed.
    """

    def __init__(self, package: Path = paths.PACKAGE, outside: Iterable[str] = ()) -> None:
        self.package = Package(package, tuple(outside))
        self._known: dict[tuple[str, ...], tuple[str, dict[Path, bytes]]] = {}

    def reach(self, roots: Iterable[str]) -> Reach:
        """Everything that definitions reach, themselves included.

        Args:
            roots: each ``module:name`` or ``/path/file.py:name``; the name :data:`WHOLE` stands for
                everything in it.

        Raises:
            UsageError: a file outside the package cannot be read.
            LookupError: there is no such definition.
        """
        walk = _Walk(Finder(self.package))
        for root in roots:
            walk.start(*root.rpartition(":")[::2])
        return walk.end()

    def digest(self, roots: Iterable[str]) -> str:
        """The digest of :meth:`reach`, remembered until a file outside the package changes.

        Those of the package's own code are remembered by the next process too.
        """
        wanted = tuple(roots)
        digest, files = self._known.get(wanted, ("", {}))
        # by content and not by time: an editor may save the same text, or a copy keep the time
        if digest and all(file.is_file() and bytes_of(file) == files[file] for file in files):
            return digest
        name = " ".join(wanted)
        if name in self._stored:
            self._known[wanted] = self._stored[name], {}
            return self._stored[name]
        reach = self.reach(wanted)
        if reach.missing:
            return reach.digest  # it may be there the next time
        self._known[wanted] = reach.digest, {file: bytes_of(file) for file in reach.files.values()}
        if not reach.files:
            self._stored[name] = reach.digest
            jsoncache.write(self._cache_name, self._stored)
        return reach.digest

    @cached_property
    def _stored(self) -> dict[str, str]:
        """Digests that another process computed of the same files."""
        return {key: str(digest) for key, digest in jsoncache.read(self._cache_name).items()}

    @cached_property
    def _cache_name(self) -> str:
        """Name under which the digests of the package's files, as they are, are stored."""
        # another Python parses another tree
        state: list[Any] = [sys.version_info[:2], self.package.outside]
        state += [(name, digests.stamp(file)) for name, file in self.package.files().items()]
        return f"code-{_hash([json.dumps(state)])}"


class _Walk:
    """One walk from definition to definition. A string stands for what is not followed."""

    def __init__(self, modules: Finder) -> None:
        self._modules = modules
        self._digests: dict[str, str] = {}
        self._missing: set[str] = set()
        self._seen: set[Definition] = set()
        self._pending: list[Definition] = []
        self._open: set[tuple[Module, Dotted, bool]] = set()
        self._run: set[Target] = set()  # imports whose modules are noted

    def start(self, where: str, name: str) -> None:
        """Add a root: a name in a module, or in a file."""
        if where.endswith(".py"):
            module: Module | str = self._modules.file(Path(where))
        else:
            module = self._modules.follow(where)
        found: list[Definition | str] = []
        if not isinstance(module, str):
            found = [(module, WHOLE)] if name == WHOLE else list(self._named(module, {}, (name,)))
        if not found:
            raise LookupError(f"{where} does not define {name}")
        self._add(found)

    def end(self) -> Reach:
        """Walk until nothing is new."""
        while self._pending:
            definition = self._pending.pop()
            if definition not in self._seen:
                self._seen.add(definition)
                self._visit(*definition)
        files = {module.name: module.file for module, _ in self._seen if module.file is not None}
        return Reach(self._digests, files, frozenset(self._missing))

    def _add(self, found: Iterable[Definition | str]) -> None:
        for definition in found:
            if not isinstance(definition, str):
                self._pending.append(definition)
            elif definition.startswith(MISSING):
                self._missing.add(definition)

    def _visit(self, module: Module, name: str) -> None:
        """Note a definition, and what it leads to."""
        source = module.source
        if name == WHOLE:
            self._add((module, each) for each in (*source.names, ACTS))
            for alias in source.imports:
                self._add(self._meant(module, {}, (alias,)))
            return
        lines = []
        loads = {Target(module.name)} | (source.loads if name == ACTS else set())
        for statement in source.acts if name == ACTS else source.names[name]:
            lines.append(statement.digest)
            loads |= statement.loads
            for dotted in sorted(statement.uses):
                found = list(self._meant(module, statement.imports, dotted))
                self._add(found)
                # the same words mean another thing once an import is changed
                lines += [f"{'.'.join(dotted)}={_label(definition)}" for definition in found]
            if statement.dynamic:
                self._add((each, WHOLE) for each in (module, *self._modules.beside(module)))
        for target in loads - self._run:
            self._add(self._loaded(target))
        self._run |= loads
        self._add([(module, ACTS)])
        if lines:
            label = _label((module, name))  # two files may have one name
            self._digests[label] = self._digests.get(label, "") + _hash(lines)

    def _meant(
        self, module: Module, imports: Imports, dotted: Dotted
    ) -> Iterator[Definition | str]:
        """What a dotted name means. A library that this package can do without is one like the
        others where it is not installed: no digest says whether it is.
        """
        for found in self._named(module, imports, dotted):
            if isinstance(found, str) and module.file is None and f"{MISSING}{NAME}." not in found:
                yield found.removeprefix(MISSING)
            else:
                yield found

    def _named(
        self, module: Module, imports: Imports, dotted: Dotted
    ) -> Iterator[Definition | str]:
        """What a dotted name means in a module, or in a function with imports of its own."""
        source, name = module.source, dotted[0]
        # a function may import a name that its module has as well
        step = (module, dotted, name in imports)
        if step in self._open:
            return  # modules that import a name from each other
        self._open.add(step)
        targets = imports.get(name) or source.imports.get(name) or source.lazy.get(name) or ()
        for target in targets:
            yield from self._imported(target, dotted[1:])
        if name in source.names and name not in imports:
            yield module, name
        elif not targets:
            for star in map(self._modules.find, source.stars):
                if not isinstance(star, str):
                    yield from self._named(star, {}, dotted)
        self._open.discard(step)

    def _imported(self, target: Target, dotted: Dotted) -> Iterator[Definition | str]:
        """What an import means, with the attributes that follow it."""
        module = self._modules.find(target.module)
        dotted = dotted if target.attribute is None else (target.attribute, *dotted)
        while dotted and not isinstance(module, str):
            if found := list(self._named(module, {}, dotted)):
                yield from found
                return
            inner = self._modules.find(f"{module.name}.{dotted[0]}") if module.folders else MISSING
            if isinstance(inner, str) and inner.startswith(MISSING):
                break  # an attribute that only the running module knows
            module, dotted = inner, dotted[1:]
        yield ".".join((module, *dotted)) if isinstance(module, str) else (module, WHOLE)

    def _loaded(self, target: Target) -> Iterator[Definition]:
        """The statements that an import runs: of the packages around a module, of itself, and of
        the submodule that an attribute may be.
        """
        parts = target.module.split(".")
        names = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
        module = self._modules.find(target.module)
        if target.attribute and not isinstance(module, str) and module.folders:
            names.append(f"{target.module}.{target.attribute}")
        for found in map(self._modules.find, names):
            if not isinstance(found, str):
                yield found, ACTS


def _label(definition: Definition | str) -> str:
    return definition if isinstance(definition, str) else f"{definition[0].name}:{definition[1]}"


def _hash(lines: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()
