"""What a method sees: one sample, unbatched and free of padding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from unibench.ops import at_least_float32
from unibench.pruning.attention import QueryKey, attention_rows, received_attention
from unibench.pruning.family import Family, Part, VisionCall


class Vision(Protocol):
    """Signals of the vision tower, one row per visual token of the context, float32.

    A token made of several patches has the mean of its patches; a token without a patch (a newline
    row) has ``fill``.
    """

    def received(self, layer: int, fill: float = 0.0, *, total: bool = False, whole: bool = False) -> Tensor:
        """Mean attention each token receives from all queries and heads, ``[N]``.

        Args:
            layer: of the tower.
            fill: value of tokens without a patch.
            total: the sum over queries instead, one on average, so that pictures or windows of different
                sizes compare.
            whole: attention over the whole picture, also where the tower attends in windows.
        """
        ...

    def cls(self, layer: int, fill: float = 0.0, *, one_head: bool = False, patches_only: bool = False) -> Tensor:
        """Attention of the CLS token, mean over heads, ``[N]``.

        Args:
            layer: of the tower.
            fill: value of tokens without a patch.
            one_head: join the heads into one wide head.
            patches_only: leave the keys of the prefix tokens out of the softmax.
        """
        ...

    def keys(self, layer: int) -> Tensor:
        """Keys after any rotation, ``[N, heads, head_dim]``."""
        ...

    def hidden(self, layer: int) -> Tensor:
        """Hidden states after a block, ``[N, C]``."""
        ...

    def cls_hidden(self, layer: int) -> Tensor:
        """Hidden state of the CLS token of each token's tile, after a block, ``[N, C]``."""
        ...

    @property
    def merged(self) -> Tensor | None:
        """``[N]`` True on the tokens that encoder stages left, None where there were none; the others are zero."""
        ...


