"""A file for a new method, task or family, with its test, from what its author says it needs."""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from unibench import registry
from unibench.errors import UsageError, unknown
from unibench.paths import PACKAGE

Kind = Literal["method", "task", "family"]
Form = Literal["score", "select", "merge"]
KINDS: tuple[str, ...] = get_args(Kind)
FORMS: tuple[str, ...] = get_args(Form)

# what an author may need, the entry of Needs that says so, and an importance made of it
_NORM = "importance = ctx.visual_hidden.norm(dim=1)"
_ASKED = (
    "asked = ctx.hidden[ctx.instruction].float().mean(0)\n"
    "importance = torch.cosine_similarity(ctx.visual_hidden, asked[None], dim=1) + 1"
)
NEEDS = {
    "vit-attention": ("saliency=True", "importance = ctx.saliency()"),
    "vit-features": (
        "features=True",
        "features, _ = ctx.encoder_features()\nimportance = features.norm(dim=1)",
    ),
    "llm-attention": ("llm_attention=(1,)", "importance = ctx.attention(1).mean((0, 1))"),
    "text": ("", _ASKED),
}
LAYER = 2  # of the cut behind the attention that is read
BEHIND = ("llm-attention",)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        files: the part and its test.
        next: the commands that come next.
    """

    files: tuple[Path, ...]
    next: tuple[str, ...]


def new(
    kind: Kind,
    name: str,
    folder: Path,
    *,
    needs: Sequence[str] = (),
    form: Form = "score",
    like: str = "llava",
) -> Written:
    """Write a skeleton and its test.

    Args:
        kind: of the part.
        name: of the file, in snake case.
        folder: where it goes; a family belongs into ``models``.
        needs: of a method, keys of :data:`NEEDS`.
        form: of a method: a score, a joint choice, or a choice with merged states.
        like: of a family, the one that it resembles.

    Raises:
        UsageError: the name is none, is taken, or a file of it is there.
    """
    _check(kind, name)
    for word in needs:
        if word not in NEEDS:
            raise unknown("need", word, NEEDS)
    title = name.replace("_", " ").capitalize()
    cls = "".join(word.capitalize() for word in name.split("_"))
    folder = folder.expanduser()
    part, test = folder / f"{name}.py", folder / f"test_{name}.py"
    if kind == "family":
        part = PACKAGE / "models" / part.name
    values: dict[str, Any] = {
        "name": name, "title": title, "cls": cls, "file": part.name, "test": test.name,
        **(_of_method(needs, form) if kind == "method" else {}),
        **(_of_family(like) if kind == "family" else {}),
    }  # fmt: skip
    for file in (part, test):
        if file.exists():
            raise UsageError(f"{file} is there already; another name, or another folder: into=")
    # trim_blocks: a line of a template that holds a statement alone leaves no empty line
    environment = Environment(
        loader=PackageLoader("unibench.kit"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for file, template in ((part, f"{kind}.py.j2"), (test, f"test_{kind}.py.j2")):
        file.write_text(environment.get_template(template).render(values), encoding="utf-8")
    return Written((part, test), _next(kind, part, test, cls))


def _check(kind: str, name: str) -> None:
    """Refuse what cannot be the name of a file and a class.

    Raises:
        UsageError: it cannot be, or is taken.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name[0] == "_":
        raise UsageError(f"new {kind} {name}: a name in snake case is wanted, such as keep_borders")
    taken = {
        "method": registry.methods().keys(),
        "task": registry.tasks().keys(),
        "family": registry.families().keys(),
    }
    if name in taken[kind]:
        raise UsageError(f"new {kind} {name}: there is a {kind} of this name; take another one")


def _of_method(needs: Sequence[str], form: Form) -> dict[str, Any]:
    words = [word for word in NEEDS if word in needs]
    # the first that is asked for makes the importance; the others are recorded and can be read
    body = NEEDS[words[0]][1] if words else _NORM
    behind = any(word in BEHIND for word in words)
    places = {(True, True): "hybrid", (True, False): "LLM only", (False, True): "ViT only"}
    return {
        "words": words,
        "needs": ", ".join(entry for word in words if (entry := NEEDS[word][0])),
        "form": form,
        "layer": LAYER if behind else 0,
        "category": places.get((behind, "vit-attention" in words or not behind), "other"),
        "importance": "\n".join(f"        {line}" for line in body.split("\n")),
        "torch": form == "merge" or "torch." in body,
        "tensor": form == "score",
        "imports": ", ".join(
            ["Method"]
            + ["Needs"] * any(NEEDS[word][0] for word in words)
            + ["Selection"] * (form != "score")
            + ["Stage"] * behind
            + ["StageContext"]
        ),
    }


def _of_family(like: str) -> dict[str, Any]:
    known = registry.families()
    if like not in known:
        raise unknown("family", like, known)
    return {"like": like, "base": known[like].class_name}


def _next(kind: str, part: Path, test: Path, cls: str) -> tuple[str, ...]:
    own = f"{part}:{cls}" if part.is_absolute() else f"./{part}:{cls}"
    command = "python -m unibench"
    if kind == "method":
        return (
            f"python -m pytest {test}",
            f"{command} check method={own}",
            f"{command} method={own} ratio=0.889",
        )
    if kind == "task":
        return (f"python -m pytest {test}", f"{command} task={own} method=divprune ratio=0.889")
    return (
        f"python -m pytest {test}",
        f"a card of a model in configs/model, then {command} check model=<its name>",
    )
