"""The light library: pruning a loaded model imports nothing that the extras bring."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from unibench.cli.main import EXTRAS
from unibench.paths import PACKAGE, part

KINDS = ("methods", "models")
BLOCKED = (
    *("hydra", "omegaconf", "antlr4", "pandas", "pyarrow", "matplotlib", "seaborn", "statsmodels"),
    *("scikit_posthocs", "rich", "tabulate", "pylatexenc", "accelerate", "submitit", "ray"),
)
# scipy is transformers' own wish where it is installed, so it cannot be blocked, only not imported
PROGRAM = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    # as if BLOCKED were not installed
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in BLOCKED
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from pathlib import Path
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
import unibench

folder = Path(unibench.__file__).parent / "models" / "tiny" / "qwen2_5_vl"
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
turn = [{"type": "image"}, {"type": "text", "text": "What is drawn?"}]
text = processor.apply_chat_template(
    [{"role": "user", "content": turn}], add_generation_prompt=True
)
inputs = processor(text=text, images=[Image.new("RGB", (224, 224), "red")], return_tensors="pt")
before = model.generate(**inputs, max_new_tokens=4)
with unibench.prune(model, "divprune", ratio=0.889) as session:
    model.generate(**inputs, max_new_tokens=4)
(record,) = session.take_records()
print(record.visual_tokens, record.kept)
assert unibench.wrap(model, "fastv", keep=9) is model
model.generate(**inputs, max_new_tokens=4)
(record,) = unibench.unwrap(model).take_records()
print(record.visual_tokens, record.kept)
assert torch.equal(model.generate(**inputs, max_new_tokens=4), before)
"""


@pytest.mark.ci_slow
def test_pruning_needs_nothing_of_the_extras() -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"BLOCKED = {BLOCKED}{PROGRAM}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["64", "7", "64", "9"]


def imported(file: Path) -> set[str]:
    """Modules that a file imports when it is imported itself: not inside functions, nor for types
    alone.
    """
    names: set[str] = set()
    todo: list[ast.stmt] = list(ast.parse(file.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Try):
            todo += node.body
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            todo += [*node.body, *node.orelse]
    return names


def file_of(module: str) -> Path | None:
    place = PACKAGE.joinpath(*module.split(".")[1:])
    found = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in found if file.is_file()), None)


def reached(roots: Iterable[str]) -> dict[str, set[str]]:
    """Every module of the package that the roots import when they are imported, with what each
    imports itself.
    """
    todo, found = list(roots), dict[str, set[str]]()
    while todo:
        module = todo.pop()
        if module in found or (file := file_of(module)) is None:
            continue
        found[module] = imported(file)
        for name in found[module]:
            if name.startswith("unibench."):
                todo += [name, name.rpartition(".")[0]]
    return found


def importers(roots: Iterable[str], extras: Iterable[str]) -> list[str]:
    """Which of the modules reached import one of the extras' packages."""
    wall = frozenset(extras)
    return [
        module
        for module, names in reached(roots).items()
        if wall & {name.partition(".")[0] for name in names}
    ]


def test_no_module_that_pruning_imports_imports_an_extra() -> None:
    """The same without running anything, for every method and family."""
    parts = [f"unibench.{kind}.{file.stem}" for kind in KINDS for file in part(kind).glob("*.py")]
    roots = ["unibench.api", "unibench.cite", *parts]
    assert len(reached(roots)) > 100
    assert not importers(roots, {*BLOCKED, "scipy"})


def test_a_run_needs_the_extra_bench_alone() -> None:
    verbs = ("grid", "listing", "planning", "working", "comparing", "recommending", "profiling")
    assert not importers(
        [f"unibench.cli.{verb}" for verb in verbs],
        {name for name, extra in EXTRAS.items() if extra != "bench"},
    )


def test_what_the_code_imports_has_an_extra_in_the_message() -> None:
    declared = {re.sub("-.*", "", line) for line in extra_lines()}
    assert {"hydra", "pandas", "matplotlib", "submitit"} <= declared
    assert set(EXTRAS.values()) == {"bench", "report", "cluster"}


def extra_lines() -> list[str]:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    named = [line for extra in ("bench", "report", "cluster") for line in extras[extra]]
    return [re.split(r"[>=\[]", line)[0] for line in named]
