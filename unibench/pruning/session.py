"""The hooks of one ``with`` block: a method attached to a model, and what happened to each prompt."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from unibench.budget import Budget
from unibench.cost import Clock, Mark
from unibench.cost.accounting import REFERENCE, processed
from unibench.errors import UsageError
from unibench.pruning.attention import AttentionTap, QueryKey
from unibench.pruning.context import RecordedVision, StageContext
from unibench.pruning.cutting import causal_mask, left_padded, segment, take_tokens
from unibench.pruning.deepstack import Deepstack
from unibench.pruning.encoder import EncoderMerger
from unibench.pruning.family import Family
from unibench.pruning.prompt import Choice, Prompt, prompt_of
from unibench.pruning.stage import BudgetError, Method, Stage, needs_of
from unibench.pruning.vision import VisionRecorder

_ATTACHED: WeakSet[Any] = WeakSet()  # models inside a block


@dataclass(frozen=True)
class PromptRecord:
    """What pruning did to one sample.

    Attributes:
        sample: its name.
        text_tokens: tokens of the prompt that are not visual.
        visual_tokens: visual tokens of the prompt.
        processed: visual tokens that entered each decoder layer.
    """

    sample: str
    text_tokens: int
    visual_tokens: int
    processed: tuple[int, ...]

    @property
    def kept(self) -> int:
        """Visual tokens that entered the last decoder layer."""
        return self.processed[-1]


@dataclass(frozen=True)
class PrefillTime:
    """Seconds of one prefill. ``prefill`` contains the other two.

    Attributes:
        prefill: vision tower, projector, language model and head, up to the first logits.
        vision: of which ``get_image_features`` and ``get_video_features``.
        method: of which scoring, choosing and cutting.
        end: when the first logits were ready.
    """

    prefill: float
    vision: float
    method: float
    end: Mark


@dataclass(frozen=True)
class _Spans:
    """Marks of one prefill, read when they are asked for: reading waits for a GPU."""

    forward: tuple[Mark, Mark]
    vision: tuple[tuple[Mark, Mark], ...]
    method: tuple[tuple[Mark, Mark], ...]
    merges: tuple[tuple[Mark, Mark], ...]  # of the method, inside the vision tower

    def time(self, clock: Clock) -> PrefillTime:
        start, end = self.forward
        # since transformers 5.17 generate() runs the vision tower before the first forward
        before = sum(clock.seconds(*span) for span in self.vision if clock.seconds(span[1], start) >= 0)
        vision, method, merges = (sum(clock.seconds(*span) for span in spans) for spans in (self.vision, self.method, self.merges))
        return PrefillTime(before + clock.seconds(start, end), vision - merges, method + merges, end)


class Session:
    """Prunes every prompt that the model reads while :meth:`installed`.

    Args:
        model: a Hugging Face image-text-to-text model.
        method: what to keep.
        family: the adapter of the model.
        budget: how much to keep.
        scope: ``"sequence"``: one budget for all visual tokens of a prompt; ``"item"``: one for each
            image or video.
        mode: ``"at_stage"``: the budget is what is left after the cuts; ``"layer_average"``: the mean over
            layers of the tokens processed.
        seed: for methods that draw.

    Attributes:
        samples: names of the samples of the next prompt; None names them by their token ids.
        margins: tokens of the chat template around the question, see :class:`StageContext`.
        notes: remarks of the method that belong into the row.
        records: one per sample read, oldest first.

    Raises:
        UsageError: the family cannot serve the method, the decoder cannot be pruned, or a stage names a
            layer that does not exist.
    """

    def __init__(
        self,
        model: Any,
        method: Method,
        family: Family,
        budget: Budget,
        *,
        scope: str = "sequence",
        mode: str = "at_stage",
        seed: int = 0,
    ) -> None:
        self.model, self.method, self.family, self.budget = model, method, family, budget
        self.scope, self.mode, self.seed = scope, mode, seed
        self.samples: Sequence[str] | None = None
        self.margins: tuple[int, int] = (0, 0)
        self.notes: set[str] = set()
        self.records: list[PromptRecord] = []
        self._unread: list[_Spans] = []
        self.layers: list[nn.Module] = list(family.text_model.layers)
        _check_decoder(family)
        if missing := method.requires - family.provides:
            raise UsageError(f"{type(method).__name__} needs {', '.join(sorted(missing))}, which {family.model_types[0]} does not have")
        depth = len(self.layers)
        cuts = method.averaged(depth) if mode == "layer_average" else method.stages(depth)
        stages = sorted(cuts, key=lambda stage: stage.layer)
        for stage in stages:
            if not 0 <= stage.layer < len(self.layers):
                raise UsageError(
                    f"{type(method).__name__} cuts at layer {stage.layer}, but the model has {len(self.layers)} decoder layers"
                )
        if mode == "layer_average" and budget.retention is not None:  # a mean out of reach is told before the first sample
            processed(stages, budget.keep(REFERENCE), REFERENCE, depth)
        self.stages: dict[int, list[tuple[int, Stage]]] = {}
        for number, stage in enumerate(stages):
            self.stages.setdefault(stage.layer, []).append((number, stage))
        # layers before the first cut run as they are; eviction alone may shorten any cache
        self._first = 0 if method.evicts else min(self.stages, default=len(self.layers))
        needs = needs_of(stages)
        entered = {stage.layer for stage in stages if stage.needs.entering}
        self._clock = Clock(next(model.parameters()).device)
        self.vision = VisionRecorder(family, needs, self._clock, self._merger())
        self._tap = AttentionTap(
            [family.llm_attention(layer) for layer in sorted({*needs.llm_attention, *entered})], lambda module: self._prefilling
        )
        self._entering: dict[int, QueryKey] = {}
        self._deepstack = Deepstack(family, lambda: self._prompt.current if self._prompt is not None else None)
        self._memory: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._prompt: Prompt | None = None
        self._ids: Tensor | None = None
        self._replay: list[list[Choice | None]] | None = None
        self._prefilling = False
        self._method_spans: list[tuple[Mark, Mark]] = []
        self._forward_start: Mark = 0.0

    @property
    def prompt(self) -> Prompt | None:
        """The prompt read last."""
        return self._prompt

    def _merger(self) -> EncoderMerger | None:
        layer = self.family.feature_layer
        if not self.family.merges or layer is None:
            return None
        stages = self.method.encoder(layer % len(self.family.vit_blocks) + 1)
        return EncoderMerger(self.family, stages, self.budget, self._clock) if stages else None

    def take_records(self) -> list[PromptRecord]:
        """The records since the last call, and forget them."""
        taken = self.records[:]
        self.records.clear()
        return taken

    def take_times(self) -> list[PrefillTime]:
        """The times of the prompts read since the last call, and forget them. Waits for a GPU."""
        taken = [spans.time(self._clock) for spans in self._unread]
        self._unread.clear()
        return taken

    @contextmanager
    def installed(self) -> Iterator[Session]:
        """Attach for the length of the block; afterwards the model is as it was.

        Raises:
            UsageError: the model is being pruned already.
        """
        if self.model in _ATTACHED:
            raise UsageError("this model is being pruned already; to join two methods give unibench.Chain")
        with ExitStack() as stack:
            _ATTACHED.add(self.model)
            stack.callback(_ATTACHED.discard, self.model)

            def attach(handle: Any) -> None:
                stack.callback(handle.remove)

            attach(self.model.register_forward_pre_hook(self._before_model))
            attach(self.model.register_forward_hook(self._after_model))
            attach(self.family.core.register_forward_pre_hook(self._before_core, with_kwargs=True))
            attach(self.family.text_model.register_forward_pre_hook(self._before_text, with_kwargs=True))
            attach(self.family.text_model.register_forward_hook(self._after_text, with_kwargs=True))
            for index in range(self._first, len(self.layers)):
                hook = functools.partial(self._before_layer, index)
                attach(self.layers[index].register_forward_pre_hook(hook, with_kwargs=True))
            stack.enter_context(self.vision.installed())
            stack.enter_context(self._tap.installed())
            stack.enter_context(self._deepstack.installed())
            yield self

    # -- hooks, in the order in which a forward meets them

    def _before_model(self, module: nn.Module, args: Any) -> None:
        self._forward_start = self._clock.mark()

    def _before_core(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._ids = kwargs.get("input_ids", args[0] if args else None)

    def _before_text(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        embeds, cache = kwargs["inputs_embeds"], kwargs.get("past_key_values")
        if getattr(cache, "is_compileable", False):
            raise UsageError("a static cache has one length for all layers and cannot be pruned; use the dynamic cache")
        self._prefilling = cache is None or cache.get_seq_length() == 0
        if self._prefilling:
            self._read(embeds, kwargs.get("attention_mask"), kwargs.get("position_ids"), without_cache=cache is None)
            return args, self._deepstack.take(kwargs)
        if self._prompt is None or cache is None:
            return None
        if embeds.shape[1] > 1 and self._ids is not None and bool(self.family.visual_kind(self._ids).any()):
            raise NotImplementedError("an image in the continuation of a cached prompt; give the whole prompt at once")
        for part in self._prompt.segments.values():
            part.mask = None
        first = self._prompt.segments.get(0)
        if first is None:
            return None
        # layer 0 is short, so positions read off its cache length would be too small
        done = cache.get_seq_length() - first.length
        steps = done + 1 + torch.arange(embeds.shape[1], device=embeds.device)
        before = self._prompt.positions
        kwargs["position_ids"] = (self._prompt.length - 1 + steps)[None] if before is None else before[..., -1:] + steps
        return args, kwargs

    def _before_layer(self, index: int, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        prompt = self._prompt
        if prompt is None or not prompt.has_visual:
            return None
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        if self._prefilling:
            if index == self._first:
                prompt.rotary = kwargs["position_embeddings"]
            for number, stage in self.stages.get(index, ()):
                hidden = self._cut(number, stage, hidden)
            if prompt.current is not None:
                prompt.segments[index] = prompt.current
            prompt.counts.append(self._visual_counts() if index in self.stages or not prompt.counts else prompt.counts[-1])
        part = prompt.segments.get(index)
        if part is None:
            return (hidden, *args[1:]), kwargs
        if not self._prefilling and not part.padded and kwargs.get("attention_mask") is None:
            return None  # decoding one sample with sdpa or flash attention: the short cache is all there is to it
        kwargs = {**kwargs, "attention_mask": self._mask(index, hidden, kwargs)}
        if self._prefilling:
            cos, sin = part.rotary
            kwargs["position_embeddings"] = cos.to(hidden.device), sin.to(hidden.device)
            kwargs["position_ids"] = None  # gaps would read as packed sequences to flash attention
        if not args:
            return args, {**kwargs, "hidden_states": hidden}
        return (hidden, *args[1:]), kwargs

    def _after_text(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not self._prefilling:
            return
        prompt = self._prompt
        assert prompt is not None
        if prompt.has_visual and self.method.evicts:
            if output.past_key_values is None:
                self.notes.add("no cache: nothing was evicted before decoding")
            else:
                self._evict(output.past_key_values)
        if self._replay is None:
            self._record(prompt)
        self._replay = None
        self._tap.clear()
        self._deepstack.clear()
        prompt.rotary = None

    def _after_model(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._prefilling:
            return
        self._prefilling = False
        forward = (self._forward_start, self._clock.mark())
        merges = tuple(self.vision.merger.spans) if self.vision.merger else ()
        self._unread.append(_Spans(forward, tuple(self.vision.spans), tuple(self._method_spans), merges))
        self.vision.clear()

    # -- reading a prompt

    def _read(self, embeds: Tensor, mask: Any, positions: Tensor | None, *, without_cache: bool) -> None:
        if isinstance(mask, dict) or (mask is not None and mask.ndim != 2):
            raise NotImplementedError("pruning needs a 2D attention mask")
        valid = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device) if mask is None else mask.bool()
        if not bool(valid[:, -1].all()):
            raise UsageError("a batch must be padded on the left: set padding_side='left' on the tokenizer")
        self._method_spans.clear()
        self._memory.clear()
        self._tap.clear()  # what a prompt left that failed halfway
        self._entering.clear()
        before, self._replay = self._prompt, None
        if without_cache and before is not None and not self.vision.calls and _continues(before, self._ids):
            # generate(use_cache=False) reads the grown prompt anew at each step: what was dropped stays dropped
            self._replay = before.choices
            self._prompt = prompt_of(self.family, self._ids, valid, positions, {}, before.names)
            self._prompt.asked = before.asked
        else:
            self._prompt = prompt_of(self.family, self._ids, valid, positions, self.vision.calls, self.samples)

    def _record(self, prompt: Prompt) -> None:
        for row, items in enumerate(prompt.items):
            visual = sum(len(item) for item in items)
            uncut = [visual] * (len(self.layers) - len(prompt.counts))
            processed = (*uncut, *(layer[row] for layer in prompt.counts))
            text = int(prompt.valid[row].sum()) - visual
            self.records.append(PromptRecord(prompt.names[row], text, visual, processed))

    def _visual_counts(self) -> list[int]:
        prompt = self._prompt
        assert prompt is not None
        if prompt.current is None:
            return [sum(len(item) for item in items) for items in prompt.items]
        seen = prompt.visual.gather(1, prompt.current.origin.to(prompt.visual.device)) & prompt.current.valid.to(prompt.visual.device)
        return [int(count) for count in seen.sum(1)]

    # -- cutting

    def _cut(self, number: int, stage: Stage, hidden: Tensor) -> Tensor:
        """The input of the stage's layer without the tokens that the stage drops."""
        prompt = self._prompt
        assert prompt is not None and prompt.rotary is not None
        start = self._clock.mark()
        with torch.no_grad():
            replay = self._replay
            if stage.needs.entering and replay is None:
                self._enter(stage.layer, hidden)
            choices = [self._choose(stage, hidden, row) for row in range(len(hidden))] if replay is None else replay[number]
            self._entering.clear()
            prompt.choices.append(choices)
            cut = self._apply(choices, hidden)
        self._method_spans.append((start, self._clock.mark()))
        return cut

    def _enter(self, layer: int, hidden: Tensor) -> None:
        """Queries and keys that a layer is about to compute, by its own attention module, whose output is not used."""
        prompt = self._prompt
        assert prompt is not None and prompt.rotary is not None
        cos, sin = prompt.rotary if prompt.current is None else prompt.current.rotary
        module, before = self.family.llm_attention(layer), self.layers[layer].input_layernorm
        assert isinstance(before, nn.Module)
        hidden = hidden.to(next(before.parameters()).device)  # accelerate moves it in front of the whole layer only
        module(
            hidden_states=before(hidden),
            position_embeddings=(cos.to(hidden.device), sin.to(hidden.device)),
            attention_mask=None,
            past_key_values=None,
        )
        (self._entering[layer],) = self._tap.take(module)

    def _choose(self, stage: Stage, hidden: Tensor, row: int) -> Choice | None:
        """Ask the method about one sample, item by item if budgets are per item."""
        kept: list[Tensor] = []
        values: list[Tensor | None] = []
        chosen = False
        for ctx in self._contexts(stage, hidden, row):
            selection = stage.select(ctx) if len(ctx.visual) else None
            if selection is None:
                kept.append(ctx.visual)
                values.append(None)
                continue
            chosen = True
            keep, order = selection.keep.to(hidden.device).sort()
            _check_selection(keep, ctx, stage, self.method)
            kept.append(ctx.visual[keep])
            values.append(None if selection.values is None else selection.values.to(hidden)[order])
        if not chosen:
            return None
        rows, order = torch.cat(kept).sort()
        merged = None
        if any(new is not None for new in values):
            merged = torch.cat([ctx.hidden[old] if new is None else new for old, new in zip(kept, values, strict=True)])[order]
        return Choice(ctx.origin[rows], merged)

    def _contexts(self, stage: Stage, hidden: Tensor, row: int) -> list[StageContext]:
        prompt = self._prompt
        assert prompt is not None
        origin, pad = prompt.origin_of(row)
        origin = origin.to(hidden.device)
        is_visual = prompt.visual[row].to(hidden.device)
        visual = is_visual[origin].nonzero()[:, 0]
        rank = (is_visual.cumsum(0) - 1)[origin[visual]]  # which original visual token each one is
        items = prompt.items[row]
        groups = [items] if self.scope == "sequence" else [(item,) for item in items]
        contexts = []
        for group in groups:
            inside = torch.zeros_like(rank, dtype=torch.bool)
            for item in group:
                inside |= (rank >= item.start) & (rank < item.stop)
            total = sum(len(item) for item in group)
            keep = self.budget.keep(total) if total else 0
            rows = visual[inside]
            contexts.append(
                StageContext(
                    layer=stage.layer,
                    keep=min(stage.count(keep, total) if stage.count and total else keep, len(rows)),
                    total=total,
                    hidden=hidden[row, pad:],
                    visual=rows,
                    origin=origin,
                    vision_rows=rank[inside],
                    items=group,
                    input_ids=None if prompt.ids is None else prompt.ids[row][prompt.valid[row].to(prompt.ids.device)],
                    vision=self._vision_of(row, origin[rows]),
                    family=self.family,
                    margins=self.margins,
                    seed=self.seed,
                    sample=prompt.names[row] if self.scope == "sequence" else f"{prompt.names[row]}/{group[0].start}",
                    query_key=functools.partial(self._query_key, row, len(origin)),
                    note=self.notes.add,
                    sample_visual=visual if self.scope == "item" else None,
                    memory=self._memory.setdefault((row, group[0].start if group else 0), {}),
                )
            )
        return contexts

    def _vision_of(self, row: int, origin: Tensor) -> RecordedVision:
        prompt = self._prompt
        assert prompt is not None
        rows = prompt.feature_row[row].to(origin.device)[origin]
        calls = [self.vision.calls[modality] for modality in ("image", "video") if modality in self.vision.calls]
        return RecordedVision(self.family, calls, rows)

    def _query_key(self, row: int, length: int, layer: int) -> QueryKey:
        entering = self._entering.get(layer)
        recorded = self._tap.of(self.family.llm_attention(layer)) if entering is None else [entering]
        if len(recorded) != 1:
            raise RuntimeError(f"decoder layer {layer} was not declared in needs, or lies after the cut")
        (qk,) = recorded
        pad = qk.query.shape[2] - length
        prompt = self._prompt
        assert prompt is not None
        part = None if entering is not None else prompt.segments.get(layer)
        seen = prompt.valid[row] if part is None else part.valid[row]
        if pad < 0 or (entering is None and int(seen.sum()) != length):  # the rows of another cut would be read as padding
            raise RuntimeError(f"decoder layer {layer} lies before an earlier cut's successor: its tokens are not this stage's")
        return QueryKey(qk.query[row, :, pad:], qk.key[row, :, pad:], qk.scaling)

    def _apply(self, choices: list[Choice | None], hidden: Tensor) -> Tensor:
        prompt = self._prompt
        assert prompt is not None and prompt.rotary is not None
        rows: list[Tensor] = []
        new = hidden
        for row, choice in enumerate(choices):
            origin, pad = prompt.origin_of(row)
            origin = origin.to(hidden.device)
            if choice is None:
                rows.append(torch.arange(len(origin), device=hidden.device) + pad)
                continue
            visual = prompt.visual[row].to(hidden.device)[origin]
            stays = ~visual | torch.isin(origin, choice.origin)
            if choice.values is not None:
                new = new.clone() if new is hidden else new
                new[row, torch.isin(origin, choice.origin).nonzero()[:, 0] + pad] = choice.values
            rows.append(stays.nonzero()[:, 0] + pad)
        held = [len(prompt.origin_of(row)[0]) for row in range(len(hidden))]
        if all(len(kept) == count for kept, count in zip(rows, held, strict=True)):
            return new
        index, valid = left_padded(rows)
        whole = torch.arange(hidden.shape[1], device=hidden.device).expand(len(hidden), -1)
        origins = whole if prompt.current is None else prompt.current.origin.to(hidden.device)
        prompt.current = segment(origins.gather(1, index), valid, prompt.rotary)
        return take_tokens(new, index)

    def _mask(self, index: int, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor | None:
        """The attention mask of a layer after a cut, as the running kernel takes it."""
        prompt = self._prompt
        assert prompt is not None
        part = prompt.segments[index]
        if kwargs.get("attention_mask") is None and not part.padded:
            return None  # the kernel works from is_causal
        if part.mask is None:
            cache = kwargs.get("past_key_values")
            past = 0 if cache is None else cache.get_seq_length(index)
            grown = past + hidden.shape[1] - part.length
            valid = torch.cat([part.valid, part.valid.new_ones(len(part.valid), grown)], 1).to(hidden.device)
            part.mask = causal_mask(self.family.text_model.config._attn_implementation, valid, hidden, part.padded)
        return part.mask if part.mask is None else part.mask.to(hidden.device)

    # -- evicting cache entries before decoding

    def _evict(self, cache: Any) -> None:
        prompt = self._prompt
        assert prompt is not None and prompt.rotary is not None
        for index in range(len(self.layers)):
            store = cache.layers[index]
            prompt.current = prompt.segments.get(index)
            blank = store.keys.new_empty(store.keys.shape[0], store.keys.shape[2], 0)
            rows, changed = [], False
            for row in range(len(blank)):
                origin, pad = prompt.origin_of(row)
                origin = origin.to(blank.device)
                stays = torch.ones(len(origin), dtype=torch.bool, device=blank.device)
                for ctx in self._contexts(Stage(index, self.method.select), blank, row):
                    keep = self.method.evict(ctx)
                    if keep is not None:
                        stays[ctx.visual] = False
                        stays[ctx.visual[keep.to(blank.device)]] = True
                changed |= not bool(stays.all())
                rows.append(stays.nonzero()[:, 0] + pad)
            if not changed:
                continue
            gather, valid = left_padded(rows)
            take = gather[:, None, :, None].expand(-1, store.keys.shape[1], -1, store.keys.shape[3])
            store.keys, store.values = store.keys.gather(2, take), store.values.gather(2, take)
            whole = torch.arange(blank.shape[1], device=blank.device).expand(len(rows), -1)
            origins = whole if prompt.current is None else prompt.current.origin.to(blank.device)
            prompt.segments[index] = segment(origins.gather(1, gather), valid, prompt.rotary)


def _check_decoder(family: Family) -> None:
    config = family.text_model.config
    types = set(getattr(config, "layer_types", None) or ())
    if types - {"full_attention"} or (not types and getattr(config, "sliding_window", None)):
        raise UsageError(f"{config.model_type}: only decoders with full attention in every layer can be pruned")


def _check_selection(keep: Tensor, ctx: StageContext, stage: Stage, method: Method) -> None:
    """``keep`` is sorted."""
    name = type(method).__name__
    if len(keep) and not (int(keep[0]) >= 0 and int(keep[-1]) < len(ctx.visual)):
        raise ValueError(f"{name} at layer {stage.layer} kept a token outside 0..{len(ctx.visual) - 1}")
    if bool((keep[1:] == keep[:-1]).any()):
        raise ValueError(f"{name} at layer {stage.layer} kept a token twice")
    if stage.exact and len(keep) != ctx.keep:
        raise BudgetError(f"{name} at layer {stage.layer} kept {len(keep)} of {len(ctx.visual)} visual tokens; the budget is {ctx.keep}")


def _continues(before: Prompt, ids: Tensor | None) -> bool:
    """Whether the ids are those of the prompt before, with more generated at the end (beams change places)."""
    if before.ids is None or ids is None or len(ids) != len(before.ids) or ids.shape[1] <= before.length:
        return False
    return torch.equal(ids[:, : before.asked], before.ids[:, : before.asked])
