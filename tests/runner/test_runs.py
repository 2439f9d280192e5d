"""Whole runs of the trained tiny model: from the command line to the table and the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from unibench.cli import main
from unibench.registry import ROOT

TINY = ROOT / "models" / "tiny" / "qwen2_5_vl"
TIMES = {"total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"}
ASKED = 8
LIMIT = f"task.limit={ASKED}"


def run(out: Path, *words: str) -> int:
    return main([*words, f"out={out}"])


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """Rows by method and budget."""
    found = [json.loads(file.read_text()) for file in out.rglob("metrics.json")]
    return {
        f"{row['method']}@{row['budget']}" + (f"+{row['seed']}" if row["seed"] else ""): row
        for row in found
    }


def samples(row: dict[str, Any]) -> list[dict[str, Any]]:
    lines = (Path(row["folder"]) / "samples.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in TIMES}
        for line in lines
    ]


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("default")
    assert run(out, LIMIT) == 0
    return out


def test_the_default_run_prints_and_writes_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "task.limit=4") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("No task given: asking the embedded task synthvqa")
    for word in (
        "vanilla",
        "divprune",
        "score",
        "drop %",
        "tokens kept",
        "TFLOP",
        "vision ms",
        "prefill ms",
        "method ms",
        "total s",
    ):
        assert word in out


def test_a_row_says_what_was_measured(default: Path) -> None:
    pruned, vanilla = rows(default)["divprune@0.889"], rows(default)["vanilla@0"]
    assert pruned["n"] == vanilla["n"] == ASKED
    assert (pruned["kept_min"], pruned["kept_max"], pruned["tokens_in"]) == (16, 16, 144)
    assert pruned["tokens_per_layer"] == [16] * 5 and vanilla["tokens_per_layer"] == [144] * 5
    assert vanilla["score_100"] == pruned["vanilla_100"] > 50
    assert pruned["drop_pct"] == pytest.approx(
        100 * (vanilla["score"] - pruned["score"]) / vanilla["score"]
    )
    assert pruned["ci_low"] <= pruned["score_100"] <= pruned["ci_high"]
    assert pruned["score"] == pytest.approx(
        sum(sample["score"] for sample in samples(pruned)) / ASKED
    )
    assert 0 < pruned["tflops_ratio"] < 0.5 and vanilla["tflops_ratio"] == 1
    assert vanilla["method_ms"] == 0 < pruned["method_ms"] < pruned["prefill_ms"]
    assert 0 < pruned["vision_ms"] < pruned["prefill_ms"] and pruned["total_s"] > 0
    for file in (
        "config.yaml",
        "env.json",
        "status.json",
        "samples.jsonl",
        "metrics.json",
        "run.log",
        "identity.json",
    ):
        assert (Path(pruned["folder"]) / file).is_file()
    assert len(pruned["abilities"]) > 3


def test_the_same_command_again_answers_nothing_twice(default: Path) -> None:
    before = {file: file.read_bytes() for file in default.rglob("samples.jsonl")}
    assert run(default, LIMIT) == 0
    assert {file: file.read_bytes() for file in default.rglob("samples.jsonl")} == before


def test_a_run_continues_at_the_sample(default: Path, tmp_path: Path) -> None:
    shutil.copytree(default, tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.rglob("divprune@0.889/*/samples.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:7]) + lines[7][:20])
    (file.parent / "metrics.json").unlink()
    assert run(tmp_path, LIMIT) == 0
    assert file.read_bytes().splitlines(keepends=True)[:7] == lines[:7]
    row = rows(tmp_path)["divprune@0.889"]
    assert Path(row["folder"]) == file.parent
    assert samples(row) == samples(rows(default)["divprune@0.889"])


def test_the_missions_own_line_with_a_checkpoint_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "model=qwen2_5_vl_7b",
        "method=divprune",
        "ratio=0.889",
        f"model.path={TINY}",
        "task.limit=4",
    ]
    assert run(tmp_path, *words) == 0
    assert rows(tmp_path)["divprune@0.889"]["model"] == "qwen2_5_vl_7b"
    assert "divprune" in capsys.readouterr().out


def test_a_grid_shares_vanilla(default: Path) -> None:
    assert run(default, "-m", "method=fastv,random_pre", "ratio=0.667,0.889", LIMIT) == 0
    found = rows(default)
    assert {"fastv@0.667", "fastv@0.889", "random_pre@0.667", "random_pre@0.889"} <= found.keys()
    assert len({row["vanilla_100"] for row in found.values()}) == 1
    assert found["fastv@0.889"]["tokens_per_layer"] == [144, 144, 16, 16, 16]
    assert len(list(default.rglob("vanilla/*/metrics.json"))) == 1


def test_a_random_draw_follows_the_seed_and_the_sample_alone(tmp_path: Path, default: Path) -> None:
    run(tmp_path, "method=random_pre", "task.limit=5")
    run(default, "method=random_pre", LIMIT)
    run(tmp_path, "method=random_pre", "task.limit=5", "seed=1")
    assert (
        samples(rows(tmp_path)["random_pre@0.889"])
        == samples(rows(default)["random_pre@0.889"])[:5]
    )
    assert samples(rows(tmp_path)["random_pre@0.889+1"]) != samples(
        rows(tmp_path)["random_pre@0.889"]
    )


def test_batches_answer_as_single_samples(default: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "task.limit=6", "batch_size=4") == 0  # a whole batch and the rest of one
    for name in ("divprune@0.889", "vanilla@0"):
        assert samples(rows(tmp_path)[name]) == samples(rows(default)[name])[:6]


MINE = '''
from dataclasses import dataclass

from unibench import Method, Selection, StageContext
import torch


@dataclass(frozen=True)
class First(Method):
    """Keeps the first tokens."""

    skip: int = 0

    def select(self, ctx: StageContext) -> Selection:
        return Selection(torch.arange(self.skip, self.skip + ctx.keep))
'''


def test_a_method_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert (
        run(
            tmp_path / "out",
            f"method={tmp_path}/mine.py:First",
            "method.skip=3",
            "task.limit=5",
            "keep=20",
        )
        == 0
    )
    row = rows(tmp_path / "out")["first@keep20"]
    assert row["kept_mean"] == 20 and row["method_options"] == {"skip": 3}


def test_ones_own_pictures(tmp_path: Path) -> None:
    from unibench.tasks.synthvqa import SynthVQA

    lines = []
    for number, sample in enumerate(SynthVQA().samples(6)):
        sample.images[0].save(tmp_path / f"{number}.png")
        lines.append(
            json.dumps(
                {
                    "image": f"{number}.png",
                    "question": sample.question,
                    "answer": list(sample.answers),
                }
            )
        )
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    assert run(tmp_path / "out", "task=folder", f"task.data={tmp_path}") == 0
    assert rows(tmp_path / "out")["divprune@0.889"]["n"] == 6


def test_random_weights_at_the_real_width_run_without_a_download(tmp_path: Path) -> None:
    words = [
        "model=qwen2_5_vl_3b", "model.weights=random", "model.architecture.text_config.num_hidden_layers=1",
        "model.architecture.vision_config.depth=1", "model.architecture.vision_config.fullatt_block_indexes=[0]",
        "model.architecture.text_config.vocab_size=2000", "task.limit=2", "generation.max_new_tokens=2",
    ]  # fmt: skip
    assert run(tmp_path, *words) == 0
    row = rows(tmp_path)["divprune@0.889"]
    assert row["tokens_in"] == 144 and row["weights"] == "random:qwen2_5_vl_3b"
