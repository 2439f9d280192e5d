"""A harness's own model object, on the checkpoint, kernel, precision and device that the cell
names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    PreTrainedModel,
)
from transformers.models.auto import auto_factory

from unibench import hub
from unibench.config import ModelConfig, RunConfig, model_path
from unibench.errors import UsageError
from unibench.models._checkpoint import check_files, check_whole

AUTOS = (
    AutoConfig, AutoTokenizer, AutoProcessor, AutoImageProcessor, AutoFeatureExtractor,
    AutoVideoProcessor,
)  # fmt: skip


@contextmanager
def trusting(spec: ModelConfig) -> Iterator[None]:
    """Inside, code that comes with a checkpoint runs only where the user said so. Classes of both
    harnesses ask for it unasked (``trust_remote_code=True``).
    """
    if spec.trust_remote_code:
        yield
        return
    resolve = auto_factory.resolve_trust_remote_code

    def distrusted(trust_remote_code: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve(False, *args, **kwargs)

    with ExitStack() as stack:
        for auto in AUTOS:
            distrusting = classmethod(_distrusting(auto.from_pretrained.__func__))
            stack.enter_context(patch.object(auto, "from_pretrained", distrusting))
        # each class of models has a copy of from_pretrained, and all of them ask here
        stack.enter_context(patch.object(auto_factory, "resolve_trust_remote_code", distrusted))
        yield


def _distrusting(original: Callable[..., Any]) -> Callable[..., Any]:
    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        return original(cls, *args, **{**kwargs, "trust_remote_code": False})

    return from_pretrained


@contextmanager
def loading_as(spec: ModelConfig) -> Iterator[None]:
    """Every checkpoint loaded inside the block gets the configured precision, kernel and device,
    whatever its caller asks; code of its own only where the user said so.
    """
    original = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]
    forced = {
        "dtype": getattr(torch, spec.dtype),
        "attn_implementation": spec.attn,
        "device_map": spec.device_map or {"": device_of(spec)},
    }

    def from_pretrained(cls: type[PreTrainedModel], *args: Any, **kwargs: Any) -> Any:
        # classes still give dtype under its older name, which must not stand beside the new one
        kwargs.pop("torch_dtype", None)
        told = kwargs.pop("output_loading_info", False)
        # forced last: classes ask for float16, flash attention and cuda
        model, info = original(cls, *args, **{**kwargs, **forced}, output_loading_info=True)
        check_whole(model, info, f"model={spec.name}")
        return (model, info) if told else model

    with (
        trusting(spec),
        patch.object(PreTrainedModel, "from_pretrained", classmethod(from_pretrained)),
    ):
        yield


class OnDeviceProcessor:
    """A processor whose batches go to one device, also where the caller writes ``.to("cuda")``."""

    def __init__(self, processor: Any, device: str) -> None:
        self._processor, self._device = processor, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = self._processor(*args, **kwargs)
        move = batch.to
        # on the batch, which is made by transformers and handed on by the class
        batch.to = lambda *_, **__: move(self._device)
        return batch


def source_of(spec: ModelConfig) -> str:
    """The folder of a checkpoint; of one on the hub, at the commit that the key names, since a
    harness's own model object takes no revision.

    Raises:
        UsageError: the card names no checkpoint, or it cannot be had.
    """
    path = model_path(spec.path)
    if path is None and spec.checkpoint is None:
        raise UsageError(
            f"model={spec.name} names neither a checkpoint nor a path; give model.path=<folder>"
        )
    if path is not None:
        check_files(path, f"model.path={spec.path}")
        return str(path)
    checkpoint = str(spec.checkpoint)
    commit = hub.commit_of(checkpoint, spec.revision) or spec.revision
    try:
        folder = snapshot_download(checkpoint, revision=commit, local_files_only=not hub.answers())
    except (OSError, ValueError):
        raise UsageError(hub.how_to_get(spec)) from None
    check_files(Path(folder), f"model={spec.name}")
    return folder


def device_of(spec: ModelConfig) -> str:
    """The configured device by name."""
    if spec.device != "auto":
        return spec.device
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def pixel_limits(config: RunConfig) -> dict[str, int]:
    """``min_pixels`` and ``max_pixels`` of a pixel preset, if it has any."""
    size = config.model.pixels[config.pixels].get("size", {})
    names = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
    return {name: int(size[key]) for name, key in names.items() if key in size}
