"""What a result stands on: every part has its papers, and BibTeX reads them."""

from __future__ import annotations

import re

import pytest
import yaml

from unibench import cite, registry
from unibench.cli import main
from unibench.errors import UsageError
from unibench.paths import PACKAGE, part

KNOWN = yaml.safe_load((PACKAGE / "references.yaml").read_text(encoding="utf-8"))
ENTRY = re.compile(r"@\w+\{[a-z0-9]+,\n(?:  \w+ = \{.*\},?\n)+\}")


def names(group: str) -> list[str]:
    return sorted(file.stem for file in (part("configs") / group).glob("*.yaml"))


def test_the_papers_of_every_method_are_known() -> None:
    numbers = {number for name in registry.methods() for number in cite.of_method(name)}
    assert numbers <= set(KNOWN["papers"])
    assert len(numbers) > 40


def test_every_model_and_benchmark_says_its_papers() -> None:
    for name in names("model"):
        cite.of_model(name)
    assert set(names("task")) == set(KNOWN["tasks"])
    groups = (KNOWN["models"], KNOWN["tasks"], KNOWN["harnesses"])
    named = {number for group in groups for numbers in group.values() for number in numbers}
    assert named <= set(KNOWN["papers"])


def test_no_paper_is_there_for_nothing() -> None:
    groups = (KNOWN["models"], KNOWN["tasks"], KNOWN["harnesses"])
    named = {number for group in groups for numbers in group.values() for number in numbers}
    named |= {number for name in registry.methods() for number in cite.of_method(name)}
    assert set(KNOWN["papers"]) == named


def test_every_entry_is_one_of_bibtex_and_no_two_share_a_key() -> None:
    found = [cite.reference(number) for number in KNOWN["papers"]]
    for reference in found:
        assert ENTRY.fullmatch(reference.bibtex()), reference.bibtex()
        assert reference.bibtex().count("{") == reference.bibtex().count("}")
    keys = [reference.key for reference in found]
    assert len(set(keys)) == len(keys)


def test_a_result_is_cited_with_each_paper_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cite", "method=divprune,fastv,random_pre,random_intra", "model=internvl3_5_8b"]
    assert main([*words, "task=pope,pope_adversarial", "harness=lmms_eval"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("@software{unibench,")
    for eprint in (
        "2503.02175",
        "2403.06764",
        "2511.02650",
        "2508.18265",
        "2305.10355",
        "2407.12772",
    ):
        assert printed.count(f"eprint = {{{eprint}}}") == 1


def test_a_suite_stands_for_its_benchmarks_and_a_paper_without_a_number_is_named() -> None:
    printed = cite.bibliography(methods=["stp"], tasks=["suite_stp"])
    assert "% method stp: STP (Smart Token Pruning)" in printed
    assert "2305.10355" in printed and "1902.09506" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=divprun"], "divprune"),
        (["model=qwen2_5_vl_7"], "qwen2_5_vl_7b"),
        (["task=pop"], "pope"),
    ],
)
def test_a_misspelt_part_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cite", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_paper_that_nobody_entered_is_an_error_that_says_where() -> None:
    with pytest.raises(UsageError, match="references.yaml"):
        cite.reference("9999.99999")
