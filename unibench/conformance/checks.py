"""What must hold for every model, whatever the method: one function for each rule."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unibench.budget import Budget, Positions
from unibench.conformance import reference
from unibench.conformance.methods import Every, KeepAll, Look
from unibench.facts import FULL, RECURRENT, SLIDING
from unibench.models import LoadedModel, wrap
from unibench.models._reduced import reduced
from unibench.pruning import Method, Needs, Session, StageContext
from unibench.pruning._transformers import cache_in
from unibench.pruning.family import VisionCall
from unibench.pruning.refusal import facts_of, refusal

STEPS = 6
WHOLE = Budget.parse(ratio=0)
# float32 on a CPU: sums in another order, through six layers
CLOSE: Mapping[str, float] = {"atol": 3e-4, "rtol": 3e-4}
NUDGE = 1e-6  # some units in the last place
PICTURES = ((140, 84), (84, 112), (112, 112))  # width, height
FRAMES = 4


@dataclass
class FailedError(Exception):
    """A rule that does not hold.

    Attributes:
        reason: in one line.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass
class SkippedError(Exception):
    """A rule that says nothing about this model.

    Attributes:
        reason: in a few words.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Subject:
    """A small model with prompts.

    Attributes:
        loaded: the model under one kernel.
        eager: the same weights under eager attention, which shows its maps.
    """

    loaded: LoadedModel
    eager: LoadedModel

    @classmethod
    def of(cls, spec: Any, attn: str) -> Subject:
        """The architecture of a model card at reduced size.

        Args:
            spec: configuration of the model.
            attn: attention implementation.
        """
        loaded = wrap(*reduced(spec, attn))
        return cls(loaded, loaded if attn == "eager" else wrap(*reduced(spec, "eager")))

    @property
    def model(self) -> Any:
        return self.loaded.model

    def prompt(self, seed: int, pictures: int = 1, *, video: bool = False) -> dict[str, Tensor]:
        """One prompt of drawn noise, which no two samples share."""
        return self.prompts([seed], pictures, video=video)

    def prompts(
        self, seeds: Sequence[int], pictures: int = 1, *, video: bool = False
    ) -> dict[str, Tensor]:
        """Several in a batch."""
        if video and not self.reads_video:
            raise SkippedError("no video")
        shown = [self._noise(seed, pictures, video) for seed in seeds]
        asked = [("what is it", "how many are there")[seed % 2] + " now" * seed for seed in seeds]
        inputs = self.loaded.inputs(asked, shown, "video" if video else "image")
        inputs.pop("labels", None)
        return inputs

    @property
    def reads_video(self) -> bool:
        return getattr(self.loaded.processor, "video_processor", None) is not None

    def _noise(self, seed: int, pictures: int, video: bool) -> list[Image.Image]:
        draw, count = np.random.default_rng(seed), FRAMES if video else pictures
        found = []
        for number in range(count):
            width, height = PICTURES[0 if video else (seed + number) % len(PICTURES)]
            found.append(Image.fromarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8)))
        return found

    def session(
        self, method: Method, positions: Positions = "original", *, after_state: bool = False
    ) -> Session:
        """A session that keeps what the method says.

        Args:
            method: of the session.
            positions: where the tokens that go on stand.
            after_state: whether a cut may come behind a state.

        Raises:
            SkippedError: the method is refused on this model.
        """
        family = self.loaded.family
        rules: dict[str, Any] = {"positions": positions, "after_state": after_state}
        if reason := refusal(method, WHOLE, type(family), facts_of(family), **rules):
            raise SkippedError(f"refused: {reason}")
        return Session(family, method, WHOLE, **rules)


def keep_all(subject: Subject, inputs: dict[str, Tensor]) -> None:
    """A session that removes nothing changes no bit."""
    tokens, scores, _ = generate(subject.model, inputs)
    with torch.no_grad():
        plain = subject.model(**copy.deepcopy(inputs)).logits
        with subject.session(KeepAll()).installed():
            again = subject.model(**copy.deepcopy(inputs)).logits
            new, new_scores, _ = generate(subject.model, inputs)
    if not torch.equal(again, plain):
        raise FailedError(f"logits differ by {_apart(again, plain):.1e}")
    if not torch.equal(new, tokens) or not torch.equal(new_scores, scores):
        raise FailedError(f"generated logits differ by {_apart(new_scores, scores):.1e}")


def cut_before(subject: Subject, inputs: dict[str, Tensor]) -> None:
    """A cut in front of layer 0 is the bare decoder on the embeddings that are left, with the same
    positions, under the mask that the model made for them.
    """
    session, model = subject.session(Every()), subject.model
    with session.installed(), torch.no_grad():
        cut = model(**copy.deepcopy(inputs), use_cache=True).logits
    assert session.prompt is not None
    seen = reference.given_to_text(model, inputs)
    length = seen["inputs_embeds"].shape[1]
    segment = session.prompt.segments.get(0)
    if segment is None or segment.length == length:
        raise FailedError("nothing was cut")
    out = bare(model, seen, segment.origin[0])
    _same(cut, out)


def bare(model: Any, seen: Mapping[str, Any], kept: Tensor) -> Tensor:
    """Logits of the unpatched decoder on some rows of what the model would give it."""
    embeds, positions = seen["inputs_embeds"], seen.get("position_ids")
    if positions is None:
        positions = torch.arange(embeds.shape[1])[None]
    more: dict[str, Any] = {}
    if (visual := seen.get("visual_pos_masks")) is not None:
        stay = torch.zeros_like(visual).index_fill(1, kept, True)
        more["visual_pos_masks"] = visual[:, kept]
        more["deepstack_visual_embeds"] = [
            features[stay[visual]] for features in seen["deepstack_visual_embeds"]
        ]
    if seen.get("per_layer_inputs") is not None:
        more["per_layer_inputs"] = seen["per_layer_inputs"][:, kept]
    kinds, given = set(reference.kinds_of(model)), seen.get("attention_mask")
    masks: Any = {kind: _mask(model, seen, kind, kept) for kind in kinds}
    if not isinstance(given, dict) and not kinds & SLIDING:
        # a decoder that makes its own masks, which hide nothing of a prompt without padding
        masks = masks[FULL] if given is not None and given.ndim == 4 else None
    with torch.no_grad():
        hidden = reference.text_of(model)(
            inputs_embeds=embeds[:, kept],
            position_ids=positions[..., kept],
            attention_mask=masks,
            use_cache=True,
            **more,
        ).last_hidden_state
    return reference.head(model, hidden)


def _mask(model: Any, seen: Mapping[str, Any], kind: str, kept: Tensor) -> Tensor | None:
    """Rows and columns of the whole prompt's mask; None where it hides nothing but what comes
    later.
    """
    whole = reference.allowed(model, seen, kind)
    if whole is None:
        return None
    part = whole[kept][:, kept]
    if torch.equal(part, torch.ones_like(part).tril()) and kind == FULL:
        return None if reference.kernel_of(model) == "sdpa" else _additive(part)
    return part[None, None] if reference.kernel_of(model) == "sdpa" else _additive(part)


def _additive(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


def slow_reference(subject: Subject, inputs: dict[str, Tensor]) -> None:
    """Generation after a cut is what comes out where nothing is cut and everything masked."""
    follows(subject, inputs, Every())


def later_cuts(subject: Subject, inputs: dict[str, Tensor]) -> None:
    """The same with cuts between the layers, as deep as the model allows; behind a state too, which
    the reference shows what the cut leaves and nothing else.
    """
    for layers in ((1, 3), (1, 2), (1,)):
        try:
            follows(subject, inputs, Every(layers), after_state=True)
            return
        except SkippedError as skipped:
            refused = skipped
    raise refused


def compact(subject: Subject, inputs: dict[str, Tensor]) -> None:
    """The same where the tokens that go on stand at 0, 1, 2, ..."""
    follows(subject, inputs, Every(), "compact")


def follows(
    subject: Subject,
    inputs: dict[str, Tensor],
    method: Method,
    positions: Positions = "original",
    *,
    after_state: bool = False,
) -> None:
    """Generation under a method is what the slow reference says.

    Args:
        subject: the model.
        inputs: one prompt.
        method: whose cuts keep tokens as they are.
        positions: where the tokens that go on stand.
        after_state: whether a cut may come behind a state.

    Raises:
        FailedError: it is not.
        SkippedError: the method is refused on this model.
    """
    session = subject.session(method, positions, after_state=after_state)
    with session.installed():
        tokens, scores, _ = generate(subject.model, inputs)
    assert session.prompt is not None
    drops = {}
    for layer, part in session.prompt.segments.items():
        drops[layer] = torch.ones(session.prompt.length, dtype=torch.bool)
        drops[layer][part.origin[0]] = False
    if not any(bool(gone.any()) for gone in drops.values()):
        raise FailedError("nothing was cut")
    moved = None
    if positions == "compact":
        three = session.prompt.positions is not None and session.prompt.positions.ndim == 3
        moved = {}
        for layer, gone in drops.items():
            # tokens that are gone have a place too, which nobody sees
            at = (~gone).cumsum(0).float() - 1
            moved[layer] = at.expand(3, 1, -1) if three else at[None]
    expected, expected_scores = reference.greedy(subject.model, inputs, STEPS, drops, moved=moved)
    _near(scores[0], expected_scores)
    if tokens[0].tolist() != expected:
        raise FailedError(f"says {tokens[0].tolist()} instead of {expected}")


def batch(subject: Subject, pictures: int = 1) -> None:
    """Prompts of different lengths in a batch are answered as they are alone; where layers carry a
    state, to a few times what a change of pixels in the last digits does to the same answer.
    """
    if not subject.loaded.family.batches:
        raise SkippedError("refused: one prompt at a time")
    seeds, states = (0, 1, 2), RECURRENT & set(subject.loaded.family.kinds)
    with subject.session(Every()).installed():
        tokens, scores, _ = generate(subject.model, subject.prompts(seeds, pictures))
        for row, seed in enumerate(seeds):
            inputs = subject.prompt(seed, pictures)
            alone, alone_scores, _ = generate(subject.model, inputs)
            tolerance = CLOSE["atol"]
            if states:
                # a prompt is summed in chunks, which padding shifts, and a state keeps the rounding
                _, nudged, _ = generate(subject.model, _nudged(inputs))
                tolerance = max(tolerance, 4 * _apart(nudged, alone_scores))
            _near(scores[row], alone_scores[0], tolerance)
            if not torch.equal(tokens[row], alone[0]):
                raise FailedError(f"says {tokens[row].tolist()} instead of {alone[0].tolist()}")


def _nudged(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A prompt whose pixels differ in the last digits of float32."""
    return {
        name: value * (1 + NUDGE) if value.is_floating_point() else value
        for name, value in inputs.items()
    }


