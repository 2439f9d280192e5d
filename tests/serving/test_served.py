"""Cells of ``engine=vllm`` in the runner: what the child is handed, and what becomes of its records."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness.running import cards
from tests.harness.standins import write
from tests.serving.serving_environment import python
from tests.support.records import line
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.serving.checkpoints import made

SERVED = ("engine=vllm", "timing=false", "budget.scope=item", "task=synthvqa")
# answers from a made-up engine: an interpreter of its own, as the serving environment's is
CHILD = """#!{python}
import json, pathlib, sys
if sys.argv[1] == "-c":
    print(json.dumps({{"vllm": "{version}", "transformers": "5.19.0"}}))
    sys.exit()
def say(**event):
    print(json.dumps(event), flush=True)
def answer(file):
    job = json.loads(pathlib.Path(file).read_text())
    wanted, put, shown = job["wanted"], {{}}, []
    if "questions" in job:  # of a harness
        place = pathlib.Path(job["questions"])
        shown = [file.name for file in place.glob("*.png")]
        lines = map(json.loads, (place / "questions.jsonl").read_text().splitlines())
        put = {{line["question"]["id"]: line for line in lines}}
    with open("{log}", "a") as log:
        log.write(json.dumps([wanted, put, shown] if put else wanted) + "\\n")
    say(event="cell", environment={{}})
    for number, name in enumerate(wanted):
        if number == {dies}:
            sys.exit(3)
        more = {{"id": name, "index": number}}
        if put:
            about = put[name]["question"]
            more |= {{key: about[key] for key in ("index", "ability", "group", "truth")}}
            more |= {{"answer": about["truth"], "score": None}}
        say(event="sample", record={{**json.loads('''{record}'''), **more}})
    say(event="answered")
answer(sys.argv[-1])
for job in sys.stdin:
    answer(job.strip())
