"""What an imported part declares, as a card."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unibench.annotations import fields_of
from unibench.errors import UsageError
from unibench.registry.cards import REQUIRED, FamilyCard, MethodCard, Parameter, TaskCard
from unibench.registry.importing import line_of

if TYPE_CHECKING:
    from unibench.pruning import Method, Stage

TASK = ("metric", "samples", "score")  # of an embedded task's class
DEPTH, TOWER, TOKENS = 32, 24, 576  # LLaVA-1.5-7B: layers, blocks of its tower, visual tokens
Names = Callable[[], Mapping[type, str]]


def method_card(
    name: str,
    cls: type[Method],
    path: Path,
    module: str | None,
    source: str,
    names: Names,
) -> MethodCard:
    """What a method declares.

    Args:
        name: what users type.
        cls: the class.
        path: its source file.
        module: its import name, None for a file outside any package.
        source: digest of its source.
        names: gives the names of other methods, for fields that hold one.

    Raises:
        UsageError: fields that are no dataclass's.
    """
    if not dataclasses.is_dataclass(cls) and any(
        not str(hint).startswith(("ClassVar", "typing.ClassVar"))
        for hint in inspect.get_annotations(cls).values()
    ):
        line = line_of(cls, rf"class\s+{cls.__name__}\b")
        raise UsageError(
            f"{path} line {line}: {cls.__name__} has fields but is no dataclass; write"
            " @dataclass(frozen=True) above it"
        )
    fields: dict[str, Parameter] = {}
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            parameter = _parameter(cls, field, names)
            if parameter is not None:
                fields[field.name] = parameter
    # an instance knows what holds under the defaults; some methods have none without further values
    try:
        asked: Any = cls()
    except (TypeError, ValueError, UsageError):
        asked = cls

    def said(attribute: str, otherwise: Any) -> Any:
        value = getattr(asked, attribute, otherwise)
        return otherwise if isinstance(value, property) else value

    return MethodCard(
        name=name,
        class_name=cls.__name__,
        path=path,
        module=module,
        doc=_doc(cls),
        source=source,
        fields=fields,
        category=str(said("category", "other")),
        aim=str(said("aim", "other")),
        text_aware=bool(said("text_aware", False)),
        adaptive=bool(said("adaptive", False)),
        uses_budget=bool(said("uses_budget", True)),
        wants=frozenset(said("wants", frozenset())),
        **_of_stages(cls, asked, fields),
    )


def _of_stages(cls: type[Method], asked: Any, fields: Mapping[str, Parameter]) -> dict[str, Any]:
    """What the cuts of a method in a decoder of 32 layers need, and where they are.

    Args:
        cls: of the method.
        asked: one under the defaults; the class where there is none.
        fields: of the method.
    """
    from unibench.pruning.servable import obstacles
    from unibench.pruning.stage import needs_of

    trained = [key for key, field in fields.items() if field.follows == "model.selector"]
    try:
        method = cls(**dict.fromkeys(trained, "random:0")) if asked is cls else asked
        stages, merges = method.stages(DEPTH), method.encoder(TOWER)
    except Exception:  # a method of a user's own that wants another model; it is refused there
        return {"unservable": ("it does not say where it cuts under its defaults",)}
    needs = needs_of(stages)
    attends = needs.vit_attention or needs.object_attention or needs.saliency
    kinds = {
        "vit-attention": attends or needs.local_attention,
        "vit-features": needs.vit_hidden
        or needs.features
        or needs.projector
        or needs.pooling
        or merges,
        "llm-attention": needs.llm_attention or needs.entering or method.rereads(DEPTH),
        "text": method.text_aware or needs.question or needs.clip,
        "training": asked is cls and trained,
        "calibration": method.calibrated == "required",
        "calibration-optional": method.calibrated == "optional",
        "pixels": method.drops_pixels,
    }
    places = ["pixels"] if method.drops_pixels else ["tower"] if merges else []
    layers = sorted({stage.layer for stage in stages if _cuts(stage)})
    return {
        "needs": tuple(word for word, needed in kinds.items() if needed),
        "cuts": (*places, *_runs(layers)),
        "flash": not any(stage.weighted for stage in (*stages, *merges)),
        "unservable": obstacles(method, DEPTH),
    }


def _cuts(stage: Stage) -> bool:
    """Whether a stage removes anything; others look, and remember for the next."""
    if stage.count is None or not stage.exact:
        return True
    return any(stage.count(keep, TOKENS) < TOKENS for keep in (1, TOKENS // 2))


def _runs(layers: Sequence[int]) -> list[str]:
    """Numbers in short, three or more in a row as their ends.

    >>> _runs([0, 2, 3, 4, 8, 9])
    ['0', '2-4', '8', '9']
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    found = []
    for run in runs:
        found += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(layer) for layer in run]
    return found


