"""A checkpoint that is not what it seems is refused by name before anything is answered; none of its
code runs, and its chat template ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, CLIPModel

from tests.support.checkpoints import spec_of
from unibench.cli import main
from unibench.config import model_path
from unibench.device import device_type
from unibench.errors import UsageError
from unibench.models import load
from unibench.models._checkpoint import WRONG_FILES, check_files, check_whole, load_whole
from unibench.models._clip import clip_of
from unibench.models._origin import cached_processor
from unibench.models._pooling import open_pooling
from unibench.models._sources import TINY
from unibench.models._template import STEPS, check_template, prompted

FAMILY = "qwen2_5_vl"
TINY_FOLDER = model_path(f"{TINY}/{FAMILY}")
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a tiny checkpoint."""
    place = tmp_path / "checkpoint"
    shutil.copytree(str(TINY_FOLDER), place)
    return place


def loaded(folder: Path) -> Any:
    return load(spec_of(FAMILY, path=str(folder)))


def edited(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def with_tensors(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def refused(folder: Path, *words: str) -> str:
    with pytest.raises(UsageError) as error:
        loaded(folder)
    message = str(error.value)
    assert "\n" not in message and message.isprintable()
    assert all(word in message for word in (str(folder), *words)), message
    return message


def test_a_whole_checkpoint_is_loaded_though_its_head_is_tied(folder: Path) -> None:
    assert not any("lm_head" in name for name in load_file(folder / "model.safetensors"))
    loaded(folder)


LACKING: dict[str, Callable[[str, int], bool]] = {
    "a layer": lambda name, number: "layers.2." in name,
    "half": lambda name, number: number % 2 == 0,
    "one": lambda name, number: name.endswith("layers.1.self_attn.q_proj.weight"),
    "the embedding that the head is tied to": lambda name, number: "embed_tokens" in name,
}


@pytest.mark.parametrize("what", LACKING)
def test_tensors_that_a_checkpoint_lacks_are_named(what: str, folder: Path) -> None:
    lost = LACKING[what]
    with_tensors(
        folder,
        lambda tensors: {
            name: tensor
            for number, (name, tensor) in enumerate(tensors.items())
            if not lost(name, number)
        },
    )
    assert "tensor" in refused(folder, "lacks", "made-up weights")


def test_a_checkpoint_of_other_names_lacks_all_of_its_tensors(folder: Path) -> None:
    with_tensors(folder, lambda tensors: {f"x.{name}": each for name, each in tensors.items()})
    refused(folder, "lacks", "tensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(value: float, folder: Path) -> None:
    def spoiled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
        tensors[name].view(-1)[3] = value
        return tensors

    with_tensors(folder, spoiled)
    refused(folder, "1 tensor (", "layers.1.mlp.up_proj.weight")


def test_weights_that_are_no_numbers_in_the_chosen_precision_are_named(folder: Path) -> None:
    def large(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: each.float().fill_(1e6) if "layers.1.mlp.up" in name else each.float()
            for name, each in tensors.items()
        }

    with_tensors(folder, large)
    loaded(folder)
    with pytest.raises(UsageError, match="float16"):
        load(replace(spec_of(FAMILY, path=str(folder)), dtype="float16"))


def cut(file: Path, share: float) -> None:
    file.write_bytes(file.read_bytes()[: round(share * file.stat().st_size)])


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
INDEX = "model.safetensors.index.json"
TEMPLATE = "chat_template.jinja"
DAMAGE: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "torn in the middle": (lambda at: cut(at / "model.safetensors", 0.5), ("cut off",)),
    "torn in its table": (lambda at: cut(at / "model.safetensors", 0.001), ("model.safetensors",)),
    "empty": (lambda at: cut(at / "model.safetensors", 0), ("no safetensors file",)),
    "longer": (
        lambda at: (at / "model.safetensors").write_bytes((at / "model.safetensors").read_bytes() + b"x"),
        ("damaged on its way",),
    ),
    "pointer of weights": (lambda at: (at / "model.safetensors").write_text(LFS), ("git lfs pull", "model.safetensors")),
    "pointer of words": (lambda at: (at / "tokenizer.json").write_text(LFS), ("git lfs pull", "tokenizer.json")),
    "pointer of settings": (lambda at: (at / "processor_config.json").write_text(LFS), ("git lfs pull",)),
    "annex": (lambda at: (at / "model.safetensors").write_text("/annex/objects/SHA256E-s1--0"), ("git annex get",)),
    "adapter": (lambda at: (at / "adapter_config.json").write_text("{}"), ("adapter_config.json", "model.adapter=")),
    "adapter's weights": (lambda at: (at / "adapter_model.safetensors").write_bytes(b""), ("adapter_model",)),
    "index above": (
        lambda at: (at / INDEX).write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}})),
        ("outside of the checkpoint", "../other.safetensors"),
    ),
    "index absolute": (
        lambda at: (at / INDEX).write_text(json.dumps({"weight_map": {"a": "/etc/passwd"}})),
        ("outside of the checkpoint",),
    ),
    "index of nothing": (
        lambda at: (at / INDEX).write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}})),
        ("gone.safetensors", "not there"),
    ),
    "index of no map": (lambda at: (at / INDEX).write_text('{"weight_map": []}'), ("weight_map",)),
    "no JSON": (lambda at: (at / "config.json").write_text('{"model_type": '), ("config.json", "JSON")),
    "deep JSON": (lambda at: (at / "config.json").write_text("[" * 100_000), ("config.json",)),
    "a list": (lambda at: (at / "config.json").write_text("[]"), ("no JSON object",)),
    "no UTF-8": (lambda at: (at / "config.json").write_bytes(b'{"a": "\xff"}'), ("config.json",)),
    "settings": (lambda at: (at / "generation_config.json").write_text("{"), ("generation_config.json",)),
    "a text for a mapping": (lambda at: edited(at / "config.json", text_config="x"), ("cannot be loaded",)),
    "a text for a number": (lambda at: edited(at / "config.json", vision_config={"depth": "x"}), ("cannot be loaded",)),
    "words": (lambda at: (at / "tokenizer.json").write_text("{}"), ("cannot be loaded",)),
    "kernel": (
        lambda at: edited(at / "config.json", _attn_implementation="some-body/flash-attn"),
        ("_attn_implementation", "some-body/flash-attn", "model.attn"),
    ),
    "kernel by its other name": (
        lambda at: edited(at / "config.json", attn_implementation="some-body/attn@main:f"), ("some-body/attn",)
    ),
    "kernel inside": (
        lambda at: edited(at / "config.json", text_config={"model_type": "x", "_attn_implementation": "a/b"}), ("'a/b'",)
    ),
    "kernels by part": (lambda at: edited(at / "config.json", _attn_implementation={"": "a/b"}), ("'a/b'",)),
    "use of kernels": (lambda at: edited(at / "config.json", use_kernels=True), ("use_kernels",)),
    "endless template": (
        lambda at: (at / TEMPLATE).write_text("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        ("chat template", f"stopped after {STEPS} steps"),
    ),
    "template of powers": (lambda at: (at / TEMPLATE).write_text("{{ 9**9**9 }}"), ("chat template", "powers")),
    "growing template": (
        lambda at: (at / TEMPLATE).write_text(
            "{% set n = namespace(x='xxxx') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
        ),
        ("chat template", "characters"),
    ),
    "calling itself": (
        lambda at: (at / TEMPLATE).write_text("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), ("chat template", "fails")
    ),
    "large range": (lambda at: (at / TEMPLATE).write_text("{{ range(10 * 99999)|list }}"), ("chat template",)),
    "no template": (lambda at: (at / TEMPLATE).write_text("{% for %}"), ("chat template", "fails")),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_or_hostile_checkpoint_is_refused_by_name(what: str, folder: Path) -> None:
    damage, words = DAMAGE[what]
    damage(folder)
    refused(folder, *words)


@pytest.mark.parametrize("what", ["no JSON", "deep JSON", "a list", "a text for a mapping"])
def test_a_malformed_configuration_is_one_line_of_the_command(
    what: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGE[what][0](folder)
    words = ["model=tiny_qwen2_5_vl", f"model.path={folder}", "method=fastv", "ratio=0.5"]
    assert main([*words, "task.limit=1", f"out={tmp_path / 'out'}", "--cfg", "job"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_an_adapter_among_the_weights_is_named(folder: Path) -> None:
    def adapted(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tensors | {"model.layers.0.q_proj.lora_A.weight": torch.zeros(1)}

    with_tensors(folder, adapted)
    refused(folder, "lora_A", "merge_and_unload")


def test_a_torn_file_of_torch_s_own_format_is_named(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    loaded(folder)
    cut(folder / "pytorch_model.bin", 0.7)
    refused(folder, "pytorch_model.bin", "cut off")


def test_a_pickle_that_calls_something_is_not_read(folder: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (folder / "MARKER",))

    torch.save({"a": Attack()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(folder)
    assert not (folder / "MARKER").exists()


def with_code(folder: Path) -> Path:
    """Code in a checkpoint that leaves a marker when it is imported, and all that names it."""
    marker = folder / "MARKER"
    code = f"open({str(marker)!r}, 'a').write('x')\nclass Own:\n    pass\n"
    for name in ("own.py", "modeling_own.py", "processing_own.py"):
        (folder / name).write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code + "def generate(**_): pass\n")
    classes = ("Config", "Model", "ModelForImageTextToText", "ModelForCausalLM", "Processor")
    names = {f"Auto{name}": "own.Own" for name in (*classes, "ImageProcessor")}
    names["AutoTokenizer"] = ["own.Own", "own.Own"]  # type: ignore[assignment]
    for file in folder.glob("*config.json"):
        edited(file, auto_map=names)
    return marker


LOADERS: dict[str, Callable[[Path], Any]] = {
    "a model": loaded,
    "the processor of a model that is loaded": lambda folder: cached_processor(Named(folder)),
    "the CLIP of a tower": lambda folder: clip_of(str(folder), AutoProcessor.from_pretrained(str(TINY_FOLDER)), CPU),
    "a pooling head": lambda folder: open_pooling(str(folder), CPU, {}),
    "weights": lambda folder: load_whole(CLIPModel, str(folder), "x"),
}  # fmt: skip


class Named:
    """A model that says where it came from."""

    def __init__(self, folder: Path) -> None:
        self.name_or_path = str(folder)


@pytest.mark.parametrize("loader", LOADERS)
def test_no_loader_runs_code_of_a_checkpoint_unasked(
    loader: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = with_code(folder)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    with suppress(UsageError, *WRONG_FILES):  # what matters is what ran
        LOADERS[loader](folder)
    assert not marker.exists() and not asked


def test_a_kernel_of_transformers_own_may_stand_in_a_configuration(folder: Path) -> None:
    edited(folder / "config.json", _attn_implementation="sdpa")
    check_files(folder, "x")


def test_an_adapter_of_a_tower_s_clip_is_refused_too(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="adapter"):
        clip_of(str(folder), AutoProcessor.from_pretrained(str(TINY_FOLDER)), CPU)


def test_a_template_s_steps_are_counted_and_other_code_s_are_not() -> None:
    def apply(messages: Any, **_: Any) -> str:
        return "".join(str(number) for number in range(2 * STEPS))

    assert prompted(apply, [], "x") and device_type("cpu") == "cpu"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava", "internvl"])
def test_templates_of_published_models_pass(family: str) -> None:
    check_template(AutoProcessor.from_pretrained(str(model_path(f"{TINY}/{family}"))), family)


def test_a_buffer_counts_as_a_weight() -> None:
    model = torch.nn.BatchNorm1d(2)
    check_whole(model, {}, "x")
    model.running_var.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="running_var"):
        check_whole(model, {}, "x")
