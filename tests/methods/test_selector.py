"""The trained scorer: what is loaded, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unibench import UsageError
from unibench.api import build_method
from unibench.methods import _selector


def weights(width: int = 8, hidden: int = 4, prefix: str = "") -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    shapes = {
        "q_proj.weight": (hidden, width),
        "q_proj.bias": (hidden,),
        "k_proj.weight": (hidden, width),
        "k_proj.bias": (hidden,),
    }
    return {prefix + name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


def scores(path: Path) -> Tensor:
    return _selector.load(str(path), 8).scores(torch.eye(8))


def test_every_form_of_released_weights_gives_the_same_scores(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "plain.safetensors")
    expected = scores(tmp_path / "plain.safetensors")
    q = torch.eye(8) @ weights()["q_proj.weight"].T + weights()["q_proj.bias"]
    k = torch.eye(8) @ weights()["k_proj.weight"].T + weights()["k_proj.bias"]
    torch.testing.assert_close(expected, (q @ k.T).mean(1) / 2)
    for number, prefix in enumerate(("module.", "_orig_mod.module.", "visual.importance_scorer.")):
        save_file(weights(prefix=prefix), tmp_path / f"{number}.safetensors")
        assert torch.equal(scores(tmp_path / f"{number}.safetensors"), expected)
    whole = {
        **weights(prefix="model.visual.importance_scorer."),
        "lm_head.weight": torch.zeros(2, 2),
    }
    save_file(whole, tmp_path / "model.safetensors")
    assert torch.equal(scores(tmp_path / "model.safetensors"), expected)
    folder = tmp_path / "folder"
    folder.mkdir()
    torch.save(weights(), folder / "pytorch_model.bin")
    (folder / "scorer.py").write_text("raise SystemExit('code beside the weights was run')")
    assert torch.equal(scores(folder), expected)


def test_anything_but_the_four_tensors_is_refused(tmp_path: Path) -> None:
    bad = {
        "missing": {key: value for key, value in weights().items() if key != "k_proj.bias"},
        "unknown": {**weights(), "text_proj.weight": torch.zeros(2, 2)},
        "shapes": {**weights(), "k_proj.bias": torch.zeros(5)},
    }
    for name, state in bad.items():
        save_file(state, tmp_path / f"{name}.safetensors")
        with pytest.raises(UsageError, match=name if name != "shapes" else "do not fit"):
            scores(tmp_path / f"{name}.safetensors")
    save_file(weights(width=6), tmp_path / "width.safetensors")
    with pytest.raises(UsageError, match="width 6"):
        scores(tmp_path / "width.safetensors")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exit, ("run",))

    torch.save({"q_proj.weight": Evil()}, tmp_path / "evil.bin")
    with pytest.raises(UsageError, match="no file of tensors"):
        scores(tmp_path / "evil.bin")


@pytest.mark.parametrize("name", ["visionselector", "idpruner"])
def test_missing_weights_are_an_error_before_a_model_is_loaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="selector_path"):
        build_method(name)
    with pytest.raises(UsageError, match="no such file"):
        build_method(name, selector_path=str(tmp_path / "nothing.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="0 weight files"):
        build_method(name, selector_path=str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("dpp", "importance"), ("naive_hybrid", "variant"), ("cdpruner", "relevance"), ("scope", "combined"), ("vispruner", "variant"),
        ("trimtokenator", "align"), ("stp", "reading"), ("pooling", "mode"), ("visionzip", "variant"), ("hiprune", "variant"),
        ("prumerge", "mode"), ("prumerge_plus", "variant"), ("mustdrop_vit", "mode"),
    ],
)  # fmt: skip
def test_a_wrong_choice_is_named_with_those_that_exist(name: str, option: str) -> None:
    with pytest.raises(UsageError, match="Known: "):
        build_method(name, **{option: "nonsense"})
