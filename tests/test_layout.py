"""Where things live, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from unibench.registry import ROOT

TOP = ROOT.parent
FOLDERS = ("methods", "models", "tasks", "configs")


def test_no_package_imports_upwards() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter, "--no-cache"], cwd=TOP, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


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


def test_published_tables_are_found_through_the_package() -> None:
    link = ROOT / "published"
    if not link.is_symlink():
        pytest.skip("installed from a wheel or unpacked without links")
    assert str(link.readlink()) == "../results/published"
    assert (link / "uniprunebench_table1.csv").is_file()
