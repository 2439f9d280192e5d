"""Whether a certificate holds what it says, without running anything of it.

A stranger who edits a certificate can write another manifest, other rows and other scores. What is
then left is what does not fit: cells that the suite asks for and that are not there, an identity
that this installation's own cell does not have, another prompt than the unpruned model was asked,
a bitmask with another number of tokens than the budget, a test that the samples do not give.
Answers themselves can be made up so that everything fits; that is found by asking again, and
:func:`odds` says how likely.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from unibench import registry
from unibench.errors import UsageError, shown
from unibench.identity import Cell, code_digest
from unibench.inference.record import Record, of_checked
from unibench.inference.row import Row, read_row
from unibench.kit import certificate as parts
from unibench.kit.rules import RULES
from unibench.kit.standard import STANDARDS, Standard
from unibench.kit.trial import cards
from unibench.pruning.record import unpacked
from unibench.recheck import _same as same
from unibench.recheck import recheck
from unibench.runner.embedded import load_task
from unibench.store import read_samples
from unibench.store.data import UnreadableError, parsed_json, read_bytes
from unibench.store.index import cells_below
from unibench.tasks import Sample

LARGEST = 1 << 26  # bytes of a file of a certificate beside its cells
SOURCES = 1 << 20  # of an author's file
MOST = 1 << 20  # visual tokens of a sample
OF_RUN = ("code", "device", "schema")  # entries of an identity that another version changes
SAME_PROMPT = (
    *("prompt_digest", "pixel_digest", "visual_tokens", "text_tokens"),
    *("truth", "question", "ability", "group"),
)
GROWTH = "growth"


@dataclass(frozen=True)
class Problem:
    """Something that does not fit.

    Attributes:
        kind: of the check that found it.
        where: file or cell.
        what: for people.
    """

    kind: str
    where: str
    what: str


@dataclass
class Verified:
    """What was found.

    Attributes:
        problems: what does not fit; a certificate without any holds what it says.
        notes: what could not be checked here, and why.
        samples: of the certified method's cells.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: int = 0


@dataclass(frozen=True)
class Held:
    """A finished cell of a certificate.

    Attributes:
        folder: where it lies.
        row, identity, records: of it.
    """

    folder: Path
    row: Row
    identity: Mapping[str, Any]
    records: Sequence[Record]

    @property
    def place(self) -> tuple[str, str]:
        """What is the same for cells that stand beside each other."""
        return self.row.model, self.row.task

    @property
    def name(self) -> str:
        """What a message calls it."""
        row = self.row
        return shown(f"{row.model} {row.task} {row.method}@{row.budget} seed {row.seed}")


@dataclass(frozen=True)
class Certificate:
    """A certificate as data.

    Attributes:
        folder: where it lies.
        whole: of certificate.json.
        suite: this installation's own suite of its name.
    """

    folder: Path
    whole: Mapping[str, Any]
    suite: Standard

    @property
    def method(self) -> Mapping[str, Any]:
        """What it says of its method."""
        found: Mapping[str, Any] = self.whole["method"]
        return found

    @cached_property
    def held(self) -> list[Held]:
        """Its finished cells that can be read."""
        found = []
        for cell in cells_below(self.folder / parts.CELLS):
            row, samples = read_row(cell), read_samples(cell)[0].values()
            records = [of_checked(sample) for sample in samples]
            found.append(Held(cell, row, row.identity, records))
        return found

    @property
    def own(self) -> list[Held]:
        """The cells of its method."""
        return [one for one in self.held if one.row.method == self.method["name"]]

    @cached_property
    def required(self) -> list[Cell]:
        """The cells that its suite asks of everybody, as they are here and now."""
        return self.suite.required(self.folder / parts.CELLS)


