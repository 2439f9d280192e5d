"""What a method declares and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial, reduce
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from unibench.annotations import fields_of
from unibench.cost.accounting import matched_keep
from unibench.errors import UsageError, unknown
from unibench.ops import top_k
from unibench.pruning.checking import shaped_scores

if TYPE_CHECKING:
    from unibench.budget import Budget
    from unibench.facts import ModelFacts
    from unibench.pruning.context import StageContext, StepContext
    from unibench.pruning.encoder import EncoderStage
    from unibench.pruning.family import Family
    from unibench.pruning.pixels import PixelContext

Category = Literal["ViT only", "LLM only", "hybrid", "two stages", "random", "other"]
Aspect = Literal["geometry", "attention", "saliency"]
Calibrated = Literal["no", "optional", "required"]
Aim = Literal["importance", "diversity", "hybrid", "none", "other"]


@dataclass(frozen=True)
class Selection:
    """Which visual tokens go on, and with which hidden states.

    Attributes:
        keep: indices into ``ctx.visual``, in any order; the engine restores sequence order.
        values: None, or the new hidden states ``[len(keep), D]``. A merged token is a kept token
            with a new value: ``keep[i]`` is the anchor whose position (RoPE) ``values[i]`` takes.
        sizes: ``[len(keep)]`` how many tokens each stands for, from stages that are weighted: later
            layers attend to it as often, in the prefill and while decoding. None is one each.
        members: gives ``[2, M]`` pairs that say which tokens each merged one, here or in the vision
            tower, stands for: an index into ``keep`` and one into ``ctx.visual``. Under
            ``positions=centre``, where alone they are asked for, a merged token takes the mean
            position of its members; one without any stays where its anchor is.
        scores: the numbers that decided, where there were any; the engine refuses a choice by
            numbers that are not finite.
    """

    keep: Tensor
    values: Tensor | None = None
    sizes: Tensor | None = None
    members: Callable[[], Tensor] | None = None
    scores: Tensor | None = None


@dataclass(frozen=True)
class Needs:
    """What must be recorded on the way. Only what is declared is recorded.

    A stage that needs the vision tower is not shown separators (newline tokens), which the tower
    knows nothing of: they go first, and stay only where the budget exceeds all other tokens. To the
    other stages they are visual tokens like any.

    Attributes:
        vit_attention: vision-tower layers whose queries and keys are wanted (negative counts from
            the end).
        vit_hidden: vision-tower layers whose output hidden states are wanted.
        llm_attention: decoder layers whose queries and keys are wanted, in the prefill.
        saliency: ``ctx.saliency()`` is wanted, from the layer the family names for it.
        features: ``ctx.encoder_features()`` is wanted, from the layer that feeds the projector.
        entering: ``ctx.attention(ctx.layer)`` is wanted: of the layer about to run, on the states
            that enter it.
        object_attention: queries and keys of vision-tower layers counted from the family's
            ``object_layer``: ``(0,)`` is that layer itself.
        clip: ``ctx.clip`` is wanted, where the model came with its CLIP.
        question: ``ctx.question`` is wanted, which takes the model's processor.
        local_attention: queries and keys of the family's ``local_layer`` are wanted.
        projector: ``ctx.vision.projector_input()`` is wanted.
        pooling: ``ctx.pooling`` is wanted, where the model came with its tower's pooling head.
        separators: separators are shown although the vision tower is needed; its signals have
            their ``fill`` there.
    """

    vit_attention: tuple[int, ...] = ()
    vit_hidden: tuple[int, ...] = ()
    llm_attention: tuple[int, ...] = ()
    saliency: bool = False
    features: bool = False
    entering: bool = False
    object_attention: tuple[int, ...] = ()
    clip: bool = False
    question: bool = False
    local_attention: bool = False
    projector: bool = False
    pooling: bool = False
    separators: bool = False

    @property
    def vision(self) -> bool:
        """Whether anything of the vision tower is needed."""
        return bool(
            self.vit_attention
            or self.vit_hidden
            or self.saliency
            or self.features
            or self.object_attention
            or self.local_attention
            or self.projector
        )

    def __or__(self, other: Needs) -> Needs:
        union: dict[str, Any] = {}
        for name in (field.name for field in fields(Needs)):
            ours, theirs = getattr(self, name), getattr(other, name)
            # layers that two stages declare stand here twice; whoever records them makes a set
            union[name] = ours or theirs if isinstance(ours, bool) else ours + theirs
        return Needs(**union)


@dataclass(frozen=True)
class Stage:
    """A cut at the input of one decoder layer.

    Attributes:
        layer: the decoder layer whose input is cut; 0 is pre-LLM.
        select: chooses the tokens of one sample; None leaves it whole.
        needs: what must have been recorded by then.
        count: ``(keep, total) -> number`` this stage keeps, from the budgeted ``keep`` and the
            sample's original number of visual tokens; None means ``keep`` itself.
        exact: whether a selection of another size is an error.
        weighted: whether selections say how many tokens each stands for; no flash kernel can weigh
            keys.
    """

    layer: int
    select: Callable[[StageContext], Selection | None]
    needs: Needs = Needs()
    count: Callable[[int, int], int] | None = None
    exact: bool = True
    weighted: bool = False

    def under(self, budget: Callable[[int, int], tuple[int, int]]) -> Stage:
        """The stage under another budget than the run's.

        Args:
            budget: from the run's ``(keep, total)`` to those that this stage is to see.
        """
        count = self.count or (lambda keep, total: keep)
        return replace(self, count=lambda keep, total: count(*budget(keep, total)))


class Method:
    """A way to choose visual tokens. Subclasses are frozen dataclasses of their parameters.

    The common case overrides :meth:`score`: one number per visual token, the highest stay. Methods
    that choose jointly override :meth:`select`; methods that cut elsewhere than before the language
    model, or several times, override :meth:`stages`.

    A field annotated ``Method`` holds another method: an instance in Python; on the command line a
    name, ``file.py:Class`` or ``{name: fastv, layer: 3}``. What a field's ``metadata`` may say:
    ``{"follows": "model.selector"}``, where a configuration takes the default from; for a field
    that holds a method ``{"options": "pre_options"}``, the key of its parameters on the command
    line.

    Class attributes:
        needs: what the default stage must find recorded.
        adaptive: may keep another number than the budget (the row then states the measured mean).
        wants: what the family must provide, for example ``{"cls_token"}``.
        text_aware: whether the choice depends on the question.
        data_timed: whether the time of the selection depends on the picture, not on sizes alone.
        centres: whether it merges tokens and says which (:attr:`Selection.members`), so that it may
            run under ``positions=centre``.
        corrected: what it asks the context for in such a way that a wrapper can correct it:
            ``geometry`` (:meth:`StageContext.geometry`), ``attention``, ``saliency``.
        calibrated: whether a file that ``calibrate`` writes is needed, or taken.
        category: where it cuts, as UniPruneBench groups methods: before the language model is
            ``ViT only``, inside it ``LLM only``, both ``hybrid``.
        aim: what it looks for, as IDPruner groups methods: how much a token matters, how little it
            repeats, or both.
    """

    needs: ClassVar[Needs] = Needs()
    adaptive: ClassVar[bool] = False
    wants: ClassVar[frozenset[str]] = frozenset()
    text_aware: ClassVar[bool] = False
    data_timed: ClassVar[bool] = False
    centres: ClassVar[bool] = False
    corrected: ClassVar[frozenset[Aspect]] = frozenset()
    calibrated: ClassVar[Calibrated] = "no"
    category: ClassVar[Category] = "other"
    aim: ClassVar[Aim] = "other"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        # until this version `requires` named what `wants` names now
        if isinstance(cls.__dict__.get("requires"), (frozenset, set, property)):
            cls.wants = cls.__dict__["requires"]
            del cls.requires

    def __post_init__(self) -> None:
        """Refuses values that the annotations do not allow.

        Subclasses that check more call it first.

        Raises:
            UsageError: a value outside a ``Literal`` or a range, or no method where one is wanted.
        """
        for name, allowed in fields_of(type(self)).items():
            value = getattr(self, name)
            if Method in allowed.classes and not isinstance(value, Method):
                raise UsageError(
                    f"{type(self).__name__}.{name} takes a method, not {value!r}; names are read by"
                    " unibench.api.build_method"
                )
            if allowed.choices and not allowed.fits(value):
                raise unknown(f"method.{name}", str(value), map(str, allowed.choices))
            if limits := allowed.outside(value):
                written = list(value) if isinstance(value, tuple) else value
                raise UsageError(f"method.{name}={written}: {limits} wanted")

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        """Why this method with these parameters cannot run on a model, None if it can.

        Asked before weights are read. Say here what :attr:`wants` and the stages do not; those are
        checked for every method, see :func:`unibench.pruning.refusal.refusal`. The answer may
        depend on the arguments and on files that a parameter names, on nothing else: it is
        remembered.

        Args:
            family: the class of the adapter.
            model: what is known of the model; what is not known is None and refuses nothing.
        """
        return None

    @property
    def uses_budget(self) -> bool:
        """Whether the budget decides how many tokens stay.

        False where the picture or the parameters decide.
        """
        return True

    def stages(self, depth: int) -> Sequence[Stage]:
        """The cuts this method makes in a language model of ``depth`` decoder layers."""
        return (Stage(0, self.select, self.needs, exact=not self.adaptive),)

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        """Merges inside the vision tower, on families that allow them; ``blocks`` make the
        features.

        The cut at layer 0 must then keep what they left: ``ctx.vision.merged``.
        """
        return ()

    def pixels(self, ctx: PixelContext) -> Tensor:
        """The tokens of a picture that enter the vision tower, ``[N]`` True, on families that allow
        it.

        The cut at layer 0 must then keep what is left: ``ctx.vision.merged``. Nothing of the tower
        can be recorded.
        """
        raise NotImplementedError

    @property
    def drops_pixels(self) -> bool:
        """Whether the method drops tokens ahead of the vision tower."""
        return type(self).pixels is not Method.pixels

    def averaged(self, depth: int) -> Sequence[Stage]:
        """The cuts when the budget is the mean over layers of the tokens processed
        (``budget.mode=layer_average``).

        Default: those of :meth:`stages`, with the ``keep`` that gives this mean.
        """
        return _averaged(self.stages(depth), depth)

    def select(self, ctx: StageContext) -> Selection | None:
        """The choice for one sample. Default: the ``ctx.keep`` highest scores, ties by lower
        index.
        """
        who = f"{type(self).__name__}.score at layer {ctx.layer}"
        scores = shaped_scores(self.score(ctx), len(ctx.visual), who)
        # with the scores, so that the engine refuses NaN, for which topk has an order of its own
        return Selection(top_k(scores, ctx.keep), scores=scores)

    def score(self, ctx: StageContext) -> Tensor:
        """Importance of each visual token, ``[N]``, float32 and finite; the highest stay."""
        raise NotImplementedError(f"{type(self).__name__} defines neither score, select nor stages")

    def evict(self, ctx: StageContext) -> Tensor | None:
        """After the prefill, once per decoder layer: indices into ``ctx.visual`` whose cache
        entries stay.

        None leaves the cache as it is.
        """
        return None

    @property
    def evicts(self) -> bool:
        """Whether the method removes cache entries before decoding."""
        return type(self).evict is not Method.evict

    def rereads(self, depth: int) -> int | None:
        """The first of ``depth`` decoder layers that, at each decoding step, reads only the visual
        tokens that :meth:`reselect` chooses, at least 1; None where every layer reads all it holds.
        """
        return None

    def reselect(self, ctx: StepContext) -> Tensor | None:
        """At each decoding step: indices into ``ctx.vision_rows`` that may be read; None: all."""
        return None


class Composite(Method):
    """A method made of others: what holds for one of its :attr:`parts` holds for the whole."""

    @property
    def parts(self) -> Sequence[Method]:
        """The methods, in the order of their cuts."""
        raise NotImplementedError

    @property
    def wants(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(part.wants for part in self.parts))

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        return any(part.adaptive for part in self.parts)

    @property
    def text_aware(self) -> bool:  # type: ignore[override]
        return any(part.text_aware for part in self.parts)

    @property
    def data_timed(self) -> bool:  # type: ignore[override]
        return any(part.data_timed for part in self.parts)

    @property
    def corrected(self) -> frozenset[Aspect]:  # type: ignore[override]
        return frozenset().union(*(part.corrected for part in self.parts))

    @property
    def centres(self) -> bool:  # type: ignore[override]
        return any(part.centres for part in self.parts)

    @property
    def uses_budget(self) -> bool:
        return any(part.uses_budget for part in self.parts)

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        reasons = (part.requires(family, model) for part in self.parts)
        return next((reason for reason in reasons if reason is not None), None)

    def evict(self, ctx: StageContext) -> Tensor | None:
        # evictions are not joined: the first part that answers decides
        kept = (part.evict(ctx) for part in self.parts if part.evicts)
        return next((rows for rows in kept if rows is not None), None)

    def pixels(self, ctx: PixelContext) -> Tensor:
        return next(part for part in self.parts if part.drops_pixels).pixels(ctx)

    @property
    def drops_pixels(self) -> bool:
        return any(part.drops_pixels for part in self.parts)

    @property
    def evicts(self) -> bool:
        return any(part.evicts for part in self.parts)

    def rereads(self, depth: int) -> int | None:
        layers = (part.rereads(depth) for part in self.parts)
        return next((layer for layer in layers if layer is not None), None)

    def reselect(self, ctx: StepContext) -> Tensor | None:
        # the part that rereads first is the one that is asked
        asked = [part for part in self.parts if type(part).rereads is not Method.rereads]
        return asked[0].reselect(ctx) if asked else None


@dataclass(frozen=True)
class Chain(Composite):
    """Several methods in one pass, each with a budget of its own.

    Attributes:
        methods: in the order of their cuts.
        budgets: one per method, each of the ORIGINAL number of visual tokens; None takes the
            session's.
    """

    methods: tuple[Method, ...]
    budgets: tuple[Budget | None, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budgets is not None and len(self.budgets) != len(self.methods):
            raise ValueError(f"{len(self.methods)} methods but {len(self.budgets)} budgets")

    @property
    def parts(self) -> Sequence[Method]:
        return self.methods

    @property
    def uses_budget(self) -> bool:
        return any(budget is None and method.uses_budget for method, budget in self._budgeted)

    def stages(self, depth: int) -> Sequence[Stage]:
        stages: list[Stage] = []
        for method, budget in self._budgeted:
            if budget is None:
                stages += method.stages(depth)
            else:
                stages += [
                    stage.under(partial(_of_total, budget)) for stage in method.stages(depth)
                ]
        return stages

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        return [stage for method in self.methods for stage in method.encoder(blocks)]

    @property
    def _budgeted(self) -> Sequence[tuple[Method, Budget | None]]:
        return list(zip(self.methods, self.budgets or (None,) * len(self.methods), strict=True))


def _of_total(budget: Budget, keep: int, total: int) -> tuple[int, int]:
    """The keep of a budget of its own, whatever the run's ``keep`` is."""
    return budget.keep(total), total


def _averaged(stages: Sequence[Stage], depth: int) -> list[Stage]:
    """The same cuts under a budget that is the mean of processed tokens over layers."""

    # found by bisection, and asked for by every stage of every sample
    @cache
    def keep_for(average: int, total: int) -> int:
        return matched_keep(stages, average, total, depth)

    return [
        stage.under(lambda average, total: (keep_for(average, total), total)) for stage in stages
    ]


def needs_of(stages: Sequence[Stage]) -> Needs:
    """The union of what the stages need."""
    return reduce(lambda union, stage: union | stage.needs, stages, Needs())
