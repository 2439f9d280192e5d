"""What every method must do on every family: one function for each rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor, nn

from unibench.budget import Budget, Positions, Scope
from unibench.errors import UsageError
from unibench.kit.host import Host
from unibench.kit.trial import (
    Read,
    Shown,
    Trial,
    float_states,
    other_text,
    replaced,
)
from unibench.kit.watching import Question, drew
from unibench.pruning import StageContext
from unibench.pruning.checking import (
    BudgetError,
    SelectionError,
    check_numbers,
    check_scores,
    indices,
)
from unibench.registry.importing import own_line

RATIOS = (0.1, 0.667, 0.889, 0.99)
STEPS = 3


@dataclass
class Fault(Exception):  # noqa: N818 - a fault of a method is no error of ours
    """A rule that a method breaks.

    Attributes:
        reason: in one line.
        place: file, line and source; empty where no line of the author's is to blame.
    """

    reason: str
    place: str = ""

    def __str__(self) -> str:
        return self.reason


@dataclass
class LeftOut(Exception):  # noqa: N818
    """A rule that says nothing about this method or family.

    Attributes:
        reason: in a few words.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


def budget(trial: Trial) -> None:
    """The budget is met with distinct tokens at every ratio, down to one token."""
    for ratio in RATIOS:
        read = trial.read(Shown(1), ratio=ratio)
        _met(trial, read, ratio=ratio)
    _met(trial, trial.read(Shown(1), keep=1), keep=1)


def _met(trial: Trial, read: Read, *, ratio: float = 0.0, keep: int | None = None) -> None:
    """Whether what is left is what the budget says; the engine has asked each stage, but a stage
    may say that it need not meet any.
    """
    wanted = Budget.parse(ratio=ratio) if keep is None else Budget.parse(keep=keep)
    for record in read.records:
        number = wanted.keep(record.visual_tokens)
        if trial.exact and trial.once and record.kept != number:
            raise Fault(
                f"kept {record.kept} of {record.visual_tokens} visual tokens; the budget is"
                f" {number}, and the method does not say that it is adaptive",
                read.watch.place,
            )


def prunes(trial: Trial) -> None:
    """Something goes, where the budget says so."""
    if not trial.method.uses_budget:
        raise LeftOut("the method does not use the budget")
    for ratio in (0.667, 0.889):
        read = trial.read(Shown(0, 2), ratio=ratio)
        if any(min(record.processed) < record.visual_tokens for record in read.records):
            return
        if trial.method.evicts or trial.method.rereads(6) is not None:
            raise LeftOut("tokens go from the cache")
    (record,) = read.records
    raise Fault(
        f"all {record.visual_tokens} visual tokens stay where {ratio:.1%} should go; a method that"
        " decides by itself says uses_budget = False",
        read.watch.place,
    )


def same_again(trial: Trial) -> None:
    """The same prompt gets the same choice, whatever was asked before, from a new copy as well."""
    first = trial.read(Shown(1))
    trial.read(Shown(0, 2))
    second = trial.read(Shown(1))
    fresh = trial.read(Shown(1), method=replaced(trial.method))
    for other, when in ((second, "after another prompt"), (fresh, "from a new copy")):
        if not _alike(first.chosen(), other.chosen()):
            raise Fault(
                f"another choice for the same prompt {when}; a method keeps nothing from prompt to"
                " prompt, and draws from ctx.generator()",
                other.watch.place,
            )


def sources(trial: Trial) -> None:
    """Random numbers come from the context's generator."""
    moved: list[Question] = []

    def probe(question: Question) -> None:
        if drew(question):
            moved.append(question)

    trial.read(Shown(1), probes=[probe])
    if moved:
        raise Fault(
            "draws from a global source of random numbers, which other engines do not seed; take"
            " ctx.generator()",
            moved[0].place,
        )


def names(trial: Trial) -> None:
    """What a sample is called decides nothing, but what is drawn."""
    first = trial.read(Shown(1), names=["one"])
    drawn: list[bool] = []
    generator = StageContext.generator

    def noting(self: StageContext) -> torch.Generator:
        drawn.append(True)
        return generator(self)

    # the engine itself takes seeds from the generator, so calls are counted within the answer
    def probe(question: Question) -> None:
        with patch.object(StageContext, "generator", noting):
            question.again()

    second = trial.read(Shown(1), names=["another"], probes=[probe])
    if not drawn and not _alike(first.chosen(), second.chosen()):
        raise Fault(
            "another choice for the same prompt under another name; only ctx.generator() may depend"
            " on the name of a sample",
            second.watch.place,
        )


