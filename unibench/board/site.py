"""Certificates in one folder, as a Git repository holds them, made into pages.

Everything in a certificate is a stranger's: it is verified before it is shown, and every text goes
through a template that escapes it. The pages load nothing, run one script whose hash they name, and
work from ``file://``.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unibench.errors import UsageError, shown
from unibench.kit import certificate as parts
from unibench.kit.verifying import SOURCES, Certificate, opened, verify
from unibench.store.data import UnreadableError, parsed_json, read_bytes

DEEPEST = 3  # folders between the one that is given and a certificate: <method>/<date>
TRAITS = {
    "training_free": "training-free",
    "flash": "FlashAttention-safe",
    "text_aware": "text-aware",
    "one_shot": "one-shot",
}
CONTROLS = ("resize", "resize_blur", "pooling", "blind", "random_pre", "random_like")


@dataclass(frozen=True)
class Entry:
    """A certificate that holds what it says.

    Attributes:
        it: the certificate.
        place: its folder below the one that was given.
        conformance, statistics: beside it.
        source: the text of its files by name.
        notes: what could not be checked.
    """

    it: Certificate
    place: str
    conformance: Mapping[str, Any]
    statistics: Mapping[str, Any]
    source: Mapping[str, str]
    notes: Sequence[str]

    @property
    def method(self) -> Mapping[str, Any]:
        return self.it.method

    @property
    def made(self) -> str:
        return str(self.it.whole["made"])

    @property
    def page(self) -> str:
        """Its name as a file; two methods of one name have two codes."""
        plain = re.sub(r"\W+", "_", str(self.method["name"]))[:40]
        return f"{plain}-{str(self.method['code'])[:8]}.html"

    @property
    def own(self) -> list[Mapping[str, Any]]:
        """The results of its method."""
        return [one for one in self.it.whole["results"] if one["method"] == self.method["name"]]

    @property
    def beside(self) -> list[Mapping[str, Any]]:
        """The results of the unpruned model, baselines and controls of the same certificate."""
        return [one for one in self.it.whole["results"] if one["method"] != self.method["name"]]

    @property
    def traits(self) -> list[str]:
        """Words by which the board is filtered."""
        return [name for name in TRAITS if self.method[name]]


@dataclass(frozen=True)
class Site:
    """What was written.

    Attributes:
        index: the first page.
        methods: pages of methods.
        refused: certificates that are not shown, and why.
    """

    index: Path
    methods: tuple[Path, ...]
    refused: Mapping[str, str]


def build(folder: Path, site: Path) -> Site:
    """Write the pages of every certificate below a folder.

    Args:
        folder: holds certificates, each in a folder of its own.
        site: is created; pages of an earlier build are replaced.

    Raises:
        UsageError: there is no such folder, or no certificate in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{shown(folder)}: there is no such folder of certificates")
    entries, refused = list[Entry](), dict[str, str]()
    for place in _certificates(folder):
        name = place.relative_to(folder).as_posix()
        try:
            entries.append(_entry(place, name))
        except (UsageError, UnreadableError, OSError, ValueError, KeyError, TypeError) as error:
            refused[shown(name)] = shown(error)
    if not entries and not refused:
        raise UsageError(f"{shown(folder)} holds no certificate; `certify` writes them")
    entries.sort(key=lambda one: one.made, reverse=True)
    history: dict[str, list[Entry]] = {}
    for one in entries:
        history.setdefault(str(one.method["name"]), []).append(one)
    current = [versions[0] for versions in history.values()]
    pages = _rendered(current, history, refused)
    (site / "methods").mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (site / name).write_text(text, encoding="utf-8")
    written = tuple(site / name for name in pages if name != "index.html")
    return Site(site / "index.html", written, refused)


def _certificates(folder: Path) -> Iterator[Path]:
    """Folders that hold a certificate; links and hidden folders are passed over."""
    for path, names, files in os.walk(folder):
        place = Path(path)
        names[:] = sorted(name for name in names if not name.startswith("."))
        if parts.CERTIFICATE in files:
            names.clear()
            yield place
        elif len(place.relative_to(folder).parts) >= DEEPEST:
            names.clear()


def _entry(place: Path, name: str) -> Entry:
    """A certificate, verified.

    Raises:
        UsageError: it does not hold what it says.
    """
    found = verify(place)
    if found.problems:
        first, more = found.problems[0], len(found.problems) - 1
        raise UsageError(
            f"{first.kind}: {first.where}: {first.what}" + (f"; and {more} more" if more else "")
        )
    it = opened(place)
    source = {}
    if (place / parts.SOURCE).is_dir() and not it.method.get("module"):
        for file in sorted((place / parts.SOURCE).iterdir()):
            source[file.name] = read_bytes(file, SOURCES).decode("utf-8", "replace")
    beside = {
        key: parsed_json(read_bytes(place / file))
        for key, file in (("conformance", parts.CONFORMANCE), ("statistics", parts.STATISTICS))
    }
    return Entry(it, name, beside["conformance"], beside["statistics"], source, found.notes)


def _rendered(
    current: Sequence[Entry], history: Mapping[str, Sequence[Entry]], refused: Mapping[str, str]
) -> dict[str, str]:
    """Every page by its name below the site."""
    script = resources.files("unibench.board").joinpath("templates/board.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("unibench.board"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = _number
    common = {"traits": TRAITS, "toy": any(one.it.suite.toy for one in current)}
    render = partial(_render, environment, common)
    lines = [(entry, result) for entry in current for result in entry.own]
    pages = {
        "index.html": render(
            "index.html.j2", lines=lines, references=list(_references(current)),
            refused=refused, script=script, digest=digest,
            models=_values(lines, "model"), tasks=_values(lines, "task"),
            budgets=_values(lines, "budget"), devices=_values(lines, "device"),
        )
    }  # fmt: skip
    for entry in current:
        versions = history[str(entry.method["name"])]
        pages[f"methods/{entry.page}"] = render("method.html.j2", entry=entry, versions=versions)
    return pages


def _render(environment: Environment, common: Mapping[str, Any], name: str, **values: Any) -> str:
    return environment.get_template(name).render({**common, **values})


def _values(lines: Sequence[tuple[Entry, Mapping[str, Any]]], column: str) -> list[str]:
    return sorted({str(result[column]) for _, result in lines})


def _references(current: Sequence[Entry]) -> Iterator[Mapping[str, Any]]:
    """Unpruned models, baselines and controls of the newest certificate of each suite: what a
    method stands beside.
    """
    known = set[tuple[Any, ...]]()
    for entry in current:
        for result in entry.beside:
            place = tuple(
                result[name] for name in ("model", "task", "method", "variant", "budget", "seed")
            )
            if place not in known:
                known.add(place)
                control = result["method"] in CONTROLS
                yield {**result, "kind": "control" if control else "reference"}


def _number(value: Any, digits: int = 1) -> str:
    """A number for people; nothing where there is none."""
    return "" if value is None else f"{float(value):.{digits}f}"
