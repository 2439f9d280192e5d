"""Importing the file or module of a part. Methods and families bring torch along."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from unibench.errors import UsageError, nearest
from unibench.paths import PACKAGE

_EXTERNAL = "unibench_external_"
# digests of the user's own modules when they were imported: an edited one is not imported again
_IMPORTED: dict[Path, str] = {}


def import_part(module: str | None, path: Path) -> ModuleType:
    """Import a module of a package, or a file outside any.

    Raises:
        UsageError: it cannot be imported; names the file, the line and the error.
    """
    try:
        # Python overlooks bytes of another encoding in comments; whoever reads the file does not
        importlib.util.decode_source(path.read_bytes())
        imported = importlib.import_module(module) if module else _import_file(path)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(place_of(error, path)) from None
    _refuse_stale(path, module)
    return imported


def class_in(module: ModuleType, path: Path, base: type, name: str | None = None) -> type[Any]:
    """A public class that a module defines, the first one if it is not named.

    Raises:
        UsageError: there is none, or it is of another kind.
    """
    own = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    if name is None:
        fitting = [cls for key, cls in own.items() if key[0] != "_" and issubclass(cls, base)]
        if not fitting:
            raise UsageError(f"{path} defines no subclass of {base.__name__}")
        return fitting[0]
    chosen = getattr(module, name, None)
    if not isinstance(chosen, type):
        names = sorted(key for key in own if key[0] != "_")
        raise UsageError(
            f"{path} defines no class {name!r}.{nearest(name, names)} It has"
            f" {', '.join(names) or 'none'}"
        )
    if not issubclass(chosen, base):
        line = line_of(chosen, rf"class\s+{name}\b")
        raise UsageError(f"{path} line {line}: {name} is no subclass of unibench.{base.__name__}")
    return chosen


def own_files(path: Path, module: str | None) -> dict[Path, str]:
    """The files of the user's that a part was made of, as far as they are imported: its own and
    those it imports from its folder or package. Each with its digest.
    """
    folder, package = path.resolve().parent, (module or "").partition(".")[0]
    if package == "unibench":
        return {}
    files = {path}
    for name, imported in list(sys.modules.items()):
        file = Path(getattr(imported, "__file__", None) or "")
        if file.suffix != ".py" or name.startswith(("unibench.", _EXTERNAL)):
            continue
        beside = file.is_relative_to(folder) and "site-packages" not in file.parts
        if name.partition(".")[0] == package if package else beside:
            files.add(file)
    return {file: file_digest(file) for file in sorted(files)}


def file_digest(path: Path) -> str:
    """Hash of a file's content; empty if it is gone."""
    try:
        return blake2b(path.read_bytes(), digest_size=8).hexdigest()
    except OSError:
        return ""


def _import_file(path: Path) -> ModuleType:
    """A file under a name that stands for its path and content: an edited file is imported anew."""
    digest = blake2b(f"{path}:{file_digest(path)}".encode(), digest_size=8).hexdigest()
    name = f"{_EXTERNAL}{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _refuse_stale(path: Path, module: str | None) -> None:
    """Python imports a module once: one that is edited later would still run as it was."""
    for file, digest in own_files(path, module).items():
        if file == path and module is None:
            continue  # imported anew under another name
        if _IMPORTED.setdefault(file, digest) != digest:
            raise UsageError(f"{file} was edited after it was imported; restart Python to use it")


def place_of(error: BaseException, path: Path) -> str:
    """File, line, source and message of an error in a user's file, or in one beside it that it
    imports.
    """
    if isinstance(error, UnicodeDecodeError) and error.object == _bytes(path):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"{path} line {line}: byte {error.object[error.start]:#x} is no UTF-8"
    if isinstance(error, SyntaxError):
        file = error.filename if error.filename and Path(error.filename).is_file() else path
        place = f" line {error.lineno}" if error.lineno else ""
        source = " ".join((error.text or "").split())
        return f"{file}{place}: {source + ': ' if source else ''}{error.msg}"
    message = " ".join(str(error).split()) or "no reason given"
    return f"{own_line(error, [path]) or path}: {type(error).__name__}: {message}"


def own_line(error: BaseException, files: Iterable[Path]) -> str | None:
    """File, line and source of the last call that an error passes in a user's files, or in others
    of their folders; None if there is none.
    """
    folders = {file.resolve().parent for file in files}
    named = {file.resolve() for file in files}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename).resolve()
        beside = not _is_installed(file) and any(map(file.is_relative_to, folders))
        if file in named or beside:
            source = f": {frame.line}" if frame.line else ""
            return f"{frame.filename} line {frame.lineno}{source}"
    return None


def _is_installed(file: Path) -> bool:
    """Whether a file is of a package, or of unibench itself, wherever these lie."""
    return "site-packages" in file.parts or file.is_relative_to(PACKAGE)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def line_of(cls: type, pattern: str) -> int:
    """Line of the source file where a class or a field of it begins, 0 if it cannot be read."""
    try:
        lines, start = inspect.getsourcelines(cls)
    except (OSError, TypeError):
        return 0
    for offset, line in enumerate(lines):
        if re.match(rf"\s*{pattern}", line):
            return start + offset
    return start
