"""The conformance command: it holds for every card, and it finds what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.families.test_architectures import OTHER_SIZES, PUBLISHED, spec_of
from tests.families.test_decoders import subject
from unibench.cli.main import main
from unibench.conformance import check, checks
from unibench.pruning.attention import attention_rows


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHER_SIZES])
def test_every_model_keeps_every_rule(name: str, kernel: str) -> None:
    failed = [one for one in check(spec_of(name), kernel) if one.verdict == "failed"]
    assert not failed


def test_a_family_that_packs_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one = subject("gemma3_4b")
    family = type(one.loaded.family)
    pack = family.pack

    def wrong(self: Any, values: Tensor, call: Any, fill: float) -> Tensor:
        return pack(self, values, call, fill).flip(0)

    checks.packing(one)
    monkeypatch.setattr(family, "pack", wrong)
    with pytest.raises(checks.FailedError, match="other patches"):
        checks.packing(one)


def test_taps_that_show_something_else_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one = subject("gemma3_4b")
    checks.taps(one)

    def doubled(query: Tensor, key: Tensor, scaling: float, *more: Any) -> Tensor:
        return attention_rows(query, key, 2 * scaling, *more)

    monkeypatch.setattr("unibench.pruning.context.attention_rows", doubled)
    with pytest.raises(checks.FailedError, match="differs by"):
        checks.taps(one)


def test_a_window_that_counts_indices_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one = subject("gemma3_4b")
    # a picture at the end and a longer window, so that generated tokens look back on it
    monkeypatch.setattr(one.loaded.family.text_model.config, "sliding_window", 24)
    inputs = one.loaded.read([["what is it", Image.new("RGB", (112, 112), "red")]])
    checks.slow_reference(one, inputs)

    def indices(self: Any, segment: Any, grown: int) -> Tensor:
        return torch.arange(segment.length + grown).expand(len(segment.origin), -1)

    monkeypatch.setattr("unibench.pruning.session.Session._places", indices)
    with pytest.raises(checks.FailedError):
        checks.slow_reference(one, inputs)


def test_the_command_says_what_it_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {name: checks.CHECKS[name] for name in ("keep all", "video")}
    monkeypatch.setattr("unibench.conformance.CHECKS", rules)
    page = tmp_path / "page.md"
    assert main(["check", "model=gemma3_4b", "attn=sdpa", f"to={page}"]) == 0
    shown = capsys.readouterr().out
    assert "1 rules hold, 0 do not" in shown and "video: left out: no video" in shown
    assert "| gemma3_4b | gemma3 | sdpa | ok | - |" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=gema3_4b"], "gemma3_4b"),
        (["model=gemma3_4b", "attn=flash"], "eager, sdpa"),
        (["model=tiny_llava"], "architecture"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *words]) == 2
    assert message in capsys.readouterr().err
