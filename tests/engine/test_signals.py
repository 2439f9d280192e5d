"""What methods are shown is what the model computed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.support.methods import Fixed, Look, every
from tests.support.models import Bare, families, inputs_of, model_of, text_of
from tests.support.reference import given_to_text
from unibench import Chain, Method, Needs, Stage, StageContext
from unibench.pruning.attention import QUERY_CHUNK, QueryKey, attention_rows, received_attention
from unibench.pruning.cutting import one_axis

ATTN = ["sdpa", "eager"]
WITH_CLS = ["llava", "internvl"]


def seen_by(model: Any, inputs: dict[str, Any], look: Look) -> Any:
    with unibench.prune(model, look) as session, torch.no_grad():
        model(**copy.deepcopy(inputs))
    return session


@pytest.mark.parametrize("images", [1, 3])
@families
def test_decoder_attention_equals_the_maps_that_eager_attention_returns(
    family: str, images: int
) -> None:
    inputs = inputs_of(family, 0, images)
    with torch.no_grad():
        expected = model_of(family, "eager")(
            **copy.deepcopy(inputs), output_attentions=True
        ).attentions[1][0]
    found: dict[str, Tensor] = {}

    def look(ctx: StageContext) -> None:
        found.update(
            last=ctx.attention(1),
            text=ctx.attention(1, ctx.instruction),
            rows=ctx.instruction,
            visual=ctx.visual,
        )

    seen_by(model_of(family), inputs, Look(look, 2, Needs(llm_attention=(1,))))
    torch.testing.assert_close(
        found["last"][:, 0], expected[:, -1][:, found["visual"]], atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        found["text"], expected[:, found["rows"]][:, :, found["visual"]], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("family", WITH_CLS)
def test_vision_attention_equals_the_maps_that_eager_attention_returns(family: str) -> None:
    inputs = inputs_of(family)
    found: dict[str, Any] = {}

    def look(ctx: StageContext) -> None:
        assert ctx.vision is not None
        found.update(
            received=ctx.vision.received(-2),
            cls=ctx.vision.cls(-2),
            saliency=ctx.saliency(),
            family=ctx.family,
        )

    captured: dict[str, Any] = {}
    tower = model_of(family).model.vision_tower
    handle = tower.register_forward_pre_hook(
        lambda module, args, kwargs: captured.update(args=args, kwargs=kwargs), with_kwargs=True
    )
    session = seen_by(
        model_of(family), inputs, Look(look, 0, Needs(vit_attention=(-2,), saliency=True))
    )
    handle.remove()
    with torch.no_grad():
        maps = model_of(family, "eager").model.vision_tower(
            *captured["args"], **{**captured["kwargs"], "output_attentions": True}
        )
    weights = maps.attentions[-2]

    def packed(values: Tensor) -> Tensor:
        return session.family.pack(session.family.strip(values)[..., None], None, -1.0)[:, 0]

    torch.testing.assert_close(
        found["received"], packed(weights.mean((1, 2))), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(found["cls"], packed(weights[:, :, 0].mean(1)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["saliency"], found["cls"])


@families
def test_queries_and_keys_without_rotation_are_the_projections(family: str) -> None:
    """Also after a cut, where positions have gaps."""
    model, inputs, found = model_of(family), inputs_of(family, 0, 2), {}
    module = text_of(model).layers[2].self_attn

    def projected(attention: Any, args: Any, kwargs: dict[str, Any]) -> None:
        states = kwargs.get("hidden_states", args[0] if args else None)
        shape = (*states.shape[:-1], -1, attention.head_dim)
        key = attention.k_proj(states).view(shape)
        norm = getattr(attention, "k_norm", None)
        found["key"] = (key if norm is None else norm(key)).transpose(1, 2)[0]

    def look(ctx: StageContext) -> None:
        found["given"] = ctx.rotated_back(2).key
        found["rotated"] = ctx.query_key(2).key

    method = Chain((Fixed({1: every(3)}), Look(look, 3, Needs(llm_attention=(2,)))))
    handle = module.register_forward_pre_hook(projected, with_kwargs=True)
    try:
        with unibench.prune(model, method, ratio=0), torch.no_grad():
            model(**copy.deepcopy(inputs))
    finally:
        handle.remove()
    torch.testing.assert_close(found["given"], found["key"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found["rotated"], found["key"], atol=1e-2)


def test_what_no_later_stage_asks_for_is_forgotten_at_once() -> None:
    held: dict[int, int] = {}

    @dataclass(frozen=True)
    class Every(Method):
        """Looks at the layer before, in front of every layer."""

        uses_budget = False

        def stages(self, depth: int) -> list[Stage]:
            needs = [Needs(llm_attention=(layer - 1,) if layer else ()) for layer in range(depth)]
            return [Stage(layer, self.look, needs[layer]) for layer in range(depth)]

        def look(self, ctx: StageContext) -> None:
            if ctx.layer:
                ctx.attention(ctx.layer - 1)
            prefill = session._reading.prefill
            assert prefill is not None
            held[ctx.layer] = len(prefill.recorded)

    model = model_of("qwen2_5_vl")
    with unibench.prune(model, Every(), ratio=0) as session, torch.no_grad():
        model(**copy.deepcopy(inputs_of("qwen2_5_vl")))
    assert set(held.values()) == {0, 1}


@pytest.mark.parametrize("video", [False, True])
def test_deepstack_features_are_those_of_the_tokens(video: bool) -> None:
    model, inputs = model_of("qwen3_vl"), inputs_of("qwen3_vl", 0, 0 if video else 2, video=video)
    given = given_to_text(model, inputs)
    found: list[Any] = []

    def look(ctx: StageContext) -> None:
        found.append(ctx.deepstack())

    with unibench.prune(model, Chain((Fixed({0: every(3)}), Look(look, 2))), ratio=0):
        seen_by_model = model(**copy.deepcopy(inputs))
    assert seen_by_model is not None
    expected = torch.cat(list(given["deepstack_visual_embeds"]), -1)[::3]
    torch.testing.assert_close(found[0], expected)
    assert expected.shape[1] == 64 * len(given["deepstack_visual_embeds"])


def test_three_axes_of_position_become_one() -> None:
    part = torch.arange(3.0)[:, None, None, None].expand(3, 1, 1, 16)
    half = [0, 0, 1, 1, 1, 2, 2, 2]
    assert one_axis(part, (2, 3, 3))[0, 0].tolist() == half + half
    assert torch.equal(one_axis(part[1], (2, 3, 3)), part[1])  # as transformers gives it now


def test_queries_and_keys_of_the_tower_give_its_attention() -> None:
    model, found = model_of("llava", "eager"), {}

    def look(ctx: StageContext) -> None:
        assert ctx.vision is not None
        query, key = ctx.vision.queries(-2), ctx.vision.keys(-2)
        found["logits"] = torch.einsum("nhd,mhd->hnm", query, key) * query.shape[-1] ** -0.5

    seen_by(model, inputs_of("llava"), Look(look, 0, Needs(vit_attention=(-2,))))
    pixels = inputs_of("llava")["pixel_values"]
    with torch.no_grad():
        maps = model.model.vision_tower(pixels, output_attentions=True).attentions[-2]
    expected = maps[0, :, 1:, 1:].log()  # the CLS token stands first
    torch.testing.assert_close(
        found["logits"].log_softmax(-1), expected.log_softmax(-1), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("attn", ATTN)
@pytest.mark.parametrize("images", [1, 2])
def test_encoder_features_through_the_projector_are_the_tokens(attn: str, images: int) -> None:
    def look(ctx: StageContext) -> None:
        features, project = ctx.encoder_features()
        assert features.shape[1] == 32
        torch.testing.assert_close(project(features), ctx.visual_hidden, atol=1e-4, rtol=1e-4)

    seen_by(
        model_of("llava", attn), inputs_of("llava", 0, images), Look(look, 0, Needs(features=True))
    )


@pytest.mark.parametrize("attn", ATTN)
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "internvl"])
def test_packing_follows_gradients(family: str, attn: str) -> None:
    """A token's feature depends on exactly the patches that ``pack`` joins into it."""
    model, inputs = model_of(family, attn), inputs_of(family, 0, 2)
    seen: dict[str, Any] = {}
    with (
        unibench.prune(model, Look(lambda ctx: None, 0, Needs(vit_hidden=(-1,)))) as session,
        torch.no_grad(),
    ):
        reading = session._reading
        end = reading.end
        reading.end = lambda: (seen.update(reading.prefill.calls), end())[1]  # type: ignore[method-assign,union-attr]
        model(**copy.deepcopy(inputs))
    call, adapter = seen["image"], session.family
    leaf = call.hidden[len(adapter.vit_blocks) - 1].clone().requires_grad_()
    block = adapter.vit_blocks[-1]
    handle = block.register_forward_hook(
        lambda module, args, out: (leaf,) if isinstance(out, tuple) else leaf, prepend=True
    )
    try:
        pooled = model.model.get_image_features(**call.arguments).pooler_output
    finally:
        handle.remove()
    features = torch.cat(
        [
            part.reshape(-1, part.shape[-1])
            for part in ([pooled] if isinstance(pooled, Tensor) else pooled)
        ]
    )
    places = torch.arange(adapter.strip(leaf).shape[:-1].numel()).reshape(
        adapter.strip(leaf).shape[:-1]
    )
    member = (
        adapter.pack(torch.nn.functional.one_hot(places, places.numel()).double(), call, 0.0) > 0
    )
    assert len(member) == len(features) == call.tokens
    for token in range(0, len(features), 3):
        (gradient,) = torch.autograd.grad(features[token].sum(), leaf, retain_graph=True)
        assert torch.equal(adapter.strip(gradient).abs().sum(-1).reshape(-1) > 0, member[token]), (
            token
        )


