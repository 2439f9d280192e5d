"""One's own results set as papers set theirs: blocks by budget, the best of each column marked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from unibench.errors import UsageError, unknown
from unibench.plainyaml import loaded
from unibench.report import layout
from unibench.report.best import Candidate, ranked
from unibench.report.matching import config_name
from unibench.report.pairs import beyond
from unibench.report.table import Block, Entry, Line, Table

SHOWN = ("interval", "drop")
KINDS = ("methods", "models", "tasks")
PAPER = "paper"  # the names that the published tables are set with
MARKED = (
    "bold: the best of its block and column; underlined: the second. Neither where the paired 95 %"
    " interval of the difference to the next one reaches 0."
)


@dataclass(frozen=True)
class Names:
    """How names are written.

    Attributes:
        methods, models, tasks: the name to be set, by the name in the results.
    """

    methods: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, given: str | None) -> Names:
        """The names of a file, or with ``paper`` those of the published tables.

        Raises:
            UsageError: no such file, or it is no mapping of names.
        """
        if given is None:
            return cls()
        if given == PAPER:
            of_papers = layout.names()
            models = {config_name(name): text for name, text in of_papers["models"].items()}
            return cls(of_papers["methods"], models, of_papers["benchmarks"])
        return _named(Path(given).expanduser())


def _named(file: Path) -> Names:
    try:
        found = loaded(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"names={file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"names={file}: {' '.join(str(error).split())[:200]}") from None
    form = f"a mapping with {', '.join(KINDS)}, or {PAPER}, is wanted"
    if not isinstance(found, Mapping):
        raise UsageError(f"names={file}: {form}")
    for kind, names in found.items():
        if kind not in KINDS:
            raise unknown("kind of names", str(kind), KINDS, f"{file}: methods: {{fastv: FastV}}")
        if not isinstance(names, Mapping) or not all(isinstance(v, str) for v in names.values()):
            raise UsageError(f"names={file}: {kind}: {form}, each name a text")
    return Names(**{kind: {str(k): v for k, v in names.items()} for kind, names in found.items()})


def arranged(
    table: Table,
    *,
    sort: str | None = None,
    names: Names | None = None,
    show: Sequence[str] = (),
    marks: bool = True,
) -> Table:
    """A table of one's own results, arranged.

    Args:
        table: of :func:`unibench.report.grid`.
        sort: title of the column by which the methods of a block stand, best first; with ``-``
            before it, worst first.
        names: how names are written.
        show: what stands behind each score: its ``interval``, its ``drop`` against vanilla.
        marks: whether the best and the second are marked, which takes the samples.

    Raises:
        UsageError: no such column.
    """
    blocks = [part for block in table.blocks for part in _by_budget(block)]
    if sort is not None:
        blocks = [_sorted(block, table, sort) for block in blocks]
    if marks:
        blocks = [_marked(block) for block in blocks]
    if show:
        blocks = [_detailed(block, show) for block in blocks]
    lines = [line for block in blocks for line in block.lines]
    bold = any(entry.bold for line in lines for entry in line.entries)
    marked = [MARKED] if bold else []
    remarks = (*table.remarks, *marked, *_meaning(show))
    made = replace(table, blocks=tuple(blocks), remarks=remarks)
    return made if names is None else _renamed(made, names)


def _by_budget(block: Block) -> list[Block]:
    """Vanilla, and the methods of each budget under its own label, from the mildest on."""
    groups: dict[str, list[Line]] = {}
    for line in block.lines:
        groups.setdefault(line.labels[1], []).append(line)
    made = []
    for budget in sorted(groups, key=_severity):
        plain = budget == "0"
        label = block.label if plain else ", ".join(filter(None, (block.label, _meant(budget))))
        made.append(Block(label, tuple(groups[budget])))
    return made


def _severity(budget: str) -> tuple[int, float, str]:
    """Shares removed from small to large, then numbers kept from large to small."""
    number = re.search(r"\d*\.?\d+", budget)
    value = float(number[0]) if number else 0.0
    fraction = re.fullmatch(r"(\d+)/(\d+)", budget)
    if fraction and int(fraction[2]):
        value = int(fraction[1]) / int(fraction[2])
    kept = budget.startswith("keep")
    return int(kept), -value if kept else value, budget


def _meant(budget: str) -> str:
    return f"{budget.removeprefix('keep')} tokens kept" if "keep" in budget else f"ratio {budget}"


def _sorted(block: Block, table: Table, sort: str) -> Block:
    column, worst_first = sort.removeprefix("-"), sort.startswith("-")
    titles = (*table.heads, *table.columns)
    if column not in titles:
        raise unknown("column", column, titles, "sort=average, sort=-average for the worst first")
    place = titles.index(column)
    if place < len(table.heads):
        lines = sorted(block.lines, key=lambda line: line.labels[place], reverse=worst_first)
        return replace(block, lines=tuple(lines))
    place -= len(table.heads)

    def key(line: Line) -> tuple[bool, float]:
        value = _number(line.entries[place])
        # lines without a number stand last in either order
        return value is None, 0.0 if value is None else value if worst_first else -value

    return replace(block, lines=tuple(sorted(block.lines, key=key)))


def _number(entry: Entry) -> float | None:
    if entry.source is not None:
        return entry.source.score
    found = re.search(r"-?\d+\.?\d*", entry.text)
    return float(found[0]) if found else None


def _marked(block: Block) -> Block:
    """The best of each column in bold, the second underlined, where that is beyond doubt."""
    if len(block.lines) < 2:
        return block
    columns = []
    for entries in zip(*(line.entries for line in block.lines), strict=True):
        sources = [entry.source for entry in entries]
        candidates = [one and Candidate(one.score, one.folders) for one in sources]
        ability = next((one.ability for one in sources if one is not None), "")
        if not ability:
            columns.append(list(entries))
            continue
        best, second = ranked(candidates, partial(beyond, ability=ability))
        columns.append([
            replace(entry, bold=place == best, underline=place == second)
            for place, entry in enumerate(entries)
        ])  # fmt: skip
    rows = zip(*columns, strict=True)
    lines = [replace(line, entries=row) for line, row in zip(block.lines, rows, strict=True)]
    return replace(block, lines=tuple(lines))


def _detailed(block: Block, show: Sequence[str]) -> Block:
    lines = [
        replace(line, entries=tuple(_behind(entry, show) for entry in line.entries))
        for line in block.lines
    ]
    return replace(block, lines=tuple(lines))


def _behind(entry: Entry, show: Sequence[str]) -> Entry:
    """A score with its interval and drop, as far as they are known."""
    source, text = entry.source, entry.text
    if source is None:
        return entry
    if "interval" in show and source.low is not None and source.high is not None:
        text += f" [{source.low:.1f}, {source.high:.1f}]"
    if "drop" in show and source.drop is not None:
        text += f" ({0.0 - source.drop:+.1f} %)"  # a negative zero would be a loss
    return replace(entry, text=text)


def _meaning(show: Sequence[str]) -> list[str]:
    said = {
        "interval": "in brackets: 95 % interval of the score, a bootstrap over pictures.",
        "drop": "in parentheses: relative change against vanilla.",
    }
    return [said[word] for word in SHOWN if word in show]


# -- names


def _renamed(table: Table, names: Names) -> Table:
    blocks = tuple(
        Block(
            _first(block.label, names.models),
            tuple(_line(line, names) for line in block.lines),
        )
        for block in table.blocks
    )
    columns = tuple(_first(title, names.tasks) for title in table.columns)
    if len(set(columns)) < len(columns):
        raise UsageError(f"names: two columns would have one name: {', '.join(columns)}")
    return replace(table, blocks=blocks, columns=columns)


def _line(line: Line, names: Names) -> Line:
    method, *labels = line.labels
    return replace(line, labels=(_first(method, names.methods), *labels))


def _first(label: str, names: Mapping[str, Any]) -> str:
    """A label whose first word is a name, with that written otherwise."""
    found = re.match(r"[^\s,:(]+", label)
    if label in names:
        return str(names[label])
    if found and found[0] in names:
        return str(names[found[0]]) + label[found.end() :]
    return label