def taps(subject: Subject) -> None:
    """Attention from recorded queries and keys is what eager attention returns."""
    kinds = subject.loaded.family.kinds
    layer = kinds.index(FULL) if FULL in kinds else -1
    if not 0 <= layer < len(kinds) - 1:
        raise SkippedError("no layer attends to everything")
    inputs, found = subject.prompt(0, 2), {}

    def look(ctx: StageContext) -> None:
        found["last"], found["visual"] = ctx.attention(layer)[:, 0], ctx.visual
        found["text"], found["rows"] = ctx.attention(layer, ctx.instruction), ctx.instruction

    with (
        subject.session(
            Look(look, layer + 1, Needs(llm_attention=(layer,))), after_state=True
        ).installed(),
        torch.no_grad(),
    ):
        subject.model(**copy.deepcopy(inputs))
    with torch.no_grad():
        out = subject.eager.model(**copy.deepcopy(inputs), output_attentions=True)
    # layers that carry a state return no map
    number = sum(
        kind == FULL or ("attention" in kind and kind != "linear_attention")
        for kind in kinds[:layer]
    )
    maps = [part for part in out.attentions if part is not None][number][0]
    _near(found["last"], maps[:, -1][:, found["visual"]], 1e-4)
    _near(found["text"], maps[:, found["rows"]][:, :, found["visual"]], 1e-4)