def family_card(name: str, cls: Any, path: Path, module: str, source: str) -> FamilyCard:
    """What a model family declares, inherited or its own."""
    return FamilyCard(
        name=name,
        class_name=cls.__name__,
        path=path,
        module=module,
        doc=_doc(cls),
        source=source,
        model_types=tuple(cls.model_types),
        provides=frozenset(cls.provides),
        batches=bool(cls.batches),
        resizing=str(cls.resizing),
    )


def task_card(name: str, cls: type, path: Path, module: str | None, source: str) -> TaskCard:
    """What an embedded task takes.

    Raises:
        UsageError: the class lacks what every task has.
    """
    if missing := [member for member in TASK if not hasattr(cls, member)]:
        line = line_of(cls, rf"class\s+{cls.__name__}\b")
        raise UsageError(
            f"{path} line {line}: {cls.__name__} is no task; it lacks {', '.join(missing)} (see"
            " unibench.tasks.Task)"
        )
    taken = {
        key: REQUIRED if argument.default is argument.empty else _configured(argument.default, dict)
        for key, argument in inspect.signature(cls).parameters.items()
        if argument.kind is not argument.VAR_KEYWORD
    }
    return TaskCard(
        name=name,
        class_name=cls.__name__,
        path=path,
        module=module,
        doc=_doc(cls),
        source=source,
        options=taken,
        limit=getattr(cls, "limit", None),
        modality=getattr(cls, "modality", "image"),
    )


def _doc(cls: type) -> str:
    """The docstring that the class itself has; a dataclass without one has its signature."""
    text = cls.__dict__.get("__doc__") or ""
    return "" if text.startswith(f"{cls.__name__}(") else inspect.cleandoc(text)


def _parameter(cls: type, field: dataclasses.Field[Any], names: Names) -> Parameter | None:
    """A field as a configuration has it; None for one that only Python code can fill."""
    from unibench.pruning import Method

    default = REQUIRED
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    allowed = fields_of(cls)[field.name]
    is_method = isinstance(default, Method) or any(
        issubclass(kind, Method) for kind in allowed.classes
    )
    try:
        plain = default if default is REQUIRED else _configured(default, names)
    except TypeError:
        return None
    return Parameter(
        default=plain,
        allowed=allowed,
        follows=field.metadata.get("follows"),
        method=is_method,
        options=field.metadata.get("options") if is_method else None,
        line=line_of(cls, rf"{re.escape(field.name)}\s*:") if default is REQUIRED else 0,
    )


def _configured(value: Any, names: Names) -> Any:
    """A value as YAML writes it.

    Raises:
        TypeError: YAML cannot.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Enum):
        return _configured(value.value, names)
    if isinstance(value, (Path, Fraction)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _configured(entry, names) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_configured(entry, names) for entry in value]
    if type(value) in names():
        changed = {
            field.name: _configured(getattr(value, field.name), names)
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
        name = names()[type(value)]
        return {"name": name, **changed} if changed else name
    raise TypeError(f"no plain value: {value!r}")
