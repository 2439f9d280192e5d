"""Benchmarks that a judge scores, in a real worker, against a stand-in that fails as endpoints do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import cycle, repeat
from pathlib import Path
from typing import Any

import pytest

from tests.harness import made_up
from tests.harness.running import METHODS, SHORT, Cells, assert_end_to_end, assert_scores
from tests.harness.standins import write
from tests.harness.test_judge import Endpoint, completion
from unibench.cli import main
from unibench.store import read_samples

pytestmark = pytest.mark.slow
TASKS = {"mathvista": "MathVista_MINI", "mathvision": "MathVision", "mia_bench": "MIA-Bench"}
SIZE = 12
NONSENSE = ((200, "<html>"), (200, "{}"), (200, completion(" ")))
TROUBLE = {
    "500": [(500, "down")],
    "timeouts": [1.5],
    "slowness": [0.3],
    "nonsense": NONSENSE,
}  # of each question, in turn; 1 s is late


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    """One for all tests: its address is in the key of a cell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUDGE_KEY", "sk-secret")
        found = Endpoint()
        yield found
        found.server.shutdown()


@pytest.fixture
def endpoint(server: Endpoint) -> Endpoint:
    server.script, server.first, server.word, server.seen = [], repeat(None), made_up.reply, []
    return server


def ask(
    folder: Path,
    endpoint: Endpoint,
    *words: str,
    harness: str = "vlmevalkit",
    tasks: Iterable[str] = TASKS,
) -> int:
    given = {"url": endpoint.judge.url, "model": "judge-1", "key": "JUDGE_KEY", "timeout": 1}
    judge = [f"harness_options.judge.{key}={value}" for key, value in given.items()]
    places = [f"task.data={folder / 'data'}", f"out={folder / 'out'}"]
    return main(
        ["-m", f"task={','.join(tasks)}", f"harness={harness}", SHORT, *places, *judge, *words]
    )


def cells(folder: Path) -> Cells:
    rows = [json.loads(file.read_text()) for file in (folder / "out").rglob("metrics.json")]
    return Cells({(row["task"], row["method"]): row for row in rows}, folder / "data", "vlmevalkit")


def answers(folder: Path) -> dict[Path, dict[str, Any]]:
    """What the model said, by cell: everything of a sample but its score."""
    found = {
        file.parent: read_samples(file.parent)[0] for file in (folder / "out").rglob("status.json")
    }
    return {
        cell.relative_to(folder): {key: {**one, "score": None} for key, one in given.items()}
        for cell, given in found.items()
    }


def test_an_outage_loses_no_answer(
    tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data", "vlmevalkit", TASKS.values(), SIZE)
    endpoint.script = [(500, "down")] * 100_000
    assert ask(tmp_path, endpoint, "harness_options.judge.retries=0") == 2
    assert "questions without a reply: HTTP 500" in capsys.readouterr().err
    before = answers(tmp_path)
    assert [len(given) for given in before.values()] == [SIZE] * len(TASKS) and not cells(
        tmp_path
    ).rows  # pruned cells wait for vanilla
    endpoint.script = []
    assert ask(tmp_path, endpoint) == 0
    after = answers(tmp_path)
    assert {cell: after[cell] for cell in before} == before  # times too: nothing was asked again
    found = cells(tmp_path)
    replies = {
        task: {
            method: {
                key: made_up.verdict(answer) for key, answer in found.answers(task, method).items()
            }
            for method in METHODS
        }
        for task in TASKS
    }
    assert_end_to_end(found, TASKS, replies)
    assert all(
        row["judge"] == f"judge-1 at {endpoint.judge.url}" and row["judged"] > 0
        for row in found.rows.values()
    )
    assert not [
        file for file in tmp_path.rglob("*") if file.is_file() and b"sk-secret" in file.read_bytes()
    ]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory, server: Endpoint) -> Path:
    """Vanilla cells whose answers are there and are not scored: made-up ones, so that the judge has
    much to read.
    """
    folder = tmp_path_factory.mktemp("answered")
    write(folder / "data", "vlmevalkit", TASKS.values(), SIZE)
    server.script = [(500, "down")] * 100_000
    assert ask(folder, server, "harness_options.judge.retries=0", "method=vanilla") == 2
    for file in (folder / "out").glob("*/*/*/*/samples*.jsonl"):
        given = made_up.answers("vlmevalkit", TASKS[file.parts[-4]], folder / "data")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text(
            "".join(
                json.dumps({**line, "answer": given[line["id"]]} if "id" in line else line) + "\n"
                for line in lines
            )
        )
    return folder


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_with_every_question_changes_no_score(
    trouble: str, answered: Path, tmp_path: Path, endpoint: Endpoint
) -> None:
    shutil.copytree(answered, tmp_path, dirs_exist_ok=True)
    before = answers(tmp_path)
    endpoint.first = cycle(TROUBLE[trouble])
    assert ask(tmp_path, endpoint, "method=vanilla") == 0
    assert answers(tmp_path) == before
    found = cells(tmp_path)
    for task, name in TASKS.items():
        replies = {
            key: made_up.verdict(answer) for key, answer in found.answers(task, "vanilla").items()
        }
        assert_scores(found, task, name, "vanilla", replies)
        assert found.rows[task, "vanilla"]["judged"] > SIZE / 3
    asked = [json.dumps(request["body"], sort_keys=True) for request in endpoint.seen]
    assert len(asked) >= len(set(asked)) * (1 if trouble == "slowness" else 2)


