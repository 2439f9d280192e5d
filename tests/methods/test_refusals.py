"""What a method cannot do on a model is said before the model is loaded, whoever asks."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, LlavaConfig, MistralConfig, PreTrainedModel

import unibench
from tests.methods._contexts import BESIDES
from tests.support.models import CLIP, IMAGE, LAYERS, TEXT, families, model_of
from tests.support.turns import in_turn, once
from unibench import Method, UsageError, registry
from unibench.api import build_method
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.facts import ModelFacts
from unibench.pruning import Family
from unibench.pruning.refusal import facts_of, refusal

# a configuration in configs/model of each family
CARDS = {
    "qwen2_5_vl": "qwen2_5_vl_7b",
    "qwen2_vl": "qwen2_vl_7b",
    "qwen3_vl": "qwen3_vl_8b",
    "llava": "llava_1_5_7b",
    "llava_next": "llava_next_7b",
    "llava_next_video": "llava_next_video_7b",
    "llava_onevision": "llava_onevision_7b",
    "llava_onevision_1_5": "llava_onevision_1_5_8b",
    "internvl": "internvl3_1b",
    "smolvlm": "smolvlm2_2b",
}
# values at and beyond the limits of a decoder of six layers, and of a tower of three or four blocks
NUMBERS = {
    "layer": (0, 1, LAYERS - 1, LAYERS, 100, -1),
    "object_layer": (0, 2, 9, -1, -9),
    "layers": ([1, 3, 5], [1, 3, 6], [2, 4], [0, 3, 5], [-1, 2, 3]),
    "retentions": ([0.5], [0.5, 0.25, 0.125]),
    "counts": ([30], [30, 20, 10]),
    "recipe": ([0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0, 0, 9]),
    "cuts": ([[2, 0.5], [4, None]], [[2, 0.5], [6, None]], [[0, 0.5]], [[2, 1.5]], [[2, 0.5, 1]]),
    "split": (0.0, 1.0, 2.0, -1.0),
    "pre_ratio": (0.1, 0.3, 0.9, 66.7),
    "window": (1, 2),
    "pivots_image": (0, 2),
    "schedule": ([2, 2],),
}
FURTHER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("two_stage", {"pre_ratio": 0.3, "intra_ratio": 0.3}),
    ("two_stage", {"intra_ratio": 0.3}),
    ("two_stage", {"pre_ratio": 0.3, "intra_ratio": 0.3, "variant": "official_bug"}),
    ("two_stage", {"pre": "cdpruner", "pre_options": {"relevance": "clip"}}),
    ("two_stage", {"intra": {"name": "fastv", "layer": 9}}),
    ("two_stage", {"pre": "visionselector"}),
    ("schedule", {"method": "divprune"}),
    ("schedule", {"method": "dart"}),
    ("vtw", {"layer": 3}),
    ("sparsevlm", {"rank": True}),
    ("visionselector", {"selector_path": "random:0"}),
    ("idpruner", {"selector_path": "random:0"}),
    ("idpruner", {"selector_path": "random:x"}),
    ("dpp", {"importance": "visionselector", "selector_path": "nowhere.safetensors"}),
)


def forms() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every method with its defaults, each value of a closed set, and values at its limits."""
    for name, card in registry.methods().items():
        yield name, {}
        for key, parameter in card.fields.items():
            values = (*parameter.allowed.choices, *NUMBERS.get(key, ()))
            yield from ((name, {key: value}) for value in values)
    yield from FURTHER


FORMS = list(forms())


def told(model: list[str], name: str, options: dict[str, Any], *more: str) -> str | None:
    """What a command is told before anything is loaded."""
    words = [f"method.{key}={json.dumps(value)}" for key, value in options.items()]
    words = [word.replace('"', "") for word in words]
    try:
        compose_cells([*model, f"method={name}", *words, *more], sweep=False)
    except UsageError as error:
        return str(error)
    return None


def raised(family: str, name: str, options: dict[str, Any], mode: Any) -> str | None:
    """What a session on a model says."""
    try:
        method = build_method(name, **options)
        with unibench.prune(model_of(family), method, ratio=0.5, budget_mode=mode, **BESIDES):
            return None
    except UsageError as error:
        return str(error)


