"""Dominant tokens and chosen anchors before the language model, cuts by the text inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch

from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.annotations import Behind, Count, Natural, Share
from unibench.cost.accounting import spread
from unibench.methods._cuts import Cuts, check_layers, text_attention
from unibench.methods._variants import Reproduction
from unibench.ops import complement, cosine, membership, pairs, product, ranking, top_k
from unibench.pruning.attention import attention_rows

HALF_AND_NONE = (0.5, 0.0)  # LLaVA-1.5; the printed counts are means over the layers
OF_QWEN = (0.5, 0.25)


@dataclass(frozen=True)
class Duet(Method):
    """Keeps what the vision tower attends to and a few sums of the next best; then what text reads.

    Before the language model: dominant tokens by attention, and contextual ones. Only the next
    ``width`` times as many tokens by attention are looked at, anchors are taken at even distances
    of that list, and the others of the list join the anchor with the most similar key. Inside the
    language model the visual tokens that the text attends to most stay, at two depths.

    Paper: DUET-VLM, CVPR 2026, arXiv 2602.18846.
    Code: AMD-AGI/DUET-VLM@cd69e489 visionzip/clip_encoder_cw.py,
        llava/model/modeling_llama_pdrop.py:pdrop_rank_drop,
        qwen2_5_vl/modeling_qwen2_5vl_duet.py.
    Finding: the printed counts are means over the layers: 307, 153 and 0 tokens are called 192.
        variant=official_bug is the second part as the Qwen code has it: no causal mask, and each
        share is applied to a count that the cut before has lowered already. With the released .5
        and .25 three eighths of the tokens are left after the second cut instead of a quarter, all
        others than an eighth from the lower part of the picture.
    Cost: O(N log N + K^2 C) after one row of attention; at each cut the projections of one layer
        once more and attention of the text rows, O(T D^2 + H R T) for R of them.
    Deviations: with budget.mode=layer_average, the published meaning, both parts run and the first
        leaves what makes the mean (1.6 ``keep`` at the released shares); with at_stage the first
        part runs alone, unless ``ratios`` are given. The budget counts patches only (officially the
        CLS row too). Rows take the place of their own token. Towers without a CLS token use
        attention received, and the row says so. The words that the official code calls salient need
        taggers to download; queries=question (ours) takes the question's tokens instead.

    Attributes:
        width: tokens looked at for each contextual one; 1 merges nothing.
        contextual: number of contextual tokens; None is 7 of 307, at least 1.
        layers: decoder layers whose inputs are cut; empty is 16 and 24 of 32, at the same relative
            depth.
        ratios: share of the tokens that entered the language model left after each cut; empty is
            0.5 and 0 with layer_average, and no cut with at_stage.
        queries: whose attention counts inside the language model: all text behind the pictures, or
            the question.
        variant: default or official_bug.
    """

    width: Count = 4
    contextual: Natural | None = None
    layers: tuple[Behind, ...] = ()
    ratios: tuple[Share, ...] = ()
    queries: Literal["text", "question"] = "text"
    variant: Reproduction = "default"
    centres: ClassVar[bool] = True
    category = "hybrid"
    aim = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers("duet", self.layers, self.ratios, least=1)

    @property
    def text_aware(self) -> bool:  # type: ignore[override]
        """The first part alone, which is what runs without shares, does not read the question."""
        return bool(self._shares)

    @property
    def _shares(self) -> tuple[float, ...]:
        return self.ratios or (OF_QWEN if self.variant == "official_bug" else ())

    def stages(self, depth: int) -> Sequence[Stage]:
        return self._cuts(depth, self._shares)

    def averaged(self, depth: int) -> Sequence[Stage]:
        return Cuts(tuple(self._cuts(depth, self._shares or HALF_AND_NONE))).averaged(depth)

    def _cuts(self, depth: int, shares: tuple[float, ...]) -> list[Stage]:
        layers = (self.layers or spread((16, 24), 32, depth)) if shares else ()
        if len(layers) != len(shares):
            raise UsageError(
                f"method.ratios has {len(shares)} shares for cuts at {len(layers)} layers"
            )
        bug = self.variant == "official_bug"
        cuts = [
            Stage(
                layer,
                partial(self._cut_as_qwen if bug else self._cut, number, shares),
                Needs(entering=True, question=self.queries == "question"),
                partial(_left_by_qwen if bug else _left, number, shares),
            )
            for number, layer in enumerate(layers)
        ]
        return [Stage(0, self.select, Needs(saliency=True, features=True)), *cuts]

    def select(self, ctx: StageContext) -> Selection:
        features, project = ctx.encoder_features()
        keys = ctx.vision.keys(ctx.family.saliency_layer).mean(1)
        # 307 tokens enter for the published "192", 7 of them contextual
        wanted = max(1, round(ctx.keep * 7 / 307)) if self.contextual is None else self.contextual
        sums = min(wanted, ctx.keep)
        order = ranking(ctx.saliency())
        dominant, rest = order[: ctx.keep - sums].sort().values, order[ctx.keep - sums :]
        looked_at = rest[: max(1, self.width * sums)]
        if not sums:
            return Selection(dominant)
        # even steps of a list in order of attention, not of space
        places = max(1, len(looked_at) // sums) * torch.arange(sums, device=order.device)
        anchors = looked_at[places]
        members = looked_at[complement(places, len(looked_at))]
        nearest = cosine(keys[members], keys[anchors]).argmax(1)
        joins = membership(nearest, sums, torch.ones_like(members)).to(features)
        mean = product(joins, features[members]) / joins.sum(1, keepdim=True).clamp_min(1)
        return Selection(
            torch.cat([dominant, anchors]),
            # anchor plus mean, not their mean: norms up to twice as large, as in VisionZip
            torch.cat([ctx.visual_hidden[dominant], project(features[anchors] + mean)]),
            members=lambda: pairs(joins, members, anchors, len(dominant)),
        )

    def _cut(self, number: int, shares: tuple[float, ...], ctx: StageContext) -> Selection:
        rows = ctx.question if self.queries == "question" else ctx.instruction
        return Selection(top_k(text_attention(ctx, ctx.layer, rows), ctx.keep))

    def _cut_as_qwen(self, number: int, shares: tuple[float, ...], ctx: StageContext) -> Selection:
        """The cut of a code that believes in fewer visual tokens than there are."""
        ctx.note("duet official_bug: no causal mask; later cuts rank the first tokens alone")
        assert ctx.query_key is not None
        qk, count = ctx.recorded(ctx.layer), len(ctx.visual)
        entered = ctx.memory.setdefault("entered", torch.tensor(count))
        believed, best = _believed(number, shares, int(entered))
        # what it does not believe in counts as text: these tokens ask, and stay
        start = ctx.visual[believed] if believed < count else ctx.visual[-1] + 1
        rows = torch.arange(int(start), len(ctx.hidden), device=qk.query.device)
        score = attention_rows(qk.query[:, rows], qk.key, qk.scaling).mean((0, 1))
        ranked = score[ctx.visual[:believed].to(score.device)]
        others = torch.arange(believed, count, device=score.device)
        return Selection(torch.cat([top_k(ranked, min(best, believed)), others]))


def _left(number: int, shares: tuple[float, ...], keep: int, total: int) -> int:
    """Tokens after a cut: a share of those that entered the language model."""
    # of what entered, not of what is present: pdrop_rank_drop keeps the first count
    return int(min(keep, total) * shares[number])


def _believed(number: int, shares: tuple[float, ...], entered: int) -> tuple[int, int]:
    """Visual tokens that the Qwen code believes in at a cut, and how many of them it keeps."""
    count, before = entered, 1.0
    for share in shares[:number]:
        count, before = int(count * share), share
    return int(count * before), int(count * shares[number])


def _left_by_qwen(number: int, shares: tuple[float, ...], keep: int, total: int) -> int:
    """Tokens after a cut of the Qwen code.

    >>> [_left_by_qwen(number, (0.5, 0.25), 64, 64) for number in (0, 1)]
    [32, 24]
    """
    entered = min(keep, total)
    left = entered
    for cut in range(number + 1):
        believed, best = _believed(cut, shares, entered)
        left += min(best, believed) - min(believed, left)
    return left