def test_nonsense_in_good_form_is_recorded_and_can_be_asked_again(
    answered: Path, tmp_path: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    """VLMEvalKit scores by it where it can; where no number comes out of it, the cell says what to
    do.
    """
    shutil.copytree(answered, tmp_path, dirs_exist_ok=True)
    before = answers(tmp_path)
    endpoint.word = lambda text: "blue"
    assert ask(tmp_path, endpoint, "method=vanilla") == 2
    assert answers(tmp_path) == before
    found = cells(tmp_path)
    assert {task for task, _ in found.rows} == {"mathvista", "mathvision"}
    for task, _ in found.rows:
        assert_scores(
            found,
            task,
            TASKS[task],
            "vanilla",
            dict.fromkeys(found.answers(task, "vanilla"), "blue"),
        )
    (replies,) = (tmp_path / "out").glob("*/mia_bench/*/*/judge.jsonl")
    assert f"delete {replies} to have it asked again" in capsys.readouterr().err
    assert {
        json.loads(line)["reply"]["choices"][0]["message"]["content"]
        for line in replies.read_text().splitlines()
    } == {"blue"}
    replies.unlink()
    endpoint.word = made_up.reply
    assert ask(tmp_path, endpoint, "method=vanilla") == 0
    assert answers(tmp_path) == before
    found = cells(tmp_path)
    verdicts = {
        key: made_up.verdict(answer)
        for key, answer in found.answers("mia_bench", "vanilla").items()
    }
    assert_scores(found, "mia_bench", TASKS["mia_bench"], "vanilla", verdicts)


def test_lmms_eval_asks_through_the_same_door(tmp_path: Path, endpoint: Endpoint) -> None:
    tasks = {"mathvista": "mathvista_testmini_format", "mia_bench": "mia_bench"}
    write(tmp_path / "data", "lmms_eval", tasks.values(), 4)
    endpoint.first = cycle((*TROUBLE["500"], *NONSENSE))
    endpoint.word = lambda text: (
        "score of component 1: 6/6, score of component 2: 0/4, total score: 6/10."
        if "total score" in text
        else "1"
    )
    assert ask(tmp_path, endpoint, "method=vanilla", harness="lmms_eval", tasks=tasks) == 0
    for file in (tmp_path / "out").rglob("metrics.json"):
        row = json.loads(file.read_text())
        assert row["judge"] == f"judge-1 at {endpoint.judge.url}" and row["judged"] > 0, row["task"]
        assert row["task"] != "mia_bench" or row["score"] > 0
    assert len(answers(tmp_path)) == len(tasks) and all(
        len(given) == 4 for given in answers(tmp_path).values()
    )
