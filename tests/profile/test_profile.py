"""The profile verb: what it refuses, what its rows say, what its tables print."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from unibench.api import build_method
from unibench.cli import main, parsers
from unibench.cli.parser import Parser
from unibench.cli.profiling import requested
from unibench.compose import compose_cells
from unibench.config import RunConfig
from unibench.cost import Clock
from unibench.errors import UsageErrors
from unibench.identity import cell_of
from unibench.models import load
from unibench.profile import PROTOCOLS, Request, passes
from unibench.profile.measure import SPANS, Table, profile
from unibench.profile.table import COLUMNS, markdown
from unibench.tasks.synthvqa import SynthVQA

SMALL = ["image=112x112", "new_tokens=3", "text_tokens=6", "repeats=2", "warmup=0"]


def parse(words: Sequence[str]) -> tuple[Request, list[RunConfig]]:
    parser = Parser("profile", "")
    parsers.profile(parser)
    return requested(parser.read(words))


def rows_of(*words: str) -> list[dict[str, Any]]:
    request, cells = parse([*SMALL, *words])
    return [row for table in profile(request, cells) for row in table.rows]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("image=1080p", "image=1080p: width x height in pixels"),
        ("image=0x5", "image=0x5: width x height"),
        ("batch=1,0", "batch=0 is too small; at least 1"),
        ("repeats=many", "repeats=many: a whole number is wanted"),
        ("protocol=papr", "unknown protocol 'papr'"),
        ("task=synthvqa", "task: profile asks no task"),
        ("batch_size=2", "batch_size: profile asks no task"),
        ("method=divprun", "Did you mean divprune?"),
        ("txt_tokens=3", "Did you mean"),
    ],
)
def test_one_clear_line_for_a_mistake(
    capsys: pytest.CaptureFixture[str], word: str, expected: str
) -> None:
    assert main(["profile", word]) == 2
    err = capsys.readouterr().err
    assert expected in err and len(err.strip().splitlines()) == 1


def test_all_mistakes_at_once_and_without_torch() -> None:
    with pytest.raises(UsageErrors) as found:
        parse(["image=x", "batch=0", "ratio=2", "method=nothing"])
    assert len(found.value.errors) == 4
    code = (
        "import sys; from unibench.cli import main; main(['profile', 'image=x']); sys.exit('torch'"
        " in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(command, capture_output=True)  # the first one after an edit asks the classes
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_comma_lists_are_grids() -> None:
    request, cells = parse(
        ["method=divprune,fastv", "ratio=0.5,0.8", "batch=1,8", "image=1920x1080"]
    )
    assert request == Request(image=(1920, 1080), batch=(1, 8))
    assert [(cell.method["name"], cell.ratio) for cell in cells] == [
        ("divprune", 0.5),
        ("divprune", 0.8),
        ("fastv", 0.5),
        ("fastv", 0.8),
    ]


def test_the_verb_writes_rows_of_every_method_beside_vanilla_and_keep_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            ["profile", *SMALL, "method=divprune,fastv", "ratio=0.5", "batch=2", f"out={tmp_path}"]
        )
        == 0
    )
    printed = capsys.readouterr().out
    (stored,) = tmp_path.glob("profile/*.json")
    assert stored.with_suffix(".md").read_text() in printed
    vanilla, keep_all, divprune, fastv = json.loads(stored.read_text())["rows"]
    assert [row["method"] for row in (vanilla, keep_all, divprune, fastv)] == [
        "vanilla",
        "keep-all",
        "divprune",
        "fastv",
    ]
    assert vanilla["kept"] == keep_all["kept"] == vanilla["tokens_in"] == 2 * divprune["kept"]
    assert (
        vanilla["method_ms"]["median"]
        == 0
        < min(row["method_ms"]["median"] for row in (keep_all, divprune, fastv))
    )
    assert (
        vanilla["tflops"]
        == keep_all["tflops"]
        > fastv["tflops"]
        > divprune["tflops"]
        > divprune["method_tflops"]
        > 0
    )
    assert vanilla["kv_mib"] == keep_all["kv_mib"] > fastv["kv_mib"] > divprune["kv_mib"]
    assert (
        len({row["vision_tflops"] for row in (vanilla, keep_all, divprune, fastv)}) == 1
        and vanilla["vision_tflops"] > 0
    )
    for row in (vanilla, keep_all, divprune, fastv):
        assert row["attn"] == "sdpa" and row["batch"] == 2 and row["new_tokens"] == 3
        total, vision, prefill, method, decode = (row[f"{span}_ms"]["median"] for span in SPANS)
        assert 0 <= method < prefill < total and 0 < vision < prefill and decode > 0


def test_a_pass_decodes_the_tokens_that_it_divides_by() -> None:
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", "method=vanilla"], sweep=False)
    cell, loaded = cell_of(config), load(config.model, config.pixels)
    (sample,) = SynthVQA().samples(1)
    inputs = loaded.read([[*sample.images, sample.question]])
    contender = passes.Contender("vanilla", "vanilla", cell, build_method("vanilla"))
    assert passes.steps_to_the_end(loaded, contender, [inputs], 8) < 8, "the answer is short"
    forwards: list[int] = []
    counter = loaded.model.register_forward_hook(lambda *_: forwards.append(1))
    try:
        passes.timed(loaded, contender, [inputs], 8)
    finally:
        counter.remove()
    assert len(forwards) == 8


@cache
def measured() -> tuple[Request, Table]:
    request, cells = parse([*SMALL, "method=scope,fastv"])
    (table,) = profile(request, cells)
    return request, table


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_prints_its_columns_and_itself(name: str) -> None:
    request, table = measured()
    text = markdown(replace(request, protocol=name), table, "the command")
    for column in PROTOCOLS[name].columns:
        assert COLUMNS[column][0] in text
    for part in (
        f"Protocol {name}",
        PROTOCOLS[name].source,
        "Attention kernel sdpa",
        "2 repeats of 1 prompt(s)",
        "    the command",
    ):
        assert part in text
    assert "| scope * |" in text and "| fastv |" in text and "this one is noise" in text


def test_equal_steps_are_those_of_the_method_that_stops_first() -> None:
    request, table = measured()
    assert PROTOCOLS["unibench"].equal_steps is False and request.protocol == "unibench"
    assert {row["new_tokens"] for row in table.rows} == {3}
    steps = {
        row["new_tokens"]
        for row in rows_of("method=fastv", "protocol=trimtokenator", "new_tokens=9", "repeats=1")
    }
    assert len(steps) == 1 and steps < set(range(1, 9))  # the tiny model answers in fewer


def test_totals_are_sums_over_the_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks whenever it is read: how fast a machine is decides nothing."""
    ticks = itertools.count()
    monkeypatch.setattr(Clock, "mark", lambda clock: float(next(ticks)))
    words = ["method=vanilla", "protocol=uniprunebench", "repeats=1"]
    one, four = (rows_of(*words, f"samples={count}")[0] for count in (1, 4))
    assert one["method"] == "vanilla"  # of others the first prompt is counted, too
    for span in ("total_ms", "vision_ms", "prefill_ms"):
        assert four[span]["median"] == 4 * one[span]["median"] > 0, span
    assert four["decode_ms"]["median"] == one["decode_ms"]["median"] > 0  # a mean over tokens
