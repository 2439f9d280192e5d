"""Asking a method which visual tokens of a sample go on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from unibench.budget import Budget
from unibench.cost.flops import decoder_shape
from unibench.ops import did
from unibench.pruning.attention import AttentionTap, QueryKey
from unibench.pruning.context import StageContext
from unibench.pruning.family import Family
from unibench.pruning.layout import Item, separators_of
from unibench.pruning.prompt import Choice, Prompt
from unibench.pruning.signals import Pooled, RecordedVision
from unibench.pruning.stage import BudgetError, Method, Stage, needs_of
from unibench.pruning.vision import VisionRecorder


class Chooser:
    """What the stages of a method choose, from what was recorded of the prompt on its way.

    Args:
        method: named in errors.
        stages: all its cuts; their needs are recorded.
        family: the adapter of the model.
        budget: how much to keep.
        scope: ``"sequence"``, ``"item"`` or ``"tile"``, see
            :class:`~unibench.pruning.session.Session`.
        seed: for methods that draw.
        vision: records the vision tower.
        listening: whether a decoder layer that runs now is to be recorded.

    Attributes:
        tap: records queries and keys of the decoder.
        notes: remarks of the method that belong into the row.
    """

    def __init__(
        self,
        method: Method,
        stages: Sequence[Stage],
        family: Family,
        budget: Budget,
        *,
        scope: str,
        seed: int,
        vision: VisionRecorder,
        listening: Callable[[], bool],
    ) -> None:
        self.method, self.family, self.budget = method, family, budget
        self.scope, self.seed, self.vision = scope, seed, vision
        self.notes: set[str] = set()
        wanted = {
            *needs_of(stages).llm_attention,
            *(stage.layer for stage in stages if stage.needs.entering),
        }
        self.tap = AttentionTap(
            [family.llm_attention(layer) for layer in sorted(wanted)], lambda module: listening()
        )
        self._clip = family.clip() if family.clip is not None and needs_of(stages).clip else None
        wants_pooling = family.pooling is not None and needs_of(stages).pooling
        self._pooling = family.pooling() if family.pooling and wants_pooling else None
        self._entering: dict[int, QueryKey] = {}
        self._memory: dict[tuple[int, int], dict[str, Tensor]] = {}

    def clear(self) -> None:
        """Forget the prompt before."""
        self._memory.clear()
        self.tap.clear()  # what a prompt left that failed halfway
        self._entering.clear()

    def choices(self, prompt: Prompt, stage: Stage, hidden: Tensor) -> list[Choice | None]:
        """What the stage keeps of each sample; None leaves it whole.

        Args:
            prompt: being read.
            stage: asked.
            hidden: ``[B, L, D]`` entering the stage's layer.
        """
        if stage.needs.entering:
            self._enter(prompt, stage.layer, hidden)
        found = [self._choose(prompt, stage, hidden, row) for row in range(len(hidden))]
        self._entering.clear()
        return found

    def contexts(
        self, prompt: Prompt, stage: Stage, hidden: Tensor, row: int
    ) -> list[StageContext]:
        """What the stage sees of one sample: one context, or one for each item or tile that has its
        own budget.
        """
        origin, pad = prompt.origin_of(row)
        origin = origin.to(hidden.device)
        is_visual = prompt.visual[row].to(hidden.device)
        visual = is_visual[origin].nonzero()[:, 0]
        rank = (is_visual.cumsum(0) - 1)[origin[visual]]  # which original visual token each one is
        withholds = stage.needs.vision and not stage.needs.separators
        blind = separators_of(prompt.items[row], rank) & withholds
        contexts = []
        for group in self._groups(prompt.items[row]):
            inside = torch.zeros_like(blind)
            for item in group:
                inside |= (rank >= item.start) & (rank < item.stop)
            total = sum(len(item) for item in group)
            keep = self.budget.keep(total) if total else 0
            rows, withheld = visual[inside & ~blind], visual[inside & blind]
            budget = min(
                stage.count(keep, total) if stage.count and total else keep,
                len(rows) + len(withheld),
            )
            ctx = StageContext(
                layer=stage.layer,
                keep=min(budget, len(rows)),
                total=total,
                hidden=hidden[row, pad:],
                visual=rows,
                origin=origin,
                vision_rows=rank[inside & ~blind],
                items=group,
                input_ids=(
                    None
                    if prompt.ids is None
                    else prompt.ids[row][prompt.valid[row].to(prompt.ids.device)]
                ),
                vision=self._vision_of(prompt, row, origin[rows]),
                family=self.family,
                margins=prompt.margins,
                seed=self.seed,
                sample=(
                    prompt.names[row]
                    if self.scope == "sequence"
                    else f"{prompt.names[row]}/{group[0].start}"
                ),
                query_key=functools.partial(self._query_key, prompt, row, len(origin)),
                note=self.notes.add,
                sample_visual=None if self.scope == "sequence" else visual,
                memory=self._memory.setdefault((row, group[0].start if group else 0), {}),
                withheld=withheld,
                spare=max(0, budget - len(rows)),
            )
            if self._pooling is not None:
                ctx = replace(ctx, pooling=functools.partial(self._pooled, ctx))
            contexts.append(
                ctx
                if self._clip is None
                else replace(ctx, clip=functools.partial(self._in_clip, prompt, row, ctx))
            )
        return contexts

    def _groups(self, items: tuple[Item, ...]) -> list[tuple[Item, ...]]:
        """What shares a budget."""
        if self.scope == "sequence":
            return [items]
        return [
            (part,) for item in items for part in (item.tiles() if self.scope == "tile" else [item])
        ]

    def _in_clip(self, prompt: Prompt, row: int, ctx: StageContext) -> tuple[Tensor, Tensor]:
        """Patches and question of a context where CLIP compares them."""
        layer = self.family.feature_layer
        assert (
            self._clip is not None
            and prompt.ids is not None
            and ctx.vision is not None
            and layer is not None
        )
        asked = prompt.ids[row][ctx.origin[ctx.question].to(prompt.ids.device)]
        device = ctx.hidden.device
        return self._clip.patches(ctx.vision.hidden(layer)).to(device), self._clip.question(
            asked
        ).to(device)

    def _pooled(self, ctx: StageContext) -> Pooled:
        """The tiles of a context through the pooling head."""
        assert self._pooling is not None and isinstance(ctx.vision, RecordedVision)
        return ctx.vision.pooled(self._pooling, self.family.saliency_layer)

    def _enter(self, prompt: Prompt, layer: int, hidden: Tensor) -> None:
        """Queries and keys that a layer is about to compute, by its own attention module, whose
        output is not used.
        """
        assert prompt.rotary is not None
        cos, sin = prompt.rotary if prompt.current is None else prompt.current.rotary
        module, before = (
            self.family.llm_attention(layer),
            self.family.text_model.layers[layer].input_layernorm,
        )
        assert isinstance(before, nn.Module)
        device = next(before.parameters()).device
        if device.type != "meta":  # weights that accelerate brings when the module runs
            hidden = hidden.to(device)  # accelerate moves it in front of the whole layer only
        did(
            decoder_shape(self.family.text_model.config, 0).attention_macs(hidden.shape[1])
            * len(hidden)
        )
        module(
            hidden_states=before(hidden),
            position_embeddings=(cos.to(hidden.device), sin.to(hidden.device)),
            attention_mask=None,
            past_key_values=None,
        )
        (self._entering[layer],) = self.tap.take(module)

    def _choose(self, prompt: Prompt, stage: Stage, hidden: Tensor, row: int) -> Choice | None:
        """Ask the method about one sample, item by item if budgets are per item."""
        kept: list[Tensor] = []
        values: list[Tensor | None] = []
        chosen = False
        for ctx in self.contexts(prompt, stage, hidden, row):
            selection = stage.select(ctx) if len(ctx.visual) else None
            if selection is None:
                kept += [ctx.visual, ctx.withheld]
                values += [None, None]
                continue
            chosen = True
            keep, order = selection.keep.to(hidden.device).sort()
            _check_selection(keep, ctx, stage, self.method)
            kept += [ctx.visual[keep], ctx.withheld[: ctx.spare]]
            values += [
                None if selection.values is None else selection.values.to(hidden)[order],
                None,
            ]
        if not chosen:
            return None
        rows, order = torch.cat(kept).sort()
        merged = None
        if any(new is not None for new in values):
            merged = torch.cat(
                [
                    ctx.hidden[old] if new is None else new
                    for old, new in zip(kept, values, strict=True)
                ]
            )[order]
        return Choice(ctx.origin[rows], merged)

    def _vision_of(self, prompt: Prompt, row: int, origin: Tensor) -> RecordedVision:
        rows = prompt.feature_row[row].to(origin.device)[origin]
        calls = [
            self.vision.calls[modality]
            for modality in ("image", "video")
            if modality in self.vision.calls
        ]
        return RecordedVision(self.family, calls, rows)

    def _query_key(self, prompt: Prompt, row: int, length: int, layer: int) -> QueryKey:
        entering = self._entering.get(layer)
        recorded = self.tap.of(self.family.llm_attention(layer)) if entering is None else [entering]
        if len(recorded) != 1:
            raise RuntimeError(
                f"decoder layer {layer} was not declared in needs, or lies after the cut"
            )
        (qk,) = recorded
        pad = qk.query.shape[2] - length
        part = None if entering is not None else prompt.segments.get(layer)
        seen = prompt.valid[row] if part is None else part.valid[row]
        if pad < 0 or (
            entering is None and int(seen.sum()) != length
        ):  # the rows of another cut would be read as padding
            raise RuntimeError(
                f"decoder layer {layer} lies before an earlier cut's successor: its tokens are not"
                " this stage's"
            )
        return QueryKey(qk.query[row, :, pad:], qk.key[row, :, pad:], qk.scaling)


def _check_selection(keep: Tensor, ctx: StageContext, stage: Stage, method: Method) -> None:
    """``keep`` is sorted."""
    name = type(method).__name__
    if len(keep) and not (int(keep[0]) >= 0 and int(keep[-1]) < len(ctx.visual)):
        raise ValueError(
            f"{name} at layer {stage.layer} kept a token outside 0..{len(ctx.visual) - 1}"
        )
    if bool((keep[1:] == keep[:-1]).any()):
        raise ValueError(f"{name} at layer {stage.layer} kept a token twice")
    if stage.exact and len(keep) != ctx.keep:
        raise BudgetError(
            f"{name} at layer {stage.layer} kept {len(keep)} of {len(ctx.visual)} visual tokens;"
            f" the budget is {ctx.keep}"
        )
