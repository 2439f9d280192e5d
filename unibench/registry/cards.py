"""What a method, a family or a task says of itself, in plain values that a JSON file can hold."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unibench.annotations import Allowed, Range
from unibench.errors import UsageError, unknown
from unibench.registry.importing import class_in, import_part

NEEDS = (
    *("vit-attention", "vit-features", "llm-attention", "text", "training"),
    *("calibration", "calibration-optional", "pixels"),
)
"""What a method may need beside the tokens and their places."""
VENUE = re.compile(r", ((?:Findings of )?(?:[A-Z][A-Za-z]+ )+20\d\d)\b")
ARXIV = re.compile(r"arXiv (\d\d)\d\d\.\d+")
REQUIRED = object()  # stands where a field has no default
ANYTHING = Allowed()


@dataclass(frozen=True)
class Parameter:
    """One field of a method as a configuration has it.

    Attributes:
        default: as YAML writes it; :data:`REQUIRED` where there is none.
        allowed: what the annotation allows.
        follows: dotted key of the model that a configuration takes the default from.
        method: whether the value is another method: a name, ``file.py:Class`` or a mapping.
        options: for such a field, the key that holds the parameters of that method.
        line: of the field in the source file, 0 if unknown.
    """

    default: Any = None
    allowed: Allowed = ANYTHING
    follows: str | None = None
    method: bool = False
    options: str | None = None
    line: int = 0

    def check(self, key: str, value: Any) -> None:
        """Refuse a configured value that the annotation does not allow.

        Raises:
            UsageError: it names the key, the value and what is allowed.
        """
        if self.allowed.fits(value):
            if limits := self.allowed.outside(value):
                raise UsageError(f"{key}={value}: {limits} wanted")
            return
        if self.allowed.choices and not self.allowed.kinds:
            raise unknown(key, str(value), map(str, self.allowed.choices))
        wanted = " or ".join([*map(str, self.allowed.choices), *self.allowed.kinds])
        example = "" if self.default in (REQUIRED, None) else f", for example {self.default}"
        raise UsageError(f"{key}={value}: {wanted} wanted{example}")


@dataclass(frozen=True)
class Card:
    """One class.

    Attributes:
        name: what users type.
        class_name: the class.
        path: its source file.
        module: its import name, or None for a file outside any package.
        doc: its docstring.
        source: digest of the source that the card was made from.
    """

    name: str
    class_name: str
    path: Path
    module: str | None
    doc: str
    source: str = ""

    @property
    def outside(self) -> bool:
        """Whether it is a user's own, not the repository's."""
        return self.module is None or not self.module.startswith("unibench.")

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            UsageError: it cannot be imported, or is gone.
        """
        module = import_part(self.module, self.path)
        return class_in(module, self.path, object, self.class_name)

    @property
    def summary(self) -> str:
        """First paragraph of the docstring, on one line."""
        return " ".join(self.doc.strip().partition("\n\n")[0].split())

    @property
    def sections(self) -> dict[str, str]:
        """Sections of the docstring (``Paper: ...``, ``Attributes:`` and the lines below) on one
        line each, by lower-case title.
        """
        sections: dict[str, list[str]] = {"": []}
        title = ""
        for line in self.doc.splitlines():
            start = re.match(r"([A-Z][a-z]+):(?:\s+(.*))?$", line)
            if start:
                title, line = start[1].lower(), start[2] or ""
            elif line and not line.startswith(" "):
                title = ""
            sections.setdefault(title, []).append(line.strip())
        return {key: " ".join(" ".join(lines).split()) for key, lines in sections.items()}


