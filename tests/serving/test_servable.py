"""Which methods a serving engine can run, and the engine's question to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unibench import registry
from unibench.cli import main
from unibench.errors import UsageError
from unibench.pruning.layout import Part
from unibench.pruning.servable import obstacles
from unibench.serving.pruner import (
    Encoded,
    Pruner,
    positions_of,
    raster,
    with_positions,
)
from unibench.serving.settings import ARCHITECTURES, Settings

SIDE, WIDTH = 6, 24
CARDS = registry.methods()
SERVABLE = [name for name, card in CARDS.items() if not card.unservable]
FRAMES = ("evs",)  # compares frames, and refuses a picture
# what a test may give in place of trained weights
TRAINED = {"selector_path": "random:0"}


def parameters(name: str) -> dict[str, Any]:
    fields = CARDS[name].fields
    given = {key: value for key, value in TRAINED.items() if key in fields}
    # CLIP's relevance wants what the engine has not; elsewhere auto means this one
    return given | ({"relevance": "embedding"} if name == "cdpruner" else {})


def encoded(
    seed: int = 0, picture: str = "", noise: float = 0.0, *, video: bool = False
) -> Encoded:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(SIDE * SIDE, WIDTH, generator=draw)
    question = torch.randn(5, WIDTH, generator=draw)
    features = features + noise * torch.randn(features.shape, generator=draw)
    part = Part(4, SIDE // 2, SIDE // 2) if video else Part(1, SIDE, SIDE)
    return Encoded(features, WIDTH, (part,), question, picture, "a sample", video)


@pytest.mark.parametrize("name", SERVABLE)
def test_a_servable_method_chooses_from_the_features_of_one_picture(name: str) -> None:
    pruner = Pruner(Settings(name, ratio="0.75", parameters=parameters(name)))
    pruner.tried(WIDTH, video=True)
    if name in FRAMES:
        with pytest.raises(UsageError, match="video"):
            pruner.tried(WIDTH, video=False)
    kept, places = pruner(encoded(video=name in FRAMES))
    assert len(places) == pruner.keep(SIDE * SIDE) == 9
    assert places.tolist() == sorted(set(places.tolist()))
    assert kept.shape == (9, WIDTH)


def test_every_method_is_servable_or_says_why_not() -> None:
    assert {"divprune", "cdpruner", "uniform_grid", "random_pre"} <= set(SERVABLE)
    for name, words in {
        "fastv": "cuts at decoder layer 2",
        "visionzip": "reads the vision tower",
        "tome": "merges inside the vision tower",
        "pixelprune": "drops pixels ahead",
        "pooling": "is not known before the picture is encoded",
        "pact": "weighs keys",
        "mustdrop": "takes entries out of the cache",
        "vanilla": "removes nothing",
    }.items():
        assert words in "; ".join(CARDS[name].unservable), name


def test_show_method_says_whether_it_is_servable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "method", "divprune"]) == 0
    assert "servable     yes" in capsys.readouterr().out
    assert main(["show", "method", "fastv"]) == 0
    assert "servable     no, because it cuts at decoder layer 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "fastv", "ratio": "0.5"}, "fastv cannot run inside vLLM: it cuts at decoder"),
        ({"method": "divprun", "ratio": "0.5"}, "divprune"),
        ({"method": "divprune", "ratio": "1.5"}, "1.5"),
        ({"method": "divprune"}, "needs a budget for each picture"),
        ({"method": "divprune", "ratio": "0.5", "positions": "centre"}, "compact"),
        ({"method": "divprune", "ratio": "0.5", "sede": 1}, "seed"),
        ({"ratio": "0.5"}, 'lack "method"'),
        (None, "name a method"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_a_line(given: Any, words: str) -> None:
    class Configuration:
        unibench = given

    with pytest.raises(UsageError) as refused:
        Settings.of(Configuration).build()
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_an_architecture_that_the_plugin_lacks_is_named() -> None:
    with pytest.raises(UsageError, match="LlavaNextForConditionalGeneration"):
        Settings("divprune", ratio="0.5").overrides("LlavaNextForConditionalGeneration")
    for architecture in ARCHITECTURES:
        overrides = Settings("divprune", ratio="0.5").overrides(architecture)
        assert overrides["architectures"] == [f"Unibench{architecture}"]


def test_a_picture_that_is_encoded_again_keeps_the_tokens_that_it_kept() -> None:
    pruner = Pruner(Settings("divprune", ratio="0.75"))
    _, first = pruner(encoded(picture="one"))
    # in another batch, its features differ, here by far more than in their last bits
    kept, again = pruner(encoded(picture="one", noise=1.0))
    assert again.tolist() == first.tolist()
    assert torch.equal(kept, encoded(noise=1.0).features[first])
    _, other = pruner(encoded(picture="another", noise=1.0))
    assert other.tolist() != first.tolist()


def test_channels_behind_the_width_travel_with_their_token() -> None:
    given = encoded()
    deeper = torch.cat([given.features, torch.arange(SIDE * SIDE)[:, None].float()], 1)
    pruner = Pruner(Settings("divprune", ratio="0.75"))
    kept, places = pruner(Encoded(deeper, WIDTH, given.parts, None, "", ""))
    assert kept[:, -1].tolist() == places.tolist()
    assert places.tolist() == pruner(given)[1].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_positions_survive_half_precision(dtype: torch.dtype) -> None:
    positions = raster(3, 5, (0, 257, 4097, 16383))
    features = torch.randn(positions.shape[1], 8).to(dtype)
    back, read = positions_of(with_positions(features, positions))
    assert torch.equal(read, positions) and torch.equal(back, features)


def test_a_method_of_several_cuts_says_all_that_stands_against_it() -> None:
    method = registry.build_method("two_stage")
    assert len(obstacles(method)) >= 2
