"""What a method declares and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from unibench.cost.accounting import matched_keep
from unibench.ops import top_k

if TYPE_CHECKING:
    from unibench.budget import Budget
    from unibench.pruning.context import StageContext
    from unibench.pruning.encoder import EncoderStage


class BudgetError(RuntimeError):
    """A method kept another number of tokens than its budget, and is not one that may."""


@dataclass(frozen=True)
class Selection:
    """Which visual tokens go on, and with which hidden states.

    Attributes:
        keep: indices into ``ctx.visual``, in any order; the engine restores sequence order.
        values: None, or the new hidden states ``[len(keep), D]``. A merged token is a kept token
            with a new value: ``keep[i]`` is the anchor whose position (RoPE) ``values[i]`` takes.
    """

    keep: Tensor
    values: Tensor | None = None


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
        )

    def __or__(self, other: Needs) -> Needs:
        union: dict[str, Any] = {}
        for name in (field.name for field in fields(Needs)):
            ours, theirs = getattr(self, name), getattr(other, name)
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
    """

    layer: int
    select: Callable[[StageContext], Selection | None]
    needs: Needs = Needs()
    count: Callable[[int, int], int] | None = None
    exact: bool = True


class Method:
    """A way to choose visual tokens. Subclasses are frozen dataclasses of their parameters.

    The common case overrides :meth:`score`: one number per visual token, the highest stay. Methods
    that choose jointly override :meth:`select`; methods that cut elsewhere than before the language
    model, or several times, override :meth:`stages`.

    Class attributes:
        needs: what the default stage must find recorded.
        adaptive: may keep another number than the budget (the row then states the measured mean).
        requires: what the family must provide, for example ``{"cls_token"}``.
        text_aware: whether the choice depends on the question.
        data_timed: whether the time of the selection depends on the picture, not on sizes alone.
    """

    needs: ClassVar[Needs] = Needs()
    adaptive: ClassVar[bool] = False
    requires: ClassVar[frozenset[str]] = frozenset()
    text_aware: ClassVar[bool] = False
    data_timed: ClassVar[bool] = False

    def stages(self, depth: int) -> Sequence[Stage]:
        """The cuts this method makes in a language model of ``depth`` decoder layers."""
        return (Stage(0, self.select, self.needs, exact=not self.adaptive),)

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        """Merges inside the vision tower, on families that allow them; ``blocks`` make the
        features.

        The cut at layer 0 must then keep what they left: ``ctx.vision.merged``.
        """
        return ()

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
        return Selection(top_k(self.score(ctx), ctx.keep))

    def score(self, ctx: StageContext) -> Tensor:
        """Importance of each visual token, ``[N]``, float32."""
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

    @property
    def uses_budget(self) -> bool:
        """Whether the budget decides how many tokens stay, not the data or numbers given."""
        return True


@dataclass(frozen=True)
class Chain(Method):
    """Several methods in one pass, each with a budget of its own.

    Attributes:
        methods: in the order of their cuts.
        budgets: one per method, each of the ORIGINAL number of visual tokens; None takes the
            session's.
    """

    methods: tuple[Method, ...]
    budgets: tuple[Budget | None, ...] | None = None

    def __post_init__(self) -> None:
        if self.budgets is not None and len(self.budgets) != len(self.methods):
            raise ValueError(f"{len(self.methods)} methods but {len(self.budgets)} budgets")
        # what holds for one part holds for the whole; class attributes cannot say it
        object.__setattr__(
            self, "requires", frozenset().union(*(method.requires for method in self.methods))
        )
        object.__setattr__(self, "adaptive", any(method.adaptive for method in self.methods))
        object.__setattr__(self, "text_aware", any(method.text_aware for method in self.methods))
        object.__setattr__(self, "data_timed", any(method.data_timed for method in self.methods))

    def stages(self, depth: int) -> Sequence[Stage]:
        budgets = self.budgets or (None,) * len(self.methods)
        pairs = zip(self.methods, budgets, strict=True)
        return [_under(stage, budget) for method, budget in pairs for stage in method.stages(depth)]

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        return [stage for method in self.methods for stage in method.encoder(blocks)]

    def evict(self, ctx: StageContext) -> Tensor | None:
        kept = (method.evict(ctx) for method in self.methods if method.evicts)
        return next((rows for rows in kept if rows is not None), None)

    @property
    def evicts(self) -> bool:
        return any(method.evicts for method in self.methods)

    @property
    def uses_budget(self) -> bool:
        budgets = self.budgets or (None,) * len(self.methods)
        pairs = zip(self.methods, budgets, strict=True)
        return any(method.uses_budget and budget is None for method, budget in pairs)


def _under(stage: Stage, budget: Budget | None) -> Stage:
    """The stage with a budget of its own instead of the session's."""
    if budget is None:
        return stage
    inner = stage.count or (lambda keep, total: keep)
    return replace(stage, count=lambda _, total: inner(budget.keep(total), total))


def _averaged(stages: Sequence[Stage], depth: int) -> list[Stage]:
    """The same cuts under a budget that is the mean of processed tokens over layers."""

    @cache
    def keep_for(average: int, total: int) -> int:
        return matched_keep(stages, average, total, depth)

    def under(stage: Stage) -> Stage:
        inner = stage.count or (lambda keep, total: keep)
        return replace(stage, count=lambda average, total: inner(keep_for(average, total), total))

    return [under(stage) for stage in stages]


def needs_of(stages: Sequence[Stage]) -> Needs:
    """The union of what the stages need."""
    return reduce(lambda union, stage: union | stage.needs, stages, Needs())
