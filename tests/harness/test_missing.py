"""Data, programs and packages that are not here are named with the ways to get them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tenacity
from huggingface_hub.errors import LocalTokenNotFoundError

from tests.harness.running import JUDGE
from tests.harness.test_cards import card, every
from unibench import hub
from unibench.benchmark import Benchmark, benchmark_of
from unibench.catalogue import dataset_path
from unibench.compose import compose_cells
from unibench.config import JudgeConfig
from unibench.errors import UsageError
from unibench.harness import needs
from unibench.harness.child.missing import (
    check_table,
    check_truths,
    fetching,
    reason_of,
    remarks_on,
    truths_of,
)
from unibench.harness.needs import check_requirements

CARDS = every()


def benchmark(*words: str) -> Benchmark:
    (config,) = compose_cells(words, sweep=False)
    found = benchmark_of(config)
    assert found is not None
    return found


@tenacity.retry(stop=tenacity.stop_after_attempt(1))
def download() -> None:
    raise ConnectionError("no route to host.\nsecond line")


def test_the_reason_is_what_happened_and_not_that_it_was_tried_again() -> None:
    with pytest.raises(tenacity.RetryError) as caught:
        download()
    assert reason_of(caught.value) == "ConnectionError: no route to host"
    assert reason_of(OSError("no space")) == "OSError: no space"


def test_without_a_network_nobody_is_asked_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    error = LocalTokenNotFoundError("Token is required")
    monkeypatch.setattr(hub, "answers", lambda: False)
    assert reason_of(error).startswith("https://huggingface.co does not answer from here")
    monkeypatch.setattr(hub, "answers", lambda: True)
    assert reason_of(error) == "LocalTokenNotFoundError: Token is required"


@pytest.mark.parametrize(
    ("harness", "variable"), [("vlmevalkit", "LMUData"), ("lmms_eval", "HF_HOME")]
)
def test_missing_data_is_one_line_with_every_way_out(harness: str, variable: str) -> None:
    with (
        pytest.raises(UsageError) as caught,
        fetching("pope", benchmark("task=pope", f"harness={harness}")),
    ):
        download()
    said = str(caught.value)
    assert "\n" not in said and "RetryError" not in said and "no route to host" in said
    assert f"`python -m unibench prefetch task=pope harness={harness}`" in said
    assert f"set {variable} to that folder" in said and "task.data=<folder>" in said


def test_what_the_user_gave_wrongly_is_told_as_it_is() -> None:
    with (
        pytest.raises(UsageError, match="^no such task$"),
        fetching("pope", benchmark("task=pope")),
    ):
        raise UsageError("no such task")


def test_a_program_or_package_that_scoring_needs_is_named_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="task=nocaps: lmms_eval needs java to score nocaps_val"):
        check_requirements("nocaps", benchmark("task=nocaps"))
    check_requirements("pope", benchmark("task=pope"))


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["vlmevalkit", "lmms_eval"])
def test_data_that_cannot_be_fetched_ends_the_command_in_one_line(
    harness: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(
            proxy, "http://127.0.0.1:9"
        )  # nothing is reached, whatever this machine's network
    command = [
        sys.executable,
        "-m",
        "unibench",
        "task=pope",
        f"harness={harness}",
        "method=vanilla",
        f"out={tmp_path / 'out'}",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    said = [line for line in run.stderr.splitlines() if "task.data=" in line]
    assert run.returncode == 2 and len(said) == 1, run.stderr
    assert said[0] == run.stderr.splitlines()[-1]
    assert f"prefetch task=pope harness={harness}" in said[0] and str(tmp_path) in said[0]
    assert "RetryError" not in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("index", "answer", "said"),
    [
        ([1, 2, 1], ["a", "b", "c"], "the index 1 stands there more than once"),
        ([1, 2, 3], ["a", None, None], "2 of 3 rows have no answer to score against"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused(
    index: list[int], answer: list[str | None], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check_table(pd.DataFrame({"index": index, "answer": answer}), "POPE")


def test_a_table_that_a_judge_scores_without_answers_is_accepted() -> None:
    check_table(pd.DataFrame({"index": [1, 2]}), "MIA-Bench")


@pytest.mark.parametrize("name", CARDS)
def test_without_network_and_data_every_card_is_refused_before_a_child_starts(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Data, judge and programs are looked at by the parent: no harness and no torch is imported."""
    monkeypatch.setattr(needs, "LMU_DATA", str(tmp_path))
    monkeypatch.setattr(needs.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(needs.constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(needs.hub, "answers", lambda: False)
    monkeypatch.setattr(needs, "unreachable", lambda url: "no route to host")
    for harness in ("vlmevalkit", "lmms_eval"):
        if getattr(card(name), harness) is None:
            continue
        (config,) = compose_cells([f"task={name}", f"harness={harness}", *JUDGE], sweep=False)
        found = benchmark_of(config)
        assert found is not None and not needs.present(found)
        said = str(needs.not_here(name, found, needs.OFFLINE))
        assert f"prefetch task={name} harness={harness}" in said and str(tmp_path) in said
        assert not needs._network(found)


def test_data_that_is_there_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(needs, "LMU_DATA", str(tmp_path))
    monkeypatch.setattr(needs.constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "POPE.tsv").touch()
    (tmp_path / "datasets--lmms-lab-encoder--POPE").mkdir()
    assert needs.present(benchmark("task=pope", "harness=vlmevalkit"))
    path = dataset_path("pope")
    (tmp_path / f"datasets--{str(path).replace('/', '--')}").mkdir(exist_ok=True)
    assert needs.present(benchmark("task=pope", "harness=lmms_eval"))


def test_a_judge_without_a_key_or_a_server_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judge = JudgeConfig("endpoint", model="m", url="http://127.0.0.1:9/v1", key="NO_SUCH_KEY")
    with pytest.raises(UsageError, match=r"read from \$NO_SUCH_KEY, which is not set"):
        needs.check_judge(judge, tmp_path)
    monkeypatch.setenv("NO_SUCH_KEY", "x")
    with pytest.raises(UsageError, match="http://127.0.0.1:9/v1 does not answer"):
        needs.check_judge(judge, tmp_path)
    (tmp_path / "judge.jsonl").touch()  # it has answered: its replies may be all that is wanted
    needs.check_judge(judge, tmp_path)


def test_data_of_nltk_is_looked_for_where_nltk_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(needs, "_nltk_folders", lambda: [tmp_path])
    chair = benchmark("task=coco_cap_chair", "harness=lmms_eval")
    with pytest.raises(UsageError, match="`python -m nltk.downloader wordnet`"):
        check_requirements("coco_cap_chair", chair)
    for need in chair.card.requires:
        file = tmp_path / f"{need.removeprefix(needs.NLTK)}.zip"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    check_requirements("coco_cap_chair", chair)


def test_an_answer_is_looked_for_under_the_name_that_the_table_has() -> None:
    table = pd.DataFrame({"index": [1, 2], "answers": ["['red']", None]})
    with pytest.raises(UsageError, match="1 of 2 rows have no answer .* example index 2"):
        check_table(table, "VizWiz")


def test_documents_of_ones_own_without_an_answer_are_refused() -> None:
    check_truths({"0": "Yes", "1": ["3", ""], "2": 0}, "task.data=here: pope")
    with pytest.raises(UsageError, match="^task.data=here: pope: 2 of 3 rows .* example index 1$"):
        check_truths({"0": "Yes", "1": "", "2": [" ", None]}, "task.data=here: pope")


def test_what_a_published_table_lacks_is_said_in_its_row() -> None:
    table = pd.DataFrame({"index": [1, 2, 2, 3], "answer": ["A", "B", "B", None]})
    assert remarks_on(truths_of(table), len(table)) == (
        "1 of 4 questions have no answer to score against",
        "1 of 4 questions repeat the index of another and are given its answer",
    )
    assert remarks_on(truths_of(table[:2]), 2) == ()
    # a test split whose answers were never published: nothing of it is scored by them
    assert remarks_on({"1": None, "2": None}, 2) == remarks_on({}, 2) == ()
