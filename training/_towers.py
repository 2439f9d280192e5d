"""The vision towers with their projectors, on batches of equally large pictures or pairs of frames.

A tower is written again here, for many pictures at once; a test holds it to the original.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import vision_utils

from training._layers import (
    attend_seen,
    join_heads,
    layer_norm,
    linear,
    rms_norm,
    rotate,
    split_heads,
)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Looked:
    """What a tower makes of ``S`` pictures, or pairs of frames.

    Attributes:
        hidden: ``[S, N, C]``, what the last map of the projector reads; tokens in row order.
        deep: the same of each DeepStack projector.
        found: ``[S, N]`` of each block from a third of the depth on that sees the whole picture:
            how much of the attention each token gets, from the CLS token or, without one, from all
            patches. They sum to one.
    """

    hidden: Tensor
    deep: list[Tensor] = field(default_factory=list)
    found: list[Tensor] = field(default_factory=list)


class Tower(Protocol):
    """A vision tower with its projector.

    Attributes:
        last: the last linear map of the projector.
        lasts: those of the DeepStack projectors.
        pairs: whether two frames of a clip make one set of tokens.
    """

    last: nn.Linear
    lasts: list[nn.Linear]
    pairs: bool

    def grid(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        """Rows and columns of visual tokens of a picture of (width, height) pixels."""

    def pixels(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        """Width and height to which the family's processor resizes a picture, or the frames of a
        clip.
        """

    def look(self, images: Tensor, dtype: torch.dtype) -> Looked:
        """uint8 ``[S, frames, height, width, 3]``, two frames of a pair or one picture."""


def normalise(
    images: Tensor,
    dtype: torch.dtype,
    mean: tuple[float, ...] = CLIP_MEAN,
    std: tuple[float, ...] = CLIP_STD,
) -> Tensor:
    """Pixels as the processor hands them on."""
    shift = torch.tensor(mean, device=images.device) * 255
    scale = torch.tensor(std, device=images.device) * 255
    return ((images.float() - shift) / scale).to(dtype)


class _Windows(NamedTuple):
    order: Tensor  # patches, window by window
    back: Tensor  # from tokens in window order to tokens in row order
    cos: Tensor  # [patches, head depth], in window order
    sin: Tensor
    number: int


class QwenTower:
    """Qwen2.5-VL: windows of 4 x 4 tokens, full attention in some blocks, 2 x 2 patches merged."""

    pairs = True

    def __init__(self, core: Any) -> None:
        self.visual = core.visual
        self.last: nn.Linear = self.visual.merger.mlp[2]
        self.lasts: list[nn.Linear] = []
        self._windows = cache(self._window)

    def grid(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        cell = self.visual.patch_size * self.visual.spatial_merge_size
        return size[1] // cell, size[0] // cell

    def pixels(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        return size

    def look(self, images: Tensor, dtype: torch.dtype) -> Looked:
        visual = self.visual
        windows = self._windows(images.shape[2], images.shape[3], images.device)
        x = _embedded(visual, normalise(images, dtype))[:, windows.order]
        cos, sin = windows.cos.to(dtype), windows.sin.to(dtype)
        found = []
        for i, block in enumerate(visual.blocks):
            whole = i in visual.fullatt_block_indexes
            x, weights = self._block(x, block, cos, sin, 1 if whole else windows.number)
            if whole and i >= len(visual.blocks) // 3:
                found.append(_received(weights)[:, windows.back])
        x = _joined(rms_norm(x, visual.merger.ln_q))
        hidden = functional.gelu(linear(x, visual.merger.mlp[0]))[:, windows.back]
        return Looked(hidden, found=found)

    def _block(
        self, x: Tensor, block: Any, cos: Tensor, sin: Tensor, parts: int
    ) -> tuple[Tensor, Tensor]:
        batch, length, width = x.shape
        heads = block.attn.num_heads
        query, key, value = linear(rms_norm(x, block.norm1), block.attn.qkv).chunk(3, -1)

        def by_window(z: Tensor) -> Tensor:
            return z.reshape(batch * parts, length // parts, heads, -1).transpose(1, 2)

        query = rotate(query.unflatten(-1, (heads, -1)), cos[:, None], sin[:, None])
        key = rotate(key.unflatten(-1, (heads, -1)), cos[:, None], sin[:, None])
        mixed, weights = attend_seen(
            by_window(query), by_window(key), by_window(value.unflatten(-1, (heads, -1)))
        )
        x = x + linear(join_heads(mixed).reshape(batch, length, width), block.attn.proj)
        y = rms_norm(x, block.norm2)
        gated = functional.silu(linear(y, block.mlp.gate_proj)) * linear(y, block.mlp.up_proj)
        return x + linear(gated, block.mlp.down_proj), weights

    def _window(self, height: int, width: int, device: torch.device) -> _Windows:
        visual = self.visual
        merge, patch = visual.spatial_merge_size, visual.patch_size
        if height % visual.window_size or width % visual.window_size:
            raise ValueError(
                f"{width} x {height}: training takes pictures of whole windows of"
                f" {visual.window_size} pixels"
            )
        grid = torch.tensor([[1, height // patch, width // patch]])
        index, bounds = vision_utils.get_vision_window_index(
            grid,
            spatial_merge_size=merge,
            window_size=visual.window_size,
            patch_size=patch,
            kwargs={},
        )
        cos, sin = _turned(visual, grid, device)
        order = (index[:, None] * merge**2 + torch.arange(merge**2)).flatten().to(device)
        number = len(torch.unique_consecutive(torch.as_tensor(bounds))) - 1
        return _Windows(order, torch.argsort(index).to(device), cos[order], sin[order], number)


class Qwen3Tower:
    """Qwen3-VL: learnt and rotary positions, full attention, features of earlier blocks too."""

    pairs = True

    def __init__(self, core: Any) -> None:
        self.visual = core.visual
        self.last: nn.Linear = self.visual.merger.linear_fc2
        mergers = self.visual.deepstack_merger_list
        self.lasts: list[nn.Linear] = [merger.linear_fc2 for merger in mergers]
        self._places = cache(self._place)

    def grid(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        cell = self.visual.patch_size * self.visual.spatial_merge_size
        width, height = self.pixels(size, clip)
        return height // cell, width // cell

    def pixels(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        # as the processor does, see training._processors: small pictures are enlarged, clips not
        cell = self.visual.patch_size * self.visual.spatial_merge_size
        grow = 1.0 if clip else max(1.0, (147_000 / (size[0] * size[1])) ** 0.5)
        width, height = (int(-(-side * grow // cell)) * cell for side in size)
        return width, height

    def look(self, images: Tensor, dtype: torch.dtype) -> Looked:
        visual = self.visual
        positions, cos, sin = self._places(images.shape[2], images.shape[3], images.device)
        cos, sin = cos.to(dtype), sin.to(dtype)
        index, weight = positions
        x = _embedded(visual, normalise(images, dtype, HALF, HALF))
        x = x + (visual.pos_embed.weight[index] * weight[..., None]).sum(1).to(dtype)
        deep, found = [], []
        for i, block in enumerate(visual.blocks):
            x, weights = self._block(x, block, cos, sin)
            if i >= len(visual.blocks) // 3:
                found.append(_received(weights))
            if i in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(i)]
                y = layer_norm(_joined(x), merger.norm)
                deep.append(functional.gelu(linear(y, merger.linear_fc1)))
        y = _joined(layer_norm(x, visual.merger.norm))
        return Looked(functional.gelu(linear(y, visual.merger.linear_fc1)), deep, found)

    def _block(self, x: Tensor, block: Any, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        heads = block.attn.num_heads
        parts = linear(layer_norm(x, block.norm1), block.attn.qkv).chunk(3, -1)
        query, key, value = (split_heads(part, heads) for part in parts)
        mixed, weights = attend_seen(rotate(query, cos, sin), rotate(key, cos, sin), value)
        x = x + linear(join_heads(mixed), block.attn.proj)
        y = linear(layer_norm(x, block.norm2), block.mlp.linear_fc1)
        # gelu_pytorch_tanh, as the configuration has it
        y = functional.gelu(y, approximate="tanh")
        return x + linear(y, block.mlp.linear_fc2), weights

    def _place(
        self, height: int, width: int, device: torch.device
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Rows of the learnt positions with their weights, and the rotations."""
        visual = self.visual
        grid = torch.tensor([[1, height // visual.patch_size, width // visual.patch_size]])
        index, weight = vision_utils.get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=visual.spatial_merge_size,
            kwargs={},
        )
        cos, sin = _turned(visual, grid, device)
        return (index.to(device), weight.to(device)), cos, sin


class ClipTower:
    """LLaVA: a CLIP tower at a fixed size, its last-but-one layer, two linear maps."""

    pairs = False

    def __init__(self, core: Any) -> None:
        tower = core.vision_tower
        self.tower = getattr(tower, "vision_model", tower)
        self.projector = core.multi_modal_projector
        self.last: nn.Linear = self.projector.linear_2
        self.lasts: list[nn.Linear] = []
        self.side = int(core.config.vision_config.image_size)
        self.patch = int(core.config.vision_config.patch_size)
        self.skip = -1 - int(core.config.vision_feature_layer)

    def grid(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        return self.side // self.patch, self.side // self.patch

    def pixels(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        return self.side, self.side

    def look(self, images: Tensor, dtype: torch.dtype) -> Looked:
        embeddings = self.tower.embeddings
        kernel = embeddings.patch_embedding.weight.flatten(1)
        patches = _row_patches(normalise(images[:, 0], dtype), self.patch)
        x = functional.linear(patches, kernel.to(dtype))
        x = torch.cat([embeddings.class_embedding.to(dtype).expand(len(x), 1, -1), x], 1)
        x = layer_norm(x + embeddings.position_embedding.weight.to(dtype), self.tower.pre_layrnorm)
        layers = self.tower.encoder.layers
        found = []
        for i, block in enumerate(layers[: len(layers) - self.skip]):
            y, attention = layer_norm(x, block.layer_norm1), block.self_attn
            maps = (attention.q_proj, attention.k_proj, attention.v_proj)
            parts = (split_heads(linear(y, m), attention.num_heads) for m in maps)
            mixed, weights = attend_seen(*parts)
            if i >= len(layers) // 3:
                found.append(_from_cls(weights))
            x = x + linear(join_heads(mixed), attention.out_proj)
            y = linear(layer_norm(x, block.layer_norm2), block.mlp.fc1)
            x = x + linear(y * torch.sigmoid(1.702 * y), block.mlp.fc2)
        hidden = functional.gelu(linear(x[:, 1:], self.projector.linear_1))
        return Looked(hidden, found=found)


class InternTower:
    """InternVL: a ViT at a fixed size, 2 x 2 patches shuffled into one token, two linear maps."""

    pairs = False

    def __init__(self, core: Any) -> None:
        self.core = core
        self.tower = core.vision_tower
        self.projector = core.multi_modal_projector
        self.last: nn.Linear = self.projector.linear_2
        self.lasts: list[nn.Linear] = []
        self.side = int(core.config.vision_config.image_size[0])
        self.patch = int(core.config.vision_config.patch_size[0])

    def grid(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        return self.side // self.patch // 2, self.side // self.patch // 2

    def pixels(self, size: tuple[int, int], clip: bool = False) -> tuple[int, int]:
        return self.side, self.side

    def look(self, images: Tensor, dtype: torch.dtype) -> Looked:
        embeddings = self.tower.embeddings
        convolution = embeddings.patch_embeddings.projection
        kernel, bias = convolution.weight.flatten(1).to(dtype), convolution.bias.to(dtype)
        patches = _row_patches(normalise(images[:, 0], dtype), self.patch)
        x = functional.linear(patches, kernel, bias)
        x = torch.cat([embeddings.cls_token.to(dtype).expand(len(x), -1, -1), x], 1)
        if embeddings.position_embeddings is not None:
            x = x + embeddings.position_embeddings.to(dtype)
        side, found = self.side // self.patch, []
        for i, block in enumerate(self.tower.encoder.layer):
            y, attention = layer_norm(x, block.layernorm_before), block.attention
            maps = (attention.q_proj, attention.k_proj, attention.v_proj)
            parts = (split_heads(linear(y, m), attention.num_heads) for m in maps)
            mixed, weights = attend_seen(*parts)
            if i >= len(self.tower.encoder.layer) // 3:
                square = _from_cls(weights).unflatten(1, (side // 2, 2, side // 2, 2))
                found.append(square.sum((2, 4)).flatten(1))
            mixed = join_heads(mixed)
            x = x + block.lambda_1.to(dtype) * linear(mixed, attention.projection_layer)
            y = functional.gelu(linear(layer_norm(x, block.layernorm_after), block.mlp.fc1))
            x = x + block.lambda_2.to(dtype) * linear(y, block.mlp.fc2)
        if not isinstance(self.tower.layernorm, nn.Identity):
            x = layer_norm(x, self.tower.layernorm)
        x = self.core.pixel_shuffle(x[:, 1:].unflatten(1, (side, side)), scale_factor=0.5)
        x = layer_norm(x.flatten(1, 2), self.projector.layer_norm)
        return Looked(functional.gelu(linear(x, self.projector.linear_1)), found=found)


def _embedded(visual: Any, images: Tensor) -> Tensor:
    """Pictures ``[S, frames, height, width, 3]`` to patches ``[S, patches, C]``, the four of a
    token together.
    """
    projection = visual.patch_embed.proj
    kernel = projection.weight.to(images.dtype)  # [C, 3, 2, patch, patch]
    # a picture stands for two equal frames
    halves = [kernel.sum(2)] if images.shape[1] == 1 else list(kernel.unbind(2))
    parts = []
    for i, half in enumerate(halves):
        parts.append(functional.linear(_patches(visual, images[:, i]), half.flatten(1)))
    bias = projection.bias
    x = sum(parts[1:], parts[0])
    return x if bias is None else x + bias.to(images.dtype)


def _patches(visual: Any, images: Tensor) -> Tensor:
    """``[S, height, width, 3]`` to ``[S, patches, 3 * patch * patch]``, the four of a token
    together.
    """
    patch, merge = visual.patch_size, visual.spatial_merge_size
    batch, height, width, _ = images.shape
    rows, columns = height // (patch * merge), width // (patch * merge)
    x = images.reshape(batch, rows, merge, patch, columns, merge, patch, 3)
    return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(batch, rows * columns * merge * merge, -1)


def _turned(visual: Any, grid: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the tower's rotary positions."""
    positions = vision_utils.get_vision_position_ids(grid, visual.spatial_merge_size, kwargs={})
    cos, sin = visual.rotary_pos_emb(torch.zeros(1, device=device), positions.to(device))
    return cos, sin


def _joined(x: Tensor) -> Tensor:
    """The channels of the four patches of a token, side by side."""
    joined: Tensor = x.unflatten(1, (-1, 4)).flatten(2)
    return joined


def _received(weights: Tensor) -> Tensor:
    """Attention that each token receives from all patches, of ``[S, heads, patches, patches]``."""
    received: Tensor = weights.float().mean((1, 2)).unflatten(1, (-1, 4)).sum(2)
    return received


def _from_cls(weights: Tensor) -> Tensor:
    """Attention of the CLS token to each patch, the share that it gives itself left out."""
    rows = weights[:, :, 0, 1:].float().mean(1)
    return rows / rows.sum(1, keepdim=True).clamp_min(1e-6)


def _row_patches(images: Tensor, patch: int) -> Tensor:
    """``[B, height, width, 3]`` to ``[B, patches, 3 * patch * patch]`` in row order."""
    batch, height, width, _ = images.shape
    x = images.reshape(batch, height // patch, patch, width // patch, patch, 3)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(batch, (height // patch) * (width // patch), -1)


TOWERS: dict[str, type[QwenTower] | type[Qwen3Tower] | type[ClipTower] | type[InternTower]] = {
    "qwen2_5_vl": QwenTower,
    "qwen3_vl": Qwen3Tower,
    "llava": ClipTower,
    "internvl": InternTower,
}
