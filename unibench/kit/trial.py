"""A method beside a small random model of a family, and what it does with prompts of drawn
noise.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from unibench.budget import Budget, Positions, Scope
from unibench.compose import CONFIGS, compose_cells
from unibench.config import ModelConfig
from unibench.conformance.checks import FRAMES, PICTURES
from unibench.errors import unknown
from unibench.kit.watching import Probe, Question, Watch, watched
from unibench.models import LoadedModel, wrap
from unibench.models._reduced import reduced
from unibench.pruning import Method, Session
from unibench.pruning.record import PromptRecord
from unibench.pruning.refusal import cuts, facts_of, refusal

RATIO = 0.667
SIZE = PICTURES[0]  # width, height


@dataclass(frozen=True)
class Shown:
    """What one prompt shows.

    Attributes:
        seed: of the noise, and of the question.
        pictures: how many; frames of a video.
        video: whether they are frames.
        blank: whether they are grey.
        size: width and height; None is another one for each picture.
    """

    seed: int
    pictures: int = 1
    video: bool = False
    blank: bool = False
    size: tuple[int, int] | None = None

    def images(self) -> list[Image.Image]:
        """Drawn noise, or grey."""
        draw, found = np.random.default_rng(self.seed), []
        for number in range(FRAMES if self.video else self.pictures):
            of_prompt = PICTURES[(self.seed + number) % len(PICTURES)]
            width, height = self.size or (SIZE if self.video else of_prompt)
            if self.blank:
                found.append(Image.new("RGB", (width, height), (128, 128, 128)))
            else:
                pixels = draw.integers(0, 255, (height, width, 3), dtype=np.uint8)
                found.append(Image.fromarray(pixels))
        return found

    @property
    def asked(self) -> str:
        """The question, of another length for each seed."""
        return ("what is it", "how many are there")[self.seed % 2] + " now" * self.seed


@dataclass(frozen=True)
class Read:
    """What a session made of prompts.

    Attributes:
        questions: that the method was asked.
        records: one for each prompt.
        watch: that followed the method.
        logits: of the last position of each prompt, ``[B, V]``.
        notes: remarks for the row.
    """

    questions: Sequence[Question]
    records: Sequence[PromptRecord]
    watch: Watch
    logits: Tensor
    notes: frozenset[str]

    def chosen(self, prompt: int = 0, prompts: int = 1) -> list[tuple[Tensor | None, ...]]:
        """Kept tokens and new states of each stage for one prompt of a batch."""
        return [(one.keep, one.values) for one in self.questions[prompt::prompts]]


class Trial:
    """A method on a family.

    Args:
        method: of the author.
        files: where an error counts as the author's.
        loaded: the small model.
    """

    def __init__(self, method: Method, files: Sequence[Path], loaded: LoadedModel) -> None:
        self.method, self.files, self.loaded = method, files, loaded

    @classmethod
    def of(cls, method: Method, files: Sequence[Path], spec: ModelConfig) -> Trial:
        """On the architecture of a card at reduced size.

        Raises:
            UsageError: the card has none.
        """
        try:
            loaded = wrap(*reduced(spec, "sdpa"))
        except ValueError:  # a family whose class of transformers has the eager kernel alone
            loaded = wrap(*reduced(spec, "eager"))
        return cls(method, files, loaded)

    @property
    def refused(self) -> str | None:
        """Why the method cannot run on the family at all."""
        family = self.loaded.family
        return refusal(self.method, Budget.parse(ratio=RATIO), type(family), facts_of(family))

    @property
    def reads_video(self) -> bool:
        return getattr(self.loaded.processor, "video_processor", None) is not None

    @property
    def once(self) -> bool:
        """Whether the method cuts once, in front of the language model."""
        depth = len(self.loaded.family.text_model.layers)
        stages = cuts(self.method, depth, "at_stage")
        return [stage.layer for stage in stages] == [0] and not self.method.evicts

    @property
    def exact(self) -> bool:
        """Whether the method says that it meets the budget."""
        return self.method.uses_budget and not self.method.adaptive

    @cached_property
    def half(self) -> LoadedModel:
        """The same model in bfloat16."""
        model = copy.deepcopy(self.loaded.model).to(torch.bfloat16)
        return wrap(model, self.loaded.processor)

    def inputs(self, shown: Iterable[Shown]) -> dict[str, Tensor]:
        """A batch of prompts."""
        prompts = list(shown)
        modality = "video" if prompts[0].video else "image"
        pictures = [one.images() for one in prompts]
        inputs = self.loaded.inputs([one.asked for one in prompts], pictures, modality)
        inputs.pop("labels", None)
        return inputs

    def read(
        self,
        *shown: Shown,
        ratio: float = RATIO,
        keep: int | None = None,
        method: Method | None = None,
        loaded: LoadedModel | None = None,
        names: Sequence[str] | None = None,
        probes: Sequence[Probe] = (),
        scope: Scope = "sequence",
        positions: Positions = "original",
        steps: int = 0,
    ) -> Read:
        """A batch of prompts under the method.

        Args:
            *shown: what each prompt shows.
            ratio: share of visual tokens removed.
            keep: number kept instead.
            method: another copy of the method.
            loaded: another copy of the model.
            names: of the samples.
            probes: asked after each answer.
            scope: of the budget.
            positions: where the tokens that go on stand.
            steps: tokens that are generated; 0 only reads.

        Raises:
            UsageError: the answer of the method is refused.
            Exception: anything that the method raises.
        """
        loaded, watch = loaded or self.loaded, Watch(self.files, probes)
        budget = Budget.parse(ratio=ratio) if keep is None else Budget.parse(keep=keep)
        inputs = self.inputs(shown)
        weight = next(loaded.model.parameters())
        inputs = {
            name: value.to(weight.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        follower = watched(method or self.method, watch)
        try:
            session = Session(loaded.family, follower, budget, scope=scope, positions=positions)
            session.samples = names
            with session.installed(), torch.no_grad():
                if steps:
                    logits = loaded.model.generate(
                        **inputs, max_new_tokens=steps, do_sample=False,
                        output_logits=True, return_dict_in_generate=True,
                    ).logits[-1]  # fmt: skip
                else:
                    logits = loaded.model(**inputs).logits[:, -1]
        except Exception as error:
            error.watch = watch  # type: ignore[attr-defined]  # for the place in the author's file
            raise
        return Read(
            watch.questions, session.take_records(), watch, logits, frozenset(session.notes)
        )


def cards() -> dict[str, str]:
    """The name of a model card with an architecture for each family; composing one takes longer
    than reading all.
    """
    found: dict[str, str] = {}
    for file in sorted((CONFIGS / "model").glob("*.yaml")):
        card = yaml.safe_load(file.read_text(encoding="utf-8"))
        if card.get("architecture"):
            # the last by name is a dense one where there are mixtures of experts as well
            found[card["family"]] = file.stem
    return found


def spec_of(family: str) -> ModelConfig:
    """The card of a family's model.

    Raises:
        UsageError: there is no such family, or no card of it has an architecture.
    """
    known = cards()
    if family not in known:
        raise unknown("family", family, known)
    return compose_cells([f"model={known[family]}"], sweep=False)[0].model


def files_of(method: Method) -> list[Path]:
    """The files in which the classes of a method are defined, its own and those of methods inside
    of it; the engine's base classes are not the author's.
    """
    found = dict[Path, None]()
    values: list[Any] = [method]
    while values:
        value = values.pop()
        if isinstance(value, Method):
            for cls in type(value).__mro__:
                if cls.__module__.startswith("unibench.pruning") or cls is object:
                    continue
                found[Path(inspect.getfile(cls)).resolve()] = None
            values += list(getattr(value, "__dict__", {}).values())
        elif isinstance(value, (list, tuple)):
            values += value
        elif isinstance(value, Mapping):
            values += value.values()
    return list(found)


def other_text(question: Question) -> dict[str, Any]:
    """Fields of a context whose text says something else."""
    ctx = question.ctx
    hidden, draw = ctx.hidden.clone(), torch.Generator().manual_seed(7)
    rows = ctx.text
    noise = torch.randn(len(rows), hidden.shape[1], generator=draw)
    hidden[rows] = noise.to(hidden) * hidden[rows].float().std()
    return {"hidden": hidden}


def float_states(question: Question) -> dict[str, Any]:
    """Fields of a context whose hidden states are float32."""
    return {"hidden": question.ctx.hidden.float()}


def replaced(method: Method) -> Method:
    """A new copy of a method, as another process would make it."""
    return replace(method) if is_dataclass(method) else copy.copy(method)
