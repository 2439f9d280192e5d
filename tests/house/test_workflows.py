"""The files around the code: workflows, templates, versions, what a package declares.

actionlint reads the workflows in `make lint-workflows`, which `.ci/run` calls.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import unibench
from unibench.registry import ROOT

TOP = ROOT.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_step_of_a_workflow_is_a_make_target(file: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (TOP / "Makefile").read_text(), flags=re.MULTILINE)
    jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    for command in commands:
        make, target = command.split()
        assert make == "make" and target in targets, command


def test_the_version_is_one_everywhere() -> None:
    cited = yaml.safe_load((TOP / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    noted = re.findall(r"^## (\d+\.\d+\.\d+)", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] == unibench.__version__ == str(cited) == noted[0]


def test_the_light_installation_has_ranges_and_nothing_heavy() -> None:
    names = {re.split(r"[^\w-]", line)[0] for line in PROJECT["dependencies"]}
    assert not names & {"hydra-core", "omegaconf", "pandas", "pyarrow", "scipy", "matplotlib"}
    assert not [line for line in PROJECT["dependencies"] if "==" in line]


def test_what_the_code_imports_is_declared_somewhere() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = " ".join(
        [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    )
    for name in (
        *("torch", "transformers", "ms-vlmeval", "lmms-eval", "pandas", "hydra-core"),
        *("omegaconf", "scipy", "matplotlib", "submitit", "ray"),
    ):
        assert re.search(rf"\b{name}\b", declared), name


@pytest.mark.parametrize(
    "file", sorted((TOP / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.name
)
def test_an_issue_form_has_what_the_site_of_the_repository_wants(file: Path) -> None:
    form = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.name == "config.yml":
        assert form["contact_links"]
        return
    assert form["name"] and form["description"] and form["body"]
    for field in form["body"]:
        assert field["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert field["type"] == "markdown" or field["attributes"]["label"]
