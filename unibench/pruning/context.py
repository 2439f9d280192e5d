"""What a method sees: one sample, unbatched and free of padding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from unibench.ops import at_least_float32
from unibench.pruning.attention import QueryKey, attention_rows, rotated_back
from unibench.pruning.family import Family
from unibench.pruning.layout import Grid, Item, Tiling, grids_of, separators_of, tiling_of
from unibench.pruning.signals import Pooled, Vision


class _Missing:
    """Stands in for what a context was not given; using it raises."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying asks for methods that may be missing
            raise AttributeError(name)
        raise RuntimeError(f"this context was made without {self._what}")


def _no_rotary(layer: int) -> tuple[Tensor, Tensor]:
    raise RuntimeError("this context was made without rotary embeddings")


def unheard(text: str) -> None:
    """Takes a remark and drops it."""


def unseen(name: str, tensor: Tensor) -> None:
    """Takes a tensor and drops it."""


class Lens:
    """A wrapper's corrections of what a method reads from its context. Each function returns its
    argument unless a wrapper overrides it.
    """

    def geometry(self, ctx: StageContext, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features ``[N, C]`` to compare tokens by, and a preference for each, ``[N]``; None is
        none.
        """
        return features, None

    def attention(self, ctx: StageContext, given: Tensor) -> Tensor:
        """Attention of a decoder layer on the visual tokens, ``[heads, queries, N]``."""
        return given

    def saliency(self, ctx: StageContext, seen: Tensor) -> Tensor:
        """What the vision tower looks at, ``[N]``."""
        return seen


@dataclass(frozen=True)
class Share:
    """What part of a sample a context is.

    Attributes:
        visual: rows of all the sample's visual tokens, where the context has those of one item;
            None where it has them all.
        withheld: rows of separators that the stage is not shown; None is none.
        spare: how many of them stay.
    """

    visual: Tensor | None = None
    withheld: Tensor | None = None
    spare: int = 0


@dataclass(frozen=True)
class StageContext:
    """One sample at one stage: all that :meth:`Method.select` may read.

    The engine fills every field; whoever makes a context by hand gives the first seven, and of the
    others what the method declares in its needs. Another engine does the same.

    Attributes:
        layer: the decoder layer whose input is cut.
        keep: number of tokens to keep here.
        total: number of visual tokens the sample had before any cut.
        hidden: ``[L, D]`` hidden states entering the layer, in the model's dtype.
        visual: ``[N]`` rows of ``hidden`` that are visual tokens of this context.
        origin: ``[L]`` index of each row in the unpruned sequence.
        vision_rows: ``[N]`` which of the sample's original visual tokens each one is.
        items: the images and videos, by original visual tokens.
        input_ids: ``[T]`` the unpruned prompt; None where the model was given embeddings.
        vision: signals of the vision tower, as far as the method declared them.
        family: of the model.
        margins: tokens of the chat template after the last picture and at the end of the prompt, so
            that what lies between is the question; None asks the family.
        closing: rows behind the last visual token that are no instruction, see
            :attr:`Family.closing`.
        seed: of the run; :meth:`generator` derives from it.
        sample: name of the sample.
        query_key: queries and keys of a decoder layer, for :meth:`attention` and :meth:`keys`.
        rotary: cos and sin of the rows of ``hidden``, ``[L, head_dim]`` each; see
            :meth:`rotated_back`.
        deepstack: features that the first decoder layers add to the visual tokens, ``[N, levels *
            D]``, float32; None where the family has none.
        clip: embeddings of patches ``[N, P]`` and of the question ``[M, P]`` in the space of the
            CLIP that the vision tower comes from; None where the model came without it. Declare
            ``Needs(clip=True)``.
        pooling: the tiles or frames as the pooling head of their tower (SigLIP's) sees them; None
            where the model came without it. Declare ``Needs(pooling=True)``.
        note: stamps a remark into the row, for example that a substitute was used for a signal.
        log: shows an intermediate tensor under a name to the author of a method (``debug``); in
            every other run it is dropped, at the price of a call.
        memory: of the sample, from the first stage of its prompt to the last eviction: what one
            stage leaves for the next.
        share: what part of the sample the context is; for the engine.
        lenses: of the wrappers around the method, the innermost last.
        padded: ``[N]`` True on tokens that show nothing but padding; None where there are none. No
            family marks any: the processors of Hugging Face crop the middle, or their models cut
            the padding off.
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
    vision: Vision = field(default=cast(Vision, _Missing("signals of the vision tower")))
    family: Family = field(default=cast(Family, _Missing("the model's family")), repr=False)
    margins: tuple[int, int] | None = (0, 0)
    closing: int = 0
    seed: int = 0
    sample: str = ""
    query_key: Callable[[int], QueryKey] | None = field(default=None, repr=False)
    rotary: Callable[[int], tuple[Tensor, Tensor]] = field(default=_no_rotary, repr=False)
    deepstack: Callable[[], Tensor | None] = field(default=lambda: None, repr=False)
    clip: Callable[[], tuple[Tensor, Tensor]] | None = field(default=None, repr=False)
    pooling: Callable[[], Pooled] | None = field(default=None, repr=False)
    note: Callable[[str], None] = field(default=unheard, repr=False)
    log: Callable[[str, Tensor], None] = field(default=unseen, repr=False)
    memory: dict[str, Tensor] = field(default_factory=dict, repr=False)
    share: Share = field(default=Share(), repr=False)
    lenses: tuple[Lens, ...] = ()
    padded: Tensor | None = None

    @property
    def visual_hidden(self) -> Tensor:
        """Hidden states of the visual tokens, ``[N, D]``, float32 whatever the model's dtype
        (float64 stays).
        """
        return at_least_float32(self.hidden[self.visual])

    @property
    def instruction(self) -> Tensor:
        """Rows of the text after the last visual token of the sample, without the :attr:`closing`
        ones.
        """
        return instruction_of(self._all_visual, len(self.hidden), self.closing)

    @property
    def text(self) -> Tensor:
        """Rows of all text: before, between and after the visual tokens of the sample."""
        is_text = torch.ones(len(self.hidden), dtype=torch.bool, device=self.visual.device)
        is_text[self._all_visual] = False
        if self.share.withheld is not None:
            is_text[self.share.withheld] = False
        return is_text.nonzero()[:, 0]

    @property
    def question(self) -> Tensor:
        """Rows of the question: the instruction without the chat template's own tokens. Declare
        ``Needs(question=True)``.
        """
        margins = self.family.margins if self.margins is None else self.margins
        return question_of(self._all_visual, len(self.hidden), margins, self.closing)

    @property
    def _all_visual(self) -> Tensor:
        return self.visual if self.share.visual is None else self.share.visual

    @property
    def withheld(self) -> Tensor:
        """Rows of separators that a stage which reads the vision tower is not shown."""
        return self.visual[:0] if self.share.withheld is None else self.share.withheld

    @property
    def spare(self) -> int:
        """How many of :attr:`withheld` stay, because the budget exceeds the tokens shown."""
        return self.share.spare

    def question_text(self) -> str | None:
        """The question in words; None where the model came without a tokenizer, or was given
        embeddings. Declare ``Needs(question=True)``.
        """
        if self.input_ids is None or not self.family.has_words:
            return None
        return self.family.text(self.question_ids()).strip()

    def question_ids(self) -> Tensor:
        """Token ids of the question, ``[Q]``. Declare ``Needs(question=True)``."""
        assert self.input_ids is not None
        # origin counts the padding of a batch, the ids have none; the prompt's last token stays
        padding = int(self.origin[-1]) + 1 - len(self.input_ids)
        return self.input_ids[(self.origin[self.question] - padding).to(self.input_ids.device)]

    def saliency(self, *, recomputed: bool = False) -> Tensor:
        """What the vision tower looks at, ``[N]``: attention of the CLS token at the family's
        layer.

        Towers without a CLS token have the mean attention that each token receives; the row says
        so. Declare ``Needs(saliency=True)``.

        Args:
            recomputed: as AngelSlim computes it anew: the CLS key is left out of the softmax;
                without a CLS token, attention over the whole picture, summed over queries.
        """
        layer = self.family.saliency_layer
        if self.family.prefix_tokens:
            seen = self.vision.cls(layer, patches_only=recomputed)
        else:
            self.note("received attention (no CLS token)")
            # a mean would favour small pictures
            seen = self.vision.received(layer, total=True, whole=recomputed)
        for lens in self.lenses:
            seen = lens.saliency(self, seen)
        return seen

    def geometry(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """How tokens are compared: features ``[N, C]``, and a preference for each token ``[N]``
        from 0 to 1 that gains are multiplied by; None is none. Declare ``corrected``.

        Args:
            features: ``[N, C]`` that the method compares tokens by.
        """
        preference = None
        for lens in self.lenses:
            features, weight = lens.geometry(self, features)
            if weight is not None:
                preference = weight if preference is None else preference * weight
        return features, preference

    def encoder_features(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Features before the projector ``[N, C]``, and the projector.

        Families whose projector joins patches have the projected features and the identity instead;
        the row says so. Declare ``Needs(features=True)``.
        """
        if self.family.feature_layer is None:
            self.note("projected features (the projector joins patches)")
            return self.visual_hidden, lambda features: features
        return self.vision.hidden(self.family.feature_layer), self.family.project

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        """Attention of decoder layer ``layer`` on the visual tokens, ``[heads, queries, N]``,
        float32.

        Args:
            layer: a declared layer after the last cut; or this stage's own, with
                ``Needs(entering=True)``.
            queries: rows of ``hidden``; default the last one.
        """
        qk = self.recorded(layer)
        # the last token of the prompt sees every other one, as FastV reads it
        rows = torch.tensor([len(self.hidden) - 1]) if queries is None else queries
        rows = rows.to(qk.query.device)
        # softmax over all keys first, columns afterwards: text takes its share of the attention
        given = attention_rows(qk.query[:, rows], qk.key, qk.scaling, rows)[
            :, :, self.visual.to(qk.key.device)
        ]
        for lens in self.lenses:
            given = lens.attention(self, given)
        return given

    def rotated_back(self, layer: int) -> QueryKey:
        """Queries and keys of decoder layer ``layer`` before rotary embedding, ``[heads, L,
        head_dim]`` and ``[kv_heads, L, head_dim]``, float32.

        Args:
            layer: a declared layer after the last cut; of the layer about to run, see
                :meth:`unrotated`.
        """
        qk = self.recorded(layer)
        cos, sin = (part.to(qk.query.device) for part in self.rotary(layer))
        known = isinstance(self.family, Family)  # not where a context was made by hand
        return (self.family.rotated_back if known else rotated_back)(qk, (cos, sin))

    def keys(self, layer: int, rows: Tensor | None = None) -> Tensor:
        """Post-RoPE keys at decoder layer ``layer``, ``[kv_heads, N, head_dim]``, float32.

        Args:
            layer: a declared layer after the last cut.
            rows: of ``hidden``; default the visual tokens.
        """
        key = self.recorded(layer).key
        return key[:, (self.visual if rows is None else rows).to(key.device)].float()

    def unrotated(self) -> QueryKey:
        """Queries ``[heads, L, head_dim]`` and keys ``[kv_heads, L, head_dim]`` of the layer about
        to run, on the states that enter it, before their rotation, float32.
        """
        qk = self.family.unrotated(self.layer, self.hidden)
        return QueryKey(qk.query[0].float(), qk.key[0].float(), qk.scaling)

    def final_norm(self, hidden: Tensor) -> Tensor:
        """Hidden states through the norm in front of the language model's head, float32."""
        normed: Tensor = self.family.text_model.norm(at_least_float32(hidden))
        return normed.float()

    def input_norm(self, hidden: Tensor) -> Tensor:
        """Hidden states through the norm in front of the layer about to run, float32."""
        layer: Any = self.family.text_model.layers[self.layer]
        normed: Tensor = layer.input_layernorm(at_least_float32(hidden))
        return normed.float()

    @property
    def separators(self) -> Tensor:
        """``[N]`` True on tokens that show no patch: newline tokens of LLaVA-NeXT and
        LLaVA-OneVision.

        Stages that read the vision tower do not see them, see
        :class:`~unibench.pruning.stage.Needs`.
        """
        return separators_of(self.items, self.vision_rows)

    def grids(self) -> list[Grid]:
        """The token grids of the context, one per tile, picture or frame, see
        :func:`~unibench.pruning.layout.grids_of`.
        """
        return grids_of(self.items or (Item(0, self.total),), self.vision_rows)

    def tilings(self) -> list[tuple[Tensor, Tiling | None]]:
        """The tokens with a patch of each picture, as indices into :attr:`visual`, and how they lie
        in an overview and tiles, where the picture has both and none of them is gone.
        """
        found: list[tuple[Tensor, Tiling | None]] = []
        index = torch.arange(len(self.visual), device=self.visual.device)
        separators = self.separators
        # a context made by hand may have no layout: all its tokens are then one picture
        for item in self.items or (Item(0, self.total),):
            inside = (self.vision_rows >= item.start) & (self.vision_rows < item.stop)
            rows, tiling = index[inside & ~separators], None
            whole = len(rows) + sum(item.separators) == len(item)
            if whole and any(part.overview for part in item.parts):
                tiles = sum(part.frames for part in item.parts if not part.overview)
                tiling = tiling_of(item, rows, self.vision.tiles_across(rows, tiles))
            found.append((rows, tiling))
        return found

    def generator(self) -> torch.Generator:
        """A CPU generator seeded by (seed, sample, layer): the same draw in any order, batch or
        shard.
        """
        # Python's hash() of a string differs from process to process
        digest = hashlib.blake2b(
            f"{self.seed}/{self.sample}/{self.layer}".encode(), digest_size=8
        ).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def recorded(self, layer: int) -> QueryKey:
        """Queries ``[heads, L, head_dim]`` and keys ``[kv_heads, L, head_dim]`` of a declared
        decoder layer, as its attention was given them.

        Raises:
            RuntimeError: the layer was not declared, or lies before an earlier cut.
        """
        if self.query_key is None:
            raise RuntimeError(f"attention of decoder layer {layer} was not declared in needs")
        return self.query_key(layer)


@dataclass(frozen=True)
class StepContext:
    """One sample at one decoding step, between two decoder layers, see :meth:`Method.reselect`.

    Attributes:
        layer: the decoder layer that has just run.
        attention: ``[heads, N]`` attention of the new token on the visual tokens in its cache,
            float32.
        vision_rows: ``[N]`` which of the sample's original visual tokens each one is.
        separators: ``[N]`` True on tokens that show no patch.
        memory: of the sample, from its first decoding step on.
    """

    layer: int
    attention: Tensor
    vision_rows: Tensor
    separators: Tensor
    memory: dict[str, Tensor]


def instruction_of(visual: Tensor, length: int, closing: int = 0) -> Tensor:
    """Rows of the text after the last of the visual tokens ``[N]`` of a sequence, and after the
    ``closing`` rows that follow it.
    """
    last = int(visual[-1]) + closing if len(visual) else -1
    return torch.arange(min(last + 1, length), length, device=visual.device)


def question_of(visual: Tensor, length: int, margins: tuple[int, int], closing: int = 0) -> Tensor:
    """Rows of the question, all of the instruction where the margins leave none.

    Args:
        visual: ``[N]`` rows of the sample's visual tokens, rising.
        length: of the sequence.
        margins: see :attr:`Family.margins`.
        closing: see :attr:`Family.closing`.
    """
    lead, tail = margins
    rows = instruction_of(visual, length, closing)
    # not rows[lead:-tail], which is empty for a template without a tail
    asked = rows[lead : len(rows) - tail]
    return asked if len(asked) else rows
