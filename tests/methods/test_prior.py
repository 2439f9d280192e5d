"""The positional prior: how it is found, stored, and brought to other grids."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import unibench
from tests.methods._contexts import recorded
from tests.support.models import inputs_of, model_of
from unibench import UsageError, calibrate
from unibench.api import build_method
from unibench.methods import _calibration, _prior
from unibench.methods._prior import Prior


@pytest.mark.parametrize("family", ["llava", "internvl", "llava_next"])
def test_the_prior_is_the_mean_attention_of_each_place(family: str) -> None:
    model, samples = model_of(family), [inputs_of(family, seed, 2) for seed in range(2)]
    prior = calibrate.positional_prior(model, samples)
    assert prior.facts == {"layer": "1", "samples": "2"}
    gaze = calibrate._Gaze(1)
    with unibench.prune(model, gaze), torch.no_grad():
        for inputs in samples:
            model(**copy.deepcopy(inputs))
    for size, grid in prior.grids.items():
        torch.testing.assert_close(grid * gaze.counts[size], gaze.sums[size])
    assert all(0 < float(grid.sum()) < 1 for grid in prior.grids.values())
    with pytest.raises(UsageError, match="needs samples"):
        calibrate.positional_prior(model, [])


def test_every_token_has_the_prior_of_its_place() -> None:
    ctx = recorded("llava_next", "images")
    sizes = {(grid.height, grid.width) for grid in ctx.grids() if not grid.separators}
    g = torch.Generator().manual_seed(0)
    prior = Prior({size: torch.rand(size, generator=g) for size in sizes})
    values = prior.at(ctx)
    for grid in ctx.grids():
        if not grid.separators:
            expected = prior.grids[grid.height, grid.width].flatten()
            assert torch.equal(values[grid.rows], expected)
    assert values.isfinite().all()


def test_a_prior_is_resampled_to_grids_that_it_has_not_seen() -> None:
    ramp = torch.arange(8.0)[:, None].expand(8, 4)
    values, size = Prior({(8, 4): ramp, (2, 30): torch.zeros(2, 30)}).of(4, 2)
    assert size == (8, 4)
    assert values.view(4, 2)[:, 0].tolist() == [0.5, 2.5, 4.5, 6.5]


def test_a_file_says_what_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    Prior({(2, 3): torch.ones(2, 3)}, {"model": "tiny", "samples": "4"}).save(path)
    found = _prior.load(str(path))
    said = {"format": _calibration.FORMAT, "method": "d2pruner"}
    assert found.facts == {**said, "model": "tiny", "samples": "4"}
    assert torch.equal(found.grids[2, 3], torch.ones(2, 3))


def test_what_is_no_prior_is_refused_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="calibrate method=d2pruner"),
        unibench.prune(model_of("llava"), "d2pruner", ratio=0.5),
    ):
        pass
    with pytest.raises(UsageError, match="no such file"):
        build_method("d2pruner", prior=str(tmp_path / "none.safetensors"))
    path = tmp_path / "prior.safetensors"
    for tensors in (
        {"layer": torch.ones(2)},
        {"2x3": torch.ones(3, 2)},
        {"1x1": -torch.ones(1, 1)},
    ):
        save_file(tensors, path)
        with pytest.raises(UsageError, match="is no prior"):
            _prior._from_file(path, (0, 0))
        _prior._from_file.cache_clear()
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(UsageError, match="no safetensors file"):
        _prior.load(str(path))
