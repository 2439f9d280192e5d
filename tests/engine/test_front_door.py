"""``unibench.prune`` keeps what the command line keeps, and says what it misses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import unibench
from tests.methods._contexts import METHODS, OPTIONS, VIDEO_ONLY, prompt_for
from tests.support.clocks import Ticking, ticking
from tests.support.models import Bare, inputs_of, model_of
from unibench import UsageError, registry
from unibench.annotations import fields_of
from unibench.cli import main
from unibench.registry import ROOT
from unibench.tasks.synthvqa import SynthVQA

__all__ = ["ticking"]  # a fixture

TINY = ROOT / "models" / "tiny" / "qwen2_5_vl"
RATIO, PROMPTS = 0.889, 12


# by default one method: the doors of tests/doors open for others too
OFTEN = ("divprune",)
# but the one that merges inside the tower, where Qwen's joins its patches in blocks, and those that
# want a video
OTHERS = tuple(name for name in METHODS if name not in (*OFTEN, *VIDEO_ONLY, "ficoco_v"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """What a method kept of each prompt on the command line; those that are run together share the
    model.
    """

    @cache
    def run(methods: tuple[str, ...]) -> dict[str, list[str]]:
        out: Path = tmp_path_factory.mktemp("runs")
        common = [f"ratio={RATIO}", f"task.limit={PROMPTS}", "generation.max_new_tokens=1"]
        plain = ",".join(name for name in methods if name not in OPTIONS)
        assert main(["-m", f"method={plain}", *common, f"out={out}"]) == 0
        for name in set(methods) & set(OPTIONS):
            given = [f"method.{key}={value}" for key, value in OPTIONS[name].items()]
            assert main([f"method={name}", *given, *common, f"out={out}"]) == 0
        kept = {}
        for file in out.rglob("metrics.json"):
            lines = (file.parent / "samples.jsonl").read_text().splitlines()
            method = json.loads(file.read_text())["method"]
            kept[method] = [json.loads(line)["last"] for line in lines]
        return kept

    return lambda name: run(OFTEN if name in OFTEN else OTHERS)[name]


@cache
def model_and_processor() -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(TINY, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(TINY)


@cache
def prompts() -> list[tuple[str, dict[str, Any]]]:
    """Name and model inputs of each sample, by transformers alone."""
    _, processor = model_and_processor()
    found = []
    for sample in SynthVQA().samples(PROMPTS):
        content = [{"type": "image"}, {"type": "text", "text": sample.question}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        inputs = processor(text=[text], images=[*sample.images], return_tensors="pt")
        found.append((sample.id, dict(inputs)))
    return found


@pytest.mark.parametrize(
    "name",
    [*OFTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)],
)
def test_the_library_keeps_what_the_command_line_keeps(
    name: str, told: Callable[[str], list[str]]
) -> None:
    model, _ = model_and_processor()
    options: dict[str, Any] = OPTIONS.get(name, {})
    # no processor is given: it is found beside the weights
    with unibench.prune(model, name, ratio=RATIO, **options) as session, torch.inference_mode():
        for sample, inputs in prompts():
            session.samples = [sample]
            model(**inputs)
    records = session.take_records()
    assert [record.last for record in records] == told(name)
    # no two patches of these pictures are equal, which is what pixelprune looks for
    whole = name in ("vanilla", "pixelprune")
    assert whole or any(record.kept < record.visual_tokens for record in records)


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_is_demanded_where_the_method_uses_one(name: str) -> None:
    options: dict[str, Any] = OPTIONS.get(name, {})
    family, _ = prompt_for(name)
    door = unibench.prune(model_of(family), name, processor=Bare(), clip=None, **options)
    if name in ("vanilla", "vtw", "mustdrop", "pixelprune"):
        with door:
            pass
    else:
        with pytest.raises(UsageError, match=f"{name} needs a budget: give ratio="), door:
            pass


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("prumerge", {"mode": "adaptive"}),
        ("prumerge_plus", {"mode": "adaptive"}),
        ("mustdrop_vit", {"mode": "threshold", "window": 2}),
        ("sparsevlm", {"rank": True}),
        ("pyramiddrop", {"layers": (2, 3), "retentions": (0.5, 0.25)}),
        ("two_stage", {"pre_ratio": 0.3, "intra_ratio": 0.5}),
        ("schedule", {"cuts": ([1, 0.5], [2, 0.25])}),
        ("tome", {"schedule": (4, 4)}),
    ],
)
def test_no_budget_is_asked_for_where_the_data_or_given_numbers_decide(
    name: str, parameters: dict[str, Any]
) -> None:
    model = model_of("llava")
    with unibench.prune(model, name, **parameters) as session, torch.no_grad():
        model(**inputs_of("llava"))
    (record,) = session.take_records()
    assert 0 < record.kept <= record.visual_tokens


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ration": 0.5}, "Did you mean ratio"),
        ({"budget_mod": "at_stage"}, "Did you mean budget_mode"),
        ({"scope": "pictures"}, "unknown budget scope"),
        ({"budget_mode": "average"}, "Did you mean layer_average"),
        ({"ratio": 2}, "ratio=2 is outside"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(given: dict[str, Any], expected: str) -> None:
    for method in ("divprune", unibench.api.build_method("divprune")):
        with (
            pytest.raises(UsageError, match=expected),
            unibench.prune(model_of("llava"), method, **{"keep": 4, **given}),
        ):
            pass
        given = {key: value for key, value in given.items() if key != "keep"}


def test_a_parameter_of_the_method_is_found_among_the_words_of_prune() -> None:
    with (
        pytest.raises(UsageError, match="Did you mean relevance"),
        unibench.prune(model_of("llava"), "cdpruner", keep=4, relevence="clip"),
    ):
        pass


def test_the_processor_is_asked_for_where_the_question_is_read() -> None:
    for name in ("cdpruner", "trimtokenator"):
        with (
            pytest.raises(UsageError, match="processor=processor"),
            unibench.prune(model_of("qwen2_5_vl"), name, ratio=RATIO),
        ):
            pass
    with unibench.prune(model_of("qwen2_5_vl"), "fastv", ratio=RATIO):
        pass  # reads attention of the last token, which every prompt has


def test_the_clip_of_a_tower_is_asked_for_or_declined() -> None:
    model, given = model_of("llava"), {"ratio": RATIO, "processor": Bare()}
    with (
        pytest.raises(UsageError, match="clip=<folder or hub id>, or clip=None"),
        unibench.prune(model, "cdpruner", **given),
    ):
        pass
    with unibench.prune(model, "cdpruner", clip=None, **given) as session, torch.no_grad():
        model(**inputs_of("llava"))
    assert "cdpruner-adapted: relevance from the language model's embeddings" in session.notes


def test_a_method_that_reads_the_question_unannounced_is_told_what_to_declare() -> None:
    class Curious(unibench.Method):
        def score(self, ctx: unibench.StageContext) -> torch.Tensor:
            return ctx.visual_hidden.sum(1) * len(ctx.question)

    model = model_of("llava")
    with (
        pytest.raises(UsageError, match=r"Needs\(question=True\)"),
        unibench.prune(model, Curious(), keep=4),
        torch.no_grad(),
    ):
        model(**inputs_of("llava"))


SLOW = '''
import time
from dataclasses import dataclass

from unibench import Method, StageContext

ASKED = []


@dataclass(frozen=True)
class Slow(Method):
    """Keeps long vectors; slow when it is asked a second time.

    Code: none.
    Cost: N^2.
    """

    def score(self, ctx: StageContext):
        ASKED.append(ctx.sample)
        if len(ASKED) == 2:
            time.sleep(4)
        x = ctx.visual_hidden
        return (x @ x.T).diagonal()
'''


def test_counting_is_in_no_time_of_a_sample_and_its_result_is_in_the_record(
    tmp_path: Path, ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", ticking.sleep)
    (tmp_path / "slow.py").write_text(SLOW)
    words = [f"method={tmp_path}/slow.py:Slow", "ratio=0.5", "task.limit=1", f"out={tmp_path}/out"]
    assert main(words) == 0
    files = (tmp_path / "out").rglob("samples.jsonl")
    (file,) = [file for file in files if file.parent.parent.name.startswith("slow")]
    record = json.loads(file.read_text())
    for column in ("total_ms", "prefill_ms", "vision_ms", "method_ms", "decode_ms"):
        assert 0 <= record[column] < 3500, column
    width = model_and_processor()[0].config.text_config.hidden_size
    assert record["method_tflops"] == pytest.approx(
        2e-12 * record["visual_tokens"] ** 2 * width, abs=1e-6
    )
    assert not record.get("uncounted")


MODES = [name for name in METHODS if "mode" in registry.method(name).parameters]


@pytest.mark.parametrize("name", MODES)
def test_the_mode_of_a_method_is_its_own_and_not_the_budgets(
    name: str, recwarn: pytest.WarningsRecorder
) -> None:
    allowed = fields_of(registry.method(name).load())["mode"].choices
    default = registry.method(name).parameters["mode"]
    (other, *_) = [str(choice) for choice in allowed if choice != default]
    with unibench.prune(
        model_of("llava"), name, mode=other, ratio=0.5, processor=Bare(), clip=None
    ) as session:
        ((_, stage), *_), *_ = session.stages.values()
    assert stage.select.__self__.mode == other  # type: ignore[attr-defined]
    assert not [warning for warning in recwarn if warning.category is DeprecationWarning]