def opened(folder: Path) -> Certificate:
    """A certificate, its suite found among those of this installation.

    Raises:
        UsageError: it is none.
    """
    try:
        whole = parsed_json(read_bytes(folder / parts.CERTIFICATE, LARGEST))
        name, method = whole["suite"]["name"], whole["method"]
        for key in ("name", "class_name", "file", "code"):
            if not isinstance(method[key], str):
                raise TypeError(key)
    except (OSError, ValueError, KeyError, TypeError, UnreadableError):
        raise UsageError(
            f"{shown(folder)} is no certificate: {parts.CERTIFICATE} is missing or damaged"
        ) from None
    if name not in STANDARDS:
        raise UsageError(f"{shown(folder)}: suite {shown(name)} is none of this installation's")
    return Certificate(folder, whole, STANDARDS[name])


def verify(folder: Path) -> Verified:
    """Look at everything that a certificate holds.

    Args:
        folder: of the certificate.

    Raises:
        UsageError: it is no certificate.
    """
    found, it = Verified(), opened(folder)
    found.problems += _files(folder)
    checked = recheck(folder / parts.CELLS)
    found.problems += [
        Problem("rows", str(one.file.relative_to(folder)), one.what) for one in checked.problems
    ]
    found.notes += [f"scores not given again: {why}" for why in set(checked.unverified.values())]
    try:
        found.samples = sum(len(one.records) for one in it.own)
        for check in (_suite, _cells, _questions, _kept, _source, _conformance, _derived, _times):
            found.problems += check(it)
    except (UsageError, KeyError, TypeError, ValueError, AttributeError) as error:
        # the first fault of a kind that no check expects; damage of rows has been named above
        found.problems.append(Problem("form", str(folder), f"{type(error).__name__}: {error}"))
    found.notes += _versions(it)
    return found


def odds(samples: int, forged: int, asked: int) -> float:
    """How likely it is that none of the forged samples is among those that are asked again.

    >>> round(odds(1000, 50, 50), 3)
    0.072
    """
    if asked > samples - forged:
        return 0.0
    return math.comb(samples - forged, asked) / math.comb(samples, asked)


def _files(folder: Path) -> Iterator[Problem]:
    """Files that are not those of the manifest."""
    try:
        sums = parsed_json(read_bytes(folder / parts.MANIFEST, LARGEST))["files"]
        known = {str(name): str(value) for name, value in sums.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UnreadableError):
        yield Problem("files", parts.MANIFEST, "is missing or damaged")
        return
    there = set(parts.files(folder))
    for name in sorted(there - known.keys()):
        yield Problem("files", shown(name), "is not in the manifest")
    for name in sorted(known.keys() - there):
        yield Problem("files", shown(name), "is missing")
    for name in sorted(there & known.keys()):
        try:
            content = read_bytes(folder / name, 1 << 31)
        except (OSError, UnreadableError) as error:
            yield Problem("files", shown(name), f"cannot be read: {error}")
            continue
        if hashlib.sha256(content).hexdigest() != known[name]:
            yield Problem("files", shown(name), "its SHA-256 is another")


def _suite(it: Certificate) -> Iterator[Problem]:
    """Whether it says the suite that this installation has under the name."""
    from dataclasses import asdict

    if not same(it.whole["suite"], parts._plain(asdict(it.suite))):
        yield Problem(
            "suite", parts.CERTIFICATE, f"says other things of {it.suite.name} than this unibench"
        )


