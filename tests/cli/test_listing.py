"""list and show: everything that exists, without torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from unibench import registry
from unibench.cli import main


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("methods", "divprune"),
        ("models", "qwen2_5_vl_7b"),
        ("tasks", "synthvqa"),
        ("suites", "suite_stp"),
    ],
)
def test_list(capsys: pytest.CaptureFixture[str], kind: str, expected: str) -> None:
    assert main(["list", kind]) == 0
    assert expected in capsys.readouterr().out
    assert main(["list", kind, "--json"]) == 0
    assert expected in {entry["name"] for entry in json.loads(capsys.readouterr().out)}


def test_names_are_chosen_by_their_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods", "--match", "random*", "--json"]) == 0
    names = {entry["name"] for entry in json.loads(capsys.readouterr().out)}
    assert names == {"random_intra", "random_like", "random_pre"}


def test_show_prints_the_card_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "method", "fastv"]) == 0
    out = capsys.readouterr().out
    for part in ("arXiv 2403.06764", "pkunlp-icler/FastV", '"layer": 2', "ties by lower index"):
        assert part in out


def test_what_is_nested_in_a_card_stands_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "task", "pope"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "vlmevalkit" in lines and "  name: POPE" in lines
    assert not any("{" in line for line in lines if line.startswith(("vlmevalkit", "lmms_eval")))


def test_methods_can_be_chosen_by_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    def named(words: str) -> set[str]:
        assert main(["list", "methods", "--needs", words, "--json"]) == 0
        return {entry["name"] for entry in json.loads(capsys.readouterr().out)}

    everything = named("")
    assert {"fastv", "divprune"} <= everything
    assert "fastv" in named("llm-attention,text") and "divprune" not in named("llm-attention")
    assert named("text") | named("no-text") == everything
    assert not named("text") & named("no-text")
    assert named("calibration") == {"d2pruner", "debias"}
    assert named("calibration-optional") == {"vtw", "fitprune", "mustdrop"}
    assert named("training") == {"idpruner", "visionselector"}
    assert main(["list", "methods", "--needs"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"fastv +ECCV 2024 +llm-attention, text +2 +yes +no", table)
    assert re.search(r"pact +CVPR 2025 +llm-attention +4 +no +no", table)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["methods", "--needs", "txt"], "unknown need 'txt'. Did you mean text?"),
        (["models", "--needs"], "--needs belongs to methods"),
    ],
)
def test_mistakes_about_needs_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("paper", "venue"),
    [
        ("DivPrune, CVPR 2025, arXiv 2503.02175.", "CVPR 2025"),
        ("PruneVid, ACL 2025, arXiv 2412.16117.", "ACL 2025"),
        ("HiPrune, arXiv 2508.00553.", "arXiv 2025"),
        ("none; a baseline in the work of others (arXiv 2602.13315).", ""),
        ("STP (Smart Token Pruning), section 3.2.", ""),
    ],
)
def test_venue_and_year_are_read_off_the_card(paper: str, venue: str) -> None:
    card = registry.method("divprune")
    assert replace(card, doc=f"Keeps.\n\nPaper: {paper}\n").venue == venue


QUICK = [
    ["--help"],
    ["list", "methods"],
    ["show", "model", "llava_1_5_7b"],
    ["plan", "-m", "method=divprune,fastv,two_stage", "ratio=0.667,0.889"],
    ["plan", "method=fastv", "method.layer=100"],
    ["plan", "method=cdpruner", "method.relevance=clip"],
    ["method=visionselector", "model.selector=nowhere.safetensors"],
]
COMMANDS = """
import json, sys
from unibench.cli import main
loaded = []
for words in {commands!r}:
    main(words)
    loaded.append("torch" in sys.modules or "transformers" in sys.modules)
print(json.dumps(loaded))
"""


def after_each(commands: list[list[str]], cache: Path) -> list[bool]:
    """Whether a process that gives commands one after another has loaded torch after each."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS.format(commands=commands)],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        cwd=cache.parent,  # the cache's folder is called unibench and would be taken for the package
    )
    loaded: list[bool] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.slow
def test_quick_verbs_load_no_torch_once_the_methods_were_asked(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    assert after_each(QUICK, cache)[-1], "an empty cache is filled by the classes themselves"
    for words, loaded in zip(QUICK, after_each(QUICK, cache), strict=True):
        assert not loaded, " ".join(words)