def batch(trial: Trial) -> None:
    """A batch chooses as single samples do."""
    if not trial.loaded.family.batches:
        raise LeftOut("refused: one prompt at a time")
    prompts = (Shown(0), Shown(1, 2))
    together = trial.read(*prompts, steps=1)
    for row, shown in enumerate(prompts):
        alone = trial.read(shown, steps=1)
        # values of a batch are summed in another order, so only the choice is compared
        if not _alike(together.chosen(row, len(prompts)), alone.chosen(), values=False):
            raise Fault(
                "another choice in a batch of two than alone; a method sees one sample, and what it"
                " keeps outside of ctx.memory is shared",
                together.watch.place,
            )


def dtype(trial: Trial) -> None:
    """Selections are made in float32 whatever the model's dtype."""

    def probe(question: Question) -> None:
        other = question.again(**float_states(question))
        first: Chosen = [(question.keep, question.values)]
        second: Chosen = [(other.keep, other.values)]
        # scores show what a choice among few tokens may hide
        if not _alike(first, second, places=2e-2) or not _same_scores(question, other):
            raise Fault(
                "another answer where the same states are float32; compute in float32"
                " (ctx.visual_hidden, or .float() first)",
                question.place,
            )

    read = trial.read(Shown(1, 3), loaded=trial.half, probes=[probe])
    if not read.logits.isfinite().all():
        raise Fault("logits are not finite in bfloat16", read.watch.place)


def _same_scores(question: Question, other: Question) -> bool:
    """Whether the scores of two answers are equal up to the last digits of float32."""
    if question.answer is None or other.answer is None or question.answer.scores is None:
        return True
    first, second = question.answer.scores, other.answer.scores
    assert second is not None
    if first.dtype not in (torch.float32, torch.float64) and first.is_floating_point():
        return False
    return torch.allclose(first.float(), second.float(), rtol=1e-5, atol=1e-6, equal_nan=True)


def device(trial: Trial) -> None:
    """Every tensor is where the model is."""

    def probe(question: Question) -> None:
        with Host():
            question.again()

    trial.read(Shown(0, 2), probes=[probe])


def text(trial: Trial) -> None:
    """Only a method that says so reads the text."""
    if trial.method.text_aware:
        raise LeftOut("declared: text_aware")
    if not trial.once:
        raise LeftOut("cuts behind layers that have read the text")

    def probe(question: Question) -> None:
        other = question.again(**other_text(question))
        if not _alike([(question.keep, None)], [(other.keep, None)]):
            raise Fault(
                "another choice under another text, which text_aware = True would say",
                question.place,
            )

    trial.read(Shown(1, 2), probes=[probe])


def untouched(trial: Trial) -> None:
    """The model is left as it was: weights, buffers and hooks."""
    model = trial.loaded.model
    before, hooks = _digest(model), _hooks(model)
    read = trial.read(Shown(1))
    if _hooks(model) != hooks:
        raise Fault("hooks are left on the model", read.watch.place)
    if changed := [name for name, value in _digest(model).items() if before.get(name) != value]:
        raise Fault(f"changes the model: {changed[0]}", read.watch.place)


def keep_all(trial: Trial) -> None:
    """Where all may stay, all stay."""
    if not trial.exact:
        raise LeftOut("the method decides how many stay")
    read = trial.read(Shown(1, 2), ratio=0)
    (record,) = read.records
    if trial.once and record.kept != record.visual_tokens:
        raise Fault(
            f"{record.kept} of {record.visual_tokens} visual tokens stay at ratio 0",
            read.watch.place,
        )


def blank(trial: Trial) -> None:
    """A grey picture is a picture, and tokens that are all alike can be chosen among."""

    def probe(question: Question) -> None:
        ctx, hidden = question.ctx, question.ctx.hidden.clone()
        hidden[ctx.visual] = hidden[ctx.visual].mean(0)
        answer = question.again(hidden=hidden).answer
        if answer is None:
            return
        who = f"{type(trial.method).__name__} on tokens that are all alike"
        if answer.scores is not None:
            check_scores(answer.scores, who)
        indices(answer.keep, len(ctx.visual), who)
        if answer.values is not None:
            shape = (len(answer.keep), hidden.shape[1])
            check_numbers(answer.values, shape, f"the values of {who}")

    trial.read(Shown(1, blank=True), probes=[probe])
    trial.read(Shown(1, blank=True), keep=1)


