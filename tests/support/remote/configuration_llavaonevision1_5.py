"""Configuration of the stand-in."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig, Qwen3Config


class RiceConfig(PreTrainedConfig):
    """The vision tower."""

    model_type = "rice_vit"
    base_config_key = "vision_config"

    def __init__(
        self,
        depth: int = 24,
        hidden_size: int = 1024,
        intermediate_size: int = 4096,
        num_heads: int = 16,
        patch_size: int = 14,
        spatial_merge_size: int = 2,
        temporal_patch_size: int = 1,
        text_hidden_size: int = 4096,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.depth, self.hidden_size, self.intermediate_size, self.num_heads = (
            depth,
            hidden_size,
            intermediate_size,
            num_heads,
        )
        self.patch_size, self.spatial_merge_size, self.temporal_patch_size = (
            patch_size,
            spatial_merge_size,
            temporal_patch_size,
        )
        self.text_hidden_size = text_hidden_size


class Llavaonevision15Config(PreTrainedConfig):
    """The whole model."""

    model_type = "llavaonevision1_5"
    sub_configs: ClassVar = {"vision_config": RiceConfig, "text_config": Qwen3Config}

    def __init__(
        self,
        text_config: Any = None,
        vision_config: Any = None,
        image_token_id: int = 151655,
        video_token_id: int = 151656,
        vision_start_token_id: int = 151652,
        **kwargs: Any,
    ) -> None:
        self.text_config = (
            Qwen3Config(**text_config)
            if isinstance(text_config, dict)
            else text_config or Qwen3Config()
        )
        self.vision_config = (
            RiceConfig(**vision_config)
            if isinstance(vision_config, dict)
            else vision_config or RiceConfig()
        )
        self.image_token_id, self.video_token_id, self.vision_start_token_id = (
            image_token_id,
            video_token_id,
            vision_start_token_id,
        )
        super().__init__(**kwargs)
