"""The hooks of one ``with`` block: a method attached to a model, and what happened to each
prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn

from unibench.budget import Budget
from unibench.cost import Clock, Mark
from unibench.errors import UsageError
from unibench.ops import Work, counted
from unibench.pruning.chooser import Chooser
from unibench.pruning.cutting import causal_mask
from unibench.pruning.deepstack import Deepstack
from unibench.pruning.encoder import EncoderMerger
from unibench.pruning.eviction import evict
from unibench.pruning.family import Family
from unibench.pruning.prompt import Choice, Prompt, prompt_of
from unibench.pruning.record import PrefillTime, PromptRecord, Spans, packed
from unibench.pruning.refusal import Mode, cuts, facts_of, refusal
from unibench.pruning.stage import Method, Stage, needs_of
from unibench.pruning.vision import VisionRecorder

_ATTACHED: WeakSet[Any] = WeakSet()  # models inside a block


class Session:
    """Prunes every prompt that the model reads while :meth:`installed`.

    Args:
        model: a Hugging Face image-text-to-text model.
        method: what to keep.
        family: the adapter of the model.
        budget: how much to keep.
        scope: ``"sequence"``: one budget for all visual tokens of a prompt; ``"item"``: one for
            each image or video; ``"tile"``: one for each tile or frame.
        mode: ``"at_stage"``: the budget is what is left after the cuts; ``"layer_average"``: the
            mean over layers of the tokens processed.
        seed: for methods that draw.

    Attributes:
        samples: names of the samples of the next prompt; None names them by their token ids.
        margins: tokens of the chat template around the question, see :class:`StageContext`.
        records: one per sample read, oldest first.
        chooser: asks the method.

    Raises:
        UsageError: the family cannot serve the method, the decoder cannot be pruned, or a stage
            names a layer that does not exist.
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
        self.samples: Sequence[str] | None = None
        self.margins: tuple[int, int] = (0, 0)
        self.records: list[PromptRecord] = []
        self._unread: list[Spans] = []
        self.layers: list[nn.Module] = list(family.text_model.layers)
        counted_as = cast(Mode, mode)
        if reason := refusal(method, budget, type(family), facts_of(family), mode=counted_as):
            raise UsageError(reason)
        stages = cuts(method, len(self.layers), counted_as)
        self.stages: dict[int, list[tuple[int, Stage]]] = {}
        for number, stage in enumerate(stages):
            self.stages.setdefault(stage.layer, []).append((number, stage))
        # layers before the first cut run as they are; eviction alone may shorten any cache
        self._first = 0 if method.evicts else min(self.stages, default=len(self.layers))
        self._clock = Clock(next(model.parameters()).device)
        self.vision = VisionRecorder(family, needs_of(stages), self._clock, self._merger())
        self.chooser = Chooser(
            method,
            stages,
            family,
            budget,
            scope=scope,
            seed=seed,
            vision=self.vision,
            listening=lambda: self._prefilling,
        )
        self._deepstack = Deepstack(
            family, lambda: self._prompt.current if self._prompt is not None else None
        )
        self._prompt: Prompt | None = None
        self._ids: Tensor | None = None
        self._replay: list[list[Choice | None]] | None = None
        self._prefilling = False
        self._method_spans: list[tuple[Mark, Mark]] = []
        self._forward_start: Mark = 0.0
        self._work = Work()

    @property
    def prompt(self) -> Prompt | None:
        """The prompt read last."""
        return self._prompt

    @property
    def notes(self) -> set[str]:
        """Remarks of the method that belong into the row."""
        return self.chooser.notes

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
            raise UsageError(
                "this model is being pruned already; to join two methods give unibench.Chain"
            )
        with ExitStack() as stack:
            _ATTACHED.add(self.model)
            stack.callback(_ATTACHED.discard, self.model)

            def attach(handle: Any) -> None:
                stack.callback(handle.remove)

            attach(self.model.register_forward_pre_hook(self._before_model))
            attach(self.model.register_forward_hook(self._after_model))
            attach(self.family.core.register_forward_pre_hook(self._before_core, with_kwargs=True))
            attach(
                self.family.text_model.register_forward_pre_hook(
                    self._before_text, with_kwargs=True
                )
            )
            attach(self.family.text_model.register_forward_hook(self._after_text, with_kwargs=True))
            for index in range(self._first, len(self.layers)):
                hook = functools.partial(self._before_layer, index)
                attach(self.layers[index].register_forward_pre_hook(hook, with_kwargs=True))
            stack.enter_context(self.vision.installed())
            stack.enter_context(self.chooser.tap.installed())
            stack.enter_context(self._deepstack.installed())
            self._work = stack.enter_context(counted())
            yield self

    # -- hooks, in the order in which a forward meets them

    def _before_model(self, module: nn.Module, args: Any) -> None:
        self._forward_start = self._clock.mark()

    def _before_core(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._ids = kwargs.get("input_ids", args[0] if args else None)

    def _before_text(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        embeds, cache = kwargs["inputs_embeds"], kwargs.get("past_key_values")
        if getattr(cache, "is_compileable", False):
            raise UsageError(
                "a static cache has one length for all layers and cannot be pruned; use the dynamic"
                " cache"
            )
        self._prefilling = cache is None or cache.get_seq_length() == 0
        if self._prefilling:
            self._read(
                embeds,
                kwargs.get("attention_mask"),
                kwargs.get("position_ids"),
                without_cache=cache is None,
            )
            return args, self._deepstack.take(kwargs)
        if self._prompt is None or cache is None:
            return None
        if (
            embeds.shape[1] > 1
            and self._ids is not None
            and bool(self.family.visual_kind(self._ids).any())
        ):
            raise UsageError(
                "a picture in the continuation of a cached prompt cannot be pruned; give the whole"
                " prompt at once"
            )
        for part in self._prompt.segments.values():
            part.mask = None
        first = self._prompt.segments.get(0)
        if first is None:
            return None
        # layer 0 is short, so positions read off its cache length would be too small
        done = cache.get_seq_length() - first.length
        steps = done + 1 + torch.arange(embeds.shape[1], device=embeds.device)
        before = self._prompt.positions
        kwargs["position_ids"] = (
            (self._prompt.length - 1 + steps)[None] if before is None else before[..., -1:] + steps
        )
        return args, kwargs

    def _before_layer(
        self, index: int, module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
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
            prompt.counts.append(
                prompt.visual_counts()
                if index in self.stages or not prompt.counts
                else prompt.counts[-1]
            )
        part = prompt.segments.get(index)
        if part is None:
            return (hidden, *args[1:]), kwargs
        if not self._prefilling and not part.padded and kwargs.get("attention_mask") is None:
            # decoding one sample with sdpa or flash attention: the short cache is all there
            # is to
            # it
            return None
        kwargs = {**kwargs, "attention_mask": self._mask(index, hidden, kwargs)}
        if self._prefilling:
            cos, sin = part.rotary
            kwargs["position_embeddings"] = cos.to(hidden.device), sin.to(hidden.device)
            # gaps would read as packed sequences to flash attention
            kwargs["position_ids"] = None
        if not args:
            return args, {**kwargs, "hidden_states": hidden}
        return (hidden, *args[1:]), kwargs

    def _after_text(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any
    ) -> None:
        if not self._prefilling:
            return
        prompt = self._prompt
        assert prompt is not None
        if prompt.has_visual and self.method.evicts:
            if output.past_key_values is None:
                self.notes.add("no cache: nothing was evicted before decoding")
            else:
                evict(prompt, self.chooser, output.past_key_values)
        if self._replay is None:
            self._record(prompt)
        self._replay = None
        self.chooser.tap.clear()
        self._deepstack.clear()
        prompt.rotary = None

    def _after_model(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._prefilling:
            return
        self._prefilling = False
        forward = (self._forward_start, self._clock.mark())
        merges = tuple(self.vision.merger.spans) if self.vision.merger else ()
        self._unread.append(
            Spans(forward, tuple(self.vision.spans), tuple(self._method_spans), merges)
        )
        self.vision.clear()

    # -- reading a prompt

    def _read(
        self, embeds: Tensor, mask: Any, positions: Tensor | None, *, without_cache: bool
    ) -> None:
        if isinstance(mask, dict) or (mask is not None and mask.ndim != 2):
            raise NotImplementedError("pruning needs a 2D attention mask")
        valid = (
            torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
            if mask is None
            else mask.bool()
        )
        if not bool(valid[:, -1].all()):
            raise UsageError(
                "a batch must be padded on the left: set padding_side='left' on the tokenizer"
            )
        self._method_spans.clear()
        self.chooser.clear()
        before, self._replay = self._prompt, None
        if (
            without_cache
            and before is not None
            and not self.vision.calls
            and _continues(before, self._ids)
        ):
            # generate(use_cache=False) reads the grown prompt anew at each step: what was
            # dropped
            # stays dropped
            self._replay = before.choices
            self._prompt = prompt_of(self.family, self._ids, valid, positions, {}, before.names)
            self._prompt.asked = before.asked
        else:
            self._prompt = prompt_of(
                self.family, self._ids, valid, positions, self.vision.calls, self.samples
            )
        self._prompt.margins = self.margins

    def _record(self, prompt: Prompt) -> None:
        macs = self._work.take() / len(prompt.items)
        for row, items in enumerate(prompt.items):
            visual = sum(len(item) for item in items)
            uncut = [visual] * (len(self.layers) - len(prompt.counts))
            processed = (*uncut, *(layer[row] for layer in prompt.counts))
            text = int(prompt.valid[row].sum()) - visual
            self.records.append(
                PromptRecord(
                    prompt.names[row],
                    text,
                    visual,
                    processed,
                    packed(prompt.left(row)),
                    items,
                    macs,
                )
            )

    # -- cutting

    def _cut(self, number: int, stage: Stage, hidden: Tensor) -> Tensor:
        """The input of the stage's layer without the tokens that the stage drops."""
        prompt = self._prompt
        assert prompt is not None and prompt.rotary is not None
        start = self._clock.mark()
        with torch.no_grad():
            choices = (
                self.chooser.choices(prompt, stage, hidden)
                if self._replay is None
                else self._replay[number]
            )
            prompt.choices.append(choices)
            cut = prompt.cut(choices, hidden)
        self._method_spans.append((start, self._clock.mark()))
        return cut

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
            valid = torch.cat([part.valid, part.valid.new_ones(len(part.valid), grown)], 1).to(
                hidden.device
            )
            part.mask = causal_mask(
                self.family.text_model.config._attn_implementation, valid, hidden, part.padded
            )
        return part.mask if part.mask is None else part.mask.to(hidden.device)


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