def _cells(it: Certificate) -> Iterator[Problem]:
    """Whether every cell of the suite is there, as this installation would ask it, and no other."""
    left = {one.folder: one for one in it.held}
    for cell in it.required:
        name = parts.key_of_cell(cell)
        fitting = [one for one in left.values() if _is(one, cell)]
        if not fitting:
            yield Problem("suite", name, "is missing")
            continue
        if len(fitting) > 1:
            yield Problem("suite", name, f"is there {len(fitting)} times")
        for one in fitting:
            del left[one.folder]
            yield from _differing(one, cell.identity)
    vanillas = {one.place: one for one in it.held if one.row.method == "vanilla"}
    for cell in it.required:
        if cell.method != it.suite.baselines[0]:
            continue
        place, ratio = (cell.config.model.name, cell.config.task.name), cell.budget.label
        own = [one for one in it.own if one.place == place and one.row.budget == ratio]
        if len(own) != 1:
            name = f"{place[0]} {place[1]} {it.method['name']}@{ratio}"
            yield Problem("suite", shown(name), f"is there {len(own)} times, not once")
        for one in own:
            left.pop(one.folder, None)
            yield from _own(it, one, cell, vanillas.get(place))
    for one in left.values():
        if not _is_control_of(it, one):
            yield Problem("suite", one.name, "is no cell of the suite")


def _is(one: Held, cell: Cell) -> bool:
    """Whether a cell stands where one of the suite does."""
    row = one.row
    return (row.model, row.task, row.method, row.budget, row.seed) == (
        cell.config.model.name,
        cell.config.task.name,
        cell.method,
        "0" if cell.method == "vanilla" else cell.budget.label,
        cell.config.seed,
    ) and _inner(one.identity["method"]) == _inner(cell.identity["method"])


def _inner(method: Mapping[str, Any]) -> Any:
    """The method that a control draws like; None of another one."""
    inner = method.get("inner")
    return inner.get("name") if isinstance(inner, Mapping) else inner


def _differing(one: Held, wanted: Mapping[str, Any]) -> Iterator[Problem]:
    """Entries of an identity that are not those of this installation's own cell."""
    for key in sorted({*one.identity, *wanted} - {*OF_RUN}):
        if not same(one.identity.get(key), parts._plain(wanted.get(key))):
            yield Problem(
                "identity",
                one.name,
                f"{shown(key)} is {_brief(one.identity.get(key))}; the suite asks"
                f" {_brief(wanted.get(key))}",
            )


def _own(it: Certificate, one: Held, cell: Cell, vanilla: Held | None) -> Iterator[Problem]:
    """Whether a cell of the method is asked as a baseline is."""
    method = dict(one.identity["method"])
    method.pop("name", None)
    if not same(method, it.method["options"]):
        yield Problem("identity", one.name, "has other parameters than the certificate says")
    if one.identity["code"]["method"] != it.method["code"]:
        yield Problem("identity", one.name, "was answered by another code of the method")
    if vanilla is not None and one.row.setting != vanilla.row.setting:
        yield Problem("identity", one.name, "is not of vanilla's setting")
    # all but the method is what the baseline is asked at this budget; a CLIP that only a method
    # which reads the question opens is part of the method
    kept = {key: value for key, value in one.identity.items() if key not in ("method", "clip")}
    other = {key: value for key, value in cell.identity.items() if key not in ("method", "clip")}
    yield from _differing(Held(one.folder, one.row, kept, one.records), other)


def _is_control_of(it: Certificate, one: Held) -> bool:
    """Whether a cell is random choice at the layers of the certified method."""
    inner = one.identity["method"].get("inner")
    return one.row.method == "random_like" and it.method["name"] in str(inner)


def _questions(it: Certificate) -> Iterator[Problem]:
    """Whether every cell answers the samples of its task, and those prompts that vanilla read."""
    vanillas = {one.place: one for one in it.held if one.row.method == "vanilla"}
    tasks: dict[str, dict[str, Sample]] = {}
    for cell in it.required:
        if cell.config.task.name not in tasks:
            drawn = islice(load_task(cell).samples(it.suite.limit), it.suite.limit)
            tasks[cell.config.task.name] = {sample.id: sample for sample in drawn}
    for one in it.held:
        asked = tasks.get(one.row.task, {})
        names = [record.id for record in one.records]
        if names != list(asked):
            missing = [name for name in asked if name not in names]
            more = [name for name in names if name not in asked]
            what = f"{len(missing)} samples of the task are missing, {len(more)} are not of it"
            yield Problem("samples", one.name, what if missing or more else "another order")
            continue
        for record in one.records:
            if record.truth != asked[record.id].answers[0]:
                yield Problem("samples", one.name, f"{record.id}: the accepted answer is another")
                break
        reads_otherwise = "control" in one.identity or one.row.harness != "none"
        if (vanilla := vanillas.get(one.place)) is None or reads_otherwise:
            continue
        yield from _prompts(one, {record.id: record for record in vanilla.records})


