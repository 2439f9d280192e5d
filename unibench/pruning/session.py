"""The hooks of one ``with`` block: a method attached to a model, and what happened to each
prompt.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import fmean
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from unibench.budget import Budget, BudgetMode, Positions, Scope, TextAfterVideo
from unibench.cost import Clock
from unibench.errors import UsageError
from unibench.facts import RECURRENT, SLIDING, misplaced
from unibench.ops import effective_rank, nearest_cosine
from unibench.pruning._transformers import (
    attention_of,
    cache_in,
    cached,
    checked_generation,
    is_compiled,
)
from unibench.pruning.after_video import text_behind
from unibench.pruning.arithmetic import Arithmetic
from unibench.pruning.calls import (
    EAGER,
    REMEMBERED,
    continued,
    refuse_forward,
    refuse_generation,
    refuse_labels,
    valid_in,
)
from unibench.pruning.chooser import Chooser, Plan
from unibench.pruning.cutting import (
    Rotary,
    Segment,
    Window,
    causal_mask,
    restricted_mask,
    take_tokens,
)
from unibench.pruning.decoding import Reads, Rereading
from unibench.pruning.deepstack import Deepstack
from unibench.pruning.encoder import EncoderMerger
from unibench.pruning.eviction import evict
from unibench.pruning.family import Family
from unibench.pruning.pixels import PixelPruner
from unibench.pruning.positions import Places
from unibench.pruning.prefill import Prefill, Reading
from unibench.pruning.prompt import Prompt, Shapes, digest, pixel_digests, prompt_of
from unibench.pruning.record import PrefillTime, PromptRecord, Spans, packed, scored
from unibench.pruning.refusal import after_states, cuts, facts_of, refusal
from unibench.pruning.stage import Method, Stage
from unibench.pruning.vision import Reuse, VisionRecorder

log = logging.getLogger(__name__)

_ATTACHED: WeakSet[Any] = WeakSet()  # models inside a block
_NUMBERS = itertools.count(1)  # of sessions: a cache says which one filled it
UNCACHED = 8  # prompts that may be continued in turns without a cache


class Session:
    """Prunes every prompt that a model reads while :meth:`installed`.

    Args:
        family: the adapter of the model.
        method: what to keep.
        budget: how much to keep.
        scope: ``"sequence"``: one budget for all visual tokens of a prompt; ``"item"``: one for
            each image or video; ``"tile"``: one for each tile or frame; ``"first_tile"``: one for
            the first tile of the prompt and one for all others.
        mode: ``"at_stage"``: the budget is what is left after the cuts; ``"layer_average"``: the
            mean over layers of the tokens processed.
        seed: for methods that draw.
        positions: where the tokens that go on stand: ``"original"``, ``"compact"`` (0, 1, 2, ...)
            or ``"centre"`` (a merged one amid its group); and two in which generated tokens go on
            elsewhere, see :mod:`unibench.pruning.positions`.
        after_state: whether tokens may be dropped that an earlier layer holds in its state: they go
            on in that layer, and :attr:`notes` say so.
        text_after_video: ``"max_side"`` (as transformers has it) or ``"last"``, see
            :mod:`unibench.pruning.after_video`.
        reuse: computes or remembers the features of a call of the vision tower, see
            :class:`~unibench.pruning.vision.VisionRecorder`.
        diagnose: also measure how alike the kept tokens are and how much attention they have,
            outside of all times.
        scores: also keep the scores by which the first cut chose, outside of all times.

    Attributes:
        family: the adapter of the model.
        samples: names of the samples of the next batch; None names them by their token ids.
        prompt: the batch read last.
        text_after_video: as given.
        plan: the method's cuts, and what they need recorded.
        changes_tower: whether the method merges inside the vision tower, or drops ahead of it.

    Raises:
        UsageError: the family cannot serve the method, the decoder cannot be pruned, a stage names
            a layer that does not exist, or the method reads the question of a model whose processor
            is not known.
    """

    def __init__(
        self,
        family: Family,
        method: Method,
        budget: Budget,
        *,
        scope: Scope = "sequence",
        mode: BudgetMode = "at_stage",
        seed: int = 0,
        positions: Positions = "original",
        after_state: bool = False,
        text_after_video: TextAfterVideo = "max_side",
        reuse: Reuse | None = None,
        diagnose: bool = False,
        scores: bool = False,
    ) -> None:
        if is_compiled(family.model):
            raise UsageError(
                "a compiled model cannot be pruned: lengths differ from layer to layer and from"
                " prompt to prompt, and hooks are not called; give the model without torch.compile"
            )
        facts = facts_of(family)
        rules: dict[str, Any] = {"mode": mode, "positions": positions, "after_state": after_state}
        if reason := refusal(method, budget, type(family), facts, **rules):
            raise UsageError(reason)
        if reason := misplaced(text_after_video, type(family).provides, facts.name):
            raise UsageError(reason)
        self.family, self.text_after_video = family, text_after_video
        self.samples: Sequence[str] | None = None
        self.prompt: Prompt | None = None
        stages = cuts(method, len(family.text_model.layers), mode)
        self.plan = Plan(method, stages, budget, scope, seed, positions, diagnose, scores)
        self._number = next(_NUMBERS)
        if self.plan.needs.question:
            family.margins  # noqa: B018 - refused here rather than in the middle of a prompt
        self._reading = Reading(Clock(next(family.model.parameters()).device))
        arithmetic = Arithmetic(self._reading)
        merger = self._merger(arithmetic)
        self.changes_tower = merger is not None
        self._chooser = Chooser(self.plan, family, self._reading, arithmetic)
        if remark := after_states(method, len(family.text_model.layers), mode, family.kinds):
            self.notes.add(remark)
        self._vision = VisionRecorder(family, self.plan.needs, self._reading, merger, reuse)
        self._deepstack = Deepstack(family, self._reading)
        self._rereading = Rereading(method, family)
        self._records: list[PromptRecord] = []
        self._unread: list[Spans] = []
        self._uncached: list[Prompt] = []

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuses to be copied: a model's hooks lead here, and a copy of the model would be pruned
        for ever.
        """
        raise UsageError(
            "a model cannot be copied, pickled or saved as a whole inside prune(); do it before the"
            " block (save_pretrained and state_dict work)"
        )

    @property
    def budget(self) -> Budget:
        """How much is kept."""
        return self.plan.budget

    @property
    def stages(self) -> dict[int, list[tuple[int, Stage]]]:
        """The cuts of the method by decoder layer, with their numbers."""
        return self.plan.by_layer

    @property
    def notes(self) -> set[str]:
        """Remarks of the method for the row."""
        return self._chooser.notes

    @property
    def idle(self) -> bool:
        """Whether nothing is remembered of a prompt but what decoding needs."""
        return self._reading.prefill is None

    def _merger(self, arithmetic: Arithmetic) -> EncoderMerger | PixelPruner | None:
        method = self.plan.method
        if method.drops_pixels:
            return PixelPruner(self.family, method, self.plan.seed, self._reading, arithmetic)
        # blocks behind the one that makes the features run as well, but nothing they make is read
        layer = self.family.feature_layer
        if not self.family.merges or layer is None:
            return None
        stages = method.encoder(layer % len(self.family.vit_blocks) + 1)
        if not stages:
            return None
        return EncoderMerger(self.family, method, stages, self.budget, self._reading, arithmetic)

    def take_records(self) -> list[PromptRecord]:
        """The records since the last call, one per sample, oldest first, and forget them."""
        taken = self._records[:]
        self._records.clear()
        return taken

    def take_reads(self) -> list[Reads]:
        """Visual tokens read at the decoding steps since the last call, of a method that chooses
        them anew at each, and forget them.
        """
        taken = self._rereading.reads[:]
        self._rereading.reads.clear()
        return taken

    def take_times(self) -> list[PrefillTime]:
        """The times of the prompts read since the last call, and forget them. Waits for a GPU."""
        taken = [spans.time(self._reading.clock) for spans in self._unread]
        self._unread.clear()
        return taken

    @contextmanager
    def installed(self) -> Iterator[Session]:
        """Attach for the length of the block; afterwards the model is as it was.

        Raises:
            UsageError: the model is being pruned already.
        """
        model, core, text_model = self.family.model, self.family.core, self.family.text_model
        with ExitStack() as stack:
            stack.enter_context(attached(model))
            stack.callback(self._reading.end)
            stack.callback(self._uncached.clear)
            for handle in (
                model.register_forward_pre_hook(self._before_model, with_kwargs=True),
                # also where the forward fails: a prompt read halfway is forgotten
                model.register_forward_hook(self._after_model, always_call=True),
                core.register_forward_pre_hook(self._before_core, with_kwargs=True),
                text_model.register_forward_pre_hook(self._before_text, with_kwargs=True),
                # not always_call: a prompt that failed inside the text model has no record
                text_model.register_forward_hook(self._after_text, with_kwargs=True),
            ):
                stack.callback(handle.remove)
            for index in range(self._first, len(text_model.layers)):
                hook = functools.partial(self._before_layer, index)
                handle = text_model.layers[index].register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            stack.enter_context(text_behind(self.family, self.text_after_video))
            stack.enter_context(self._vision.installed())
            stack.enter_context(self._chooser.tap.installed())
            stack.enter_context(self._deepstack.installed())
            stack.enter_context(self._rereading.installed())
            stack.enter_context(checked_generation(model, refuse_generation))
            stack.enter_context(EAGER.installed())
            yield self

    @property
    def _first(self) -> int:
        """The first decoder layer that is hooked: those before the first cut run as they are, but
        eviction may shorten any cache.
        """
        if len(set(self.family.kinds)) > 1:
            return 0  # each kind has positions of its own, which a stage may ask for
        layers = len(self.family.text_model.layers)
        rereads = layers if self._rereading.first is None else self._rereading.first
        return 0 if self.plan.method.evicts else min([*self.stages, rereads])

    @property
    def _shortens(self) -> bool:
        """Whether a prompt may leave the decoder with fewer tokens than it had."""
        return bool(self.stages)

    # -- hooks, in the order in which a forward meets them

    def _before_model(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("labels") is not None and self._shortens:
            raise refuse_labels()
        # begun() may return the prefill that the vision tower opened, which has no forward yet
        if self._reading.begun().forward_start is not None:
            self._reading.end()  # a forward that was interrupted left it
        self._reading.begun().forward_start = self._reading.clock.mark()

    def _before_core(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        prefill = self._reading.begun()
        # the text model is handed embeddings, so the ids are taken where they pass last
        prefill.ids = kwargs.get("input_ids", args[0] if args else None)
        prefill.mask = kwargs.get("attention_mask")

    def _before_text(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        cache = cache_in(kwargs)
        refuse_forward(self.family.text_model, cache)
        prefill = self._reading.begun()
        # an empty cache means a new prompt: transformers passes no cache_position since 5.6
        if cache is None or cache.get_seq_length() == 0:
            self._read(
                prefill,
                kwargs["inputs_embeds"],
                kwargs.get("attention_mask"),
                kwargs.get("position_ids"),
                without_cache=cache is None,
            )
            return args, self._deepstack.take(prefill, kwargs)
        self._reading.end()  # nothing is recorded of a decoding step
        return self._decode(prefill.ids, args, kwargs)

    def _before_layer(
        self, index: int, module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        prompt, prefill = self._reading.prompt, self._reading.prefill
        if prompt is None or not prompt.has_visual:
            return None
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        if prefill is not None:
            if kwargs.get("position_embeddings") is not None:
                # the text model hands every layer the cos and sin of the whole prompt, cut or not
                prefill.rotary.setdefault(self.family.kinds[index], kwargs["position_embeddings"])
            for number, stage in self.stages.get(index, ()):
                hidden = self.cut(prefill, number, stage, hidden)
            if prefill.current is not None:
                # decoding reads off this how long the layer's cache is and where its tokens stood
                prompt.segments[index] = prefill.current
            prefill.counts.append(
                # counting waits for a GPU, and nothing changes between two cuts
                prefill.visual_counts()
                if index in self.stages or not prefill.counts
                else prefill.counts[-1]
            )
        segment = prompt.segments.get(index)
        if prefill is None and (readable := self._readable(index, kwargs)) is not None:
            kernel = attention_of(self.family.text_model)
            mask = causal_mask(kernel, readable.to(hidden.device), hidden, padded=True)
            return args, {**kwargs, "attention_mask": mask}
        # this layer holds the whole prompt, yet a stage may have merged tokens in place
        if segment is None:
            return (hidden, *args[1:]), kwargs
        if (
            prefill is None
            and segment.end is not None
            and self.family.kinds[index] not in RECURRENT
        ):
            kwargs = {**kwargs, "position_embeddings": self._turned(segment, index, hidden, kwargs)}
        kwargs = {**kwargs, "attention_mask": self._mask(segment, index, hidden, kwargs)}
        if prefill is not None:
            if kwargs.get("position_embeddings") is not None:
                cos, sin = prefill.rotary_of(self.family.kinds[index])
                last = min(cos.shape[-2], hidden.shape[1])  # see _mask
                kwargs["position_embeddings"] = (
                    cos[..., -last:, :].to(hidden.device),
                    sin[..., -last:, :].to(hidden.device),
                )
            # gaps would read as packed sequences to flash attention
            kwargs["position_ids"] = None
            # Gemma 4 gives each layer a second input per token
            args = (*args[:1], *(_taken(arg, segment, prompt.length) for arg in args[1:]))
        if not args:
            return args, {**kwargs, "hidden_states": hidden}
        return (hidden, *args[1:]), kwargs

    def _after_text(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any
    ) -> None:
        prefill = self._reading.prefill
        if prefill is None:
            return
        cache = _cache_in(output)
        if prefill.prompt.has_visual and self.plan.method.evicts:
            if cache is None:
                self.notes.add("no cache: nothing was evicted before decoding")
            else:
                evict(prefill, self._chooser, cache)
        if cache is not None:
            # on the cache and not on the session: several prompts may be continued in turns
            setattr(cache, REMEMBERED, prefill.prompt)
        # a prompt read anew without a cache has its record from the first time
        if prefill.replay is None:
            self.record(prefill, self.digests(prefill))

    def _after_model(self, module: nn.Module, args: Any, output: Any) -> None:
        prefill = self._reading.prefill
        self._reading.end()
        if prefill is None or output is None:  # a decoding step, or a forward that failed
            return
        assert prefill.forward_start is not None
        prefill.spans.forward = (prefill.forward_start, self._reading.clock.mark())
        self._unread.append(prefill.spans)

    # -- reading a prompt

    def _read(
        self,
        prefill: Prefill,
        embeds: Tensor,
        mask: Any,
        positions: Tensor | None,
        *,
        without_cache: bool,
    ) -> None:
        """Locate the visual tokens of a batch before the first decoder layer."""
        if isinstance(mask, dict) or (mask is not None and mask.ndim == 4):
            mask = prefill.mask  # of which the model has made its own, one for each kind of layer
        if prefill.ids is None:
            raise UsageError(
                "visual tokens are found by their ids, and this prompt came as embeddings; give"
                " input_ids with the pictures (inputs_embeds cannot be pruned)"
            )
        valid = valid_in(mask, embeds)
        names = self.samples
        before = None
        if without_cache and not prefill.calls:
            # generate(use_cache=False) reads the grown prompt anew at each step: what was dropped
            # stays dropped
            before = next((one for one in self._uncached if _continues(one, prefill.ids)), None)
        if before is not None:
            prefill.replay, names = before.choices, before.names
            self._uncached.remove(before)
        prompt = prompt_of(self.family, prefill.ids, valid, positions, prefill.calls, names)
        prompt.session = self._number
        if before is not None:
            prompt.asked = before.asked
        if without_cache:
            # nobody says when a prompt without a cache has ended, so the oldest is forgotten
            self._uncached[:] = [prompt, *self._uncached[: UNCACHED - 1]]
        self.begin(prefill, prompt, embeds)

    def begin(self, prefill: Prefill, prompt: Prompt, embeds: Tensor) -> None:
        """The prompt of a prefill is known.

        Args:
            prefill: under way.
            prompt: that it reads.
            embeds: ``[B, L, D]`` what enters the first decoder layer.
        """
        self._note_length(prompt)
        self.prompt = self._reading.prompt = prefill.prompt = prompt
        prefill.embeds = embeds.detach() if self.plan.diagnose else None
        if self.plan.positions != "original":
            rotate = functools.partial(self.family.rotary, embeds)
            prefill.places = Places(self.plan.positions, prompt, rotate)

    def _note_length(self, prompt: Prompt) -> None:
        """Say so where a prompt has positions that the model was not built for."""
        limit = getattr(self.family.text_model.config, "max_position_embeddings", None)
        if limit is None:
            return
        # on three axes a picture takes fewer positions than it has tokens
        last = prompt.length if prompt.positions is None else int(prompt.positions.max()) + 1
        if last <= limit:
            return
        note = f"prompts longer than the {limit} tokens that the model was built for"
        if note not in self.notes:
            log.warning("%s: the first has %d", note, last)
        self.notes.add(note)

    def _decode(
        self, ids: Tensor | None, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """Positions of the tokens that continue a cached prompt; None where they are right."""
        embeds, cache = kwargs["inputs_embeds"], cache_in(kwargs)
        prompt, done = continued(cache, self._number, embeds, kwargs.get("attention_mask"))
        self._reading.prompt = prompt
        self._rereading.begin(prompt, embeds.shape[1])
        if prompt is None:
            return None
        # one token alone is a generated one; looking at its id at each step would wait for a GPU
        if embeds.shape[1] > 1 and ids is not None and bool(self.family.visual_kind(ids).any()):
            raise UsageError(
                "a picture in the continuation of a cached prompt cannot be pruned; give the whole"
                " prompt at once"
            )
        for segment in prompt.segments.values():
            segment.masks.clear()
            segment.turned.clear()
        first, before = prompt.segments.get(0), prompt.positions
        if first is None and before is None:
            return None
        # where layer 0 is short, positions read off its cache length would be too small; and Qwen
        # keeps the offset of the prompt read last on the model, which may be another prompt's
        steps = done + 1 + torch.arange(embeds.shape[1], device=embeds.device)
        kwargs["position_ids"] = (
            (prompt.length - 1 + steps)[None] if before is None else before[..., -1:] + steps
        )
        return args, kwargs

    def _turned(
        self, segment: Segment, index: int, hidden: Tensor, kwargs: dict[str, Any]
    ) -> Rotary:
        """cos and sin of the tokens of a decoding step in a layer whose tokens have moved."""
        kind = self.family.kinds[index]
        if kind not in segment.turned:
            # of the first layer of a kind: those that share its keys and values have no cache
            assert segment.end is not None
            done = cached(cache_in(kwargs), index)[0] - segment.length
            # what the cache holds beyond the segment has been generated
            at = segment.end + done + torch.arange(hidden.shape[1], device=segment.end.device)
            at = at.to(hidden.device)
            segment.turned[kind] = self.family.rotary(hidden, at if len(at) == 3 else at[0], kind)
        cos, sin = segment.turned[kind]
        return cos.to(hidden.device), sin.to(hidden.device)

    def _readable(self, index: int, kwargs: dict[str, Any]) -> Tensor | None:
        """``[B, keys]`` what a layer may read at a decoding step; None: all it holds."""
        if self._rereading.first is None or index < self._rereading.first:
            return None
        keys = cache_in(kwargs).get_seq_length(index) + 1  # the new token is stored later
        return self._rereading.readable(index, keys)

    def digests(self, prefill: Prefill) -> list[tuple[str, tuple[str, Shapes]]]:
        """Hashes of the ids, and of the pixels with their shapes, of each sample of a prefill."""
        prompt = prefill.prompt
        # hashing waits for a GPU, which a prefill that is timed must not
        with self._reading.timed(prefill.spans.excluded):
            rows = range(len(prompt.items))
            prompts = ["" if (ids := prompt.ids_of(row)) is None else digest(ids) for row in rows]
            pixels = pixel_digests(self.family, prompt, prefill.calls)
        return list(zip(prompts, pixels, strict=True))

    def record(self, prefill: Prefill, digests: Sequence[tuple[str, tuple[str, Shapes]]]) -> None:
        """Note what became of each sample of a prefill, whose :meth:`digests` are known."""
        prompt = prefill.prompt
        with self._reading.timed(prefill.spans.excluded):
            spreads = [_spread(prefill, row) for row in range(len(prompt.items))]
            scores = {row: scored(*by[1:]) for row, by in prefill.scores.items()}
        for row, visual in enumerate(prompt.visual_counts):
            # layers before the first hooked one read every token
            uncut = [visual] * (len(self.family.text_model.layers) - len(prefill.counts))
            products, others, uncounted = prefill.work_of(row)
            self._records.append(
                PromptRecord(
                    sample=prompt.names[row],
                    text_tokens=prompt.length - prompt.pads[row] - visual,
                    visual_tokens=visual,
                    processed=(*uncut, *(layer[row] for layer in prefill.counts)),
                    last=packed(prefill.left(row)),
                    items=prompt.items[row],
                    prompt_digest=digests[row][0],
                    pixel_digest=digests[row][1][0],
                    pixel_shapes=digests[row][1][1],
                    # counters report floating point operations, of which two make a multiply-add
                    method_macs=(products + others) / 2,
                    product_macs=products / 2,
                    uncounted=uncounted,
                    effective_rank=spreads[row][0],
                    nearest_cosine=spreads[row][1],
                    attention=fmean(shares) if (shares := prefill.attended.get(row)) else None,
                    scores=scores.get(row),
                )
            )

    # -- cutting

    def cut(self, prefill: Prefill, number: int, stage: Stage, hidden: Tensor) -> Tensor:
        """The input of the stage's layer without the tokens that the stage drops."""
        with self._reading.timed(prefill.spans.method):
            with torch.no_grad():
                if prefill.replay is None:
                    choices = self._chooser.choices(prefill, number, stage, hidden)
                else:
                    choices = prefill.replay[number]
            prefill.prompt.choices.append(choices)
            # outside of no_grad: the gradient of a kept token goes on to where it came from
            return prefill.cut(choices, hidden, type(self.plan.method).__name__)

    def _mask(
        self, segment: Segment, index: int, hidden: Tensor, kwargs: dict[str, Any]
    ) -> Tensor | None:
        """The attention mask of a layer after a cut, as the running kernel takes it."""
        kind, given = self.family.kinds[index], kwargs.get("attention_mask")
        if kind not in segment.masks:
            # one for all layers of a kind: their caches are of one length behind a cut, and layers
            # that share keys and values have no cache
            cache = cache_in(kwargs)
            make = self._recurrent_mask if kind in RECURRENT else self._attention_mask
            segment.masks[kind] = make(segment, index, hidden, cache, given)
        mask = segment.masks[kind]
        if mask is not None and mask.ndim == 4:
            # layers of Gemma 4 that share keys are given only the last token where no more is asked
            mask = mask[:, :, -hidden.shape[1] :]
        return None if mask is None else mask.to(hidden.device)

    def _recurrent_mask(
        self, segment: Segment, index: int, hidden: Tensor, cache: Any, given: Tensor | None
    ) -> Tensor | None:
        """``[B, L']`` True on the tokens that go into the state of a layer; None is all."""
        # nothing that follows a prompt is padding
        reading = self._reading.prefill is not None
        return segment.valid.to(hidden.device) if reading and segment.padded else None

    def _attention_mask(
        self, segment: Segment, index: int, hidden: Tensor, cache: Any, given: Tensor | None
    ) -> Tensor | None:
        sizes, kernel = segment.sizes, attention_of(self.family.text_model)
        plain = given is None and not segment.padded and sizes is None
        if self._reading.prefill is not None and plain:
            return None  # the kernel works from is_causal, and no window ends in the prompt
        width = self.family.window if self.family.kinds[index] in SLIDING else None
        if self._reading.prefill is not None and given is not None and given.ndim == 4:
            # where tokens have moved, a window reaches others than it did
            moved = None if segment.at is None or width is None else Window(width, segment.places)
            whole = (segment.origin, segment.valid)
            return restricted_mask(given, *whole, hidden.dtype, sizes, moved)
        if plain and width is None:
            # decoding one sample with sdpa or flash attention: the short cache is all there is
            return None
        past, held = (0, 0) if cache is None else cached(cache, index)
        grown = past + hidden.shape[1] - segment.length
        new = segment.valid.new_ones(len(segment.valid), grown)
        valid = torch.cat([segment.valid, new], 1).to(hidden.device)
        first = past - held  # keys that a cache of a window has let go
        if sizes is not None:
            sizes = torch.cat([sizes, sizes.new_ones(new.shape)], 1).to(hidden.device)[:, first:]
        window = None
        if width is not None:
            window = Window(width, self._places(segment, grown)[:, first:])
            if plain and bool(window.seen(hidden.shape[1])[:, -1].all()) and hidden.shape[1] == 1:
                return None
        return causal_mask(kernel, valid[:, first:], hidden, segment.padded, sizes, window)

    def _places(self, segment: Segment, grown: int) -> Tensor:
        """``[B, keys]`` where the tokens of a segment and those after it stand."""
        assert self.prompt is not None
        places = segment.places
        end = self.prompt.length if segment.end is None else segment.end[0].to(places)
        after = end + torch.arange(grown, device=places.device)
        return torch.cat([places, after.expand(len(places), -1)], 1)


@contextmanager
def attached(model: Any) -> Iterator[None]:
    """Nothing else prunes a model for the length of the block.

    Raises:
        UsageError: it is being pruned already.
    """
    if model in _ATTACHED:
        raise UsageError(
            "this model is being pruned already; to join two methods give unibench.Chain"
        )
    _ATTACHED.add(model)
    try:
        yield
    finally:
        _ATTACHED.discard(model)


def _spread(prefill: Prefill, row: int) -> tuple[float | None, float | None]:
    """How alike the tokens of a sample are that were kept, as they came to the language model:
    effective rank and mean nearest cosine; None where nothing is diagnosed.
    """
    if prefill.embeds is None or not prefill.prompt.items[row]:
        return None, None
    visual = prefill.prompt.visual[row].nonzero()[:, 0][prefill.left(row)]
    kept = prefill.embeds[row, visual.to(prefill.embeds.device)]
    return effective_rank(kept), nearest_cosine(kept)


def _taken(argument: Any, segment: Segment, length: int) -> Any:
    """An argument of a decoder layer that has a row per token of the whole prompt, for the tokens
    that are left.
    """
    # positional arguments of a layer have no names here: the shape tells a row per token
    if not isinstance(argument, Tensor) or argument.ndim != 3 or argument.shape[1] != length:
        return argument
    return take_tokens(argument, segment.origin.to(argument.device))


def _cache_in(output: Any) -> Any:
    """The cache in what the text model returns: a model output or, by configuration, a tuple."""
    parts = output if isinstance(output, tuple) else (cache_in(output),)
    return next((part for part in parts if hasattr(part, "get_seq_length")), None)


def _continues(before: Prompt, ids: Tensor | None) -> bool:
    """Whether the ids are those of the prompt before, with more generated at the end (beams change
    places).
    """
    if (
        before.ids is None
        or ids is None
        or len(ids) != len(before.ids)
        or ids.shape[1] <= before.length
    ):
        return False
    return torch.equal(ids[:, : before.asked], before.ids[:, : before.asked])
