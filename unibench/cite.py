"""What to cite for a result: papers of its methods, models, benchmarks and harnesses, as BibTeX.

The paper of a method is the one that its own docstring names; everything else stands in
``references.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from unibench import __version__, paths, registry
from unibench.errors import UsageError, unknown

ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
JOURNALS = frozenset({"Science China Information Sciences", "TACL", "TMLR"})
SHORT = 4  # letters of words that tell no title from another
OWN = f"""\
@software{{unibench,
  title = {{{{unibench: fair comparison of visual token pruning in vision-language models}}}},
  author = {{{{The unibench authors}}}},
  version = {{{__version__}}},
  year = {{2026}},
  url = {{https://github.com/unibench/unibench}}
}}"""


@dataclass(frozen=True)
class Reference:
    """A paper.

    Attributes:
        number: its arXiv number, or a name of ours where it has none.
        title: as printed.
        authors: in BibTeX's form, ``A and B``; empty where they are not known here.
        venue: where it appeared, ``CVPR 2025``; empty for a preprint.
        year: of the venue, or of the preprint.
        url: where it is read.
    """

    number: str
    title: str
    authors: str
    venue: str
    year: int
    url: str

    @property
    def key(self) -> str:
        """The first author's family name, the year, and the first long words of the title."""
        first = self.authors.partition(" and ")[0].strip("{}")
        family = first.split()[0 if self.authors.startswith("{") else -1] if first else ""
        words = [word for word in re.split(r"[\s:]", self.title) if len(word) > SHORT]
        title = "".join(words[:2])
        parts = (family, str(self.year), title) if family else (title, str(self.year))
        return re.sub(r"[^a-z0-9]", "", "".join(parts).lower())

    def bibtex(self) -> str:
        """The entry."""
        place = self.venue.rpartition(" ")[0]
        kind, holder = ("misc", "") if not place else ("inproceedings", "booktitle")
        if place in JOURNALS:
            kind, holder = "article", "journal"
        fields = {"title": f"{{{self.title}}}", "author": self.authors, holder: place}
        fields |= {"year": str(self.year)}
        if ARXIV.fullmatch(self.number):
            fields |= {"eprint": self.number, "archivePrefix": "arXiv"}
        fields |= {"url": self.url}
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if name and value]
        return f"@{kind}{{{self.key},\n" + ",\n".join(lines) + "\n}"


def bibliography(
    methods: Sequence[str] = (),
    models: Sequence[str] = (),
    tasks: Sequence[str] = (),
    harnesses: Sequence[str] = (),
) -> str:
    """The BibTeX of everything that a result stands on, unibench first, each paper once.

    Raises:
        UsageError: a method, model, task or harness that there is not.
    """
    asked = [("method", name, of_method(name)) for name in methods]
    asked += [("model", name, of_model(name)) for name in models]
    asked += [("task", name, of_task(name)) for name in tasks]
    asked += [("harness", name, of_harness(name)) for name in harnesses]
    blocks, seen = [OWN], set[str]()
    for kind, name, numbers in asked:
        if not numbers:
            blocks.append(f"% {kind} {name}: {_without(kind, name)}")
        new = [number for number in numbers if number not in seen]
        seen.update(new)
        blocks += [f"% {kind} {name}\n{reference(number).bibtex()}" for number in new]
    return "\n\n".join(blocks)


def reference(number: str) -> Reference:
    """A paper by its arXiv number, or by our name of it.

    Raises:
        UsageError: it is not in ``references.yaml``.
    """
    entry = _references()["papers"].get(number)
    if entry is None:
        raise UsageError(f"arXiv {number} is not in references.yaml; add its title and authors")
    venue = entry.get("venue", "")
    year = entry.get("year") or int(venue.split()[-1] if venue else f"20{number[:2]}")
    url = entry.get("url", f"https://arxiv.org/abs/{number}")
    return Reference(number, entry["title"], entry.get("authors", ""), venue, int(year), url)


def of_method(name: str) -> tuple[str, ...]:
    """The papers that a method's docstring names."""
    paper = registry.method(name).sections.get("paper", "")
    # "none; ..." goes on to say where else such a baseline appears
    return () if paper.startswith("none") else tuple(dict.fromkeys(ARXIV.findall(paper)))


def of_model(name: str) -> tuple[str, ...]:
    """The papers of a model: those of its own name's longest beginning, or of its family."""
    known = _references()["models"]
    if name in known:
        return tuple(known[name])
    card = _card("model", name)
    fitting = [entry for entry in known if name.startswith(f"{entry}_")]
    return tuple(known[max(fitting, key=len) if fitting else card["family"]])


def of_task(name: str) -> tuple[str, ...]:
    """The papers of a benchmark, or of all benchmarks of a suite."""
    known = _references()["tasks"]
    if name in known:
        return tuple(known[name])
    if name in registry.tasks():
        return ()  # drawn here, or data of one's own
    suite = paths.part("configs") / "suite" / f"{name}.yaml"
    if not suite.is_file():
        suites = [file.stem for file in suite.parent.glob("*.yaml")]
        names = [*known, *registry.tasks(), *suites]
        raise unknown("task", name, names, "python -m unibench list tasks")
    return tuple(dict.fromkeys(_of_suite(suite.read_text(encoding="utf-8"), known)))


def of_harness(name: str) -> tuple[str, ...]:
    """The paper of a harness."""
    known = _references()["harnesses"]
    if name not in known:
        raise unknown("harness", name, known)
    return tuple(known[name])


def _of_suite(text: str, known: dict[str, list[str]]) -> Iterator[str]:
    """The papers of the tasks that a suite's file names, in its order."""
    for name in re.findall(r"\b[a-z][a-z0-9_]*\b", text):
        yield from known.get(name, ())


def _without(kind: str, name: str) -> str:
    """What is said of a part without a paper here."""
    if kind == "method":
        paper = registry.method(name).sections.get("paper", "none")
        return "no paper" if paper.startswith("none") else f"{paper} (no arXiv number)"
    return "no paper"


def _card(group: str, name: str) -> dict[str, Any]:
    folder = paths.part("configs") / group
    file = folder / f"{name}.yaml"
    if not file.is_file():
        names: Iterable[str] = sorted(path.stem for path in folder.glob("*.yaml"))
        raise unknown(group, name, list(names), f"python -m unibench list {group}s")
    card: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return card


@cache
def _references() -> dict[str, dict[str, Any]]:
    file = paths.PACKAGE / "references.yaml"
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found