def packing(subject: Subject) -> None:
    """The feature of a token depends on exactly the patches that the family packs into it."""
    inputs, family = subject.prompt(0, 2), subject.loaded.family
    layer = (-1 if family.feature_layer is None else family.feature_layer) % len(family.vit_blocks)
    session = subject.session(Look(lambda ctx: None, 0, Needs(vit_hidden=(layer,))))
    call = _vision_call(session, subject.model, inputs)
    leaf = call.hidden[layer].clone().requires_grad_()
    block: Any = family.vit_blocks[layer]
    handle = block.register_forward_hook(
        lambda module, args, out: (leaf,) if isinstance(out, tuple) else leaf, prepend=True
    )
    try:
        features = _rows(family.core.get_image_features(**call.arguments))
    finally:
        handle.remove()
    stripped = family.strip(leaf)
    places = torch.arange(stripped.shape[:-1].numel()).reshape(stripped.shape[:-1])
    marks = torch.nn.functional.one_hot(places, places.numel()).double()
    member = family.pack(marks, call, 0.0) > 0
    if not len(member) == len(features) == call.tokens:
        raise FailedError(f"{len(member)} packed tokens, {len(features)} features")
    for token in range(0, len(features), 3):
        (gradient,) = torch.autograd.grad(features[token].sum(), leaf, retain_graph=True)
        reached = family.strip(gradient).abs().sum(-1).reshape(-1) > 0
        if not torch.equal(reached, member[token]):
            raise FailedError(f"token {token} depends on other patches than are packed into it")


