"""Where things live, and who may import whom."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unibench.registry import ROOT

TOP = ROOT.parent
FOLDERS = ("methods", "models", "tasks", "configs")
LAYERS = (  # lowest first; a part may import itself and what stands before it
    ("errors", "_compat", "paths", "jsoncache", "digests", "source", "closure"),
    ("ops", "cost", "budget", "stats"),
    ("pruning",),
    ("methods", "registry"),
    (
        "config",
        "configs",
        "experiment",
        "benchmark",
        "suites",
        "checks",
        "compose",
        "identity",
        "inputs",
        "lineage",
        "device",
        "hub",
    ),
    ("models", "tasks", "api", "calibrate"),
    ("store",),
    ("frame", "plan"),
    ("compare", "recommend"),
    ("report",),
    ("audit",),
    ("inference", "runner", "analysis", "harness"),
    ("cluster",),
    ("profile",),
    ("plots",),
    ("page",),
    ("cli", "__main__"),
)


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("unibench."):
            names.add(part_of(node.module))
        elif isinstance(node, ast.ImportFrom) and node.module == "unibench":
            names |= {
                alias.name
                for alias in node.names
                if (ROOT / f"{alias.name}.py").exists() or (ROOT / alias.name).is_dir()
            }
        elif isinstance(node, ast.Import):
            names |= {
                part_of(alias.name) for alias in node.names if alias.name.startswith("unibench.")
            }
    return names


def sources() -> list[tuple[str, Path]]:
    found = [
        (path.relative_to(ROOT).parts[0].removesuffix(".py"), path) for path in ROOT.rglob("*.py")
    ]
    return found + [(folder, path) for folder in FOLDERS for path in (TOP / folder).rglob("*.py")]


@pytest.mark.parametrize(
    ("part", "path"),
    [pytest.param(*source, id=str(source[1].relative_to(TOP))) for source in sources()],
)
def test_no_part_imports_upwards(part: str, path: Path) -> None:
    if part == "__init__":
        return
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    assert part in height, f"{part} is in no layer"
    typed = {"budget", "pruning"} if part in ("pruning", "ops") else set()
    upward = {
        name
        for name in imports_of(path) - typed
        if name not in height or height[name] > height[part]
    }
    assert not upward, f"{path} imports {upward}"


def roots_of(node: ast.AST) -> set[str]:
    """First parts of the module names that a statement imports."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted((TOP / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_methods_import_torch_and_unibench_only(path: Path) -> None:
    allowed = {"torch", "unibench", "safetensors", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(path.read_text())):
        assert roots_of(node) <= allowed


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_top_level_folder_refuses_its_second_name(folder: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=TOP, capture_output=True, text=True
    )
    assert run.returncode == 1 and f"import unibench.{folder}" in run.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_are_relative_and_lead_to_the_real_folders(folder: str) -> None:
    link = ROOT / folder
    if not link.is_symlink():
        pytest.skip(
            "installed from a wheel or unpacked without links: the folder is a copy or found by its"
            " fallback"
        )
    assert str(link.readlink()) == f"../{folder}"


def test_a_checkout_without_links_works(tmp_path: Path) -> None:
    for name in ("unibench", *FOLDERS):
        ignore = shutil.ignore_patterns(
            *(FOLDERS if name == "unibench" else ()), "__pycache__", "*.safetensors"
        )
        shutil.copytree(TOP / name, tmp_path / name, ignore=ignore)
    for folder in FOLDERS:
        (tmp_path / "unibench" / folder).write_text(
            f"../{folder}"
        )  # what git leaves where it may make no links
    code = (
        "import unibench.registry as r; print(sorted(r.methods())[:2],"
        " r.method('divprune').load().__module__)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip().endswith("unibench.methods.divprune"), run.stderr
