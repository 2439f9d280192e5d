"""Secrets: named where they lie, in the environment or a file, and written nowhere.

What follows the environment (``model.clip=${oc.env:CLIP}``) is a :class:`FromEnvironment`: used as
its value and stored as it was written.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from unibench.errors import UsageError

_TOKEN = (
    r"(?<![A-Za-z0-9_-])(?:sk|pk|rk)[-_]{least}|(?<![A-Za-z0-9])(?:hf_|gh[pousr]_|github_pat_"
    r"|glpat-|xox[abprs]-|AKIA|ASIA|AIza|ya29\.|npm_|pypi-|eyJ){least}"
)
TOKEN = re.compile(_TOKEN.replace("{least}", r"[\w.-]{16,}"))  # what providers give out
_ANY_TOKEN = re.compile(_TOKEN.replace("{least}", r"[\w.-]{4,}"))
_USER = re.compile(r"(?<=://)[^/\s@?#'\"]+@")
_PARAMETER = re.compile(
    r"(?i)([?&](?:api[_-]?key|key|token|access[_-]?token|secret|password|sig|signature)=)[^&\s'\"]+"
)
_KEPT_SECRET = re.compile(
    r"(?i)(?:^|_)(?:api)?keys?(?:$|_)|(?:^|_)tokens?(?:$|_)|secret|passw|credential|_pat$"
)
SHORT = 6  # a text of the environment of fewer signs is no secret
_used: dict[str, str] = {}  # secrets that were looked up, and what is shown in their place
_followed: dict[str, str] = {}  # values of the environment that a configuration took, as written


class FromEnvironment(str):
    """A text that a configuration takes from the environment.

    Attributes:
        written: how the configuration says so.
    """

    written: str

    def __new__(cls, value: str, written: str = "") -> FromEnvironment:
        made = super().__new__(cls, value)
        made.written = written
        if len(value) >= SHORT:
            _followed[str(value)] = written
        return made


def followed(written: Any, resolved: Any) -> Any:
    """A resolved value with its texts from the environment marked.

    Args:
        written: the same value with its interpolations.
        resolved: without.
    """
    if isinstance(resolved, Mapping):
        inner = written if isinstance(written, Mapping) else {}
        return {key: followed(inner.get(key), value) for key, value in resolved.items()}
    if isinstance(resolved, list):
        there = isinstance(written, list) and len(written) == len(resolved)
        before = written if there else [written] * len(resolved)
        return [followed(*pair) for pair in zip(before, resolved, strict=True)]
    text = str(written)
    if not isinstance(resolved, str) or "${" not in text:
        return resolved
    # an interpolation of another key may lead to the environment in turn
    leads = "oc.env:" in text or any(value in resolved for value in _followed)
    return FromEnvironment(resolved, text) if leads else resolved


def written(value: Any) -> Any:
    """A configuration as it is stored: what follows the environment as it was written.

    Raises:
        UsageError: it holds a secret.
    """
    if isinstance(value, Mapping):
        return {key: written(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [written(entry) for entry in value]
    if isinstance(value, FromEnvironment):
        return value.written
    if isinstance(value, str) and (kind := secret_in(value)) is not None:
        raise UsageError(f"a configuration holds {kind}, which would be stored")
    return value


def undisclosed(value: Any) -> Any:
    """An identity without texts from the environment: their digest stands in their place."""
    if not _followed:
        return value
    if isinstance(value, Mapping):
        return {key: undisclosed(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [undisclosed(entry) for entry in value]
    if isinstance(value, str):
        for text in _followed:
            if text in value:
                digest = hashlib.sha256(text.encode()).hexdigest()[:16]
                value = value.replace(text, f"environment:{digest}")
        return str(value)
    return value


@lru_cache(maxsize=1 << 16)  # cells of a grid have nearly all of their texts in common
def secret_in(text: str) -> str | None:
    """What kind of secret a text holds, which must not be stored; None if it holds none.

    >>> secret_in("https://judge.example/v1"), secret_in("https://me:word@judge.example/v1")
    (None, 'a user or password in a URL')
    """
    if _USER.search(text):
        return "a user or password in a URL"
    if _PARAMETER.search(text):
        return "a key in a URL"
    return "what looks like a key" if TOKEN.search(text) else None


def check_name(key: str, value: str) -> None:
    """Refuse a secret where the name of its place is wanted.

    Args:
        key: of the configuration.
        value: a variable of the environment, or a file.

    Raises:
        UsageError: the value is no name; it is not said what it is.
    """
    if ("/" in value and Path(value).expanduser().is_file()) or value in os.environ:
        return
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value) or TOKEN.search(value):
        raise UsageError(
            f"{key} wants the name of a variable of the environment that holds the key, such as"
            " OPENAI_API_KEY, or a file that holds it; what was given is neither (it is not shown,"
            " since it may be the key itself)"
        )


def secret_of(name: str, environment: Mapping[str, str]) -> str | None:
    """The secret that a variable of the environment, or a file, holds; None if it is not there."""
    if name in environment or "/" not in name:
        secret = environment.get(name)
    else:
        try:
            secret = Path(name).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    if secret is not None and len(secret) >= SHORT:
        _used[secret] = f"<{name}>"
    return secret


def hidden(text: str) -> str:
    """A text for people or a log, without secrets that it may quote.

    >>> hidden("POST https://me:word@judge.example/v1?key=abc failed")
    'POST https://***@judge.example/v1?key=*** failed'
    """
    for value, name in _values():
        if value in text:
            text = text.replace(value, name)
    text = _PARAMETER.sub(r"\1***", _USER.sub("***@", text))
    return _ANY_TOKEN.sub("***", text)


def hide_in_tracebacks() -> None:
    """Have the traceback of an error that nobody caught printed without secrets."""

    def show(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, place))
        print(hidden(text), end="", file=sys.stderr)

    sys.excepthook = show


def _values() -> Iterator[tuple[str, str]]:
    """Texts of the environment that are not to be shown, and what is shown in their place."""
    yield from _used.items()
    yield from ((value, f"<{written}>") for value, written in _followed.items())
    for name, value in os.environ.items():
        if len(value) >= SHORT and _KEPT_SECRET.search(name) and "/" not in value:
            yield value, f"<${name}>"