def _vision_call(session: Session, model: Any, inputs: dict[str, Tensor]) -> VisionCall:
    """The call of the vision tower for a prompt of pictures."""
    seen: dict[str, VisionCall] = {}
    reading = session._reading
    end = reading.end

    def noted() -> None:
        if reading.prefill is not None:
            seen.update(reading.prefill.calls)
        end()

    reading.end = noted  # type: ignore[method-assign]
    with session.installed(), torch.no_grad():
        model(**copy.deepcopy(inputs))
    return seen["image"]


def _rows(output: Any) -> Tensor:
    """Features of a call as rows."""
    pooled = getattr(output, "pooler_output", output)
    parts = [pooled] if isinstance(pooled, Tensor) else pooled
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def generate(model: Any, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Any]:
    """Greedy tokens ``[B, STEPS]``, logits ``[B, STEPS, V]`` and the cache."""
    out = model.generate(
        **copy.deepcopy(dict(inputs)),
        max_new_tokens=STEPS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = out.sequences[:, inputs["input_ids"].shape[1] :]
    return tokens, torch.stack(out.logits, 1), cache_in(out)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max()) if one.shape == other.shape else float("inf")


def _same(one: Tensor, other: Tensor) -> None:
    """Equal to the tolerance of a kernel that is given a mask where it was given none."""
    _near(one, other, 1e-5)


def _near(one: Tensor, other: Tensor, tolerance: float = 3e-4) -> None:
    if one.shape != other.shape or not torch.allclose(one, other, atol=tolerance, rtol=tolerance):
        raise FailedError(f"differs by {_apart(one, other):.1e}")


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    "keep all": lambda subject: keep_all(subject, subject.prompt(0)),
    "layer 0": lambda subject: cut_before(subject, subject.prompt(0)),
    "reference": lambda subject: slow_reference(subject, subject.prompt(0)),
    "later cuts": lambda subject: later_cuts(subject, subject.prompt(0)),
    "compact": lambda subject: compact(subject, subject.prompt(0)),
    "batch": batch,
    "keep all, batch": lambda subject: keep_all(subject, _batch(subject)),
    "pictures": lambda subject: _all(subject, subject.prompt(0, 3)),
    "video": lambda subject: _all(subject, subject.prompt(0, video=True)),
    "taps": taps,
    "packing": packing,
}


def _batch(subject: Subject) -> dict[str, Tensor]:
    if not subject.loaded.family.batches:
        raise SkippedError("refused: one prompt at a time")
    return subject.prompts((0, 1, 2))


def _all(subject: Subject, inputs: dict[str, Tensor]) -> None:
    """The first rules on another kind of prompt."""
    for rule in (keep_all, cut_before, slow_reference):
        rule(subject, inputs)