"""


def engine(folder: Path, dies: int = -1, version: str = "0.32.0") -> tuple[str, Path]:
    """An interpreter that answers every sample alike, and its list of what it was asked."""
    times = dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"))
    record = json.dumps(line(**times))
    file, log = folder / "python", folder / "asked"
    text = CHILD.format(python=sys.executable, log=log, dies=dies, record=record, version=version)
    file.write_text(text)
    file.chmod(0o755)
    return str(file), log


def run(out: Path, interpreter: str, *words: str) -> int:
    given = ("model=tiny_qwen2_5_vl", f"serve.python={interpreter}", f"out={out}", *SERVED)
    return main([*given, *words])


def asked(log: Path) -> list[list[Any]]:
    return [json.loads(row) for row in log.read_text().splitlines()]


def test_a_cell_and_its_vanilla_are_answered_by_one_child_and_have_no_times(
    tmp_path: Path,
) -> None:
    interpreter, log = engine(tmp_path)
    assert run(tmp_path / "out", interpreter, "method=divprune", "task.limit=4") == 0
    rows = [json.loads(file.read_text()) for file in (tmp_path / "out").rglob("metrics.json")]
    assert {row["method"] for row in rows} == {"vanilla", "divprune"}
    assert all(row["n"] == 4 and row.get("total_ms") is None for row in rows)
    assert [len(names) for names in asked(log)] == [4, 4]
    # complete cells are not asked again
    assert run(tmp_path / "out", interpreter, "method=divprune", "task.limit=4") == 0
    assert len(asked(log)) == 2


def test_a_child_that_dies_loses_nothing_that_it_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter, log = engine(tmp_path, dies=3)
    assert run(tmp_path / "out", interpreter, "method=vanilla", "task.limit=5") != 0
    said = capsys.readouterr()
    assert "ended with code 3" in said.out + said.err
    interpreter, log = engine(tmp_path)
    words = ("method=vanilla", "task.limit=5")
    assert run(tmp_path / "out", interpreter, *words) == 0
    first, second = asked(log)
    assert len(first) == 5 and second == first[3:]


def test_cells_of_two_engines_are_paired_sample_by_sample_when_they_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folders = tmp_path / "out", list[str]()
    for version in ("0.32.0", "0.32.1"):
        place = tmp_path / version
        place.mkdir()
        interpreter, _ = engine(place, version=version)
        assert run(out, interpreter, "method=divprune", "task.limit=4") == 0
    for file in sorted(out.rglob("metrics.json")):
        if json.loads(file.read_text())["method"] == "divprune":
            folders.append(str(file.parent))
    # another engine is another cell, and never averaged with it
    assert len(folders) == 2
    capsys.readouterr()
    assert main(["compare", *folders, f"out={out}"]) == 0
    assert "divprune" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("method=fastv",), "cannot run under engine=vllm: it cuts at decoder layer"),
        (("method=divprune", "budget.scope=sequence"), "add budget.scope=item"),
        (("method=divprune", "timing=true"), "add timing=false"),
        (("method=divprune", "batch_size=2"), "cannot follow batch_size=2"),
        (("method=divprune", "positions=centre"), "positions=original and compact"),
        (("method=divprune", "model=smolvlm2_2b"), "no family smolvlm"),
        (("method=divprune", "model.weights=random"), "model.weights=pretrained"),
        (("method=divprune", "task=synthvideo"), "answers tasks of pictures"),
        (("method=divprune", "task=pope"), "add convention=model"),
        (("method=divprune", "engine=vlm"), "vllm"),
    ],
)
def test_what_an_engine_cannot_follow_is_refused_before_it_is_started(
    words: Sequence[str], reason: str
) -> None:
    from unibench.checks import mistakes

    try:
        given = ["model=tiny_qwen2_5_vl", *SERVED]
        names = [word.partition("=")[0] for word in words]
        kept = [word for word in given if word.partition("=")[0] not in names]
        (config,) = compose_cells([*kept, *words], sweep=False)
        found = "\n".join(str(one) for one in mistakes(config))
    except UsageError as error:
        found = str(error)
    assert reason in found


def test_without_a_serving_environment_the_command_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "/nowhere/python", "method=divprune", "task.limit=1") == 2
    assert "serve.python=/nowhere/python cannot be started" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["lmms_eval", "vlmevalkit"])
def test_a_harness_asks_an_engine_and_scores_what_it_says(tmp_path: Path, harness: str) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 6)
    words = (f"task.data={tmp_path / 'data'}", f"harness={harness}", "convention=model")
    out, words = tmp_path / "out", ("task=pope", *words, "method=vanilla")
    interpreter, _ = engine(tmp_path, dies=4)
    assert run(out, interpreter, *words) != 0
    interpreter, log = engine(tmp_path)
    assert run(out, interpreter, *words) == 0
    # those that the first engine answered before it died are not put again
    (first, put, shown), (second, again, _) = asked(log)
    assert len(first) == len(put) == 6 and second == list(again) == first[4:]
    assert all(len(one["images"]) == 1 for one in put.values())
    assert {file for one in put.values() for file in one["images"]} == set(shown)
    assert all("assistant" in one["text"] for one in put.values())
    (file,) = out.rglob("metrics.json")
    row = json.loads(file.read_text())
    # each answer is the truth, which the harness finds out
    assert row["n"] == 6 and row["score_100"] == 100 and row["harness"] == harness
    lines = map(json.loads, (file.parent / "samples.jsonl").read_text().splitlines())
    assert [line["score"] for line in lines] == [1.0] * 6
    assert not (file.parent / "questions").exists()


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["lmms_eval", "vlmevalkit"])
def test_a_benchmark_is_answered_alike_by_both_engines(tmp_path: Path, harness: str) -> None:
    """Minutes: the engine is started once for each of two cells."""
    interpreter, folder = python(), made("qwen2_5_vl", tmp_path / "models")
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 12)
    common = ["model=tiny_qwen2_5_vl", f"model.path={folder}", "task=pope", f"harness={harness}"]
    common += [f"task.data={tmp_path / 'data'}", "convention=model", f"out={tmp_path / 'out'}"]
    common += ["method=divprune", "ratio=0.667", "budget.scope=item", "timing=false"]
    served = ["engine=vllm", f"serve.python={interpreter}", "+serve.options.max_model_len=2048"]
    assert main(common) == 0 and main([*common, *served]) == 0
    found = of_engines(tmp_path / "out")
    assert_alike(found)
    assert [len(cell) for cell in found.values()] == [12] * 4


@pytest.mark.slow
def test_both_engines_answer_alike_sample_by_sample(tmp_path: Path) -> None:
    """A quarter of an hour: the engine is started once for each of two cells."""
    interpreter = python()
    folder = made("qwen2_5_vl", tmp_path / "models")
    common = ["model=tiny_qwen2_5_vl", f"model.path={folder}", "task=synthvqa", "task.limit=20"]
    common += ["method=divprune", "budget.scope=item", "timing=false", f"out={tmp_path / 'out'}"]
    assert main(common) == 0
    served = ["engine=vllm", f"serve.python={interpreter}"]
    served += ["+serve.options.max_model_len=1024", "+serve.options.max_num_seqs=8"]
    assert main([*common, *served]) == 0
    assert_alike(of_engines(tmp_path / "out"))


def of_engines(out: Path) -> dict[str, dict[str, Any]]:
    """The samples of each cell, by its method and whether an engine answered it."""
    found: dict[str, dict[str, Any]] = {}
    for file in out.rglob("samples.jsonl"):
        identity = json.loads((file.parent / "identity.json").read_text())
        name = f"{identity['method']['name']} {'engine' in identity}"
        rows = map(json.loads, file.read_text().splitlines())
        found[name] = {row["id"]: row for row in rows}
    return found


def assert_alike(found: dict[str, dict[str, Any]]) -> None:
    assert len(found) == 4
    for method in ("vanilla", "divprune"):
        assert found[f"{method} False"].keys() == found[f"{method} True"].keys()
        for name, one in found[f"{method} False"].items():
            two = found[f"{method} True"][name]
            same = ("answer", "score", "prompt", "prompt_digest", "kept", "last", "layout")
            asked = ("index", "question", "truth", "ability", "group")
            for key in (*same, *asked):
                assert one[key] == two[key], (name, key)
            assert two["total_ms"] is None
