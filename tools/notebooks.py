"""The notebooks, from the cells below and executed without Jupyter.

    python -m tools.notebooks            # run both and write them, with what they print and show
    python -m tools.notebooks --check    # run the files as they are; an error stops it

A code cell is Python without magics. What it prints is kept, and its last line, where that is a
picture or another value.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
PYTHON = "python"

COMPARE = [
    (
        "markdown",
        """\
# Compare three methods on your pictures

Which tokens does each method keep of *your* picture, and does the model still answer? This
notebook needs no GPU: the model is a small
trained one that comes with unibench. Replace `tiny_qwen2_5_vl` by `qwen2_5_vl_7b` (or a folder
of yours, see the guide) and the drawn
pictures by your own.

`pip install "unibench-pruning[bench]"`""",
    ),
    (
        "code",
        """\
import unibench
from unibench.plots.overlay import side_by_side, views
from unibench.pruning.record import unpacked
from unibench.tasks.synthvqa import SynthVQA

model = unibench.load("tiny_qwen2_5_vl")

# yours: pairs of Image.open("photo.jpg").convert("RGB") and a question
pairs = [(sample.images[0], sample.question) for sample in SynthVQA().samples(5)]
pairs[0][0]""",
    ),
    (
        "markdown",
        "One function asks a question under a method and returns the answer with what was kept.",
    ),
    (
        "code",
        """\
def ask(picture, question, method, **budget):
    inputs = model.inputs([question], [[picture]])
    with unibench.prune(model.model, method, processor=model.processor, **budget) as session:
        generated = model.model.generate(**inputs, max_new_tokens=16, do_sample=False)
    (record,) = session.take_records()
    return model.answers(generated[:, inputs["input_ids"].shape[1] :])[0], record


settings = {
    "unpruned": ("vanilla", {}),
    "divprune": ("divprune", {"ratio": 0.667}),
    "fastv": ("fastv", {"ratio": 0.667}),
    "random": ("random_pre", {"ratio": 0.667}),
}
for picture, question in pairs:
    print(question)
    for name, (method, budget) in settings.items():
        answer, record = ask(picture, question, method, **budget)
        print(f"  {name:10s} {record.kept:4d} of {record.visual_tokens} tokens   {answer}")""",
    ),
    (
        "markdown",
        """\
Now look at what was kept. Dark places reach no further than the cut: DivPrune spreads its
tokens over everything that differs, FastV
keeps what the question reads, and random keeps anything.""",
    ),
    (
        "code",
        """\
picture, question = pairs[0]
columns = {}
for name, (method, budget) in settings.items():
    _, record = ask(picture, question, method, **budget)
    (item,) = record.items
    kept = unpacked(record.last, record.visual_tokens)
    columns[name] = views([picture], item, kept)
side_by_side(columns)""",
    ),
    (
        "markdown",
        """\
Five questions prove nothing. Put yours into a folder and let the command line do the statistics:
`unibench -m method=divprune,fastv ratio=0.667,0.889 task=folder task.data=my_pictures`, then
`unibench compare divprune fastv`.""",
    ),
]
METHOD = [
    (
        "markdown",
        """\
# Write a method in ten lines, and see what it keeps

A method scores the visual tokens of one sample; the highest stay. Budget, ties, order, masks,
positions and the cache are the engine's
business, so ten lines are enough.""",
    ),
    (
        "code",
        """\
from dataclasses import dataclass

import torch

import unibench
from unibench import Method, StageContext


@dataclass(frozen=True)
class Unusual(Method):
    \"\"\"Keeps the tokens that are least like the mean of the picture.\"\"\"

    def score(self, ctx: StageContext) -> torch.Tensor:
        tokens = torch.nn.functional.normalize(ctx.visual_hidden.float(), dim=-1)  # [N, D]
        return -(tokens @ tokens.mean(dim=0))  # [N]


Unusual()""",
    ),
    ("markdown", "Run it like any other method, on the small model that comes with unibench."),
    (
        "code",
        """\
from unibench.tasks.synthvqa import SynthVQA

model = unibench.load("tiny_qwen2_5_vl")
sample = next(iter(SynthVQA().samples(1)))
inputs = model.inputs([sample.question], [list(sample.images)])

records = {}
for name, method in {"unusual": Unusual(), "divprune": "divprune", "random": "random_pre"}.items():
    with unibench.prune(model.model, method, processor=model.processor, ratio=0.75) as session:
        generated = model.model.generate(**inputs, max_new_tokens=16, do_sample=False)
    (records[name],) = session.take_records()
    answer = model.answers(generated[:, inputs["input_ids"].shape[1] :])[0]
    print(f"{name:9s} keeps {records[name].kept} of {records[name].visual_tokens}: {answer}")""",
    ),
    (
        "code",
        """\
from unibench.plots.overlay import side_by_side, views
from unibench.pruning.record import unpacked

columns = {}
for name, record in records.items():
    kept = unpacked(record.last, record.visual_tokens)
    columns[name] = views(list(sample.images), record.items[0], kept)
side_by_side(columns)""",
    ),
    (
        "markdown",
        """\
Does it deserve a table? Save the class as `unusual.py` and measure it beside others, at two
budgets, with the controls that a method
must beat:

`unibench -m method=./unusual.py:Unusual,divprune ratio=0.667,0.889 controls=standard`

What else a method may ask for (attention, the question, several cuts, merging) is in the guide
under *Adding a method*.""",
    ),
]
NOTEBOOKS = {"compare_three_methods.ipynb": COMPARE, "a_method_in_ten_lines.ipynb": METHOD}


def ran(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Execute a code cell; its outputs in the notebook format."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, f"<cell {count}>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": text})
    if value is not None:
        data = _shown(value)
        outputs.append(
            {
                "data": data,
                "execution_count": count,
                "metadata": {},
                "output_type": "execute_result",
            }
        )
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    if not isinstance(value, Image.Image):
        return {"text/plain": [repr(value)]}
    file = io.BytesIO()
    value.quantize(128).save(file, "PNG", optimize=True)
    return {
        "image/png": base64.b64encode(file.getvalue()).decode(),
        "text/plain": [f"<picture, {value.width} x {value.height}>"],
    }


def notebook(cells: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A notebook of cells, executed in one namespace."""
    names: dict[str, Any] = {"__name__": "__notebook__"}
    made: list[dict[str, Any]] = []
    count = 0
    for number, (kind, source) in enumerate(cells):
        cell: dict[str, Any] = {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": source.splitlines(keepends=True),
        }
        if kind == "code":
            count += 1
            cell |= {"execution_count": count, "outputs": ran(source, names, count)}
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": PYTHON, "name": "python3"}
    return {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": PYTHON}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def cells_of(file: Path) -> list[tuple[str, str]]:
    """The cells of a notebook, without their outputs."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def main(words: Sequence[str]) -> int:
    """Run the notebooks named, or both; without ``--check`` write them."""
    wanted = [word for word in words if word != "--check"] or list(NOTEBOOKS)
    for name in wanted:
        file = FOLDER / Path(name).name
        if "--check" in words:
            notebook(cells_of(file))
        else:
            made = notebook(NOTEBOOKS[file.name])
            text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
            file.write_text(text, encoding="utf-8")
        print(file.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