def _prompts(one: Held, vanilla: Mapping[str, Record]) -> Iterator[Problem]:
    for record in one.records:
        for name in SAME_PROMPT:
            if getattr(record, name) != getattr(vanilla[record.id], name):
                yield Problem("prompts", one.name, f"{record.id}: {name} is not what vanilla read")
                return


def _kept(it: Certificate) -> Iterator[Problem]:
    """Whether as many tokens stayed as the budget, the counts and the bitmask say."""
    exact = {name: not card.adaptive and card.uses_budget for name, card in _methods().items()}
    exact[it.method["name"]] = bool(it.method["exact"])
    once = {name: _cuts_once(card.cuts) for name, card in _methods().items()}
    once[it.method["name"]] = _cuts_once(str(it.method["described"]["cuts at"]).split(", "))
    budgets = {cell.budget.label: cell.budget for cell in it.required}
    for one in it.held:
        if "control" in one.identity:
            continue  # reads fewer tokens, and drops none
        name = one.row.method
        for record in one.records:
            what = _of_mask(record)
            budget = budgets.get(one.row.budget)
            if what is None and budget is not None and exact.get(name) and once.get(name):
                wanted = budget.keep(record.visual_tokens)
                if record.kept != wanted:
                    what = f"{record.kept} tokens stayed, the budget is {wanted}"
            if what is None and name == "vanilla" and record.kept != record.visual_tokens:
                what = "the unpruned model lost tokens"
            if what is not None:
                yield Problem("tokens", one.name, f"{record.id}: {what}")
                break


def _cuts_once(cuts: Sequence[str]) -> bool:
    """Whether tokens go at one decoder layer alone, so that what is left is the budget."""
    return len(cuts) == 1 and cuts[0].isdecimal()


def _of_mask(record: Record) -> str | None:
    """What does not fit in the counts of a sample."""
    if not 0 <= record.visual_tokens <= MOST:  # before a mask of that size is made
        return f"{record.visual_tokens} visual tokens"
    mask = unpacked(record.last, record.visual_tokens)
    if int(mask.sum()) != record.kept:
        return f"the bitmask has {int(mask.sum())} tokens, {record.kept} are said to be kept"
    if not record.processed or record.processed[-1] != record.kept:
        return "the last layer read another number of tokens"
    pairs = zip(record.processed, record.processed[1:], strict=False)
    if any(after > before for before, after in pairs) or record.processed[0] > record.visual_tokens:
        return "tokens came back in a later layer"
    return None


def _methods() -> Mapping[str, Any]:
    return registry.methods()


def _source(it: Certificate) -> Iterator[Problem]:
    """Whether the code beside it has the digest that its cells have; it is parsed, never run."""
    name, cls = it.method["file"], it.method["class_name"]
    if it.method.get("module"):
        known = registry.methods().get(it.method["name"])
        if (
            known is None
            or code_digest([f"{known.module}:{known.class_name}"]) != it.method["code"]
        ):
            yield Problem("source", name, "is no method of this installation with this code")
        return
    if Path(name).name != name or not name.endswith(".py") or not cls.isidentifier():
        yield Problem("source", shown(name), "is no name of a Python file and a class")
        return
    file = it.folder / parts.SOURCE / name
    try:
        read_bytes(file, SOURCES)
        digest = code_digest([f"{file.resolve()}:{cls}"])
    except (OSError, UsageError, LookupError, RecursionError, MemoryError) as error:
        yield Problem("source", shown(name), f"has no digest: {error}")
        return
    if digest != it.method["code"]:
        yield Problem("source", shown(name), "is not the code that the certificate's cells ran")


