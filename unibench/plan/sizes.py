"""How large a model is by its card, and what follows from it before anything is fetched or run.

The seconds are those of a calculation, not of a measurement: a sample is a prefill that the
processors of a GPU bound and a short answer that its memory bounds. :data:`GPU` says what is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unibench import hub
from unibench.config import ModelConfig
from unibench.identity import Cell

GIB = 1 << 30
BYTES = 2  # of a parameter, as checkpoints are published


@dataclass(frozen=True)
class Gpu:
    """What a GPU does in practice.

    Attributes:
        name: of its class.
        flops: operations a second of a prefill; a third of what an A100 promises in bfloat16.
        bandwidth: bytes a second that a decoding step reads the weights with.
        overhead: seconds of a sample that are none of the model's: pictures, processor, Python.
    """

    name: str = "one GPU like an A100"
    flops: float = 100e12
    bandwidth: float = 1.5e12
    overhead: float = 0.15


GPU = Gpu()
PROMPT = {"image": 1300, "video": 8000}  # tokens: a picture of 1,222 or 32 frames of 250, and text
ANSWER = 16  # tokens: a letter, a word or a short sentence


@dataclass(frozen=True)
class Size:
    """Parameters of a model.

    Attributes:
        whole: all of them, which are fetched.
        active: those that a token is multiplied with; fewer where experts share the work.
    """

    whole: float
    active: float

    @property
    def gib(self) -> float:
        """Of its checkpoint."""
        return self.whole * BYTES / GIB


def size_of(model: ModelConfig) -> Size | None:
    """The size of a model by the architecture on its card, within a few per cent; None without."""
    architecture = model.architecture
    text, vision = (_part(architecture, name) for name in ("text_config", "vision_config"))
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    if any(not isinstance(text.get(name), int) for name in (*needed, "vocab_size")):
        return None
    width, layers, heads = (text[name] for name in (needed[0], needed[2], needed[3]))
    head = text.get("head_dim") or width // heads
    attention = width * head * (2 * heads + 2 * text.get("num_key_value_heads", heads))
    tied = text.get("tie_word_embeddings", architecture.get("tie_word_embeddings", True))
    words = text["vocab_size"] * width
    experts = text.get("num_experts") or 0
    # gate, up and down
    one = 3 * width * (text.get("moe_intermediate_size") if experts else text["intermediate_size"])
    tower = _tower(vision)
    whole = layers * (attention + one * (experts or 1)) + words * (1 if tied else 2) + tower
    used = text.get("num_experts_per_tok", 1) if experts else 1
    return Size(whole, layers * (attention + one * used) + words + tower)


def _tower(vision: Mapping[str, Any]) -> float:
    """Parameters of a vision tower."""
    depth = vision.get("depth") or vision.get("num_hidden_layers") or 0
    # of a Qwen2-VL hidden_size is the width behind the tower
    width = vision.get("embed_dim") or vision.get("hidden_size") or 0
    inner = vision.get("intermediate_size") or width * (vision.get("mlp_ratio") or 4)
    return float(depth * (4 * width * width + 2 * width * inner))


def _part(architecture: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = architecture.get(name)
    return found if isinstance(found, Mapping) else {}


def seconds_of(cell: Cell) -> float | None:
    """Seconds of a sample on :data:`GPU`, calculated; None of a model whose size is not known."""
    size = size_of(cell.config.model)
    if size is None:
        return None
    prefill = 2 * size.active * PROMPT[cell.config.task.modality] / GPU.flops
    answer = min(cell.config.generation.max_new_tokens or ANSWER, 256)
    return prefill + answer * BYTES * size.active / GPU.bandwidth + GPU.overhead


def to_fetch(cells: Iterable[Cell]) -> dict[str, float | None]:
    """GiB of the checkpoints that cells would download, by name; None where that is not known."""
    found: dict[str, float | None] = {}
    for cell in cells:
        model = cell.config.model
        if model.checkpoint and not hub.cached(model):
            size = size_of(model)
            found[model.checkpoint] = None if size is None else size.gib
    return found
