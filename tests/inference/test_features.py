"""Features on a disk that others write to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from unibench.inference.features import FeatureCache, digest_of
from unibench.pruning.family import VisionCall


def pipe(file: Path) -> None:
    os.mkfifo(file)


def link(file: Path) -> None:
    (file.parent / "elsewhere").write_bytes(b"private")
    file.symlink_to(file.parent / "elsewhere")


@pytest.mark.parametrize("lay", [pipe, link])
def test_what_is_no_plain_file_is_not_opened(lay: Callable[[Path], None], tmp_path: Path) -> None:
    call = VisionCall("image", {"pixel_values": torch.ones(1, 3)})
    lay(tmp_path / f"{digest_of(call)}.safetensors")
    cache = FeatureCache(torch.device("cpu"), 0, tmp_path)
    output = BaseModelOutputWithPooling(pooler_output=torch.ones(1, 2))
    found = cache(lambda: output, call)
    assert torch.equal(found.pooler_output, output.pooler_output)
    assert (cache.computed, cache.remembered) == (1, 0)
    assert lay is not link or (tmp_path / "elsewhere").read_bytes() == b"private"
