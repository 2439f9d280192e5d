"""Shared set-up of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from unibench._compat import repair_torchvision

repair_torchvision()

import pytest
import torch
from hypothesis import settings
from transformers.utils import logging

logging.set_verbosity_error()
torch.set_num_threads(1)
# the same examples in every run: a red test is a change, not a draw
settings.register_profile("unibench", derandomize=True, deadline=None)
settings.load_profile("unibench")


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    """Nothing leaves gradients switched off: an unfinished generator would, for whoever comes next."""
    yield
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
