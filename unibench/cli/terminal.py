"""What the terminal is shown: text, whatever the names in it hold."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from unibench.errors import lines_shown

WIDTH = 160  # columns where there is no terminal


class Terminal(Console):
    """A console that takes no string for markup and shows control characters escaped.

    Names come from stores, and ``[/red]`` or an escape sequence may be one.
    """

    def __init__(self, **options: Any) -> None:
        width = None if sys.stdout.isatty() else WIDTH
        super().__init__(
            **{"width": width, "markup": False, "emoji": False, "highlight": False, **options}
        )

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(lines_shown(text), **options)


def say(text: object) -> None:
    """Print lines with control characters escaped."""
    print(lines_shown(text))
