"""Checkpoints of every family, in the forms in which people have them, are loaded by the path they
would give.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file

import unibench
from tests.families.test_decoders import subject
from tests.support.checkpoints import FORMATS, SETTINGS, save, spec_of
from tests.support.models import EACH, FAMILIES, QUICK, VIDEOS, inputs_of, model_of
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.models import LoadedModel, _sources, load

QUESTIONS = ["what is it", "how many are there in all of them", "which color is the first"]


def picture(seed: int, width: int, height: int) -> Image.Image:
    pixels = torch.randint(
        0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return Image.fromarray(pixels.numpy())


MADE = [
    family for family in FAMILIES if family in SETTINGS
]  # the code of the other one comes with its checkpoint: test_remote_code.py
PICTURES = [[picture(0, 100, 60), picture(1, 50, 100)], [], [picture(2, 110, 100)]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, LoadedModel] = {}

    def of(family: str) -> LoadedModel:
        if family not in made:
            made[family] = load(
                spec_of(family, path=str(save(family, tmp_path_factory.mktemp(family))))
            )
        return made[family]

    return of


@pytest.mark.parametrize(
    ("family", "form"),
    [
        pytest.param(
            family, form, marks=[] if family == QUICK[number % len(QUICK)] else [pytest.mark.slow]
        )
        for family in MADE
        for number, form in enumerate(FORMATS)
    ],
)
def test_every_form_of_a_checkpoint_is_loaded(
    family: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = FORMATS[form](family, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    if form == "shards":
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = load(spec_of(family, **where))
    assert loaded.family.model_types[0] == family
    inputs = loaded.inputs(QUESTIONS[:1], PICTURES[:1])
    with unibench.prune(loaded.model, "divprune", ratio=0.5) as session, torch.no_grad():
        loaded.model.generate(**inputs, generation_config=loaded.generation_config(3, 1.0))
    (record,) = session.take_records()
    assert record.kept == max(1, int(0.5 * record.visual_tokens + 0.5))


@pytest.mark.parametrize("family", [family for family in EACH if family.values[0] in MADE])
def test_a_batch_of_several_one_and_no_pictures_equals_single_prompts(
    family: str, small: Any
) -> None:
    loaded = small(family)
    config = loaded.generation_config(4, 1.0)
    with unibench.prune(loaded.model, "fastv", ratio=0.6) as session, torch.no_grad():
        inputs = loaded.inputs(QUESTIONS, PICTURES)
        together = loaded.model.generate(**inputs, generation_config=config)[
            :, inputs["input_ids"].shape[1] :
        ]
        records = session.take_records()
        for row, (question, pictures) in enumerate(zip(QUESTIONS, PICTURES, strict=True)):
            inputs = loaded.inputs([question], [pictures])
            alone = loaded.model.generate(**inputs, generation_config=config)[
                :, inputs["input_ids"].shape[1] :
            ]
            (record,) = session.take_records()
            assert record == replace(records[row], sample=record.sample)
            assert loaded.answers(together[row : row + 1]) == loaded.answers(alone)
    assert [record.visual_tokens > 0 for record in records] == [True, False, True]


@pytest.mark.parametrize(
    "family", [family for family in EACH if family.values[0] in MADE and family.values[0] in VIDEOS]
)
def test_a_video_is_read_frame_by_frame(family: str, small: Any) -> None:
    loaded = small(family)
    frames = [picture(seed, 80, 60) for seed in range(4)]
    inputs = loaded.inputs(QUESTIONS[:2], [frames, frames[::-1]], modality="video")
    for scope in ("sequence", "item", "tile"):
        with (
            unibench.prune(loaded.model, "divprune", ratio=0.5, scope=scope) as session,
            torch.no_grad(),
        ):
            loaded.model.generate(**inputs, generation_config=loaded.generation_config(3, 1.0))
        for record in session.take_records():
            assert record.visual_tokens > 0
            assert abs(record.kept - record.visual_tokens / 2) <= 2
    assert session.prompt is not None
    (first, *more), _ = session.prompt.items
    frames_read = sum(part.frames for item in (first, *more) for part in item.parts)
    assert frames_read == (2 if family.startswith("qwen") else 4)  # Qwen joins two frames into one


def test_videos_of_different_lengths_are_refused_where_the_processor_stacks_them(
    small: Any,
) -> None:
    frames = [picture(seed, 80, 60) for seed in range(4)]
    with pytest.raises(UsageError, match="batch_size=1"):
        small("internvl").inputs(QUESTIONS[:2], [frames, frames[:2]], modality="video")


def test_a_file_and_an_unknown_revision_are_named(tmp_path: Path) -> None:
    where = FORMATS["cache_folder"]("llava", tmp_path)
    with pytest.raises(UsageError, match="0123456789abcdef"):
        load(spec_of("llava", path=where["path"], revision="v2"))
    with pytest.raises(UsageError, match=f"give the folder.*{tmp_path}"):
        load(spec_of("llava", path=str(tmp_path / "made" / "model.safetensors")))


@pytest.mark.parametrize("method", ["fastv", "pyramiddrop", "visionzip"])
def test_a_model_that_accelerate_places_module_by_module_is_pruned_alike(
    small: Any, method: str
) -> None:
    """As with several GPUs, every forward is wrapped; here the weights wait in memory until their
    module runs.
    """
    loaded = small("internvl")
    inputs, config = loaded.inputs(QUESTIONS[:1], PICTURES[:1]), loaded.generation_config(4, 1.0)
    answers = []
    for model in (
        loaded.model,
        accelerate.cpu_offload(copy.deepcopy(loaded.model), torch.device("cpu")),
    ):
        with unibench.prune(model, method, ratio=0.5) as session, torch.no_grad():
            answers.append(model.generate(**inputs, generation_config=config))
        assert session.take_records()[0].kept < session.prompt.length
    assert torch.equal(*answers)


def test_random_weights_that_do_not_fit_in_memory_are_refused_before_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sources, "free_memory", lambda: 2**30)
    (config,) = compose_cells(["model=qwen2_5_vl_7b", "model.weights=random"], sweep=False)
    with pytest.raises(
        UsageError,
        match=(
            r"qwen2_5_vl_7b: its weights take 15\.4 GiB in bfloat16 and 1\.0 GiB"
            r" .*num_hidden_layers=4"
        ),
    ):
        load(config.model)


def test_quantisation_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("llava", path=str(save("llava", tmp_path)), quantization="4bit")
    monkeypatch.setattr("unibench.models._sources.is_bitsandbytes_available", lambda: False)
    with pytest.raises(UsageError, match="pip install bitsandbytes"):
        load(spec)


@pytest.mark.parametrize(("bits", "field"), [("8bit", "load_in_8bit"), ("4bit", "load_in_4bit")])
def test_quantisation_reaches_transformers(
    bits: str, field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}

    class ReachedError(Exception):
        """Before weights are read."""

    def look(source: str, **options: Any) -> None:
        given.update(options)
        raise ReachedError

    monkeypatch.setattr("unibench.models._sources.is_bitsandbytes_available", lambda: True)
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", look)
    with pytest.raises(ReachedError):
        load(spec_of("llava", path=str(save("llava", tmp_path)), quantization=bits))
    assert getattr(given["quantization_config"], field) is True


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("gemma3_4b", "float32"),
        pytest.param("gemma3_4b", "bfloat16", marks=pytest.mark.slow),
        pytest.param("gemma4_e2b", "float32", marks=pytest.mark.slow),
        pytest.param("glm4_1v_9b", "float32", marks=pytest.mark.slow),
        pytest.param("qwen3_5_9b", "float32", marks=pytest.mark.slow),
        pytest.param("qwen3_vl_30b_a3b", "float32", marks=pytest.mark.slow),
    ],
)
def test_shards_of_a_model_that_check_builds_are_loaded(
    name: str, dtype: str, tmp_path: Path
) -> None:
    one = subject(name)
    one.model.save_pretrained(tmp_path, max_shard_size="200KB")
    one.loaded.processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    (cell,) = compose_cells(
        [f"model={name}", f"model.path={tmp_path}", f"model.dtype={dtype}"], sweep=False
    )
    loaded = load(replace(cell.model, processor={}))  # the card's are of the real size
    assert loaded.model.dtype == getattr(torch, dtype)
    inputs = loaded.inputs(["what is it"], [[picture(0, 100, 60)]])
    expected = one.loaded.inputs(["what is it"], [[picture(0, 100, 60)]])
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    with torch.no_grad(), unibench.prune(loaded.model, "divprune", ratio=0.5):
        scores = loaded.model(**inputs).logits
    assert torch.isfinite(scores).all()
    if dtype == "float32":
        with torch.no_grad(), unibench.prune(one.model, "divprune", ratio=0.5):
            torch.testing.assert_close(scores, one.model(**expected).logits)


def test_adapters_in_the_layers_of_a_wrapped_model_stay_at_work() -> None:
    """A wrapper as peft makes it: layers replaced in place, the model behind one method."""

    class Adapted(torch.nn.Module):
        def __init__(self, base: torch.nn.Linear) -> None:
            super().__init__()
            self.base, self.weight = base, base.weight
            self.low = torch.nn.Linear(base.in_features, 2, bias=False)
            self.high = torch.nn.Linear(2, base.out_features, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = self.base(x) + self.high(self.low(x))
            return added

    class Wrapper(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.base_model, self.config = model, model.config

        def get_base_model(self) -> Any:
            return self.base_model

        def forward(self, **inputs: Any) -> Any:
            return self.base_model(**inputs)

    plain, inputs = model_of("llava"), inputs_of("llava")
    adapted = copy.deepcopy(plain)
    for layer in adapted.model.language_model.layers:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj)
    whole = Wrapper(adapted)
    with torch.no_grad(), unibench.prune(plain, "divprune", ratio=0.5):
        before = plain(**copy.deepcopy(inputs)).logits
    with torch.no_grad(), unibench.prune(whole, "divprune", ratio=0.5) as session:
        after = whole(**copy.deepcopy(inputs)).logits
    assert before.shape == after.shape and not torch.allclose(before, after, atol=1e-3)
    assert session.take_records()[0].kept == 8


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A checkpoint, an adapter of it as peft saves it, and the model that both make."""
    peft = pytest.importorskip("peft")
    place = tmp_path_factory.mktemp("adapted")
    base, adapter = save("llava", place / "base"), place / "adapter"
    settings = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = peft.get_peft_model(load(spec_of("llava", path=str(base))).model, settings).eval()
    model.save_pretrained(adapter)
    return base, adapter, model


