"""Asking a method which visual tokens of a sample go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from unibench.budget import Budget, Positions, Scope
from unibench.errors import UsageError
from unibench.pruning.arithmetic import Answer, Arithmetic
from unibench.pruning.attention import AttentionTap, QueryKey, Recorded
from unibench.pruning.calls import full_precision
from unibench.pruning.checking import (
    BudgetError,
    SelectionError,
    check_numbers,
    check_scores,
    indices,
    named,
)
from unibench.pruning.context import Share, StageContext, question_of
from unibench.pruning.cutting import one_axis
from unibench.pruning.family import CommonSpace, Family, PoolingHead
from unibench.pruning.layout import Item, separators_of
from unibench.pruning.prefill import Prefill, Reading
from unibench.pruning.prompt import Choice
from unibench.pruning.signals import Pooled, RecordedVision, Vision
from unibench.pruning.stage import Method, Needs, Selection, Stage, needs_of


@dataclass(frozen=True)
class Plan:
    """What one method is to do with a prompt.

    Attributes:
        method: the method.
        stages: its cuts, by rising layer.
        budget: how much to keep.
        scope: what shares a budget, see :class:`~unibench.pruning.session.Session`.
        seed: for methods that draw.
        positions: where the tokens that go on stand, see :mod:`unibench.pruning.positions`.
        diagnose: whether to measure how much attention the kept tokens have.
        scores: whether to keep the scores of the first stage that chooses by scores.
    """

    method: Method
    stages: Sequence[Stage]
    budget: Budget
    scope: Scope
    seed: int
    positions: Positions
    diagnose: bool = False
    scores: bool = False

    @cached_property
    def needs(self) -> Needs:
        """What all stages need."""
        return needs_of(self.stages)

    @cached_property
    def by_layer(self) -> dict[int, list[tuple[int, Stage]]]:
        """The stages of each layer, with their numbers."""
        found: dict[int, list[tuple[int, Stage]]] = {}
        for number, stage in enumerate(self.stages):
            found.setdefault(stage.layer, []).append((number, stage))
        return found


@dataclass(frozen=True)
class _Sample:
    """One sample of a batch at a stage, free of padding.

    Attributes:
        row: of the batch.
        hidden: ``[L, D]`` entering the stage's layer.
        origin: ``[L]`` index of each row in the padded, unpruned sequence.
        visual: ``[N]`` rows that are visual tokens.
        rank: ``[N]`` which of the original visual tokens each one is.
        blind: ``[N]`` True on separators that the stage is not shown.
    """

    row: int
    hidden: Tensor
    origin: Tensor
    visual: Tensor
    rank: Tensor
    blind: Tensor


class Chooser:
    """Asks the stages of a method what they keep, given what was recorded of the prompt.

    Args:
        plan: the method and its stages.
        family: the adapter of the model.
        reading: the prefill under way.
        arithmetic: counts what the method computes.

    Attributes:
        notes: remarks of the method for the row.
    """

    def __init__(
        self, plan: Plan, family: Family, reading: Reading, arithmetic: Arithmetic
    ) -> None:
        self.plan, self.family, self._arithmetic = plan, family, arithmetic
        self.notes: set[str] = set()
        self._reading = reading
        self._clip: CommonSpace | None = None
        # opened once, before a prompt is timed: it reads a checkpoint
        if plan.needs.clip and family.clip is not None:
            self._clip = family.clip()
        self._pooling: PoolingHead | None = None
        if plan.needs.pooling and family.pooling is not None:
            self._pooling = family.pooling()
        entering = {stage.layer for stage in plan.stages if stage.needs.entering}
        layers = sorted({*plan.needs.llm_attention, *entering})
        modules = [family.llm_attention(layer) for layer in layers]
        self.tap = AttentionTap(modules, self._wanted, alone=self._alone)

    def choices(
        self, prefill: Prefill, number: int, stage: Stage, hidden: Tensor
    ) -> list[Choice | None]:
        """What a stage keeps of each sample; None leaves it whole.

        Args:
            prefill: under way.
            number: of the stage.
            stage: asked.
            hidden: ``[B, L, D]`` entering the stage's layer.
        """
        if stage.needs.entering:
            enter = partial(self._entering, prefill, stage.layer, hidden)
            prefill.entering[stage.layer] = enter()
            # the extra pass through the projections is work of the method, shared by the batch
            key = ("entering", stage.layer, hidden.shape)
            prefill.together.append(self._arithmetic.of(prefill, key, enter))
        rows = range(len(hidden))
        chosen = [self._choose(prefill, number, stage, hidden, row) for row in rows]
        prefill.entering.clear()
        self._release(prefill, number)
        return chosen

    def _release(self, prefill: Prefill, number: int) -> None:
        """Drop queries and keys that no stage after this one asks for: those of every layer of a
        long video would be as large as the cache.
        """
        if self.plan.method.evicts:  # which may look at any of them
            return
        later = self.plan.stages[number + 1 :]
        wanted = {layer for stage in later for layer in stage.needs.llm_attention}
        for layer in self.plan.stages[number].needs.llm_attention:
            if layer not in wanted:
                prefill.recorded.pop(self.family.llm_attention(layer), None)

    def evictions(
        self, prefill: Prefill, layer: int, hidden: Tensor, row: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of visual tokens in a layer's cache, and which of them stay there for decoding."""
        method = self.plan.method
        for ctx in self._contexts(prefill, Stage(layer, method.select), hidden, row):
            keep = self._ask(prefill, ("evict", layer), method.evict, ctx, row)
            if keep is not None:
                name = f"{type(method).__name__}.evict at layer {layer}"
                yield ctx.visual, indices(keep, len(ctx.visual), name)

    def _ask(
        self,
        prefill: Prefill,
        what: tuple[str | int, ...],
        ask: Callable[[StageContext], Answer],
        ctx: StageContext,
        row: int,
    ) -> Answer:
        """What the method answers about a context; its work is noted for the sample."""
        of_tokens = (
            *what,
            len(ctx.visual),
            ctx.keep,
            ctx.total,
            tuple((len(item), item.parts) for item in ctx.items),
            # signals of the tower are computed for all pictures of a batch
            tuple(call.tokens for call in prefill.calls.values()),
        )
        of_prompt = (*of_tokens, len(ctx.hidden), prefill.prompt.text_behind[row])
        who = f"{type(self.plan.method).__name__} at layer {ctx.layer}"
        with full_precision(ctx.hidden.device):
            answer, work = self._arithmetic.asked(prefill, (of_tokens, of_prompt), ask, ctx, who)
        prefill.work.setdefault(row, []).append(work)
        return answer

    def _wanted(self, module: nn.Module) -> list[QueryKey] | None:
        prefill = self._reading.prefill
        if prefill is None or not prefill.started:
            return None
        return prefill.recorded.setdefault(module, [])

    def _alone(self, module: nn.Module) -> bool:
        prefill = self._reading.prefill
        return prefill is not None and prefill.alone is module

    def _entering(self, prefill: Prefill, layer: int, hidden: Tensor) -> QueryKey:
        """Queries and keys that a layer is about to compute, by its own attention module, which is
        left before it attends: the square of the prompt and the output projection would be wasted.
        """
        cos, sin = prefill.rotary_of(self.family.kinds[layer])
        module = self.family.llm_attention(layer)
        before: nn.Module = self.family.text_model.layers[layer].input_layernorm
        device = next(before.parameters()).device
        if device.type != "meta":  # weights that accelerate brings when the module runs
            hidden = hidden.to(device)  # accelerate moves it in front of the whole layer only
        prefill.alone = module
        try:
            # weights that accelerate has brought stay for the layer itself, which runs next
            with suppress(Recorded):
                module(
                    hidden_states=before(hidden),
                    position_embeddings=(cos.to(hidden.device), sin.to(hidden.device)),
                    attention_mask=None,
                )
        finally:
            prefill.alone = None
        (qk,) = prefill.recorded.pop(module)  # the layer itself is about to be recorded there
        return qk

    def _choose(
        self, prefill: Prefill, number: int, stage: Stage, hidden: Tensor, row: int
    ) -> Choice | None:
        """Ask the method about one sample, item by item if budgets are per item."""
        kept: list[Tensor] = []
        values: list[Tensor | None] = []
        sizes: list[Tensor | None] = []
        members: list[Tensor] = []
        chosen, name = False, type(self.plan.method).__name__
        for ctx in self._contexts(prefill, stage, hidden, row):
            selection = None
            # a group may have no token left here: a cut before has taken its last
            if len(ctx.visual):
                answer = self._ask(prefill, ("stage", number), stage.select, ctx, row)
                selection = _checked(answer, ctx, stage, f"{name} at layer {stage.layer}")
            if selection is None:
                kept += [ctx.visual, ctx.withheld]
                values += [None, None]
                sizes += [None, None]
                continue
            chosen = True
            # sequence order: in score order a causal mask would let tokens see what follows them
            keep, order = selection.keep.to(hidden.device).sort()
            if self.plan.diagnose:
                self._attended(prefill, stage, ctx, keep, row)
            if self.plan.scores and selection.scores is not None:
                self._scored(prefill, number, ctx, selection.scores, row)
            kept += [ctx.visual[keep], ctx.withheld[: ctx.spare]]
            new = None if selection.values is None else selection.values.to(hidden)[order]
            values += [new, None]
            # a list entry of None keeps its tokens at their own states, and one each
            weights = None if selection.sizes is None else selection.sizes.to(hidden.device)[order]
            sizes += [weights, None]
            members += self._members(selection, ctx)
        if not chosen:
            return None
        # separators lie between the patches, so groups and what they withheld interleave
        rows, order = torch.cat(kept).sort()
        origin, pad = prefill.origin_of(row)
        merged = None
        if any(new is not None for new in values):
            old = hidden[row, pad:]
            pairs = zip(kept, values, strict=True)
            merged = torch.cat([old[at] if new is None else new for at, new in pairs])[order]
        weighed = None
        if any(weights is not None for weights in sizes):
            ones = torch.ones(len(hidden[row]), device=hidden.device)
            pairs = zip(kept, sizes, strict=True)
            weighed = torch.cat([ones[at] if new is None else new.float() for at, new in pairs])
            weighed = weighed[order]
        origin = origin.to(hidden.device)
        groups = origin[torch.cat(members, 1)] if members else None
        return Choice(origin[rows], merged, weighed, groups)

    def _attended(
        self, prefill: Prefill, stage: Stage, ctx: StageContext, keep: Tensor, row: int
    ) -> None:
        """Note the share of attention on kept tokens at the layers that the method reads."""
        layers = [*stage.needs.llm_attention, *([stage.layer] if stage.needs.entering else [])]
        # no work of the method, and part of no time
        with self._reading.timed(prefill.spans.excluded):
            for layer in layers:
                given = ctx.attention(layer)[:, 0]
                shares = given[:, keep.to(given.device)].sum(1) / given.sum(1)
                prefill.attended.setdefault(row, []).append(float(shares.mean()))

    def _scored(
        self, prefill: Prefill, number: int, ctx: StageContext, scores: Tensor, row: int
    ) -> None:
        """Note the scores of a sample's tokens, unless an earlier stage has noted its own."""
        with self._reading.timed(prefill.spans.excluded):
            if row not in prefill.scores:
                total = prefill.prompt.visual_counts[row]
                unseen = torch.full((total,), torch.nan, device=scores.device)
                prefill.scores[row] = number, ctx.layer, unseen
            first, _, values = prefill.scores[row]
            if first == number:  # a stage is asked once for each group that has its own budget
                values[ctx.vision_rows.to(values.device)] = scores.detach().to(values)

    def _members(self, selection: Selection, ctx: StageContext) -> list[Tensor]:
        """Rows of merged tokens and of those that each stands for, where they are asked for."""
        if self.plan.positions != "centre":
            return []
        if selection.members is None:
            if selection.values is None:
                return []
            raise UsageError(
                f"{type(self.plan.method).__name__} does not say here which tokens its merged ones"
                " stand for, so that positions=centre cannot place them"
            )
        # members() is called here alone: to gather them costs time that other policies save
        into, given = selection.members().to(ctx.visual.device)
        keep = selection.keep.to(ctx.visual.device)
        return [torch.stack([ctx.visual[keep[into]], ctx.visual[given]])]

    def _contexts(
        self, prefill: Prefill, stage: Stage, hidden: Tensor, row: int
    ) -> list[StageContext]:
        """What the stage sees of one sample: one context, or one for each item or tile that has its
        own budget.
        """
        prompt = prefill.prompt
        origin, pad = prefill.origin_of(row)
        origin = origin.to(hidden.device)
        is_visual = prompt.visual[row].to(hidden.device)
        visual = is_visual[origin].nonzero()[:, 0]
        # ranks count in the unpruned sequence, so they mean the same at every stage
        rank = (is_visual.cumsum(0) - 1)[origin[visual]]
        withholds = stage.needs.vision and not stage.needs.separators
        blind = separators_of(prompt.items[row], rank) & withholds
        sample = _Sample(row, hidden[row, pad:], origin, visual, rank, blind)
        return [
            self._context(prefill, stage, sample, group)
            for group in self._groups(prompt.items[row])
        ]

    def _context(
        self, prefill: Prefill, stage: Stage, sample: _Sample, group: tuple[Item, ...]
    ) -> StageContext:
        """What the stage sees of the items that share a budget."""
        prompt, whole = prefill.prompt, self.plan.scope == "sequence"
        inside = torch.zeros_like(sample.blind)
        for item in group:
            inside |= (sample.rank >= item.start) & (sample.rank < item.stop)
        shown, start = inside & ~sample.blind, group[0].start if group else 0
        rows, withheld = sample.visual[shown], sample.visual[inside & sample.blind]
        total = sum(len(item) for item in group)
        keep = self.plan.budget.keep(total) if total else 0
        if stage.count is not None and total:
            keep = stage.count(keep, total)
        # an earlier stage may have left fewer than the budget of this one
        keep = min(keep, len(rows) + len(withheld))
        ids, name = prompt.ids_of(sample.row), prompt.names[sample.row]
        # without padding, so that a sample is the same in every batch
        origin = sample.origin - prompt.pads[sample.row]
        vision = self._vision_of(prefill, sample.row, sample.origin[rows])
        return StageContext(
            layer=stage.layer,
            keep=min(keep, len(rows)),
            total=total,
            hidden=sample.hidden,
            visual=rows,
            origin=origin,
            vision_rows=sample.rank[shown],
            items=group,
            input_ids=ids,
            vision=vision,
            family=self.family,
            margins=None,
            closing=self.family.closing,
            seed=self.plan.seed,
            # draws are seeded by the name: two pictures of a prompt must not draw alike
            sample=name if whole else f"{name}/{start}",
            query_key=partial(self._query_key, prefill, sample.row, len(origin)),
            rotary=partial(self._rotary, prefill, sample.row),
            deepstack=partial(self._added, prefill, sample.row, sample.origin[rows]),
            clip=self._in_clip(ids, vision, sample.visual, origin),
            pooling=self._pooled(vision),
            note=self.notes.add,
            memory=prefill.memory.setdefault((sample.row, start), {}),
            share=Share(None if whole else sample.visual, withheld, max(0, keep - len(rows))),
        )

    def _groups(self, items: tuple[Item, ...]) -> list[tuple[Item, ...]]:
        """What shares a budget."""
        if self.plan.scope == "sequence":
            return [items]
        if self.plan.scope == "item":
            return [(item,) for item in items]
        tiles = [tile for item in items for tile in item.tiles()]
        if self.plan.scope == "first_tile":
            # UniPruneBench takes it for an overview, which stands last in InternVL's prompts
            return [group for group in ((*tiles[:1],), (*tiles[1:],)) if group]
        return [(tile,) for tile in tiles]

    def _in_clip(
        self, ids: Tensor | None, vision: Vision, visual: Tensor, origin: Tensor
    ) -> Callable[[], tuple[Tensor, Tensor]] | None:
        """Computes patches and question of a sample where CLIP compares them; None without it."""
        clip, layer = self._clip, self.family.feature_layer
        if clip is None or layer is None or ids is None:
            return None

        def compared() -> tuple[Tensor, Tensor]:
            asked = question_of(visual, len(origin), self.family.margins, self.family.closing)
            words = ids[origin[asked].to(ids.device)]
            patches, text = clip.patches(vision.hidden(layer)), clip.question(words)
            return patches.to(visual.device), text.to(visual.device)

        return compared

    def _added(self, prefill: Prefill, row: int, origin: Tensor) -> Tensor | None:
        """Features that the first layers add to visual tokens, level beside level."""
        added = prefill.deepstack
        if added is None:
            return None
        # features of the batch are packed, so ranks count through all samples
        number = (added.visual.flatten().cumsum(0) - 1).view_as(added.visual)[row]
        tokens = number[origin.to(number.device)]
        return torch.cat([level[tokens.to(level.device)].float() for level in added.features], -1)

    def _rotary(self, prefill: Prefill, row: int, layer: int) -> tuple[Tensor, Tensor]:
        """cos and sin of what is left of a sample, as a layer rotates."""
        _, pad = prefill.origin_of(row)
        rotary = prefill.rotary_of(self.family.kinds[layer])
        config = self.family.text_model.config
        sections = (getattr(config, "rope_parameters", None) or {}).get("mrope_section", ())
        # one row for all samples where their positions are the same
        cos, sin = (one_axis(part, sections) for part in rotary)
        one = min(row, len(cos) - 1)
        return cos[one, pad:], sin[one, pad:]

    def _pooled(self, vision: RecordedVision) -> Callable[[], Pooled] | None:
        """Runs the tiles of a sample through the tower's pooling head; None without it."""
        if self._pooling is None:
            return None
        return partial(vision.pooled, self._pooling, self.family.saliency_layer)

    def _vision_of(self, prefill: Prefill, row: int, origin: Tensor) -> RecordedVision:
        rows = prefill.prompt.feature_row[row].to(origin.device)[origin]
        calls = [prefill.calls[kind] for kind in ("image", "video") if kind in prefill.calls]
        return RecordedVision(self.family, calls, rows)

    def _query_key(self, prefill: Prefill, row: int, length: int, layer: int) -> QueryKey:
        part = prefill.prompt.segments.get(layer)
        if layer in prefill.entering:  # of this very stage: the same rows
            recorded, seen = [prefill.entering[layer]], length
        else:
            recorded = prefill.recorded.get(self.family.llm_attention(layer), [])
            # a decoder layer before an earlier cut has recorded more rows than are left
            seen = int((prefill.prompt.valid[row] if part is None else part.valid[row]).sum())
        if len(recorded) != 1:
            raise RuntimeError(
                f"decoder layer {layer} was not declared in needs, or lies after the cut"
            )
        (qk,) = recorded
        pad = qk.query.shape[2] - length
        if pad < 0 or seen != length:  # the rows of another cut would be read as padding
            raise RuntimeError(
                f"decoder layer {layer} lies before an earlier cut's successor: its tokens are not"
                " this stage's"
            )
        return QueryKey(qk.query[row, :, pad:], qk.key[row, :, pad:], qk.scaling)


