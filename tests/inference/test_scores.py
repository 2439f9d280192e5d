"""The scores of a choice, kept beside an answer that they leave as it is."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unibench.cli import main
from unibench.compose import compose_cells
from unibench.diagnostics import TokenScores
from unibench.identity import Cell, cell_of
from unibench.inference.ask import answer
from unibench.inference.record import Record, parse
from unibench.inference.session import session_of
from unibench.inference.together import Together, answer_together
from unibench.models import load
from unibench.pruning.record import scored, unpacked
from unibench.store.lines import line_of
from unibench.tasks.synthvqa import SynthVQA

FASTV = ("method=fastv", "method.layer=1", "ratio=0.75")


def cell(*words: str, model: str = "tiny_qwen2_5_vl") -> Cell:
    (config,) = compose_cells([f"model={model}", *words], sweep=False)
    return cell_of(config)


def asked(one: Cell, count: int = 2) -> list[Record]:
    task = SynthVQA()
    return list(answer(one, task, load(one.config.model), enumerate(task.samples(count))))


def shares(scores: TokenScores | None) -> Tensor:
    assert scores is not None
    return torch.from_numpy(np.frombuffer(base64.b64decode(scores.values), "<f2").copy())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("tiny_qwen2_5_vl", FASTV),
        ("tiny_qwen2_5_vl", ("method=l2norm", "ratio=0.75")),
        # tiles that have a budget each, and a batch in which prompts are padded
        ("tiny_internvl", ("method=l2norm", "ratio=0.75", "budget.scope=tile", "batch_size=2")),
    ],
)
def test_what_stays_has_the_highest_of_the_stored_scores(
    model: str, words: tuple[str, ...]
) -> None:
    plain = asked(cell(*words, model=model))
    for before, one in zip(plain, asked(cell(*words, "scores=true", model=model)), strict=True):
        assert before.scores is None
        assert (one.answer, one.last) == (before.answer, before.last)
        values = shares(one.scores)
        assert len(values) == one.visual_tokens and values.min() == 0 and values.max() == 1
        kept = unpacked(one.last, one.visual_tokens)
        if "budget.scope=tile" not in words:
            assert values[kept].min() >= values[~kept].max()  # float16 makes some of them equal
        assert one.scores is not None and one.scores.low < one.scores.high
        stored = parse(line_of(one.as_json())[:-1])
        assert stored is not None and stored.scores == one.scores


def test_methods_that_score_no_token_store_none() -> None:
    for words in (["method=divprune", "ratio=0.75"], ["method=vanilla"]):
        assert [one.scores for one in asked(cell(*words, "scores=true"))] == [None, None]


def test_of_several_cuts_the_first_is_kept() -> None:
    one = cell("method=pyramiddrop", "ratio=0.5", "scores=true")
    first = min(session_of(one, load(one.config.model)).stages)
    assert {scores.layer for record in asked(one) if (scores := record.scores)} == {first}


def test_cells_that_are_answered_together_keep_the_same_scores() -> None:
    cells = [
        cell(*words, "scores=true", "fuse=cells", "timing=false")
        for words in (FASTV, ("method=l2norm", "ratio=0.5"))
    ]
    loaded, task = load(cells[0].config.model), SynthVQA()
    together = Together(cells, loaded, rows=8)
    config = loaded.generation_config(task.max_new_tokens, 1.0)
    (sample,) = task.samples(1)
    given = answer_together(together, cells[0], task, loaded, config, 0, sample, [0, 1])
    for one in given:
        (alone,) = asked(cells[one.cell], 1)
        assert one.record is not None
        assert torch.allclose(shares(one.record.scores), shares(alone.scores), atol=1e-3)


def test_scores_that_float16_does_not_hold_keep_their_order() -> None:
    least = torch.finfo(torch.float32).min
    found = scored(3, torch.tensor([1e-7, 3e-7, 2e-7, float("nan"), least]))
    assert (found.layer, found.low, found.high) == (3, 1e-7, 3e-7)
    assert shares(found).tolist()[:3] == [0.0, 1.0, 0.5]
    assert torch.isnan(shares(found)[3]) and shares(found)[4] == -torch.inf
    large = scored(0, torch.tensor([-1e30, 1e30]))
    assert shares(large).tolist() == [0.0, 1.0]
    assert shares(scored(0, torch.tensor([2.0, 2.0]))).tolist() == [0.0, 0.0]


def test_scores_are_no_part_of_the_key_and_a_finished_cell_says_that_it_lacks_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cell(*FASTV).key == cell(*FASTV, "scores=true").key
    words = ["model=tiny_qwen2_5_vl", *FASTV, "task.limit=2", f"out={tmp_path}"]
    assert main(words) == 0
    assert "scores" not in capsys.readouterr().err
    assert main([*words, "scores=true"]) == 0
    assert "1 cell was finished without scores=true" in capsys.readouterr().err
    other = [*words[:-1], f"out={tmp_path / 'other'}", "scores=true"]
    for _ in range(2):
        assert main(other) == 0
        assert "without scores=true" not in capsys.readouterr().err
    (file,) = (tmp_path / "other").glob("tiny_qwen2_5_vl/*/fastv*/*/samples.jsonl")
    assert all(json.loads(line)["scores"] for line in file.read_text().splitlines())


def test_a_serving_engine_refuses_to_keep_scores(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FASTV, "engine=vllm", "scores=true"]) == 2
    assert "cannot follow scores=True" in capsys.readouterr().err
