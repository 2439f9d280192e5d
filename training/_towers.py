"""The three vision towers with their projectors, on batches of equally large pictures."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import vision_utils

from training._layers import attend, join_heads, layer_norm, linear, rms_norm, rotate, split_heads

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Tower(Protocol):
    """A vision tower with its projector.

    Attributes:
        last: the last linear map of the projector.
    """

    last: nn.Linear

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of visual tokens of a picture of (width, height) pixels."""

    def pixels(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height to which the family's processor resizes a picture."""

    def hidden(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """uint8 ``[B, height, width, 3]`` to the input ``[B, N, C]`` of ``last``, tokens in row
        order.
        """


def normalise(images: Tensor, dtype: torch.dtype) -> Tensor:
    mean = torch.tensor(CLIP_MEAN, device=images.device) * 255
    std = torch.tensor(CLIP_STD, device=images.device) * 255
    return ((images.float() - mean) / std).to(dtype)


class _Windows(NamedTuple):
    order: Tensor  # patches, window by window
    back: Tensor  # from tokens in window order to tokens in row order
    cos: Tensor  # [patches, head depth], in window order
    sin: Tensor
    number: int


class QwenTower:
    """Qwen2.5-VL: windows of 4 x 4 tokens, full attention in some blocks, 2 x 2 patches merged."""

    def __init__(self, core: Any) -> None:
        self.visual = core.visual
        self.last: nn.Linear = self.visual.merger.mlp[2]
        self._windows = cache(self._window)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        cell = self.visual.patch_size * self.visual.spatial_merge_size
        return size[1] // cell, size[0] // cell

    def pixels(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def hidden(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        visual, windows = (
            self.visual,
            self._windows(images.shape[1], images.shape[2], images.device),
        )
        kernel = visual.patch_embed.proj.weight.sum(2).flatten(
            1
        )  # a picture stands for two equal frames
        x = functional.linear(self._patches(normalise(images, dtype)), kernel.to(dtype))[
            :, windows.order
        ]
        cos, sin = windows.cos.to(dtype), windows.sin.to(dtype)
        for i, block in enumerate(visual.blocks):
            parts = 1 if i in visual.fullatt_block_indexes else windows.number
            x = self._block(x, block, cos, sin, parts)
        x = (
            rms_norm(x, visual.merger.ln_q)
            .unflatten(1, (-1, visual.spatial_merge_size**2))
            .flatten(2)
        )
        return functional.gelu(linear(x, visual.merger.mlp[0]))[:, windows.back]

    def _block(self, x: Tensor, block: Any, cos: Tensor, sin: Tensor, parts: int) -> Tensor:
        batch, length, width = x.shape
        heads = block.attn.num_heads
        query, key, value = linear(rms_norm(x, block.norm1), block.attn.qkv).chunk(3, -1)

        def by_window(z: Tensor) -> Tensor:
            return z.reshape(batch * parts, length // parts, heads, -1).transpose(1, 2)

        query = rotate(query.unflatten(-1, (heads, -1)), cos[:, None], sin[:, None])
        key = rotate(key.unflatten(-1, (heads, -1)), cos[:, None], sin[:, None])
        mixed = attend(
            by_window(query), by_window(key), by_window(value.unflatten(-1, (heads, -1)))
        )
        x = x + linear(join_heads(mixed).reshape(batch, length, width), block.attn.proj)
        y = rms_norm(x, block.norm2)
        return x + linear(
            functional.silu(linear(y, block.mlp.gate_proj)) * linear(y, block.mlp.up_proj),
            block.mlp.down_proj,
        )

    def _patches(self, images: Tensor) -> Tensor:
        """``[B, height, width, 3]`` to ``[B, patches, 3 * patch * patch]``, the four of a token
        together.
        """
        patch, merge = self.visual.patch_size, self.visual.spatial_merge_size
        batch, height, width, _ = images.shape
        rows, columns = height // (patch * merge), width // (patch * merge)
        x = images.view(batch, rows, merge, patch, columns, merge, patch, 3)
        return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(batch, rows * columns * merge * merge, -1)

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
        cos, sin = visual.rotary_pos_emb(
            torch.zeros(1, device=device),
            vision_utils.get_vision_position_ids(grid, merge, kwargs={}).to(device),
        )
        order = (index[:, None] * merge**2 + torch.arange(merge**2)).flatten().to(device)
        number = len(torch.unique_consecutive(torch.as_tensor(bounds))) - 1
        return _Windows(order, torch.argsort(index).to(device), cos[order], sin[order], number)


class ClipTower:
    """LLaVA: a CLIP tower at a fixed size, its last-but-one layer, two linear maps."""

    def __init__(self, core: Any) -> None:
        tower = core.vision_tower
        self.tower = getattr(tower, "vision_model", tower)
        self.projector = core.multi_modal_projector
        self.last: nn.Linear = self.projector.linear_2
        self.side = int(core.config.vision_config.image_size)
        self.patch = int(core.config.vision_config.patch_size)
        self.skip = -1 - int(core.config.vision_feature_layer)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.side // self.patch, self.side // self.patch

    def pixels(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.side, self.side

    def hidden(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        embeddings = self.tower.embeddings
        kernel = embeddings.patch_embedding.weight.flatten(1)
        x = functional.linear(_row_patches(normalise(images, dtype), self.patch), kernel.to(dtype))
        x = torch.cat([embeddings.class_embedding.to(dtype).expand(len(x), 1, -1), x], 1)
        x = layer_norm(x + embeddings.position_embedding.weight.to(dtype), self.tower.pre_layrnorm)
        layers = self.tower.encoder.layers
        for block in layers[: len(layers) - self.skip]:
            y, attention = layer_norm(x, block.layer_norm1), block.self_attn
            heads = attention.num_heads
            maps = (attention.q_proj, attention.k_proj, attention.v_proj)
            x = x + linear(
                join_heads(attend(*(split_heads(linear(y, m), heads) for m in maps))),
                attention.out_proj,
            )
            y = linear(layer_norm(x, block.layer_norm2), block.mlp.fc1)
            x = x + linear(y * torch.sigmoid(1.702 * y), block.mlp.fc2)
        return functional.gelu(linear(x[:, 1:], self.projector.linear_1))


class InternTower:
    """InternVL: a ViT at a fixed size, 2 x 2 patches shuffled into one token, two linear maps."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.tower = core.vision_tower
        self.projector = core.multi_modal_projector
        self.last: nn.Linear = self.projector.linear_2
        self.side = int(core.config.vision_config.image_size[0])
        self.patch = int(core.config.vision_config.patch_size[0])

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.side // self.patch // 2, self.side // self.patch // 2

    def pixels(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.side, self.side

    def hidden(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        embeddings = self.tower.embeddings
        convolution = embeddings.patch_embeddings.projection
        kernel, bias = convolution.weight.flatten(1).to(dtype), convolution.bias.to(dtype)
        x = functional.linear(_row_patches(normalise(images, dtype), self.patch), kernel, bias)
        x = torch.cat([embeddings.cls_token.to(dtype).expand(len(x), -1, -1), x], 1)
        if embeddings.position_embeddings is not None:
            x = x + embeddings.position_embeddings.to(dtype)
        for block in self.tower.encoder.layer:
            y, attention = layer_norm(x, block.layernorm_before), block.attention
            maps = (attention.q_proj, attention.k_proj, attention.v_proj)
            mixed = join_heads(
                attend(*(split_heads(linear(y, m), attention.num_heads) for m in maps))
            )
            x = x + block.lambda_1.to(dtype) * linear(mixed, attention.projection_layer)
            y = linear(
                functional.gelu(linear(layer_norm(x, block.layernorm_after), block.mlp.fc1)),
                block.mlp.fc2,
            )
            x = x + block.lambda_2.to(dtype) * y
        if not isinstance(self.tower.layernorm, nn.Identity):
            x = layer_norm(x, self.tower.layernorm)
        side = self.side // self.patch
        x = self.core.pixel_shuffle(x[:, 1:].unflatten(1, (side, side)), scale_factor=0.5).flatten(
            1, 2
        )
        return functional.gelu(
            linear(layer_norm(x, self.projector.layer_norm), self.projector.linear_1)
        )


def _row_patches(images: Tensor, patch: int) -> Tensor:
    """``[B, height, width, 3]`` to ``[B, patches, 3 * patch * patch]`` in row order."""
    batch, height, width, _ = images.shape
    x = images.view(batch, height // patch, patch, width // patch, patch, 3)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(batch, (height // patch) * (width // patch), -1)


TOWERS: dict[str, type[QwenTower] | type[ClipTower] | type[InternTower]] = {
    "qwen2_5_vl": QwenTower,
    "llava": ClipTower,
    "internvl": InternTower,
}
