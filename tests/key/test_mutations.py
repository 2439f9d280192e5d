"""An edit of any function changes the keys of the methods that reach it, and no others.

A copy of the sources is edited; nothing is imported. Each line of the table names a definition and
what must have another digest afterwards: methods, ``engine`` and ``family:NAME`` and ``task:NAME``
and ``harness:NAME``. The engine, the family and the task are in the key of each cell beside the
method.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.turns import some_of
from unibench import paths, registry
from unibench.code.closure import Code
from unibench.identity import ENGINE, HARNESSES, OUTSIDE

EVERY = (  # a method that is added later may reach what it likes without a line here
    "cdpruner", "cls_topk", "dart", "divprune", "dpp", "fastv", "fitprune", "gprune",
    "greedy_diversity", "greedy_importance", "hiprune", "holov", "idpruner", "keep_borders",
    "knorm", "l2norm", "mustdrop", "mustdrop_vit", "naive_hybrid", "pooling", "prumerge",
    "prumerge_plus", "pyramiddrop", "random_intra", "random_pre", "schedule", "scope", "sparsevlm",
    "stp", "tome", "trimtokenator", "two_stage", "uniform_grid", "vanilla", "visionselector",
    "visionzip", "vispruner", "vtw",
)  # fmt: skip
IMPORTANCE = "dpp greedy_importance idpruner naive_hybrid visionselector"
DISTANCES = "divprune greedy_diversity naive_hybrid stp trimtokenator two_stage"
PAIRS = f"{DISTANCES} cdpruner dpp idpruner scope"
HARNESS = "harness:vlmevalkit harness:lmms_eval"
LLAVAS = "family:llava family:llava_next family:llava_next_video family:llava_onevision family:llava_video"
QWENS = "family:qwen2_vl family:qwen2_5_vl family:qwen3_vl family:llava_onevision_1_5 family:qwen3_5 family:glm4v"

REACHED = {
    # helpers of methods
    "methods/_recycling.py:recycled": "sparsevlm",
    "methods/_recycling.py:PUBLISHED": "sparsevlm",
    "methods/_importance.py:SOFT_SHARE": IMPORTANCE,
    "methods/_importance.py:ByImportance.weights": IMPORTANCE,
    "methods/_selector.py:Selector.scores": IMPORTANCE,
    "methods/_selector.py:_placed": IMPORTANCE,
    # methods, and methods that others are made of
    "methods/divprune.py:DivPrune.select": "divprune two_stage",
    "methods/fastv.py:FastV": "fastv schedule two_stage",
    "methods/mustdrop_vit.py:_mean_cosine": "mustdrop mustdrop_vit",
    "methods/tome.py:per_block": "tome",
    "methods/fitprune.py:attention_flow": "fitprune",
    "methods/vispruner.py:STEP": "vispruner",
    "methods/vanilla.py:Vanilla": "vanilla",
    # tensor functions
    "unibench/ops/greedy.py:greedy": PAIRS,
    "unibench/ops/greedy.py:farthest": "naive_hybrid",
    "unibench/ops/greedy.py:determinantal": "cdpruner dpp",
    "unibench/ops/greedy.py:EXHAUSTED": "cdpruner dpp",
    "unibench/ops/greedy.py:rep_max": "trimtokenator",
    "unibench/ops/pairs.py:cosine_pairs": PAIRS,
    "unibench/ops/pairs.py:nearest": DISTANCES,
    "unibench/ops/coverage.py:coverage": "scope",
    "unibench/ops/clustering.py:density_peaks": "sparsevlm",
    "unibench/ops/information.py:mutual_information": "trimtokenator",
    "unibench/ops/similarity.py:min_max": "idpruner stp",
    "unibench/ops/similarity.py:euclidean": "sparsevlm trimtokenator",
    "unibench/ops/outliers.py:outliers": "prumerge prumerge_plus",
    "unibench/ops/merging.py:bipartite": "tome",
    "unibench/ops/merging.py:membership": f"engine {HARNESS} tome visionzip",
    "unibench/ops/sharing.py:spaced": "pooling uniform_grid",
    "unibench/ops/closest.py:Closest": "vispruner",
    "unibench/ops/topk.py:soft_top_k": IMPORTANCE,
    "unibench/ops/topk.py:ranks": "holov",
    "unibench/ops/topk.py:top_k": " ".join(EVERY),
    "unibench/cost/accounting.py:spread": "mustdrop pyramiddrop sparsevlm vtw",
    "unibench/cost/accounting.py:withdrawal_layer": "vtw",
    # the engine
    "unibench/pruning/stage.py:Method": " ".join(EVERY),
    "unibench/pruning/session.py:Session": f"engine {HARNESS}",
    "unibench/pruning/chooser.py:Chooser": f"engine {HARNESS}",
    "unibench/pruning/context.py:StageContext": f"engine {HARNESS}",
    "unibench/pruning/attention.py:attention_rows": f"engine {HARNESS}",
    "unibench/pruning/cutting.py:causal_mask": f"engine {HARNESS}",
    "unibench/pruning/eviction.py:evict": f"engine {HARNESS}",
    "unibench/pruning/prompt.py:prompt_of": f"engine {HARNESS}",
    "unibench/pruning/vision.py:VisionRecorder": f"engine {HARNESS}",
    "unibench/cost/flops.py:DecoderShape": f"engine {HARNESS}",
    "unibench/budget.py:Budget.keep": "engine two_stage",
    "models/_loading.py:LoadedModel.generation_config": f"engine {HARNESS}",
    "models/_clip.py:ClipSpace.question": f"engine {HARNESS}",
    # families and tasks
    "models/llava.py:Llava": LLAVAS,
    "models/llava_next.py:LlavaNext": LLAVAS.replace("family:llava ", ""),
    "models/qwen2_vl.py:Qwen2VL.pack": QWENS,
    "models/qwen2_5_vl.py:Qwen2_5VL": "family:qwen2_5_vl",
    "models/internvl.py:InternVL": "family:internvl",
    "tasks/synthvqa/_draw.py:draw": "task:synthvqa",
    "tasks/synthvqa/_questions.py:ask": "task:synthvqa",
    "tasks/folder.py:Folder": "task:folder",
    "unibench/harness/child/lmms.py:LmmsEval": "harness:lmms_eval",
    "unibench/harness/child/vlmevalkit.py:VLMEvalKit": "harness:vlmevalkit",
    # what no number depends on
    "unibench/errors.py:unknown": "",
    "unibench/compose.py:compose_cells": "",
    "unibench/pruning/record.py:unpacked": "",
    "unibench/report/table.py:Table": "",
    "unibench/store/folder.py:CellFolder": "",
}  # fmt: skip

# edits as somebody might make them: file, what stands there, what is to stand there
EDITS = [
    ("methods/_recycling.py", "PER_CLUSTER = 10", "PER_CLUSTER = 3", "sparsevlm"),
    ("methods/_importance.py", "raw = self._raw(ctx)", "raw = -self._raw(ctx)", IMPORTANCE),
    ("methods/_prumerge.py", "one_head=True", "one_head=False", "prumerge prumerge_plus"),
    ("methods/mustdrop_vit.py", ".mean(", ".sum(", "mustdrop mustdrop_vit"),
    ("unibench/ops/greedy.py", "def max_min(", "def max_min(unused=0, *, ", DISTANCES),
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, laid out like a checkout without links."""
    root = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", "tiny", "*.yaml", "methods", "models", "tasks")
    shutil.copytree(paths.PACKAGE, root / "unibench", ignore=ignore)
    for name in ("methods", "models", "tasks"):
        inner = shutil.ignore_patterns("__pycache__", "tiny")
        shutil.copytree(paths.part(name), root / name, ignore=inner)
    return root


