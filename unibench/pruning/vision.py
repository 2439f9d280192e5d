"""Recording what the vision tower did for the prompt that is about to be read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from unibench.cost import Clock, Mark
from unibench.errors import UsageError
from unibench.pruning.attention import AttentionTap
from unibench.pruning.encoder import EncoderMerger
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.stage import Needs

_HIDDEN = (
    "{} does not call attention by transformers' interface, so nothing of it can be seen; take a"
    " method that does not need it"
)


class VisionRecorder:
    """Observes ``get_image_features`` and ``get_video_features`` of a model.

    generate() calls them before its first forward and drops their arguments afterwards, so they are
    shadowed on the instance for the length of the block.

    Attributes:
        reuse: computes or remembers the features of a call, where nothing inside the tower is
            recorded or changed; None computes them.
        calls: the last call of each modality, until :meth:`clear`.
        spans: start and end of each call.
    """

    def __init__(
        self, family: Family, needs: Needs, clock: Clock, merger: EncoderMerger | None = None
    ) -> None:
        self.family, self.clock, self.merger = family, clock, merger
        attention = {*needs.vit_attention, *([family.saliency_layer] if needs.saliency else [])}
        attention |= {family.object_layer + offset for offset in needs.object_attention}
        feature = family.feature_layer if needs.features or (needs.clip and family.clip) else None
        hidden = {*needs.vit_hidden, *([] if feature is None else [feature])}
        if needs.pooling and family.pooling is not None:
            hidden.add(family.saliency_layer)
        blocks = len(family.vit_blocks) if attention or hidden else 0
        self._attention = sorted({_index(layer, blocks) for layer in attention})
        self._hidden = sorted({_index(layer, blocks) for layer in hidden})
        self.reuse: Callable[[Callable[[], Any], VisionCall], Any] | None = None
        self.calls: dict[str, VisionCall] = {}
        self.spans: list[tuple[Mark, Mark]] = []
        self._open: VisionCall | None = None
        attentions = family.vit_attentions if self._attention else []
        self.tap = AttentionTap(
            [attentions[i] for i in self._attention], lambda module: self._open is not None
        )

    def clear(self) -> None:
        """Forget the calls of the prompt that was read."""
        self.calls.clear()
        self.spans.clear()
        if self.merger is not None:
            self.merger.spans.clear()

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for index in self._hidden:
                hook = functools.partial(self._after_block, index)
                stack.callback(self.family.vit_blocks[index].register_forward_hook(hook).remove)
            for modality in ("image", "video"):
                stack.enter_context(self._observed(modality))
            stack.enter_context(self.tap.installed())
            if self.merger is not None:
                stack.enter_context(self.merger.installed())
            stack.callback(self.clear)
            yield

    @contextmanager
    def _observed(self, modality: str) -> Iterator[None]:
        core, name = self.family.core, f"get_{modality}_features"
        original = getattr(core, name, None)
        if original is None:
            yield
            return
        signature = inspect.signature(original)

        @functools.wraps(original)  # generate() reads the signature
        def observed(*args: Any, **kwargs: Any) -> Any:
            if self._open is not None:  # Qwen3-VL reads a video by its function for images
                return original(*args, **kwargs)
            call = VisionCall(modality, dict(signature.bind(*args, **kwargs).arguments))
            start = self.clock.mark()
            self._open = call
            try:
                compute = functools.partial(original, *args, **kwargs)
                if self.merger is not None and modality == "image":
                    call.output = self.merger.run(original, call)
                elif self.reuse is not None and not self._hidden and not self._attention:
                    call.output = self.reuse(compute, call)
                else:
                    call.output = compute()
            finally:
                self._open = None
            self.spans.append((start, self.clock.mark()))
            for index, module in zip(self._attention, self.tap.modules, strict=True):
                call.attention[index] = self.tap.take(module)
                if not call.attention[index]:
                    raise UsageError(_HIDDEN.format(type(module).__name__))
            call.tokens = _tokens(getattr(call.output, "pooler_output", call.output))
            self.calls[modality] = call
            return call.output

        setattr(core, name, observed)
        try:
            yield
        finally:
            delattr(core, name)

    def _after_block(self, index: int, module: nn.Module, args: Any, output: Any) -> None:
        if self._open is not None:
            hidden: Tensor = output[0] if isinstance(output, tuple) else output
            self._open.hidden[index] = hidden


def _tokens(features: Tensor | Sequence[Tensor]) -> int:
    """Number of rows of ``[..., D]`` features, or of a list of them."""
    parts = [features] if isinstance(features, Tensor) else features
    return sum(part.shape[:-1].numel() for part in parts)


def _index(layer: int, blocks: int) -> int:
    if not -blocks <= layer < blocks:
        raise ValueError(f"vision layer {layer} of a tower with {blocks} blocks")
    return layer % blocks
