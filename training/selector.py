"""Training of VisionSelector's importance scorer for a model: ``python -m training.selector
tiny_qwen2_5_vl``.

The model is frozen. The scorer's DiffTopK values, which lie between 0 and 1 and sum to the budget,
weigh the visual keys in every decoder layer: 1 is a token that is kept, 0 one that is dropped. The
loss is that of the right answer. Scores are brought to unit spread and made louder as training goes
on, or the soft choice would stay a mixture that the hard choice of pruning does not meet. Paper:
VisionSelector, arXiv 2510.16598.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unibench.compose import compose_cells
from unibench.models import LoadedModel, load
from unibench.ops import soft_top_k
from unibench.tasks._task import Sample
from unibench.tasks.synthvqa import SynthVQA

LOG = logging.getLogger(__name__)
SHARES = (0.11, 0.2)  # kept, in turn
LOUDEST = 8.0
BATCH = 4
RATE = 1e-3


@dataclass(frozen=True)
class Example:
    """A prompt with its answer, as the frozen decoder reads it.

    Attributes:
        embeds: ``[L, D]`` of the prompt and all of the answer but its last token.
        positions: ``[..., 1, L]``, as the model made them.
        visual: ``[N]`` rows of ``embeds`` that are visual tokens.
        answer: ``[T]`` ids, the end of the turn last.
    """

    embeds: Tensor
    positions: Tensor
    visual: Tensor
    answer: Tensor


class Scorer(nn.Module):
    """``score_i = mean_j q_i . k_j / sqrt(h)`` over features of ``width``, with ``h = width
    // 2``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(width, width // 2), nn.Linear(width, width // 2)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D]`` to ``[N]``."""
        scores: Tensor = (
            self.q_proj(features)
            @ self.k_proj(features.mean(0))
            / math.sqrt(self.q_proj.out_features)
        )
        return scores


class SoftTopK(torch.autograd.Function):
    """DiffTopK with the gradient of the shift that keeps the sum at ``k``."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: float) -> Tensor:
        chosen = soft_top_k(scores, k)
        ctx.save_for_backward(chosen)
        return chosen

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (chosen,) = ctx.saved_tensors
        slope = chosen * (1 - chosen)
        return slope * (grad - (slope * grad).sum() / slope.sum().clamp_min(1e-12)), None


def chosen(scores: Tensor, share: float, loudness: float) -> Tensor:
    """How much of each token is kept, ``[N]`` in (0, 1); the sum is ``share * N``."""
    normed = (scores - scores.mean()) / scores.std().clamp_min(1e-6)
    kept: Tensor = SoftTopK.apply(normed * loudness, share * len(scores))  # type: ignore[no-untyped-call]
    return kept


def answer_loss(model: Any, example: Example, kept: Tensor) -> Tensor:
    """Cross entropy of the answer when ``kept [N]`` of each visual token is left."""
    length = len(example.embeds)
    weight = torch.zeros(length).index_add(0, example.visual, kept.clamp_min(1e-6).log())
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1) + weight
    text = model.model.language_model
    hidden = text(
        inputs_embeds=example.embeds[None],
        position_ids=example.positions,
        attention_mask=mask[None, None],
        use_cache=False,
    ).last_hidden_state[0]
    return nn.functional.cross_entropy(
        model.lm_head(hidden[-len(example.answer) :]), example.answer
    )


def example_of(loaded: LoadedModel, sample: Sample) -> Example:
    """What the language model reads for a sample."""
    model, tokenizer = loaded.model, loaded.processor.tokenizer
    inputs, seen = loaded.inputs([sample.question], [sample.images]), {}
    handle = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs)
        handle.remove()
        answer = torch.tensor(
            [
                *tokenizer(sample.answers[0], add_special_tokens=False).input_ids,
                tokenizer.eos_token_id,
            ]
        )
        embeds = torch.cat([seen["inputs_embeds"][0], model.get_input_embeddings()(answer[:-1])])
    positions = seen.get("position_ids")
    if positions is None:
        positions = torch.arange(len(seen["inputs_embeds"][0]))[None]
    positions = torch.cat([positions, positions[..., -1:] + torch.arange(1, len(answer))], -1)
    visual = loaded.family.visual_kind(inputs["input_ids"])[0].nonzero()[:, 0]
    return Example(embeds, positions, visual, answer)


def train(model: Any, examples: Sequence[Example], steps: int, seed: int) -> Scorer:
    """A scorer after ``steps`` examples, :data:`BATCH` of them to an update."""
    torch.manual_seed(seed)
    scorer = Scorer(examples[0].embeds.shape[1])
    optimizer = torch.optim.Adam(scorer.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps // BATCH))
    order, mean = torch.randint(len(examples), (steps,)).tolist(), 0.0
    for step, number in enumerate(order):
        example, share = examples[number], SHARES[step % len(SHARES)]
        features = example.embeds[example.visual]
        loss = answer_loss(
            model, example, chosen(scorer(features), share, 1 + (LOUDEST - 1) * step / steps)
        )
        (loss / BATCH).backward()  # type: ignore[no-untyped-call]
        mean += (loss.item() - mean) / min(step + 1, 200)
        if step % BATCH == BATCH - 1:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if step % 500 == 499:
            LOG.info("step %d: loss of the answers %.3f", step + 1, mean)
    return scorer


def main(argv: list[str] | None = None) -> None:
    """Trains on the dev split of the embedded task, writes a safetensors file."""
    parser = argparse.ArgumentParser(prog="python -m training.selector", description=main.__doc__)
    parser.add_argument("model", help="name of a model configuration")
    parser.add_argument("--out", type=Path, default=Path("selector.safetensors"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--size", type=int, default=2000, help="samples of the dev split")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    (cell,) = compose_cells([f"model={options.model}", "model.dtype=float32"], sweep=False)
    loaded = load(cell.model)
    loaded.model.requires_grad_(False)
    examples = [
        example_of(loaded, sample) for sample in SynthVQA(split="dev", size=options.size).samples()
    ]
    scorer = train(loaded.model, examples, options.steps, options.seed)
    state = {name: value.detach().contiguous() for name, value in scorer.state_dict().items()}
    save_file(
        state,
        options.out,
        metadata={"model": options.model, "steps": str(options.steps), "seed": str(options.seed)},
    )


if __name__ == "__main__":
    main()