@pytest.fixture(scope="module")
def before(tree: Path) -> dict[str, str]:
    return digests(tree)


def digests(tree: Path) -> dict[str, str]:
    """The digest of every method, family, task and harness, and of the engine."""
    code = Code(tree / "unibench", OUTSIDE)
    roots = {"engine": list(ENGINE)}
    cards = {name: registry.methods()[name] for name in EVERY}
    cards |= {f"family:{name}": card for name, card in registry.families().items()}
    roots |= {name: [f"{card.module}:{card.class_name}"] for name, card in cards.items()}
    roots |= {f"harness:{name}": list(names) for name, names in HARNESSES.items()}
    roots["task:synthvqa"] = ["unibench.tasks.synthvqa:SynthVQA"]
    roots["task:folder"] = ["unibench.tasks.folder:Folder"]
    return {name: code.reach(names).digest for name, names in roots.items()}


@contextmanager
def edited(file: Path, edit: Callable[[str], str]) -> Iterator[None]:
    text = file.read_text()
    file.write_text(edit(text))
    try:
        yield
    finally:
        file.write_text(text)


def changed(tree: Path, before: dict[str, str], file: str, edit: Callable[[str], str]) -> set[str]:
    with edited(tree / file, edit):
        after = digests(tree)
    return {name for name in before if after[name] != before[name]}


