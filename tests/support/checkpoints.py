"""Small random checkpoints of every family on disk, with processors of the real classes."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText

from tests.support.architectures import ARCHITECTURES, PINPOINTS
from unibench.config import ModelConfig
from unibench.models._processors import make_processor
from unibench.registry import ROOT

TOKENIZER = ROOT / "models" / "tiny" / "qwen2_5_vl"
SIDE = {"height": 56, "width": 56}
_CLIP: dict[str, Any] = {"size": {"shortest_edge": 56}, "crop_size": SIDE}
_QWEN: dict[str, Any] = {
    "patch_size": 14,
    "size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "llava": _CLIP,
    "llava_next": {**_CLIP, "image_grid_pinpoints": PINPOINTS},
    "llava_next_video": {**_CLIP, "image_grid_pinpoints": PINPOINTS, "video": _CLIP},
    "llava_onevision": {"size": SIDE, "image_grid_pinpoints": PINPOINTS, "video": {"size": SIDE}},
    "qwen2_vl": {**_QWEN, "video": _QWEN},
    "qwen2_5_vl": {**_QWEN, "video": _QWEN},
    "qwen3_vl": {**_QWEN, "video": _QWEN},
    "internvl": {
        "size": {"height": 112, "width": 112},
        "crop_to_patches": True,
        "min_patches": 1,
        "max_patches": 4,
        "video": {"size": {"height": 112, "width": 112}},
    },
    "smolvlm": {
        "size": {"longest_edge": 224},
        "max_image_size": {"longest_edge": 112},
        "video": {"max_image_size": {"longest_edge": 112}},
    },
}


def save(family: str, place: Path, shard: str = "5GB", **tower: int) -> Path:
    """A checkpoint of a family in a folder, in files of at most ``shard``, with other values in the
    configuration of its tower if any are given.
    """
    config = copy.deepcopy(ARCHITECTURES[family]("sdpa").config)
    for name, value in tower.items():
        setattr(config.vision_config, name, value)
    processor = make_processor(config, str(TOKENIZER), SETTINGS[family])
    tokenizer = processor.tokenizer
    config.get_text_config().vocab_size = len(tokenizer)
    for part in (config, config.get_text_config()):
        part.pad_token_id, part.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    model.save_pretrained(place, max_shard_size=shard)
    processor.save_pretrained(place)
    return place


def as_hub_cache(checkpoint: Path, home: Path, name: str) -> Path:
    """The checkpoint as the hub's client leaves a download below ``home``: blobs, links to them, a
    reference.
    """
    repository = home / f"models--{name.replace('/', '--')}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    for number, file in enumerate(sorted(checkpoint.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", blob.name))
    return repository


def spec_of(family: str, **options: Any) -> ModelConfig:
    """A model's configuration for a small checkpoint."""
    return ModelConfig(
        name=f"small_{family}", family=family, dtype="float32", device="cpu", **options
    )


def _by_name(family: str, place: Path) -> dict[str, Any]:
    as_hub_cache(save(family, place / "made"), place / "hub", "some/model")
    return {"checkpoint": "some/model"}


FORMATS: dict[
    str, Callable[[str, Path], dict[str, Any]]
] = {  # what a user gives for a checkpoint made in a folder
    "one_file": lambda family, place: {"path": str(save(family, place))},
    "shards": lambda family, place: {"path": str(save(family, place, "100KB"))},
    "cache_folder": lambda family, place: {
        "path": str(as_hub_cache(save(family, place / "made"), place, "some/model"))
    },
    "hub_name": _by_name,
}
