"""The entry point ``vllm.general_plugins``: classes ``Unibench<...>`` beside vLLM's own.

    python -m vllm.entrypoints.openai.api_server --model MODEL --hf-overrides
        '{"architectures": ["UnibenchQwen2_5_VLForConditionalGeneration"],
          "unibench": {"method": "divprune", "ratio": "0.889"}}'

A checkpoint whose architecture is not named so runs as vLLM's own, untouched.
"""

from __future__ import annotations

from typing import Any

from unibench.errors import UsageError
from unibench.serving.pruner import Pruner
from unibench.serving.settings import ARCHITECTURES, PREFIX, Settings


def register() -> None:
    """Make the classes known. Called in every process of vLLM, perhaps several times."""
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    from unibench.serving import _vllm

    _vllm.installed()
    known = ModelRegistry.get_supported_archs()
    hook = _hook()
    for architecture, home in ARCHITECTURES.items():
        name = PREFIX + architecture
        if name not in known:  # imported when a model is loaded
            ModelRegistry.register_model(name, f"unibench.serving.{home}")
        _vllm.hook_configuration(name, hook)
    if current_platform.is_cpu():
        _vllm.repair_cpu_runner()


def _hook() -> Any:
    """What looks at a configuration when it is made, before anything is loaded."""
    from vllm.model_executor.models.config import VerifyAndUpdateConfig

    class Checked(VerifyAndUpdateConfig):
        @staticmethod
        def verify_and_update_model_config(model_config: Any) -> None:
            check(model_config)

    return Checked


def check(model_config: Any) -> None:
    """Refuse what cannot work, and put in place what pruning needs.

    Raises:
        UsageError: the settings name no method that can run here, or videos would be pruned twice.
    """
    from unibench.serving import _vllm

    settings = Settings.of(model_config.hf_config)
    pruner = Pruner(settings)
    width = model_config.hf_config.get_text_config().hidden_size
    for modality in _vllm.shown(model_config):
        if modality == "video" and not settings.videos:
            continue
        try:
            pruner.tried(width, video=modality == "video")
        except UsageError as error:
            limit = f"--limit-mm-per-prompt '{{\"{modality}\": 0}}'"
            raise UsageError(f"{error}; or show none of this kind: {limit}") from None
    if model_config.multimodal_config.video_pruning_rate:
        raise UsageError("--video-pruning-rate prunes videos a second time; leave it out")
    if settings.positions == "compact":
        return  # every prompt counts from 0 as vLLM counts by itself
    text = model_config.hf_config.get_text_config()
    if "mrope_section" not in text.rope_parameters:
        _vllm.three_axes(text)
    _vllm.expect_channels(model_config)