def test_received_attention_in_chunks_equals_the_whole_map() -> None:
    g = torch.Generator().manual_seed(0)
    tokens = 2 * QUERY_CHUNK + 7
    qk = QueryKey(
        torch.randn(2, 4, tokens, 8, generator=g),
        torch.randn(2, 2, tokens, 8, generator=g),
        8**-0.5,
    )
    whole = attention_rows(qk.query, qk.key, qk.scaling).mean((1, 2))
    torch.testing.assert_close(received_attention(qk), whole, atol=1e-6, rtol=1e-5)


class Framed(Bare):
    """A processor whose template writes one token before the question and two after it."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        return f"image<-{super().apply_chat_template(conversation)}>>"

    image_token = "image<"

    def encode(self, text: str, **options: Any) -> list[str]:
        return list(text)


def test_the_question_is_what_the_template_leaves() -> None:
    inputs = inputs_of("llava")
    rows: list[int] = []
    with (
        unibench.prune(
            model_of("llava"),
            Look(lambda ctx: rows.extend(ctx.question.tolist())),
            processor=Framed(),
        ),
        torch.no_grad(),
    ):
        model_of("llava")(**copy.deepcopy(inputs))
    assert rows == list(
        range(
            int((inputs["input_ids"][0] == 190).nonzero()[-1]) + 2, inputs["input_ids"].shape[1] - 2
        )
    )


@families
def test_items_have_the_grid_of_their_tokens(family: str) -> None:
    def look(ctx: StageContext) -> None:
        assert len(ctx.items) >= 3  # SmolVLM: one for each tile
        for item in ctx.items:
            assert (
                len(item)
                == sum(len(part) for part in item.parts)
                == sum(len(tile) for tile in item.tiles())
            )
        assert ctx.items[-1].stop == ctx.total == len(ctx.visual)

    seen_by(model_of(family), inputs_of(family, 0, 3), Look(look))


@pytest.mark.parametrize("prefix", [None, 0, 1])
def test_attention_received_from_others_leaves_out_a_tokens_own_query(prefix: int | None) -> None:
    g = torch.Generator().manual_seed(0)
    count = QUERY_CHUNK + 40
    qk = QueryKey(
        torch.randn(2, 3, count, 8, generator=g), torch.randn(2, 3, count, 8, generator=g), 0.3
    )
    maps = attention_rows(qk.query, qk.key, qk.scaling).mean(1)
    if prefix is not None:
        maps.diagonal(dim1=1, dim2=2).zero_()
        maps = maps[:, prefix:]
    queries = count if prefix is None else count - prefix - 1
    expected = maps.sum(1) / queries
    torch.testing.assert_close(received_attention(qk, others=prefix), expected)
