"""The stand-in: a RICE tower (a CLS row before each frame, rotary positions, 2 x 2 merger) and
Qwen3 with 1D positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel, Qwen3Model
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    apply_rotary_pos_emb_vision,
    eager_attention_forward,
)

from .configuration_llavaonevision1_5 import Llavaonevision15Config, RiceConfig


def places(grids: list[list[int]], merge: int) -> Tensor:
    """Row and column of each patch, block by block; transformers has it as a function since 5.8."""
    found = []
    for frames, height, width in grids:
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        blocks = (height // merge, merge, width // merge, merge)
        both = [part.reshape(blocks).transpose(1, 2).flatten() for part in (rows, columns)]
        found.append(torch.stack(both, -1).repeat(frames, 1))
    return torch.cat(found)


class RiceAttention(nn.Module):
    """Within each frame."""

    def __init__(self, config: RiceConfig) -> None:
        super().__init__()
        self.config, self.num_heads, self.num_key_value_groups, self.is_causal = (
            config,
            config.num_heads,
            1,
            False,
        )
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, sizes: list[int], rotary: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = self.qkv(hidden).reshape(len(hidden), 3, self.num_heads, -1).unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, *rotary)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        frames = zip(
            *(part.transpose(0, 1)[None].split(sizes, 2) for part in (query, key, value)),
            strict=True,
        )
        scaling = query.shape[-1] ** -0.5
        seen = [
            attend(
                self, q, k, v, attention_mask=None, scaling=scaling, dropout=0.0, is_causal=False
            )[0]
            for q, k, v in frames
        ]
        joined: Tensor = self.proj(torch.cat(seen, 1).reshape(len(hidden), -1))
        return joined


class RiceMlp(nn.Module):
    """Two layers."""

    def __init__(self, config: RiceConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.fc2(nn.functional.gelu(self.fc1(hidden)))
        return out


class RiceBlock(nn.Module):
    """Attention and feed-forward network, each behind a norm."""

    def __init__(self, config: RiceConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.hidden_size), nn.LayerNorm(config.hidden_size)
        self.attn, self.mlp = RiceAttention(config), RiceMlp(config)

    def forward(self, hidden: Tensor, sizes: list[int], rotary: tuple[Tensor, Tensor]) -> Tensor:
        hidden = hidden + self.attn(self.norm1(hidden), sizes, rotary)
        out: Tensor = hidden + self.mlp(self.norm2(hidden))
        return out


class RicePatchMerger(nn.Module):
    """Four patches become one token."""

    def __init__(self, config: RiceConfig) -> None:
        super().__init__()
        width = config.hidden_size * config.spatial_merge_size**2
        self.ln_q = nn.LayerNorm(config.hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, config.text_hidden_size)
        )

    def forward(self, patches: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.ln_q(patches).reshape(-1, self.mlp[0].in_features))
        return out


class RiceTransformerPretrainedModel(PreTrainedModel):
    """The tower."""

    config_class = RiceConfig
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: RiceConfig) -> None:
        super().__init__(config)
        self.spatial_merge_size = config.spatial_merge_size
        pixels = 3 * config.temporal_patch_size * config.patch_size**2
        self.patch_embed = nn.Linear(pixels, config.hidden_size, bias=False)
        self.class_embedding = nn.Parameter(
            torch.randn(config.hidden_size) * config.hidden_size**-0.5
        )
        self.class_pos_emb = nn.Parameter(
            torch.randn(1, config.hidden_size // config.num_heads // 2)
        )
        self.pre_layernorm = nn.LayerNorm(config.hidden_size)
        self.blocks = nn.ModuleList(RiceBlock(config) for _ in range(config.depth))
        self.merger = RicePatchMerger(config)
        self.post_init()

    def forward(self, pixels: Tensor, grid_thw: Tensor) -> Tensor:
        quarter = self.config.hidden_size // self.config.num_heads // 4
        frequency = 10000.0 ** -(torch.arange(quarter, device=pixels.device) / quarter)
        angles = (
            places(grid_thw.tolist(), self.spatial_merge_size)[..., None] * frequency
        ).flatten(1)
        sizes = [h * w for t, h, w in grid_thw.tolist() for _ in range(t)]
        hidden = self._with_class(
            self.patch_embed(pixels.to(self.class_embedding)), self.class_embedding[None], sizes
        )
        angles = self._with_class(angles, self.class_pos_emb, sizes)
        rotary = torch.cat([angles, angles], -1)
        hidden = self.pre_layernorm(hidden)
        for block in self.blocks:
            hidden = block(hidden, [size + 1 for size in sizes], (rotary.cos(), rotary.sin()))
        out: Tensor = self.merger(
            hidden[1 : sum(sizes) + 1]
        )  # as published: behind the first frame, one row early for each CLS row before
        return out

    def _with_class(self, rows: Tensor, first: Tensor, sizes: list[int]) -> Tensor:
        return torch.cat([torch.cat([first, frame]) for frame in rows.split(sizes)])


class LLaVAOneVision15PreTrainedModel(PreTrainedModel):
    """What both parts below share."""

    config_class = Llavaonevision15Config
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True


class LLaVAOneVision15Model(LLaVAOneVision15PreTrainedModel):
    """Tower and decoder."""

    def __init__(self, config: Llavaonevision15Config) -> None:
        super().__init__(config)
        self.visual = RiceTransformerPretrainedModel._from_config(config.vision_config)
        self.language_model = Qwen3Model._from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def get_image_features(self, pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
        features: Tensor = self.visual(pixel_values, image_grid_thw)
        return features

    def get_video_features(self, pixel_values_videos: Tensor, video_grid_thw: Tensor) -> Tensor:
        features: Tensor = self.visual(pixel_values_videos, video_grid_thw)
        return features

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self.get_input_embeddings()(input_ids)
            if pixel_values is not None and image_grid_thw is not None:
                features = self.get_image_features(pixel_values, image_grid_thw)
                inputs_embeds = inputs_embeds.masked_scatter(
                    (input_ids == self.config.image_token_id)[..., None], features
                )
            if pixel_values_videos is not None and video_grid_thw is not None:
                features = self.get_video_features(pixel_values_videos, video_grid_thw)
                inputs_embeds = inputs_embeds.masked_scatter(
                    (input_ids == self.config.video_token_id)[..., None], features
                )
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)


class LLaVAOneVision15ForConditionalGeneration(LLaVAOneVision15PreTrainedModel, GenerationMixin):
    """With its head."""

    def __init__(self, config: Llavaonevision15Config) -> None:
        super().__init__(config)
        self.model = LLaVAOneVision15Model(config)
        self.lm_head = nn.Linear(
            config.text_config.hidden_size, config.text_config.vocab_size, bias=False
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        logits_to_keep: int = 0,
        mm_token_type_ids: Tensor | None = None,  # of newer processors
        **kwargs: Any,
    ) -> Any:
        seen = dict(pixel_values=pixel_values, image_grid_thw=image_grid_thw)
        watched = dict(pixel_values_videos=pixel_values_videos, video_grid_thw=video_grid_thw)
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, **seen, **watched, **kwargs
        )
        logits = self.lm_head(
            out.last_hidden_state[:, -logits_to_keep:] if logits_to_keep else out.last_hidden_state
        )
        return CausalLMOutputWithPast(
            logits=logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, is_first_iteration: bool = False, **kwargs: Any
    ) -> Any:
        inputs = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs.update(pixel_values=None, pixel_values_videos=None)
        return inputs
