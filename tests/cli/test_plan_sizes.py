"""What a plan says of sizes and times that nobody has measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from unibench import hub
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.plan.sizes import seconds_of, size_of

# GB of the files of each checkpoint on the hub, of which each parameter takes two bytes
PUBLISHED = {
    "qwen2_5_vl_3b": 7.51,
    "qwen2_5_vl_7b": 16.58,
    "qwen2_vl_7b": 16.58,
    "qwen3_vl_8b": 17.53,
    "qwen3_vl_30b_a3b": 62.1,
    "internvl3_8b": 15.9,
    "llava_1_5_7b": 14.1,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_size_of_a_checkpoint_follows_from_its_card(name: str) -> None:
    (config,) = compose_cells([f"model={name}", "method=vanilla"], sweep=False)
    size = size_of(config.model)
    assert size is not None
    assert 2e-9 * size.whole == pytest.approx(PUBLISHED[name], rel=0.06)


def test_experts_make_a_model_larger_and_not_slower() -> None:
    (experts,) = compose_cells(["model=qwen3_vl_30b_a3b", "method=vanilla"], sweep=False)
    size = size_of(experts.model)
    assert size is not None and 2.5e9 < size.active < 4.5e9 < 25e9 < size.whole


def test_a_card_without_an_architecture_says_nothing() -> None:
    (config,) = compose_cells(["model=tiny_llava", "method=vanilla"], sweep=False)
    assert size_of(config.model) is None and seconds_of(SimpleNamespace(config=config)) is None  # type: ignore[arg-type]


def test_a_plan_names_sizes_time_and_a_disk_that_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub, "answers", lambda: True)
    monkeypatch.setattr(hub, "cached", lambda spec: False)
    monkeypatch.setattr(hub, "commit_of", lambda *named: None)
    free = SimpleNamespace(free=5 << 30)
    monkeypatch.setattr("unibench.cli.planning.shutil.disk_usage", lambda place: free)
    words = ["model=qwen2_5_vl_7b", "method=divprune", "ratio=0.889", "task.limit=1000"]
    assert main(["plan", *words, f"out={tmp_path}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "model Qwen/Qwen2.5-VL-7B-Instruct, about 15." in said
    assert (
        "calculated from the size of the model, for one GPU like an A100: about 0.3 hours" in said
    )
    assert "the disk is too small: checkpoints of about 15." in said and "5.0 GiB are free" in said