@dataclass(frozen=True)
class Item:
    """One image or video of a sample.

    Attributes:
        start, stop: its tokens, as a range of the sample's ORIGINAL visual tokens.
        parts: the grids they lie in, in order; empty where that is not known.
    """

    start: int
    stop: int
    parts: tuple[Part, ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def separators(self) -> Tensor:
        """``[len]`` True on the tokens that show no patch."""
        marks = [mark for part in self.parts for mark in part.separators]
        return torch.tensor(marks or [False] * len(self), dtype=torch.bool)

    def tiles(self) -> list[Item]:
        """Each tile or frame as an item of its own, with the separators that follow it."""
        found, start = [], self.start
        for part in self.parts or (Part(1, 1, len(self)),):
            for frame in range(part.frames):
                last = frame == part.frames - 1
                tile = replace(part, frames=1, newline=part.newline if part.newline != "end" or last else "")
                found.append(Item(start, start + len(tile), (tile,)))
                start += len(tile)
        return found


@dataclass(frozen=True)
class Grid:
    """One tile, picture or frame: tokens in raster order. The separators of a picture are a grid of one column.

    Attributes:
        rows: ``[height * width]`` indices into ``ctx.visual``.
        height, width: in tokens.
        separators: whether these tokens show no patch (newline tokens).
        overview: whether it shows the whole picture, beside tiles that show it in detail.
    """

    rows: Tensor
    height: int
    width: int
    separators: bool = False
    overview: bool = False

    def __len__(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class StageContext:
    """One sample at one stage.

    Attributes:
        layer: the decoder layer whose input is cut.
        keep: number of tokens to keep here.
        total: number of visual tokens the sample had before any cut.
        hidden: ``[L, D]`` hidden states entering the layer, in the model's dtype.
        visual: ``[N]`` rows of ``hidden`` that are visual tokens of this context.
        origin: ``[L]`` index of each row in the unpruned sequence.
        vision_rows: ``[N]`` which of the sample's original visual tokens each one is.
        items: the images and videos, by original visual tokens.
        input_ids: ``[T]`` the unpruned prompt.
        vision: signals of the vision tower, if the method declared them.
        family: of the model.
        margins: tokens of the chat template after the last picture and at the end of the prompt, so that
            what lies between is the question.
        seed: of the run; :meth:`generator` derives from it.
        sample: name of the sample.
        query_key: queries and keys of a decoder layer.
        clip: embeddings of patches ``[N, P]`` and of the question ``[M, P]`` in the space of the CLIP that the
            vision tower comes from; None where no text tower is there.
        note: stamps a remark into the row, for example that a substitute was used for a signal.
        memory: of the sample, from the first stage of its prompt to the last eviction: what one stage
            leaves for the next.
        sample_visual: rows of all the sample's visual tokens, where this context has those of one item.
    """

    layer: int
    keep: int
    total: int
    hidden: Tensor
    visual: Tensor
    origin: Tensor
    vision_rows: Tensor
    items: tuple[Item, ...] = ()
    input_ids: Tensor | None = None
    vision: Vision | None = None
    family: Family | None = field(default=None, repr=False)
    margins: tuple[int, int] = (0, 0)
    seed: int = 0
    sample: str = ""
    query_key: Callable[[int], QueryKey] | None = field(default=None, repr=False)
    clip: Callable[[], tuple[Tensor, Tensor]] | None = field(default=None, repr=False)
    note: Callable[[str], None] = field(default=lambda text: None, repr=False)
    memory: dict[str, Tensor] = field(default_factory=dict, repr=False)
    sample_visual: Tensor | None = field(default=None, repr=False)

    @property
    def visual_hidden(self) -> Tensor:
        """Hidden states of the visual tokens, ``[N, D]``, float32 whatever the model's dtype (float64 stays)."""
        return at_least_float32(self.hidden[self.visual])

    @property
    def instruction(self) -> Tensor:
        """Rows of the text after the last visual token of the sample."""
        rows = self.visual if self.sample_visual is None else self.sample_visual
        last = int(rows[-1]) if len(rows) else -1
        return torch.arange(last + 1, len(self.hidden), device=self.hidden.device)

    @property
    def question(self) -> Tensor:
        """Rows of the question: the instruction without the chat template's own tokens."""
        lead, tail = self.margins
        rows = self.instruction
        asked = rows[lead : len(rows) - tail]
        return asked if len(asked) else rows

    def saliency(self, *, recomputed: bool = False) -> Tensor:
        """What the vision tower looks at, ``[N]``: attention of the CLS token at the family's layer.

        Towers without a CLS token have the mean attention that each token receives; the row says so.
        Declare ``Needs(saliency=True)``.

        Args:
            recomputed: as AngelSlim computes it anew: the CLS key is left out of the softmax; without a CLS
                token, attention over the whole picture, summed over queries.
        """
        assert self.family is not None and self.vision is not None
        layer = self.family.saliency_layer
        if self.family.prefix_tokens:
            return self.vision.cls(layer, patches_only=recomputed)
        self.note("received attention (no CLS token)")
        return self.vision.received(layer, total=True, whole=recomputed)  # a mean would favour small pictures

    def encoder_features(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Features before the projector ``[N, C]``, and the projector.

        Families whose projector joins patches have the projected features and the identity instead;
        the row says so. Declare ``Needs(features=True)``.
        """
        assert self.family is not None and self.vision is not None
        if self.family.feature_layer is None:
            self.note("projected features (the projector joins patches)")
            return self.visual_hidden, lambda features: features
        return self.vision.hidden(self.family.feature_layer), self.family.project

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        """Attention of decoder layer ``layer`` on the visual tokens, ``[heads, queries, N]``, float32.

        Args:
            layer: a declared layer after the last cut; or this stage's own, with ``Needs(entering=True)``.
            queries: rows of ``hidden``; default the last one.
        """
        qk = self._recorded(layer)
        rows = torch.tensor([len(self.hidden) - 1]) if queries is None else queries
        rows = rows.to(qk.query.device)
        return attention_rows(qk.query[:, rows], qk.key, qk.scaling, rows)[:, :, self.visual.to(qk.key.device)]

    def keys(self, layer: int, rows: Tensor | None = None) -> Tensor:
        """Post-RoPE keys at decoder layer ``layer``, ``[kv_heads, N, head_dim]``, float32.

        Args:
            layer: a declared layer after the last cut.
            rows: of ``hidden``; default the visual tokens.
        """
        key = self._recorded(layer).key
        return key[:, (self.visual if rows is None else rows).to(key.device)].float()

    def final_norm(self, hidden: Tensor) -> Tensor:
        """Hidden states through the norm in front of the language model's head, float32."""
        assert self.family is not None
        normed: Tensor = self.family.text_model.norm(at_least_float32(hidden))
        return normed.float()

    @property
    def separators(self) -> Tensor:
        """``[N]`` True on tokens that show no patch: newline tokens of LLaVA-NeXT and LLaVA-OneVision."""
        marks = torch.zeros(int(self.vision_rows.max()) + 1 if len(self.vision_rows) else 0, dtype=torch.bool)
        for item in self.items:
            marks[item.start : item.stop] = item.separators[: max(0, len(marks) - item.start)]
        return marks.to(self.vision_rows.device)[self.vision_rows]

    def grids(self) -> list[Grid]:
        """The token grids of the context: one per tile, picture or frame, all tokens in one of them.

        Newline tokens are a grid of their own, one column behind the grids of their picture. A picture of
        unknown layout has the grid nearest to a square that its tokens fill; where earlier stages took
        tokens with a patch, what is left of a picture is one row.
        """
        found = []
        separators, rows = self.separators, torch.arange(len(self.vision_rows), device=self.vision_rows.device)
        for item in self.items or (Item(0, self.total),):
            inside = (self.vision_rows >= item.start) & (self.vision_rows < item.stop)
            patches, rest = rows[inside & ~separators], rows[inside & separators]
            if len(patches) == len(item) - int(item.separators.sum()):
                found += _whole(item, patches)
            elif len(patches):
                found.append(Grid(patches, 1, len(patches)))
            if len(rest):
                found.append(Grid(rest, len(rest), 1, separators=True))
        return found

    def generator(self) -> torch.Generator:
        """A CPU generator seeded by (seed, sample, layer): the same draw in any order, batch or shard."""
        digest = hashlib.blake2b(f"{self.seed}/{self.sample}/{self.layer}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def _recorded(self, layer: int) -> QueryKey:
        if self.query_key is None:
            raise RuntimeError(f"attention of decoder layer {layer} was not declared in needs")
        return self.query_key(layer)


class RecordedVision:
    """:class:`Vision` over recorded calls.

    Args:
        family: packs patch values into tokens.
        calls: image call, then video call, as far as there were any.
        rows: ``[N]`` rows of the packed features that belong to this context.
    """

    def __init__(self, family: Family, calls: list[VisionCall], rows: Tensor) -> None:
        self._family, self._calls, self._rows = family, calls, rows

    def received(self, layer: int, fill: float = 0.0, *, total: bool = False, whole: bool = False) -> Tensor:
        def column(qk: QueryKey) -> Tensor:
            return received_attention(qk) * (qk.key.shape[2] if total else 1)

        def one(call: VisionCall) -> Tensor:
            recorded = self._attention(call, layer)
            pictures = self._family.whole(recorded, call) if whole else recorded
            return self._joined(call, [column(qk) for qk in pictures], layer)[..., None]

        return self._packed(one, fill)[..., 0]

    def cls(self, layer: int, fill: float = 0.0, *, one_head: bool = False, patches_only: bool = False) -> Tensor:
        if not self._family.prefix_tokens:
            raise RuntimeError(f"the vision tower of {self._family.model_types[0]} has no CLS token")

        skipped = self._family.prefix_tokens if patches_only else 0

        def row(qk: QueryKey) -> Tensor:
            query, key, scaling = qk.query[:, :, :1], qk.key[:, :, skipped:], qk.scaling
            if one_head:
                query, key = (part.transpose(1, 2).flatten(2)[:, None] for part in (query, key))
                scaling = query.shape[-1] ** -0.5
            return torch.nn.functional.pad(attention_rows(query, key, scaling).mean((1, 2)), (skipped, 0))

        return self._scores(layer, row, fill)

    def keys(self, layer: int) -> Tensor:
        heads = 0

        def one(call: VisionCall) -> Tensor:
            nonlocal heads
            recorded = self._attention(call, layer)
            heads = recorded[0].key.shape[1]
            return self._joined(call, [qk.key.float().transpose(1, 2).flatten(2) for qk in recorded], layer)

        tokens = self._packed(one)
        return tokens.reshape(len(tokens), heads, -1)

    @property
    def merged(self) -> Tensor | None:
        found = [torch.zeros(call.tokens, dtype=torch.bool) if call.merged is None else call.merged for call in self._calls]
        if all(call.merged is None for call in self._calls):
            return None
        return torch.cat([mask.to(self._rows.device) for mask in found])[self._rows]

    def hidden(self, layer: int) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            return self._family.strip(call.hidden[layer % len(self._family.vit_blocks)])

        return self._packed(one).float()

    def cls_hidden(self, layer: int) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            states = call.hidden[layer % len(self._family.vit_blocks)]
            return states[:, :1].expand_as(self._family.strip(states)).contiguous()

        return self._packed(one).float()

    def _joined(self, call: VisionCall, chunks: list[Tensor], layer: int) -> Tensor:
        """Per-chunk values of a layer for :meth:`Family.pack`; where tokens were merged, at their places."""
        block = layer % len(self._family.vit_blocks)
        return self._family.join(call.spread(chunks, block, self._family.prefix_tokens))

    def _attention(self, call: VisionCall, layer: int) -> list[QueryKey]:
        return call.attention[layer % len(self._family.vit_blocks)]

    def _scores(self, layer: int, reduce: Callable[[QueryKey], Tensor], fill: float) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            return self._joined(call, [reduce(qk) for qk in self._attention(call, layer)], layer)[..., None]

        return self._packed(one, fill)[..., 0]

    def _packed(self, per_call: Callable[[VisionCall], Tensor], fill: float = 0.0) -> Tensor:
        values = []
        for call in self._calls:
            packed = self._family.pack(per_call(call), call, fill)
            if len(packed) != call.tokens:
                raise RuntimeError(f"{type(self._family).__name__}.pack made {len(packed)} tokens of a call that gave {call.tokens}")
            values.append(packed)
        joined = torch.cat(values)
        return joined[self._rows.to(joined.device)]


def _whole(item: Item, rows: Tensor) -> list[Grid]:
    """The grids of a picture of which no patch is gone, given the rows of its patches."""
    found = []
    for part in item.parts or (Part(1, *_nearly_square(len(item))),):
        size = part.height * part.width
        taken, rows = rows[: part.frames * size], rows[part.frames * size :]
        found += [Grid(frame, part.height, part.width, overview=part.overview) for frame in taken.split(size)]
    return found


def _nearly_square(count: int) -> tuple[int, int]:
    """The factors of a number that are closest to each other, the smaller one first.

    >>> _nearly_square(96), _nearly_square(7)
    ((8, 12), (1, 7))
    """
    height = next(side for side in range(int(count**0.5), 0, -1) if count % side == 0) if count else 1
    return height, count // height
