"""Printed shares against the number of questions: which lines of a column can be shares of n."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from statistics import fmean

from unibench.audit.finding import Finding
from unibench.audit.granularity import Count, chance, count, digits, factor, fits, tail, tells
from unibench.audit.questions import Questions, Version, known
from unibench.audit.sheet import MANY, Sheet
from unibench.report.published import Column
from unibench.stats.several import holm

SURE = 0.05  # corrected p from which numbers are taken to lie on n
EXPLAINS = 0.01  # p of another reading of numbers that do not, times the readings tried
PADDED = 1e-4  # p from which numbers that end in zeros were rounded before they were printed
RUNS = (2, 3)  # means over so many runs
ENOUGH = 6  # numbers of a method, over all columns of a source, from which it can be judged


@dataclass(frozen=True)
class Fitted:
    """A column of a table against a number of questions.

    Attributes:
        sheet: the table.
        column: benchmark and metric.
        questions: what is known of it.
        version: the set of questions that the numbers fit best.
        texts: by line, the numbers with enough digits to tell.
        blunt: numbers with too few digits.
        count: how many fit.
        p: of the count, corrected over all columns and versions of the audit.
        certain: the set of questions is known: there is one, or the numbers say so, here or in
            another table of the source and model.
    """

    sheet: Sheet
    column: Column
    questions: Questions
    version: Version
    texts: Mapping[int, str]
    blunt: int
    count: Count
    p: float
    certain: bool

    @property
    def run(self) -> tuple[str, tuple[str, ...], Column]:
        """What tables of one source share where they print the same runs."""
        models = tuple(sorted({row.model for row in self.sheet.rows}))
        return self.sheet.source, models, self.column

    def fitting(self, lines: Sequence[int]) -> list[int]:
        """Those of the lines that fit."""
        return [line for line in lines if fits(self.texts[line], self.version.steps)]

    def expected(self, lines: Sequence[int]) -> float:
        """How many of the lines fit by chance."""
        return sum(chance(self.version.steps, digits(self.texts[line])) for line in lines)

    @cached_property
    def groups(self) -> tuple[list[int], list[int]]:
        """Lines of the methods, or of the paper's groups, that fit throughout; and the others.

        A number may fit by chance, so a line is judged together with its like. The grouping is
        taken that leaves fewer fitting numbers among the others; the paper's own if both do.
        """
        cuts = []
        for label in ("category", "method"):
            groups: dict[str, list[int]] = {}
            for line in self.texts:
                row = self.sheet.rows[line]
                name = " ".join((getattr(row, label), *row.setting))
                groups.setdefault("vanilla" if row.method == "vanilla" else name, []).append(line)
            failing = [lines for lines in groups.values() if len(self.fitting(lines)) < len(lines)]
            others = sorted(line for lines in failing for line in lines)
            cuts.append(([line for line in self.texts if line not in others], others))
        return min(cuts, key=lambda cut: len(self.fitting(cut[1])))


def fitted(sheets: Sequence[Sheet]) -> list[Fitted]:
    """Every column whose benchmark has a number of questions, with the one that it fits best."""
    found = [_versions(sheet, column) for sheet in sheets for column in sheet.scores]
    corrected = iter(holm([one.p for versions in found for one in versions]))
    kept = []
    for versions in found:
        exact = [replace(one, p=next(corrected)) for one in versions]
        if exact:
            kept.append(min(exact, key=_order))
    settled = {(one.run, one.version) for one in kept if one.p < SURE}
    return [
        replace(one, certain=len(one.questions.versions) == 1 or (one.run, one.version) in settled)
        for one in kept
    ]


def _order(one: Fitted) -> tuple[float, int, float]:
    """Evidence first; without any, the version that the numbers contradict least."""
    return one.p if one.p < SURE else 1.0, one.count.cells - one.count.fitting, one.count.p


def _versions(sheet: Sheet, column: Column) -> list[Fitted]:
    """The column against each set of questions that is known for it."""
    questions = known().get(column)
    printed = {
        line: row.values[column].text for line, row in enumerate(sheet.rows) if column in row.values
    }
    if questions is None or questions.untestable or not _percent(printed):
        return []
    texts = _as_rounded(printed)
    found = []
    for version in questions.versions:
        telling = {line: text for line, text in texts.items() if tells(text, version.steps)}
        counted = count(tuple(telling.values()), version.steps)
        blunt = len(texts) - len(telling)
        found.append(
            Fitted(
                sheet, column, questions, version, telling, blunt, counted, counted.p, certain=False
            )
        )
    return found


def _percent(printed: Mapping[int, str]) -> bool:
    return 1 < max(map(float, printed.values())) <= 100


def _as_rounded(printed: Mapping[int, str]) -> dict[int, str]:
    """Numbers that were rounded to whole ones and printed with zeros lose the zeros again."""
    rounded: set[str] = set()
    texts = set(printed.values())
    for places in {digits(text) for text in texts} - {0}:
        alike = [text for text in texts if digits(text) == places]
        padded = {text for text in alike if text.endswith("0" * places)}
        if tail([10.0**-places] * len(alike), len(padded)) < PADDED:
            rounded |= padded
    return {
        line: text.partition(".")[0] if text in rounded else text for line, text in printed.items()
    }


def granularity(sheets: Sequence[Sheet]) -> Iterator[Finding]:
    """Numbers that are no shares, by column, and methods none of whose numbers are."""
    columns = fitted(sheets)
    yield from _impossible_shares(columns)
    for source in dict.fromkeys(sheet.source for sheet in sheets):
        yield from _foreign_lines([one for one in columns if one.sheet.source == source])


def _impossible_shares(columns: Sequence[Fitted]) -> Iterator[Finding]:
    """Columns with numbers that no whole number of right answers gives."""
    for one in columns:
        if one.count.whole or not one.count.cells:
            continue
        sound, odd = one.groups
        rule = "digits" if one.certain else "digits, n unknown"
        yield one.sheet.finding(rule, _told(one, sound, odd), odd, [one.column])


def _told(one: Fitted, sound: Sequence[int], odd: Sequence[int]) -> str:
    """Which lines fit, which do not, and what else would explain these."""
    n = f"{one.version.n:,} questions ({one.version.name})"
    lacking = [line for line in odd if line not in one.fitting(odd)]
    examples = ", ".join(list(dict.fromkeys(one.texts[line] for line in lacking))[:3])
    parts = [
        f"{len(one.fitting(odd))} of {len(odd)} numbers fit {n}, chance {one.expected(odd):.1f};"
        f" {examples} cannot be"
    ]
    if sound:
        p = count(tuple(one.texts[line] for line in sound), one.version.steps).p
        parts.append(
            f"{len(sound)} of {len(sound)} of {_methods(one.sheet, sound)} fit, chance"
            f" {one.expected(sound):.1f} (p {p:.1g})"
        )
    parts.append(_reading(one.questions, one.version, tuple(one.texts[line] for line in odd)))
    return "; ".join(parts)


def _methods(sheet: Sheet, lines: Sequence[int]) -> str:
    names = list(dict.fromkeys(sheet.rows[line].method for line in lines))
    return ", ".join(names) if len(names) <= MANY else f"{len(names)} other methods"


@cache
def _reading(questions: Questions, own: Version, texts: tuple[str, ...]) -> str:
    """What would make all of these numbers possible, better than chance."""
    tries = _other_numbers(questions, own)
    found = []
    for steps, told in tries.items():
        counted = count(texts, steps)
        if counted.whole and counted.cells == len(texts):
            found.append((counted.p * len(tries), told))
    distinct = set(texts)
    if all(digits(text) and text.endswith("0") for text in distinct):
        told = "all end in 0: rounded before, as by another table that they were taken from"
        found.append((10.0 ** -len(distinct), told))
    if (scale := factor(texts, own.steps)) is not None:
        found.append((scale.p, f"multiplied by {scale.value:.4f} they fit"))
    p, told = min(found, default=(1.0, ""))
    if p < EXPLAINS:
        return f"{told} (p {p:.1g})"
    return "no other set of questions, number of runs or factor explains them"


def _other_numbers(questions: Questions, own: Version) -> dict[int, str]:
    """Other numbers that the shares may be of: versions, means over runs, other benchmarks."""
    tries = {
        version.steps: f"they fit {version.n:,} questions ({version.name})"
        for version in questions.versions
        if version is not own
    }
    for runs in RUNS:
        tries.setdefault(own.steps * runs, f"they fit means over {runs} runs")
    for (benchmark, _), others in known().items():
        for version in others.versions:
            if version.steps != own.steps:
                tries.setdefault(
                    version.steps, f"they fit {version.n:,} questions, those of {benchmark}"
                )
    return tries


@dataclass(frozen=True)
class Origin:
    """The lines of one method over all columns of a source.

    Attributes:
        method: its name, with its setting.
        fitting: numbers that fit.
        cells: numbers that can tell.
        expected: numbers that fit by chance.
        p: probability that so many distinct numbers of a column fit by chance.
        tables: numbers that fit and that can tell, by table.
    """

    method: str
    fitting: int
    cells: int
    expected: float
    p: float
    tables: Mapping[str, tuple[int, int]]


def origins(columns: Sequence[Fitted]) -> list[Origin]:
    """Each method of the columns whose number of questions is certain."""
    cells: dict[str, list[tuple[Fitted, int]]] = {}
    for one in columns:
        for line in one.texts if one.certain else ():
            cells.setdefault(_title(one.sheet, line), []).append((one, line))
    return [_origin(method, mine) for method, mine in cells.items()]


def _origin(method: str, cells: Sequence[tuple[Fitted, int]]) -> Origin:
    fitting = {
        (one.sheet.name, one.column, line): fits(one.texts[line], one.version.steps)
        for one, line in cells
    }
    # A run that is printed in two tables is one piece of evidence.
    distinct = {
        (one.sheet.rows[line].model, one.column, one.texts[line], one.version.steps)
        for one, line in cells
    }
    tables: dict[str, tuple[int, int]] = {}
    for (name, _, _), fit in fitting.items():
        right, count = tables.get(name, (0, 0))
        tables[name] = right + fit, count + 1
    chances = [chance(steps, digits(text)) for *_, text, steps in distinct]
    right = sum(fits(text, steps) for *_, text, steps in distinct)
    expected = sum(one.expected([line]) for one, line in cells)
    return Origin(
        method, sum(fitting.values()), len(fitting), expected, tail(chances, right), tables
    )


def _foreign_lines(columns: Sequence[Fitted]) -> Iterator[Finding]:
    """Methods whose numbers fit as chance has it, in tables where those of others all fit.

    A single impossible number is a misprint; a method whose numbers fit no better than chance was
    not counted on these questions: its lines were rescaled, or taken from elsewhere.
    """
    methods = [one for one in origins(columns) if one.cells >= ENOUGH]
    corrected = holm([one.p for one in methods])
    sound = [
        one
        for one, p in zip(methods, corrected, strict=True)
        if p < SURE and one.fitting == one.cells
    ]
    # No correction here: it would call more methods foreign, not fewer.
    odd = [one for one in methods if one.fitting < one.cells and one.p > SURE]
    if sound and odd:
        yield _foreign(columns, odd, sound)


def _foreign(columns: Sequence[Fitted], odd: Sequence[Origin], sound: Sequence[Origin]) -> Finding:
    """The finding, in the first table that has such lines, beside the others of these tables."""
    names = {one.method for one in odd}
    tables = list(dict.fromkeys(name for one in odd for name in one.tables))
    here = [one for one in columns if one.sheet.name in tables]
    others = {one.method for one in sound}
    beside = [one for one in origins(here) if one.method in others]
    split = []
    for name in tables:
        counts = [one.tables.get(name, (0, 0)) for one in odd]
        right, cells = map(sum, zip(*counts, strict=True))
        split.append(f"{right} of {cells} in {name}")
    right, cells = sum(one.fitting for one in odd), sum(one.cells for one in odd)
    told = (
        f"{right} of {cells} numbers are shares of the questions, chance"
        f" {sum(one.expected for one in odd):.1f} ({', '.join(split)}); of"
        f" {', '.join(one.method for one in beside)} {sum(one.fitting for one in beside)} of"
        f" {sum(one.cells for one in beside)} in these tables are, chance"
        f" {sum(one.expected for one in beside):.1f}"
    )
    first = next(one.sheet for one in here if one.sheet.name == tables[0])
    numbers = frozenset(
        (line, *one.column)
        for one in here
        if one.sheet is first and one.certain
        for line in one.texts
        if _title(first, line) in names
    )
    return Finding("foreign lines", first.name, ", ".join(sorted(names)), told, numbers)


def _title(sheet: Sheet, line: int) -> str:
    """Method and setting."""
    return " ".join((sheet.rows[line].method, *sheet.rows[line].setting))


LOST, KEPT = 0.65, 0.85  # shares of vanilla that tell two readers of the answers
READ = 2  # lines of each kind


def two_readers(sheet: Sheet) -> Iterator[Finding]:
    """Columns of judged answers in which some lines collapse that hold in the sibling column.

    Exact rules count an answer that they cannot read as wrong, a judge reads it; lines with and
    without a judge cannot be compared.
    """
    for column in sheet.scores:
        questions = known().get(column)
        if questions is None or not questions.judged:
            continue
        sibling = (questions.sibling, column[1])
        for _, lines in sheet.budgets:
            pairs = {
                line: (here, there)
                for line in lines
                if (here := _share(sheet, line, column)) is not None
                and (there := _share(sheet, line, sibling)) is not None
                and there >= KEPT
            }
            lost = [line for line, (here, _) in pairs.items() if here <= LOST]
            kept = [line for line, (here, _) in pairs.items() if here >= KEPT]
            if min(len(lost), len(kept)) < READ:
                continue
            mean = 100 * fmean(pairs[line][1] for line in lost)
            told = (
                f"{len(lost)} of {len(pairs)} lines keep {_range(pairs, lost)} % of vanilla"
                f" here and {mean:.0f} % in {questions.sibling}, {len(kept)} keep"
                f" {_range(pairs, kept)} % here ({_methods(sheet, kept)}): probably lines with and"
                " without a judge"
            )
            yield sheet.finding("two readers", told, lost, [column])


def _range(pairs: Mapping[int, tuple[float, float]], lines: Sequence[int]) -> str:
    shares = [100 * pairs[line][0] for line in lines]
    return f"{min(shares):.0f} to {max(shares):.0f}"


def _share(sheet: Sheet, line: int, column: Column) -> float | None:
    full = sheet.vanilla(line)
    whole = None if full is None else sheet.value(full, column)
    value = sheet.value(line, column)
    return value / whole if value is not None and whole else None