@dataclass(frozen=True)
class MethodCard(Card):
    """A method.

    Attributes:
        fields: by name, in the order of the class.
        category: where it cuts.
        aim: what it looks for.
        text_aware: whether the choice depends on the question, under the defaults.
        adaptive: whether it may keep another number than the budget, under the defaults.
        uses_budget: whether the budget decides how many stay, under the defaults.
        wants: capabilities that the family must provide, under the defaults.
        needs: what it must be given beside the tokens, words of :data:`NEEDS`, under the defaults.
        cuts: where tokens go, under the defaults in a decoder of 32 layers: ``pixels``, ``tower``,
            ``0`` (before the language model), ``2``, ``16-24``.
        flash: whether it runs under FlashAttention, under the defaults.
        unservable: why it cannot run inside a serving engine, under the defaults; empty where it
            can.
    """

    fields: dict[str, Parameter] = field(default_factory=dict)
    category: str = "other"
    aim: str = "other"
    text_aware: bool = False
    adaptive: bool = False
    uses_budget: bool = True
    wants: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    flash: bool = True
    unservable: tuple[str, ...] = ()

    @property
    def servable(self) -> str:
        """Whether it can run inside a serving engine, and why not."""
        return f"no, because {'; '.join(self.unservable)}" if self.unservable else "yes"

    @property
    def venue(self) -> str:
        """Where and when the paper appeared: ``CVPR 2025``, ``arXiv 2025``, or nothing."""
        paper = self.sections.get("paper", "")
        if paper.startswith("none"):
            return ""
        if (found := VENUE.search(paper)) is not None:
            return found[1]
        found = ARXIV.search(paper)
        return f"arXiv 20{found[1]}" if found is not None else ""

    @property
    def parameters(self) -> dict[str, Any]:
        """Default of every key that ``method.<key>=...`` may set; :data:`REQUIRED` where there is
        none.
        """
        defaults: dict[str, Any] = {}
        for key, parameter in self.fields.items():
            defaults[key] = copy.deepcopy(parameter.default)
            if parameter.default is REQUIRED:
                defaults[key] = REQUIRED
        for parameter in self.fields.values():
            if parameter.options is not None:
                defaults[parameter.options] = None
        return defaults

    @property
    def submethods(self) -> dict[str, str | None]:
        """The fields that hold another method, and the key of its parameters."""
        return {key: field.options for key, field in self.fields.items() if field.method}

    @property
    def follows(self) -> dict[str, str]:
        """The fields whose default a configuration takes from the model, with its dotted key."""
        return {key: field.follows for key, field in self.fields.items() if field.follows}

    def config(self) -> dict[str, Any]:
        """The method as a node of a configuration: its name, where it is from, its parameters.

        Raises:
            UsageError: a field has no default.
        """
        node: dict[str, Any] = {"name": self.name}
        if self.module is None:
            node["source"] = f"{self.path}:{self.class_name}"
        for key, default in self.parameters.items():
            if default is REQUIRED:
                raise UsageError(
                    f"{self.path} line {self.fields[key].line}: {self.class_name} has no default"
                    f" for {key}; give every field one"
                )
            node[key] = default
        return node | {key: f"${{{followed}}}" for key, followed in self.follows.items()}


@dataclass(frozen=True)
class FamilyCard(Card):
    """A model family.

    Attributes:
        model_types: ``config.model_type`` values served.
        provides: capabilities that only some families have.
        batches: whether a batch may hold pictures of several prompts.
        resizing: what a smaller picture is to the processor: ``native``, ``tiles`` or ``one``.
    """

    model_types: tuple[str, ...] = ()
    provides: frozenset[str] = frozenset()
    batches: bool = True
    resizing: str = "one"


@dataclass(frozen=True)
class TaskCard(Card):
    """An embedded task.

    Attributes:
        options: default of each argument; :data:`REQUIRED` where there is none.
        limit: number of samples that are asked where a command names none; None for all.
        modality: what the pictures of a prompt are.
    """

    options: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    modality: str = "image"

    @property
    def target(self) -> str:
        """Where the class is, as a configuration has it."""
        return f"{self.module or self.path}:{self.class_name}"

    def config(self) -> dict[str, Any]:
        """The task as a node of a configuration."""
        node = {"name": self.name, "kind": "embedded", "target": self.target}
        return {**node, "limit": self.limit, "modality": self.modality}


def to_plain(card: Card) -> dict[str, Any]:
    """The card in the values that JSON has."""
    plain: dict[str, Any] = {"kind": type(card).__name__}
    for key, value in vars(card).items():
        plain[key] = _plain(value)
    return plain


def from_plain(plain: Mapping[str, Any]) -> Card:
    """The card that :func:`to_plain` wrote.

    Raises:
        KeyError, TypeError: another version wrote it.
    """
    kinds = {kind.__name__: kind for kind in (MethodCard, FamilyCard, TaskCard)}
    values = {key: value for key, value in plain.items() if key != "kind"}
    values["path"] = Path(values["path"])
    for key in ("wants", "provides"):
        if key in values:
            values[key] = frozenset(values[key])
    for key in ("model_types", "needs", "cuts", "unservable"):
        if key in values:
            values[key] = tuple(values[key])
    if "options" in values:
        values["options"] = {key: _default(value) for key, value in values["options"].items()}
    if "fields" in values:
        values["fields"] = {key: _parameter(value) for key, value in values["fields"].items()}
    card: Card = kinds[plain["kind"]](**values)
    return card


def _plain(value: Any) -> Any:
    if value is REQUIRED:
        return {"__required__": True}
    if isinstance(value, (Parameter, Allowed, Range)):
        return {key: _plain(entry) for key, entry in vars(value).items() if key != "classes"}
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _parameter(plain: Mapping[str, Any]) -> Parameter:
    kinds, choices = (tuple(plain["allowed"][key]) for key in ("kinds", "choices"))
    limits = plain["allowed"]["range"]
    allowed = Allowed(kinds, choices, range=None if limits is None else Range(**limits))
    return replace(Parameter(**{**plain, "allowed": allowed}), default=_default(plain["default"]))


def _default(value: Any) -> Any:
    return REQUIRED if value == {"__required__": True} else value