@in_turn("mode, family", ["at_stage", "layer_average"], once, on=1)
def test_a_command_is_refused_exactly_where_a_session_would_be(
    family: str, mode: str, tmp_path: Path
) -> None:
    model_of(family).config.save_pretrained(tmp_path)
    model = [f"model={CARDS[family]}", f"model.path={tmp_path}", "model.clip=null"]
    refused = 0
    for name, options in FORMS:
        before = told(model, name, options, "ratio=0.5", f"budget.mode={mode}")
        after = raised(family, name, options, mode)
        assert (before is None) == (after is None), (name, options, before, after)
        refused += before is not None
        if before is not None and after is not None and "Known:" not in after:
            # a command also names the families that can
            assert after.splitlines()[0][-40:] in before, (name, options, before, after)
    assert 0.1 < refused / len(FORMS) < 0.6


@families
def test_what_a_configuration_says_is_what_the_loaded_model_says(
    family: str, tmp_path: Path
) -> None:
    from unibench.checks import facts_of as facts_before

    model = model_of(family)
    model.config.save_pretrained(tmp_path)
    (cell,) = compose_cells([f"model={CARDS[family]}", f"model.path={tmp_path}"], sweep=False)
    before, after = (
        facts_before(cell.model),
        facts_of(registry.family_of(model.config.model_type).load()(model)),
    )
    for key in ("depth", "kinds", "width", "positions", "tower_depth"):
        assert getattr(before, key) == getattr(after, key), key
    if registry.families()[family].name == "llava":
        assert before.one_feature_layer is after.one_feature_layer is True


