"""What another engine needs to run a method: what it reads, how many tokens it keeps, and examples
that its own code has to reproduce.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unibench import registry
from unibench.budget import Budget
from unibench.config import RunConfig, budget_of
from unibench.errors import UsageError
from unibench.inference.ask import generated, shown
from unibench.models import LoadedModel, load
from unibench.pruning import Method, Selection, Session, Stage, StageContext
from unibench.pruning.layout import written
from unibench.pruning.record import unpacked
from unibench.pruning.servable import obstacles

QUESTIONS, NEW_TOKENS = 8, 16
FORMULA = "keep = max(1, floor((1 - ratio) * N + 1/2)), N: the picture's tokens, exact decimals"


@dataclass(frozen=True)
class Seen:
    """A question of a stage to the method, and its answer.

    Attributes:
        features: ``[N, D]`` hidden states of the picture's tokens.
        question: ``[T, D]`` embeddings of the question.
        keep: the budget.
        kept: ``[keep]`` indices, rising.
        layout: the grids that the tokens lie in.
    """

    features: Tensor
    question: Tensor
    keep: int
    kept: Tensor
    layout: Any


def exported(config: RunConfig, out: Path) -> Iterator[Path]:
    """Write the card, the golden vectors and the parity answers of a method; gives the files.

    Raises:
        UsageError: the method cuts inside the decoder, where no features of one picture decide.
    """
    from safetensors.torch import save_file

    name = str(config.method["name"])
    node = {key: value for key, value in config.method.items() if key not in ("name", "source")}
    method = registry.build_method(str(config.method.get("source", name)), **node)
    budget = budget_of(config)
    out.mkdir(parents=True, exist_ok=True)
    yield _written(out / "method.json", card(name, method, budget, node))
    if any(stage.layer for stage in method.stages(28)) or len(method.stages(28)) != 1:
        raise UsageError(
            f"{name} does not cut once before the language model: {out}/method.json says what it"
            " needs, and there are no vectors to export"
        )
    loaded = load(config.model, config.pixels)
    seen, answers = _observed(loaded, method, budget)
    tensors = {}
    for number, one in enumerate(seen):
        tensors[f"{number}.features"] = one.features.float().contiguous()
        tensors[f"{number}.question"] = one.question.float().contiguous()
        tensors[f"{number}.kept"] = one.kept.contiguous()
    about = [{"keep": one.keep, "layout": one.layout} for one in seen]
    save_file(tensors, out / "golden.safetensors", {"cases": json.dumps(about)})
    yield out / "golden.safetensors"
    parity = {"model": config.model.name, "scope": "item", "answers": answers}
    yield _written(out / "parity.json", parity)


def card(name: str, method: Method, budget: Budget, parameters: dict[str, Any]) -> dict[str, Any]:
    """What a method reads, where it cuts and how many tokens stay, in plain values."""
    described = registry.method(name)
    stages, reasons = list(method.stages(28)), obstacles(method)
    needs = set(described.needs)
    early = all(stage.layer == 0 for stage in stages)
    return {
        "method": name,
        "paper": described.sections.get("paper"),
        "code": described.sections.get("code"),
        "what": described.summary,
        "parameters": parameters,
        "flags": {
            "features only": early and needs <= {"text", "training"} and not method.text_aware,
            "reads the question": method.text_aware,
            "reads attention of the vision tower": "vit-attention" in needs,
            "reads states of the vision tower": "vit-features" in needs,
            "cuts inside the language model": not early,
            "reads attention of the language model": "llm-attention" in needs,
            "adaptive count": method.adaptive or any(not stage.exact for stage in stages),
        },
        "servable": not reasons,
        "obstacles": list(reasons),
        "count": {
            "budget": budget.label,
            "formula": FORMULA if budget.tokens is None else "keep = min(given number, N)",
            "in words": (
                "Of each picture the share that stays is multiplied by its number of tokens and"
                " rounded to the nearest whole number, halves upwards; at least one stays."
            ),
            "examples": {str(total): budget.keep(total) for total in (64, 144, 196, 576, 2880)},
        },
        "order": "kept tokens stay in their order and at their original positions; ties go to the"
        " lower index; choices are made in float32",
    }


@dataclass(frozen=True)
class _Observed(Method):
    """A method whose questions and answers are noted."""

    inner: Method
    seen: list[Seen]

    def stages(self, depth: int) -> Sequence[Stage]:
        (stage,) = self.inner.stages(depth)

        def select(ctx: StageContext) -> Selection | None:
            selection = stage.select(ctx)
            kept = torch.arange(len(ctx.visual)) if selection is None else selection.keep
            asked = ctx.hidden[ctx.question] if self.inner.text_aware else ctx.hidden[:0]
            noted = Seen(
                ctx.hidden[ctx.visual].clone(),
                asked.clone(),
                ctx.keep,
                kept.cpu().sort().values.clone(),
                written(ctx.items),
            )
            self.seen.append(noted)
            return selection

        return (Stage(0, select, stage.needs, stage.count, stage.exact, stage.weighted),)


def _observed(
    loaded: LoadedModel, method: Method, budget: Budget
) -> tuple[list[Seen], list[dict[str, Any]]]:
    """What the method was asked about some questions of synthvqa, and what the model said."""
    from unibench.tasks.synthvqa import SynthVQA

    task, seen, answers = SynthVQA(), list[Seen](), list[dict[str, Any]]()
    session = Session(loaded.family, _Observed(method, seen), budget, scope="item")
    decoding = loaded.generation_config(NEW_TOKENS, 1.0)
    with session.installed(), torch.inference_mode():
        for sample in map(shown, task.samples(QUESTIONS)):
            before = len(seen)
            session.samples = [sample.id]
            said = generated(loaded, [[*sample.images, sample.question]], decoding)
            (prompt,) = session.take_records()
            session.take_times()
            # a count of operations asks once more, and is answered alike
            del seen[before + len(prompt.items) :]
            answers.append(
                {
                    "sample": sample.id,
                    "question": sample.question,
                    "answer": said.texts[0],
                    "kept": unpacked(prompt.last, prompt.visual_tokens).nonzero()[:, 0].tolist(),
                }
            )
    return seen, answers


def _written(file: Path, plain: Any) -> Path:
    file.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return file
