"""Recording what the vision tower did for the prompt that is about to be read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from unibench.errors import UsageError
from unibench.pruning.attention import AttentionTap, QueryKey
from unibench.pruning.encoder import EncoderMerger
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.pixels import PixelPruner
from unibench.pruning.prefill import Reading
from unibench.pruning.stage import Needs

Reuse = Callable[[Callable[[], Any], VisionCall], Any]

_HIDDEN = (
    "{} does not call attention by transformers' interface, so nothing of it can be seen; take a"
    " method that does not need it"
)


class VisionRecorder:
    """Observes ``get_image_features`` and ``get_video_features`` of a model.

    generate() calls them before its first forward and drops their arguments afterwards, so they are
    shadowed on the instance for the length of the block. Calls are noted in the prefill that they
    belong to.

    Args:
        family: whose tower is observed.
        needs: what is recorded inside it.
        reading: the prefill under way.
        merger: merges inside the tower or drops ahead of it, None if the method does neither.
        reuse: computes or remembers the features of a call, where nothing inside the tower is
            recorded or changed; None computes them.
    """

    def __init__(
        self,
        family: Family,
        needs: Needs,
        reading: Reading,
        merger: EncoderMerger | PixelPruner | None,
        reuse: Reuse | None,
    ) -> None:
        self.family, self._reading, self._merger, self._reuse = family, reading, merger, reuse
        attention = {*needs.vit_attention, *([family.saliency_layer] if needs.saliency else [])}
        attention |= {family.object_layer + offset for offset in needs.object_attention}
        attention |= {family.local_layer} if needs.local_attention else set()
        feature = family.feature_layer if needs.features or (needs.clip and family.clip) else None
        hidden = {*needs.vit_hidden, *([] if feature is None else [feature])}
        if needs.pooling and family.pooling is not None:
            hidden.add(family.saliency_layer)
        blocks = len(family.vit_blocks) if attention or hidden else 0
        self._attention = sorted({_index(layer, blocks) for layer in attention})
        self._hidden = sorted({_index(layer, blocks) for layer in hidden})
        self._projector = family.projector[:1] if needs.projector else ()
        attentions = family.vit_attentions if self._attention else []
        self._index = {attentions[index]: index for index in self._attention}
        self._tap = AttentionTap(self._index, self._wanted)

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for index in self._hidden:
                hook = functools.partial(self._after_block, index)
                stack.callback(self.family.vit_blocks[index].register_forward_hook(hook).remove)
            for layer in self._projector:
                stack.callback(layer.register_forward_pre_hook(self._before_projector).remove)
            for modality in ("image", "video"):
                stack.enter_context(self._observed(modality))
            stack.enter_context(self._tap.installed())
            if self._merger is not None:
                stack.enter_context(self._merger.installed())
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
            given = dict(signature.bind(*args, **kwargs).arguments)
            if modality == "video" and "pixel_values" in given:
                # LLaVA's classes have no name of their own for it in transformers 5.6
                given["pixel_values_videos"] = given.pop("pixel_values")
            call = VisionCall(modality, given)
            self._run(call, original, functools.partial(original, *args, **kwargs))
            return call.output

        setattr(core, name, observed)
        try:
            yield
        finally:
            # the instance attribute goes, and the class's method is seen again
            delattr(core, name)

    def _run(
        self, call: VisionCall, original: Callable[..., Any], compute: Callable[[], Any]
    ) -> None:
        """Compute a call's output, and note the call in the prefill."""
        prefill = self._reading.begun(call.modality)
        prefill.open = call
        try:
            with self._reading.timed(prefill.spans.vision):
                if self._merger is not None and call.modality == "image":
                    call.output = self._merger.run(original, call, prefill)
                elif self._reuse is not None and not (
                    # remembered features come without a run of the tower to look at
                    self._hidden or self._attention or self._projector
                ):
                    call.output = self._reuse(compute, call)
                else:
                    call.output = compute()
        finally:
            prefill.open = None
        for module, index in self._index.items():
            # a checkpoint's own code may compute attention itself, and then never reaches the tap
            if index not in call.attention:
                raise UsageError(_HIDDEN.format(type(module).__name__))
        # before transformers 5.0 the features themselves were the output
        call.tokens = _tokens(getattr(call.output, "pooler_output", call.output))
        call.tokens += self.family.added(call)
        prefill.calls[call.modality] = call

    @property
    def _open(self) -> VisionCall | None:
        return None if self._reading.prefill is None else self._reading.prefill.open

    def _wanted(self, module: nn.Module) -> list[QueryKey] | None:
        call = self._open
        return None if call is None else call.attention.setdefault(self._index[module], [])

    def _before_projector(self, module: nn.Module, args: Any) -> None:
        if self._open is not None:
            self._open.joined.append(args[0])

    def _after_block(self, index: int, module: nn.Module, args: Any, output: Any) -> None:
        call = self._open
        if call is not None:
            hidden: Tensor = output[0] if isinstance(output, tuple) else output
            call.hidden[index] = hidden


def _tokens(features: Tensor | Sequence[Tensor]) -> int:
    """Number of rows of ``[..., D]`` features, or of a list of them."""
    parts = [features] if isinstance(features, Tensor) else features
    return sum(part.shape[:-1].numel() for part in parts)


def _index(layer: int, blocks: int) -> int:
    if not -blocks <= layer < blocks:
        raise ValueError(f"vision layer {layer} of a tower with {blocks} blocks")
    return layer % blocks