def _conformance(it: Certificate) -> Iterator[Problem]:
    """Whether every rule was tried on every family, and the verdict follows."""
    said = parsed_json(read_bytes(it.folder / parts.CONFORMANCE, LARGEST))
    findings = said["findings"]
    verdicts = [one["verdict"] for one in findings]
    if not set(verdicts) <= {"ok", "failed", "left out"}:
        yield Problem("conformance", parts.CONFORMANCE, "has a verdict that is none")
    if said["passed"] != ("failed" not in verdicts and "ok" in verdicts):
        yield Problem(
            "conformance", parts.CONFORMANCE, "its verdict does not follow from its rules"
        )
    wanted = it.suite.families or tuple(cards())
    for family in wanted:
        rules = [one["rule"] for one in findings if one["family"] == family]
        alone = rules in (["runs"], ["build"], ["stages"])
        missing = [rule for rule in RULES if rules.count(rule) != 1]
        if not alone and missing:
            yield Problem(
                "conformance", parts.CONFORMANCE,
                f"{family}: {', '.join(missing)} not tried exactly once",
            )  # fmt: skip


def _derived(it: Certificate) -> Iterator[Problem]:
    """Whether results and tests are those that the samples give."""
    name, baselines = it.method["name"], it.suite.baselines
    rows = [one.row for one in it.held]
    given = parts._plain(parts.results(rows, name))
    if not same(it.whole["results"], given):
        yield Problem("statistics", parts.CERTIFICATE, "its results are not those of its rows")
    if list(it.whole["devices"]) != sorted({row.device for row in rows}):
        yield Problem("statistics", parts.CERTIFICATE, "names other devices than its rows")
    stored = parsed_json(read_bytes(it.folder / parts.STATISTICS, LARGEST))
    if not same(stored, parts._plain(parts.statistics(it.folder, name, baselines))):
        yield Problem("statistics", parts.STATISTICS, "its tests are not those of its samples")


def _times(it: Certificate) -> Iterator[Problem]:
    """Whether the parts of a time are no longer than the whole."""
    for one in it.held:
        for record in one.records:
            spans = [record.method_ms, record.prefill_ms, record.total_ms]
            known = [span for span in spans if span is not None]
            if any(span < 0 for span in known) or known != sorted(known):
                yield Problem("times", one.name, f"{record.id}: a part takes longer than the whole")
                break


def _versions(it: Certificate) -> Iterator[str]:
    """What another version of unibench, or another machine, leaves open."""
    here = {key: value for cell in it.required[:1] for key, value in cell.identity["code"].items()}
    for name in ("engine", "family", "task"):
        found = {str(one.identity.get("code", {}).get(name)) for one in it.held}
        if name == "engine" and found != {str(here.get(name))}:
            yield (
                "its cells were answered by another version of the engine: identities are compared"
                " without code"
            )
    if it.suite.toy:
        yield "toy models: its numbers show the path and predict nothing about a larger model"


def _brief(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def stated(samples: int, share: float, forged: Collection[float] = (0.01, 0.05, 0.1)) -> list[str]:
    """What no static check can find, and the odds that a re-run does not either.

    Args:
        samples: of the certified method.
        share: of them that is asked again.
        forged: shares of made-up answers.
    """
    asked = max(1, math.ceil(share * samples))
    lines = [
        "not to be found without asking again: answers that were made up (with rows, scores and"
        " tests that follow from them), kept tokens that the method did not choose, times, what the"
        " method says that it needs, and conformance that was not tried",
    ]
    for part in forged if samples else ():
        number = max(1, round(part * samples))
        lines.append(
            f"  {number} of {samples} answers made up: asking {asked} again misses all of them with"
            f" probability {odds(samples, number, asked):.2g}"
        )
    return lines