@pytest.mark.parametrize("mode", ["merge", "wrap"])
def test_an_adapter_is_merged_into_the_weights_or_runs_beside_them(
    mode: str, adapted: tuple[Path, Path, Any]
) -> None:
    base, adapter, expected = adapted
    plain = load(spec_of("llava", path=str(base)))
    loaded = load(spec_of("llava", path=str(base), adapter=str(adapter), adapter_mode=mode))
    wrapped = any("lora" in name for name, _ in loaded.model.named_parameters())
    assert wrapped == (mode == "wrap")
    inputs, scores = plain.inputs(QUESTIONS[:1], PICTURES[:1]), []
    for model in (plain.model, expected, loaded.model):
        with torch.no_grad(), unibench.prune(model, "fastv", ratio=0.5) as session:
            scores.append(model(**copy.deepcopy(inputs)).logits)
        assert session.take_records()[0].kept < session.prompt.length
    torch.testing.assert_close(scores[2], scores[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(scores[2], scores[0], atol=1e-3)


@pytest.mark.parametrize("fault", ["cut off", "lacks one", "another kind", "pickle", "other shape"])
def test_a_wrong_adapter_is_refused_in_a_line(
    fault: str, adapted: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    base, good, _ = adapted
    folder = tmp_path / "adapter"
    shutil.copytree(good, folder)
    weights, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors = load_file(weights)
    if fault == "cut off":
        weights.write_bytes(weights.read_bytes()[:-5])
    elif fault == "pickle":
        weights.rename(folder / "adapter_model.bin")
    elif fault == "another kind":
        settings.write_text(settings.read_text().replace("LORA", "IA3"))
    else:
        name = min(tensors)
        if fault == "lacks one":
            del tensors[name]
        else:
            tensors[name] = torch.zeros(2, 5)
        save_file(tensors, weights)
    with pytest.raises(UsageError, match=f"model.adapter={folder}") as caught:
        load(spec_of("llava", path=str(base), adapter=str(folder)))
    assert "\n" not in str(caught.value)


def test_an_adapter_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unibench.models._adapters.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install peft"):
        load(spec_of("llava", path=str(save("llava", tmp_path)), adapter=str(tmp_path)))


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantised_checkpoint_is_pruned(bits: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    # 4 bits come in blocks of 64, of which the kernel for CPUs wants whole ones in every row
    path = str(save("llava", tmp_path, hidden_size=64, intermediate_size=128))
    loaded = load(spec_of("llava", path=path, quantization=bits))
    layer = loaded.model.model.language_model.layers[0].self_attn.q_proj
    assert type(layer).__name__ == {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[bits]
    inputs = loaded.inputs(QUESTIONS[:1], PICTURES[:1])
    with torch.no_grad(), unibench.prune(loaded.model, "fastv", ratio=0.5) as session:
        out = loaded.model(**copy.deepcopy(inputs)).logits
        loaded.model.generate(**inputs, generation_config=loaded.generation_config(3, 1.0))
    whole = load(spec_of("llava", path=path))
    with torch.no_grad(), unibench.prune(whole.model, "fastv", ratio=0.5):
        expected = whole.model(**copy.deepcopy(inputs)).logits
    assert session.take_records()[0].kept < session.prompt.length
    likeness = torch.nn.functional.cosine_similarity(out[0].float(), expected[0].float(), dim=-1)
    assert likeness.mean() > 0.9


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_checkpoint_in_half_precision_is_pruned(dtype: str, tmp_path: Path) -> None:
    place = str(save("llava", tmp_path))
    loaded = load(replace(spec_of("llava", path=place), dtype=dtype))
    inputs = loaded.inputs(QUESTIONS[:1], PICTURES[:1])
    with torch.no_grad(), unibench.prune(loaded.model, "fastv", ratio=0.5) as session:
        found = loaded.model(**copy.deepcopy(inputs)).logits
    assert found.dtype == getattr(torch, dtype)
    whole = load(spec_of("llava", path=place))
    with torch.no_grad(), unibench.prune(whole.model, "fastv", ratio=0.5) as same:
        expected = whole.model(**copy.deepcopy(inputs)).logits
    # selections are float32 whatever the model is
    assert session.take_records()[0].kept == same.take_records()[0].kept
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_tokenizer_and_image_processor_may_come_from_another_folder(tmp_path: Path) -> None:
    """As of a fine-tuned model that was saved without them."""
    whole, bare = save("llava", tmp_path / "whole"), tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(whole / name, bare)
    with pytest.raises(UsageError):
        load(spec_of("llava", path=str(bare)))
    loaded = load(spec_of("llava", path=str(bare), processor_path=str(whole)))
    inputs = loaded.inputs(QUESTIONS[:1], PICTURES[:1])
    expected = load(spec_of("llava", path=str(whole))).inputs(QUESTIONS[:1], PICTURES[:1])
    assert all(torch.equal(inputs[key], expected[key]) for key in expected)