def definition(text: str, name: str) -> ast.stmt:
    """The statement that binds a dotted name."""
    body = ast.parse(text).body
    for part in name.split("."):
        node = next(
            node
            for node in body
            if part == getattr(node, "name", None)
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == part)
            or (isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == part)
        )
        body = getattr(node, "body", [])
    return node


def with_another_statement(text: str, name: str) -> str:
    """The source with one statement more in a definition, which does what it did."""
    node, lines = definition(text, name), text.splitlines(keepends=True)
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        first = node.body[0]  # its docstring
        place, line = first.lineno - 1, f"{' ' * first.col_offset}assert True\n"
    else:
        place, line = node.end_lineno or 0, f"{name} = {name}\n"
    return "".join([*lines[:place], line, *lines[place:]])


@some_of("place", REACHED, 4)
def test_an_edit_changes_what_reaches_it_and_nothing_else(
    tree: Path, before: dict[str, str], place: str
) -> None:
    file, _, name = place.partition(":")
    found = changed(tree, before, file, lambda text: with_another_statement(text, name))
    assert found == {*REACHED[place].split()}


@pytest.mark.parametrize(("file", "old", "new", "expected"), EDITS)
def test_an_edit_of_a_number_or_a_sign_changes_what_reaches_it_and_nothing_else(
    tree: Path, before: dict[str, str], file: str, old: str, new: str, expected: str
) -> None:
    assert old in (tree / file).read_text()
    found = changed(tree, before, file, lambda text: text.replace(old, new, 1))
    assert found == {*expected.split()}


def without_words(text: str) -> str:
    """Other docstrings, no comments, no annotations of functions, other formatting."""

    class Words(ast.NodeTransformer):
        def visit_Expr(self, node: ast.Expr) -> ast.AST:
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                node.value.value = "Other words."
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.returns = None
            return self.generic_visit(node)

        def visit_arg(self, node: ast.arg) -> ast.AST:
            node.annotation = None
            return node

    return "# comment\n\n" + ast.unparse(Words().visit(ast.parse(text)))


def test_words_annotations_and_formatting_of_the_whole_package_change_nothing(
    tree: Path, before: dict[str, str]
) -> None:
    files = [file for file in tree.rglob("*.py") if file.read_text().strip()]
    texts = {file: file.read_text() for file in files}
    for file, text in texts.items():
        file.write_text(without_words(text))
    try:
        assert digests(tree) == before
    finally:
        for file, text in texts.items():
            file.write_text(text)


def test_a_function_that_nobody_reaches_changes_nothing(tree: Path, before: dict[str, str]) -> None:
    more = "\n\ndef nobody(x):\n    return nobody(x) + 1\n"
    for file in ("unibench/ops/greedy.py", "methods/_recycling.py", "unibench/pruning/session.py"):
        assert not changed(tree, before, file, lambda text: text + more)


def test_the_table_covers_at_least_thirty_functions() -> None:
    assert len([place for place, reached in REACHED.items() if reached]) + len(EDITS) >= 30
