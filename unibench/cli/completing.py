"""``completion``: what a shell offers while a command is typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from unibench.cli.parser import OVERRIDES, Options, Parser

BASH = """\
_unibench() {
    local line="${COMP_LINE:0:COMP_POINT}" cur i
    cur="${line##* }"
    local IFS=$'\\n'
    COMPREPLY=($(unibench completion words "line=$line" 2>/dev/null))
    # bash takes = for the end of a word, and wants what follows it alone
    if [[ $cur == *=* && $COMP_WORDBREAKS == *=* ]]; then
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]="${COMPREPLY[i]#"${cur%"${cur##*=}"}"}"
        done
    fi
}
complete -o nospace -F _unibench unibench
"""
SCRIPTS = {
    "bash": BASH,
    "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{BASH}",
    "fish": (
        "complete -c unibench -f -a"
        ' "(unibench completion words line=(commandline -cp | string collect) 2>/dev/null)"\n'
    ),
}
GROUPS = ("model", "method", "task")


def completion(options: Options) -> int:
    """``completion bash|zsh|fish``; ``completion words line=...`` is what the scripts ask."""
    if options.shell == "words":
        print("\n".join(words(options.line or "")))
    else:
        print(SCRIPTS[options.shell], end="")
    return 0


def words(line: str) -> list[str]:
    """What may stand in the place of the last word of a line, sorted."""
    try:
        before = shlex.split(line)
    except ValueError:  # a quotation mark that is still open
        return []
    typed = "" if line[-1:].isspace() or len(before) < 2 else before.pop()
    return sorted(word for word in set(_offered(before[1:], typed)) if word.startswith(typed))


def _offered(before: Sequence[str], typed: str) -> Iterator[str]:
    from unibench.cli.main import ACTIONS, EVERY, RUN

    key, equals, value = typed.partition("=")
    if equals:
        start, comma, _ = value.rpartition(",")
        yield from (f"{key}={start}{comma}{name}" for name in _values(key))
        return
    if not before:
        yield from EVERY
    if before == ["store"]:
        yield from ACTIONS
        return
    if before[:1] == ["store"] and before[1] in ACTIONS:
        verb = ACTIONS[before[1]]
    else:
        verb = EVERY.get(before[0], RUN) if before else RUN
    parser = Parser("", verb.summary)
    verb.arguments(parser)
    yield from parser.flags
    yield from (f"{name}=" for name in parser.settings)
    if parser.overrides:
        yield from (f"{name}=" for name in (*OVERRIDES, "experiment"))
    if len(before) == 1:
        yield from _positional(before[0])


def _positional(verb: str) -> Iterator[str]:
    """The first word after verbs that take one of a closed set."""
    from unibench.cli import parsers

    sets = {
        "list": tuple(parsers.KINDS),
        "show": tuple(parsers.KINDS.values()),
        "plot": parsers.PLOTS,
        "analyze": parsers.STUDIES,
        "completion": tuple(SCRIPTS),
    }
    yield from sets.get(verb, ())


def _values(key: str) -> Sequence[str]:
    """The names that a key may have."""
    from unibench.cli import parsers

    if key in (*GROUPS, "experiment"):
        from unibench.compose import options  # loads Hydra

        return options(key)
    return {
        "cluster": parsers.ENGINES,
        "format": parsers.FORMATS,
        "mode": parsers.MODES,
        "show": parsers.DETAILS,
    }.get(key, ())
