"""A parser for each verb: argparse, with the ``key=value`` words of unibench beside its options."""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, NoReturn

from unibench.errors import UsageError, UsageErrors, unknown

Options = argparse.Namespace
# as it was typed: both are the same, and a hint is copied from the screen
COMMAND = "unibench" if os.path.basename(sys.argv[0]) == "unibench" else "python -m unibench"
MOST = 10**15
OVERRIDES = ("model", "method", "task", "ratio", "retention", "keep", "seed", "pixels", "out")
"""Keys that other command lines write with dashes."""


class Parser(argparse.ArgumentParser):
    """The parser of a verb. Options, ``key=value`` words and names may stand in any order.

    A *setting* is a ``key=value`` word of the verb itself. Where the verb takes overrides, every
    other word is one of those.

    Args:
        verb: as it is typed; empty for the command without one.
        summary: one line.
    """

    def __init__(self, verb: str, summary: str) -> None:
        prog = f"{COMMAND} {verb}".strip()
        width = min(100, shutil.get_terminal_size((100, 24)).columns)
        super().__init__(
            prog=prog,
            description=f"{summary[:1].upper()}{summary[1:]}.",
            formatter_class=partial(
                argparse.RawDescriptionHelpFormatter, width=width, max_help_position=26
            ),
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
        )
        self.verb, self.overrides, self.example = verb, False, prog
        self.flags: list[str] = []
        self.meant: dict[str, str] = {}  # words that people try, and what does it here
        self.settings: dict[str, str] = {}  # key -> line of the help page
        self.flag("--help", "show this page")

    def takes(self, form: str, *, overrides: bool = False) -> None:
        """The words that follow the verb, for the help page.

        Args:
            form: ``NAME NAME ... [key=value ...]``.
            overrides: whether words that are no options and no settings are overrides of cells;
                they are in ``options.words``.
        """
        self.usage, self.overrides = f"{self.prog} {form}", overrides
        if overrides:
            self.add_argument("words", nargs="*", default=[], help=argparse.SUPPRESS)

    def flag(self, name: str, help: str, **more: Any) -> None:
        """An option without a value."""
        self.option(name, None, help, action="store_true", **more)

    def option(self, name: str, metavar: str | None, help: str, **more: Any) -> None:
        """An option with a value."""
        more = more if metavar is None else {"metavar": metavar, **more}
        self.add_argument(name, help=help, **more)
        self.flags.append(name)

    def setting(self, key: str, metavar: str, help: str, **more: Any) -> None:
        """A word ``key=value`` of the verb itself."""
        self.add_argument(f"--{key}", dest=key, help=argparse.SUPPRESS, **more)
        self.settings[key] = f"  {f'{key}={metavar}':22s}  {help}"

    def filters(self, *keys: str) -> None:
        """Settings that choose among results; ``options.filters`` holds those that are given."""
        for key in keys:
            self.add_argument(f"--{key}", dest=f"filter {key}", help=argparse.SUPPRESS)
            self.settings[key] = ""

    def examples(self, *lines: str) -> None:
        """Commands that the help page ends with; errors show the first one."""
        self.example = f"{self.prog} {lines[0]}"
        settings = [line for line in self.settings.values() if line]
        filters = [key for key, line in self.settings.items() if not line]
        if filters:
            settings += textwrap.wrap(
                f"{', '.join(f'{key}=' for key in filters)} choose among the results.",
                initial_indent="  ",
                subsequent_indent="  ",
                width=96,
            )
        blocks = [["examples:", *(f"  {self.prog} {line}" for line in lines)]]
        blocks = [["settings:", *settings], *blocks] if settings else blocks
        self.epilog = "\n\n".join("\n".join(block) for block in blocks)

    def read(self, words: Sequence[str]) -> Options:
        """The values of the options; ``mistakes``: what is wrong with them; ``given``: the words.

        Raises:
            UsageErrors: every mistake. With ``overrides`` they are returned instead, so that they
                can be told together with those of the cells.
        """
        mistakes: list[UsageError] = []
        left = [f"--{word}" if self._is_setting(word) else word for word in words]
        while True:
            try:
                options, more = self.parse_known_intermixed_args(left)
                break
            except argparse.ArgumentError as error:
                name = str(error.argument_name)
                mistakes.append(self._mistake(name, error.message))
                others = [word for word in left if word.partition("=")[0] != name]
                # the value of an option may be another word, which cannot be told from the rest
                if name in self.flags or len(others) == len(left):
                    raise UsageErrors(mistakes) from None
                left = others
        if not self.overrides:  # a name may hold a sign of equality: fastv+layer=3
            loose = getattr(options, "words", [])
            more += [word for word in loose if re.match(r"[^\W\d]\w*=", word)]
        dashed = [word for word in more if word.startswith("-")]
        mistakes += [self._unknown(_with_value(word, words)) for word in dashed or more]
        # after an unknown option, another word may be its value
        if mistakes and (dashed or not self.overrides):
            raise UsageErrors(mistakes)
        found = {key: getattr(options, f"filter {key}", None) for key in self.settings}
        options.filters = {key: value for key, value in found.items() if value is not None}
        options.mistakes, options.given = mistakes, list(words)
        return options

    def error(self, message: str) -> NoReturn:
        """What argparse says without naming an option: something is missing.

        Raises:
            UsageError: always.
        """
        missing = message.removeprefix("the following arguments are required: ")
        raise UsageError(f"{self.verb} what? {missing} is missing; for example {self.example}")

    def _is_setting(self, word: str) -> bool:
        key, equals, _ = word.partition("=")
        return bool(equals) and key in self.settings

    def _mistake(self, name: str, message: str) -> UsageError:
        """What argparse says of an option or a setting, as it was typed."""
        key = name.removeprefix("--")
        given = f"{key}=" if key in self.settings else f"{name} "
        if message.startswith("expected"):
            return UsageError(f"{given.strip()} needs a value")
        if message.startswith("ignored explicit argument"):
            return UsageError(f"{given}takes no value")
        return UsageError(message if message.startswith("unknown") else f"{given}{message}")

    def _unknown(self, word: str) -> UsageError:
        """The mistake of a word that the verb does not know."""
        key, equals, value = word.partition("=")
        if not word.startswith("-"):
            if equals and key.isidentifier():
                return unknown("setting", key, self.settings, f"{self.prog} --help")
            return UsageError(f"{self.verb} takes no {word!r}; for example {self.example}")
        known = {flag.lstrip("-"): flag for flag in self.flags} | self.meant
        if self.overrides:
            known |= {name: f"{name}={value or '...'}" for name in OVERRIDES}
        close = get_close_matches(key.lstrip("-"), known, n=1)
        meant = f" Did you mean {known[close[0]]}?" if close else ""
        return UsageError(f"unknown option {key}.{meant} See {self.prog} --help")


def _with_value(option: str, words: Sequence[str]) -> str:
    """An unknown option with the word behind it, which is likely to be its value."""
    place = words.index(option) + 1 if option in words else len(words)
    follows = words[place] if place < len(words) else "-"
    if "=" in option or "=" in follows or follows.startswith("-"):
        return option
    return f"{option}={follows}"


def count(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: a whole number is wanted")
    if len(text) > len(str(MOST)):  # iterators take no larger one, and int() no longer text
        raise argparse.ArgumentTypeError(f"{text[:30]} is too large; at most {MOST}")
    if int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is too small; at least {least}")
    return int(text)


def positive(text: str) -> float:
    """A number above 0."""
    number = real(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is too small; more than 0")
    return number


def real(text: str) -> float:
    """A finite number."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: a number is wanted") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text}: a finite number is wanted")
    return number


def one_of(kind: str, names: Collection[str]) -> Callable[[str], str]:
    """A closed set of names, with the nearest one in the error."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(str(unknown(kind, text, names)))
        return text

    return read