SELECTOR = {
    "q_proj.weight": (4, 8),
    "q_proj.bias": (4,),
    "k_proj.weight": (4, 8),
    "k_proj.bias": (4,),
}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=cdpruner", "method.relevance=clip"], "CDPruner needs clip_tower, which family qwen2_5_vl lacks; it runs on llava, llava_next, llava_next_video"),
        (["model=tiny_llava", "method=cdpruner", "method.relevance=clip"], "model.clip=<folder or hub id>"),
        (["method=visionzip", "method.variant=official_bug"], "VisionZip needs cls_token, token_projector"),
        (["method=fastv", "method.layer=100"], "FastV cuts at layer 100, but the model has 5 decoder layers"),
        (["method=fastv", "method.layer=5"], "FastV cuts at layer 5, but the model has 5 decoder layers"),
        (["model=qwen2_5_vl_7b", "model.weights=random", "method=fastv", "method.layer=28"], "the model has 28 decoder layers"),
        (["method=fastv", "budget.mode=layer_average"], "64 of 576 visual tokens per layer cannot be reached"),
        (["method=sparsevlm", "method.counts=[30,20,10]", "budget.mode=layer_average"], "use at_stage"),
        (["method=vtw", "method.layer=3", "budget.mode=layer_average"], "both say where vtw withdraws"),
        (["model=qwen2_5_vl_7b", "method=vtw", "method.layer=3", "budget.mode=layer_average"], "both say where vtw withdraws"),
        (["model=qwen2_5_vl_7b", "method=pyramiddrop", "method.retentions=[0.5]"], "has 1 shares for cuts at 3 layers"),
        (["model=tiny_llava", "method=visionselector"], "method.selector_path=<file.safetensors>"),
        (["method=visionselector", "model.selector=nowhere.safetensors"], "selector_path=nowhere.safetensors: there is no such file"),
        (["method=idpruner", "model.selector=NARROW"], "the selector takes features of width 8; this model's are 160 wide"),
        (["model=tiny_llava", "method=tome", "model.attn=flash_attention_2"], "merging in the vision tower weighs keys"),
        (["method=hiprune", "method.object_layer=99"], "HiPrune reads vision layer 99 of a tower with"),
        (["method=two_stage", "method.pre_ratio=0.9", "ratio=0.5"], "fewer than the budget of"),
        (["method=two_stage", "method.split=2"], "method.split=2"),
        (["method=two_stage", "method.intra={name: fastv, layer: 9}"], "cuts at layer 9"),
        (["method=two_stage", "method.pre={layer: 9}"], "names no method"),
        (["method=two_stage", "method.pre=3"], "names no method"),
        (["method=two_stage", "method.pre=divprun"], "method.pre: unknown method 'divprun'. Did you mean divprune?"),
        (["method=two_stage", "method.intra_options={layr: 3}"], "unknown parameter of method fastv 'layr'. Did you mean layer?"),
        (["method=two_stage", "method.intra_options={layer: two}"], "method.intra.layer=two: int wanted"),
        (["method=schedule", "method.method=divprune"], "DivPrune has no parameter layer"),
        (["method=dart", "method.variant=oficial_bug"], "unknown method.variant 'oficial_bug'. Did you mean official_bug?"),
        (["method=hiprune", "method.object_layer=two"], "method.object_layer=two: int or null wanted"),
        (["method=sparsevlm", "method.layers=[1,two]"], "list of int wanted"),
        (["method=divprune", "keep=1000000"], "is more than the 4096 tokens that model=tiny_qwen2_5_vl can read"),
        (["model=llava_onevision_1_5_8b", "batch_size=2"], "take batch_size=1"),
        (["model.weights=random"], "no architecture"),
        (["model=qwen2_5_vl_7b", "model.weights=random", "model.quantization=8bit"], "needs a checkpoint"),
        (["model=qwen2_5_vl_7b", "model.weights=random", "model.adapter=x"], "model.adapter needs a checkpoint"),
        (["model.adapter=nowhere"], "there is no adapter_config.json in nowhere"),
        (["model.adapter=nowhere", "model.quantization=4bit"], "take model.adapter_mode=wrap"),
        (["model.adapter_mode=mrege"], "Did you mean merge?"),
        (["task=pope", "harness_options.wrapper=native", "model.quantization=4bit"], "model.quantization is not read"),
        (["model=qwen3_5_9b", "model.weights=random", "method=fastv", "method.layer=4"], "take after_state=true"),
        (["+task.options.splt=dev"], "unknown option of task synthvqa 'splt'. Did you mean split?"),
        (["+task.options.split=dve"], "unknown split of synthvqa 'dve'. Did you mean dev?"),
        (["task=folder"], "task=folder needs task.data"),
        (["generation.repetition_penalty=nan"], "generation.repetition_penalty=nan"),
        (["generation.repetition_penalty=0"], "generation.repetition_penalty=0"),
        (["model.threads=0"], "model.threads=0 is too small"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_each_refusal_is_one_line_and_loads_nothing(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_file(
        {key: torch.zeros(shape) for key, shape in SELECTOR.items()},
        tmp_path / "narrow.safetensors",
    )
    words = [word.replace("NARROW", str(tmp_path / "narrow.safetensors")) for word in words]
    for load in ("from_pretrained", "_from_config"):
        monkeypatch.setattr(PreTrainedModel, load, functools.partial(pytest.fail, "it was loaded"))
    assert main([*words, f"out={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_sliding_windows_are_seen_in_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP),
        text_config=MistralConfig(**TEXT, sliding_window=8),
        image_token_index=IMAGE,
    )
    config.save_pretrained(tmp_path)
    assert main(["plan", "model=llava_1_5_7b", f"model.path={tmp_path}", "method=fastv"]) == 2
    assert "does not attend to everything" in capsys.readouterr().err


def in_hub_cache(hub: Path, repository: str, revision: str) -> Path:
    """A repository's folder in the cache of the hub, with the configuration of one revision."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / revision).write_text("abc123")
    model_of("qwen2_5_vl").config.save_pretrained(folder / "snapshots" / "abc123")
    return folder


def test_a_checkpoint_in_the_cache_of_the_hub_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = in_hub_cache(tmp_path, "Qwen/Qwen2.5-VL-7B-Instruct", "main")
    words = ["plan", "model=qwen2_5_vl_7b", "method=fastv", "method.layer=6"]
    assert main([*words, f"model.path={folder}"]) == 2
    assert "the model has 6 decoder layers" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert main(words) == 0  # not here, so not known
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert main(words) == 2
    assert "the model has 6 decoder layers" in capsys.readouterr().err
    assert main([*words, "model.revision=other"]) == 0


def test_what_is_not_known_of_a_model_refuses_nothing() -> None:
    family = registry.families()["llava"].load()
    budget = unibench.Budget.parse(ratio=0.5)
    assert refusal(build_method("fastv", layer=100), budget, family, ModelFacts()) is None
    assert refusal(build_method("cdpruner", relevance="clip"), budget, family, ModelFacts()) is None
    known = refusal(build_method("fastv", layer=100), budget, family, ModelFacts(depth=32))
    assert known is not None and "32 decoder layers" in known


def test_a_method_of_ones_own_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass\n"
        "from unibench import Method\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Method):\n"
        "    wanted: int = 3\n\n"
        "    def requires(self, family, model):\n"
        "        if model.depth is not None and model.depth < self.wanted:\n"
        "            return f'mine needs {self.wanted} layers, not {model.depth}'\n"
    )
    for wanted, code in ((3, 0), (9, 2), (5, 0)):
        assert main(["plan", f"method={mine}:Mine", f"method.wanted={wanted}"]) == code
    assert "mine needs 9 layers, not 5" in capsys.readouterr().err


def test_the_spelling_before_wants_is_still_read() -> None:
    class Old(Method):
        requires = frozenset({"crystal_ball"})

    family = registry.families()["llava"].load()
    reason = refusal(Old(), unibench.Budget.parse(ratio=0.5), family, ModelFacts())
    assert reason is not None and "needs crystal_ball" in reason


def test_a_command_says_what_it_gives_in_vain(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def said(*words: str) -> list[str]:
        caplog.clear()
        compose_cells(words, sweep=True)
        return [record.getMessage() for record in caplog.records]

    assert "ratio is not used: vanilla" in said("method=vanilla", "ratio=0.5")[0]
    assert (
        "keep is not used: prumerge" in said("method=prumerge", "method.mode=adaptive", "keep=9")[0]
    )
    assert "model.selector is not used" in said("method=divprune", "model.selector=x.bin")[0]
    assert not said("method=vanilla,divprune", "ratio=0.5")
    assert not said("method=vanilla")
    assert not said("method=prumerge", "ratio=0.5")


def test_only_methods_whose_data_or_numbers_decide_take_no_budget() -> None:
    for name, options, uses in (
        ("vanilla", {}, False),
        ("mustdrop", {}, False),
        ("prumerge", {"mode": "adaptive"}, False),
        ("prumerge_plus", {"mode": "adaptive"}, False),
        ("mustdrop_vit", {"mode": "threshold"}, False),
        ("mustdrop_vit", {}, True),
        ("sparsevlm", {"rank": True}, False),
        ("sparsevlm", {"counts": [3, 2, 1]}, False),
        ("pyramiddrop", {"retentions": [0.5, 0.25, 0.125]}, False),
        ("tome", {"schedule": [2, 2]}, False),
        ("vtw", {"layer": 3}, False),
        ("vtw", {}, False),
        ("fitprune", {"recipe": [1, 2, 3]}, True),  # scaled to the budget
        ("two_stage", {"pre_ratio": 0.5}, True),
        ("two_stage", {"pre_ratio": 0.5, "intra_ratio": 0.5}, False),
        ("schedule", {"cuts": [[2, 0.5], [4, None]]}, True),
        ("schedule", {"cuts": [[2, 0.5]]}, False),
    ):
        assert build_method(name, **options).uses_budget is uses, (name, options)
    free = {name for name, card in registry.methods().items() if not card.uses_budget}
    assert free == {"vanilla", "mustdrop", "pixelprune", "vtw"}


def test_a_method_that_uses_no_budget_plans_the_same_cuts_under_any() -> None:
    found = {True: 0, False: 0}
    for name, options in FORMS:
        if name in ("vanilla", "mustdrop"):
            continue
        try:
            method = build_method(name, **options)
            stages = method.stages(32)
            counts = [
                [stage.count(keep, 576) if stage.count else keep for stage in stages]
                for keep in (10, 300)
            ]
        except UsageError:
            continue  # refused
        if all(stage.count is not None and stage.exact for stage in stages):
            assert method.uses_budget == (counts[0] != counts[1]), (name, options)
            found[method.uses_budget] += 1
    assert all(found.values()), found


def test_families_hand_down_what_they_provide() -> None:
    cards = registry.families()
    assert cards["llava_next_video"].provides == cards["llava"].provides
    assert not cards["llava_onevision"].provides & {"cls_token", "clip_tower", "token_projector"}
    assert not cards["llava_onevision_1_5"].batches
    assert all(issubclass(card.load(), Family) for card in cards.values())
    served = list(itertools.chain(*(card.model_types for card in cards.values())))
    assert len(served) == len(set(served))