def pictures(trial: Trial) -> None:
    """Several pictures of several sizes, under one budget and under one for each."""
    scopes: tuple[Scope, ...] = ("sequence", "item")
    for scope in scopes:
        read = trial.read(Shown(0, 3), scope=scope)
        if scope == "sequence":
            _met(trial, read, ratio=0.667)


def video(trial: Trial) -> None:
    """A video is pruned."""
    if not trial.reads_video:
        raise LeftOut("no video")
    _met(trial, trial.read(Shown(1, video=True)), ratio=0.667)


def words(trial: Trial) -> None:
    """A prompt without a picture is answered as without a method."""
    read = trial.read(Shown(1, pictures=0), steps=STEPS)
    if read.questions:
        raise Fault("is asked about a prompt without a picture", read.watch.place)


def positions(trial: Trial) -> None:
    """Where the kept tokens stand does not change which they are, and generation goes on."""
    first = trial.read(Shown(1), steps=STEPS)
    places: tuple[Positions, ...] = ("compact", "centre") if trial.method.centres else ("compact",)
    for place in places:
        other = trial.read(Shown(1), positions=place, steps=STEPS)
        if trial.once and not _alike(first.chosen(), other.chosen()):
            raise Fault(f"another choice under positions={place}", other.watch.place)
    if not first.logits.isfinite().all():
        raise Fault("generated logits are not finite", first.watch.place)


Rule = Callable[[Trial], None]
RULES: Mapping[str, Rule] = {
    "budget": budget,
    "prunes": prunes,
    "same again": same_again,
    "sources": sources,
    "names": names,
    "batch": batch,
    "dtype": dtype,
    "device": device,
    "text": text,
    "untouched": untouched,
    "keep all": keep_all,
    "blank": blank,
    "pictures": pictures,
    "video": video,
    "words": words,
    "positions": positions,
}
QUICK = ("budget", "same again", "sources", "batch", "dtype", "pictures", "words")
"""Rules that find most mistakes, for a first look."""


def held(rule: Rule, trial: Trial) -> None:
    """Try a rule.

    Raises:
        Fault: it is broken; the reason names the author's line.
        LeftOut: it says nothing here.
    """
    try:
        rule(trial)
    except (Fault, LeftOut):
        raise
    except Exception as error:
        watch, line = getattr(error, "watch", None), own_line(error, trial.files)
        message = " ".join(str(error).split()) or type(error).__name__
        found_by_engine = isinstance(error, (SelectionError, BudgetError))
        if isinstance(error, UsageError) and not found_by_engine:
            raise LeftOut(f"refused: {message}") from None
        place = line or ""
        if not line and watch is not None:
            place = watch.place
            if "in place" in message:
                place = watch.changed or place
            elif "finite" in message or "score" in message:
                place = watch.nan or place
        reason = message if found_by_engine else f"{type(error).__name__}: {message}"
        raise Fault(reason, place) from None


Chosen = list[tuple[Tensor | None, ...]]


def _alike(first: Chosen, second: Chosen, *, values: bool = True, places: float = 0.0) -> bool:
    """Whether two choices are the same; new states up to a relative difference."""
    if len(first) != len(second):
        return False
    for (keep, new), (other, also) in zip(first, second, strict=True):
        if (keep is None) != (other is None):
            return False
        if keep is not None and other is not None and not torch.equal(keep, other):
            return False
        if not values or new is None or also is None:
            continue
        if places:
            scale = float(also.float().abs().max())
            if float((new.float() - also.float()).abs().max()) > places * max(scale, 1e-6):
                return False
        elif not torch.equal(new, also):
            return False
    return True


def _digest(model: nn.Module) -> dict[str, tuple[int, float]]:
    """Of each parameter and buffer, how often it was written to and its sum."""
    return {
        name: (value._version, float(value.detach().double().sum()))
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }


def _hooks(model: nn.Module) -> list[tuple[int, int]]:
    return [
        (len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ]
