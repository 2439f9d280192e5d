"""Training of the importance scorer: the soft choice, its gradient, and that its two ends are
keeping and dropping.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import unibench
from tests.support.methods import At
from training.selector import Example, Scorer, SoftTopK, answer_loss, example_of, main, train
from unibench import Selection
from unibench.compose import compose_cells
from unibench.methods._selector import load as load_selector
from unibench.models import LoadedModel, load
from unibench.tasks._task import Sample
from unibench.tasks.synthvqa import SynthVQA


def frozen() -> tuple[LoadedModel, list[Example], list[Sample]]:
    (cell,) = compose_cells(["model.dtype=float32"], sweep=False)
    loaded = load(cell.model)
    loaded.model.requires_grad_(False)
    samples = list(SynthVQA(split="dev").samples(4))
    return loaded, [example_of(loaded, sample) for sample in samples], samples


def test_the_gradient_of_the_soft_choice_is_its_derivative() -> None:
    scores = torch.randn(
        9, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(
        lambda given: SoftTopK.apply(given, 3.0), (scores,), eps=1e-5, atol=1e-6
    )


def test_a_token_weighed_by_nothing_is_a_token_pruned() -> None:
    loaded, (example, *_), (sample, *_) = frozen()
    model = loaded.model
    keep = torch.arange(0, len(example.visual), 3)
    weights = torch.zeros(len(example.visual)).index_fill(0, keep, 1.0)
    inputs = loaded.inputs([sample.question], [sample.images])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], example.answer[None, :-1]], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        text = inputs["mm_token_type_ids"].new_zeros(1, len(example.answer) - 1)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], text], 1)
    with unibench.prune(model, At({0: lambda ctx: Selection(keep)})), torch.no_grad():
        logits: Tensor = model(**inputs).logits[0, -len(example.answer) :]
    expected = torch.nn.functional.cross_entropy(logits, example.answer)
    torch.testing.assert_close(answer_loss(model, example, weights), expected, atol=2e-3, rtol=1e-3)


def test_training_moves_the_scorer_and_leaves_the_model() -> None:
    loaded, examples, _ = frozen()
    model = loaded.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    start = Scorer(examples[0].embeds.shape[1])
    scorer = train(model, examples, 8, seed=0)
    assert not torch.equal(scorer.q_proj.weight, start.q_proj.weight)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_written_is_what_the_method_reads(tmp_path: Path) -> None:
    place = tmp_path / "selector.safetensors"
    main(["tiny_qwen2_5_vl", "--out", str(place), "--steps", "4", "--size", "5"])
    _, (example, *_), _ = frozen()
    features = example.embeds[example.visual]
    again = Scorer(features.shape[1])
    selector = load_selector(str(place), features.shape[1])
    again.load_state_dict({name: selector.weights[name] for name in again.state_dict()})
    torch.testing.assert_close(selector.scores(features), again(features))
