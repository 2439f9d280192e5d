"""Errors in what the user gave: one line each, exit code 2, no traceback."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches


class UsageError(Exception):
    """Something the user gave cannot be used. The message says what was given and what is
    allowed.
    """


class UsageErrors(UsageError):  # noqa: N818
    """Every mistake of one command, found before anything is loaded."""

    def __init__(self, errors: Sequence[UsageError]) -> None:
        lines: list[str] = []
        for error in errors:
            lines += error.errors if isinstance(error, UsageErrors) else [str(error)]
        self.errors: list[str] = list(dict.fromkeys(lines))
        super().__init__("\n".join(self.errors))


def of_file(error: BaseException) -> UsageError | None:
    """The mistake that an error of the operating system about a named file is: it is another
    user's, a folder, gone. None for every other error.
    """
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return None
    return UsageError(f"{shown(_name(error.filename))}: {error.strerror}")


def _name(file: object) -> str:
    """The name of a file, or its descriptor."""
    return os.fsdecode(file) if isinstance(file, (str, bytes)) else str(file)


def shown(text: object) -> str:
    """A text of which nobody knows who wrote it, as one line that cannot act on a terminal.

    >>> print(shown("a" + chr(27) + "[31m" + chr(10) + "b"))
    a\\x1b[31m\\nb
    """
    line = str(text)
    if line.isprintable():
        return line
    escaped = (sign.encode("unicode_escape", "surrogatepass").decode() for sign in line)
    return "".join(
        sign if sign.isprintable() else other for sign, other in zip(line, escaped, strict=True)
    )


def lines_shown(text: object) -> str:
    """The same of several lines."""
    return "\n".join(map(shown, str(text).split("\n")))


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A clause that names the likeliest intended word, or nothing.

    >>> nearest("divprun", ["divprune", "fastv"])
    ' Did you mean divprune?'
    >>> nearest("xyz", ["divprune", "fastv"])
    ''
    """
    names = {name.lower(): name for name in allowed}
    match = [name for name in names.values() if len(given) > 2 and name.startswith(given)] or [
        names[low] for low in _closest(given.lower(), names)
    ]
    return f" Did you mean {match[0]}?" if match else ""


def _closest(given: str, names: Iterable[str]) -> list[str]:
    """The names most like a word, in the order of the alphabet; difflib alone would take the last
    of them (``lst``: lost, not list).
    """
    close = get_close_matches(given, names, n=3, cutoff=0.5)
    likeness = {name: SequenceMatcher(None, name, given).ratio() for name in close}
    return sorted(name for name in close if likeness[name] == max(likeness.values()))


def unknown(kind: str, given: str, allowed: Iterable[str], command: str = "") -> UsageError:
    """The error for a name that does not exist: the nearest one, all that exist, where to read
    more.
    """
    names = sorted(allowed)
    shown = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + ", ..."
    more = f" ({command})" if command else ""
    return UsageError(f"unknown {kind} {given!r}.{nearest(given, names)} Known: {shown}{more}")