def _checked(answer: Any, ctx: StageContext, stage: Stage, who: str) -> Selection | None:
    """A stage's answer; None leaves the sample whole.

    Args:
        answer: what the stage returned.
        ctx: what it was asked about.
        stage: that was asked.
        who: the method and its layer, for messages.

    Raises:
        SelectionError: it selects nothing, or gives values or sizes that are none.
        BudgetError: it selects another number than the budget of a stage that must meet it.
    """
    count = len(ctx.visual)
    if answer is None:
        # None means "leave it whole", which misses the budget of a stage that must meet it
        if stage.exact and ctx.keep < count:
            raise SelectionError(
                f"{who} returned nothing where {ctx.keep} of {count} visual tokens stay; is a"
                " return missing?"
            )
        return None
    if not isinstance(answer, Selection):
        raise SelectionError(f"{who} returned {named(answer)}; a Selection is wanted")
    if answer.scores is not None:
        check_scores(answer.scores, who)
    keep = indices(answer.keep, count, who)
    if stage.exact and len(keep) != ctx.keep:
        raise BudgetError(
            f"{who} kept {len(keep)} of {count} visual tokens; the budget is {ctx.keep}"
        )
    # flash attention was refused by the declaration, so sizes must not come without it
    if answer.sizes is not None and not stage.weighted:
        raise SelectionError(f"{who} weighs tokens, which the stage denies")
    if answer.values is not None:
        # as the model will hold them: a large number may be none in half precision
        values = answer.values.to(ctx.hidden.dtype)
        check_numbers(values, (len(keep), ctx.hidden.shape[-1]), f"the values of {who}")
    if answer.sizes is not None:
        check_numbers(answer.sizes, (len(keep),), f"the sizes of {who}")
        if len(keep) and float(answer.sizes.min()) <= 0:
            raise SelectionError(
                f"the sizes of {who}: a token stands for one or more, not for none"
            )
    return answer
