"""The training's own forward pass equals Hugging Face's, and a run that is cut short continues as
if it had not been.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from training import _loop
from training._answering import Answering, answer_loss
from training._build import build
from training._joint import train_joint, visual_tokens
from training._labels import FIELDS, labels, only_ground
from training._language import FAMILY, adopt, train_language
from training._loop import Place
from training._packing import Packer
from training._pictures import Pictures, Shape
from training._processors import make_processor
from training._recipe import RECIPES, Language, Recipe
from training._towers import TOWERS
from training._vision import Heads, train_vision
from training._wording import Wording
from training._words import make_tokenizer, role_ids, vocabulary_size
from unibench.tasks.synthvqa._draw import draw
from unibench.tasks.synthvqa._scene import make_scene

FAMILIES = tuple(RECIPES)


@pytest.fixture(scope="module")
def tokenizers():
    return {family: make_tokenizer(family) for family in FAMILIES}


def small(family: str, steps: int = 4) -> Recipe:
    recipe = dataclasses.replace(
        RECIPES[family],
        width=64,
        inner=96,
        layers=2,
        vision_width=64,
        vision_depth=2,
        text_tokens=160,
    )
    stages = {
        name: dataclasses.replace(getattr(recipe, name), steps=steps, pictures=2, warmup=2)
        for name in ("vision", "joint")
    }
    return dataclasses.replace(recipe, sizes=((336, 336),), questions=6, **stages)


def untrained(recipe: Recipe, tokenizer):
    model = build(recipe, role_ids(recipe.family, tokenizer), vocabulary_size(tokenizer), seed=0)
    for parameter in model.parameters():
        if (
            parameter.dim() == 1 and not parameter.any()
        ):  # a bias of zero would hide a forgotten one
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def place(folder, dtype=torch.float32) -> Place:
    return Place(torch.device("cpu"), dtype, folder, workers=0)


@pytest.mark.parametrize(
    ("family", "size"), [(family, (336, 336)) for family in FAMILIES] + [("qwen2_5_vl", (448, 336))]
)
@torch.no_grad()
def test_the_packed_forward_equals_the_models_own(family, size, tokenizers, tmp_path):
    recipe, tokenizer = small(family), tokenizers[family]
    model, processor = untrained(recipe, tokenizer), make_processor(family, tokenizer)
    whole, tower = Answering(model, family, tokenizer), TOWERS[family](model.model)
    batch = Pictures((Shape(size, tower.pixels(size), tower.grid(size)),), 2, 0)[0]
    packed = Packer(whole.prompts[1], recipe.mix, 6, 160).pack(
        [[scene] for scene in batch.scenes], seed=0
    )
    logits = whole.logits(visual_tokens(tower, batch, place(tmp_path)), batch.grid, packed)
    for b, scene in enumerate(batch.scenes):
        rows = packed.targets[b] != -100
        for k in range(1, int(packed.branch[b].max()) + 1):
            here = packed.branch[b, packed.rows[b]].eq(k) & rows
            answer = packed.targets[b][here].tolist()
            asked = packed.ids[b][packed.branch[b] == k].tolist()[: -len(answer)]
            text = tokenizer.decode(asked)[
                len(whole.prompts[1].before) : -len(whole.prompts[1].after)
            ]
            inputs = conversation(processor, [draw(scene)], text)
            theirs = continued(model, inputs, answer)
            # LLaVA's processor reduces pictures with another library than the training does
            torch.testing.assert_close(
                logits[b][here], theirs, atol=5e-3 if family == "llava" else 1e-4, rtol=0
            )


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_two_pictures_in_a_conversation_equal_the_models_own(family, tokenizers, tmp_path):
    recipe, tokenizer = small(family), tokenizers[family]
    model, processor = untrained(recipe, tokenizer), make_processor(family, tokenizer)
    whole, tower = Answering(model, family, tokenizer), TOWERS[family](model.model)
    size = (336, 336)
    batch = Pictures((Shape(size, tower.pixels(size), tower.grid(size)),), 2, 0)[0]
    packed = Packer(whole.prompts[2], recipe.mix, 3, 160).pack([batch.scenes], seed=0)
    logits = whole.logits(visual_tokens(tower, batch, place(tmp_path)), batch.grid, packed)
    here = packed.branch[0, packed.rows[0]].eq(1) & (packed.targets[0] != -100)
    answer = packed.targets[0][here].tolist()
    prompt = whole.prompts[2]
    text = tokenizer.decode(packed.ids[0][packed.branch[0] == 1].tolist()[: -len(answer)])[
        len(prompt.before) : -len(prompt.after)
    ]
    theirs = continued(
        model, conversation(processor, [draw(scene) for scene in batch.scenes], text), answer
    )
    torch.testing.assert_close(
        logits[0][here], theirs, atol=5e-3 if family == "llava" else 1e-4, rtol=0
    )


def conversation(processor, images, text):
    content = [
        *({"type": "image", "image": image} for image in images),
        {"type": "text", "text": text},
    ]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def continued(model, inputs, answer):
    """The model's own logits for each token of an answer that it is given."""
    length, rest = inputs["input_ids"].shape[1], torch.tensor([answer[:-1]], dtype=torch.long)
    grown = {"input_ids": torch.cat([inputs["input_ids"], rest], 1)}
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        grown["mm_token_type_ids"] = torch.cat(
            [kinds, torch.zeros(1, rest.shape[1], dtype=kinds.dtype)], 1
        )
    kept = {name: value for name, value in inputs.items() if name not in (*grown, "attention_mask")}
    return model(**grown, **kept).logits[0, length - 1 :]


def test_a_question_does_not_see_the_others(tokenizers):
    recipe, tokenizer = small("qwen2_5_vl"), tokenizers["qwen2_5_vl"]
    whole = Answering(untrained(recipe, tokenizer), recipe.family, tokenizer)
    visual = torch.randn(1, 144, recipe.width)
    packed = Packer(whole.prompts[1], recipe.mix, 6, 160).pack([[make_scene(5)]], seed=0)
    changed = dataclasses.replace(
        packed, ids=torch.where(packed.branch == 1, packed.ids.flip(1), packed.ids)
    )
    other = packed.branch[0, packed.rows[0]] > 1
    before, after = (whole.logits(visual, (12, 12), p)[0][other] for p in (packed, changed))
    torch.testing.assert_close(before, after)


def test_nothing_sees_a_dropped_token(tokenizers):
    recipe, tokenizer = small("qwen2_5_vl"), tokenizers["qwen2_5_vl"]
    whole, scene = Answering(untrained(recipe, tokenizer), recipe.family, tokenizer), make_scene(5)
    dropped = only_ground(torch.from_numpy(labels(scene, (12, 12)))[None])
    assert 20 < int(dropped.sum()) < 124
    visual = torch.randn(1, 144, recipe.width)
    changed = torch.where(dropped[..., None], torch.randn_like(visual), visual)
    packed = Packer(whole.prompts[1], recipe.mix, 6, 160).pack([[scene]], seed=0)
    before, after = (whole.logits(z, (12, 12), packed, dropped) for z in (visual, changed))
    torch.testing.assert_close(before, after)
    assert not torch.allclose(before, whole.logits(visual, (12, 12), packed))


@pytest.mark.parametrize("seed", range(20))
def test_labels_name_every_glyph_and_thing(seed):
    scene = make_scene(seed)
    found = dict(zip((name for name, _, _ in FIELDS), labels(scene, (12, 12)), strict=True))
    assert (found["middle"] > 0).sum() == len(scene.things)
    glyphs = sum(len(sign.text) for sign in scene.signs)
    assert glyphs - 1 <= (found["glyph"] > 0).sum() <= glyphs


def language(steps: int) -> Language:
    recipe = Language(questions=6)
    return dataclasses.replace(
        recipe,
        stage=dataclasses.replace(recipe.stage, steps=steps, pictures=2, warmup=2),
        again=(2, 1e-3),
    )


def test_a_stage_that_was_cut_short_ends_as_if_it_had_not_been(tokenizers, tmp_path, monkeypatch):
    recipe, tokenizer = small(FAMILY), tokenizers[FAMILY]

    def train(folder):
        folder.mkdir(exist_ok=True)
        model = untrained(recipe, tokenizer)
        train_language(
            model, Wording(recipe.width, tokenizer, 0.05), language(4), tokenizer, place(folder)
        )
        return model

    whole = train(tmp_path / "whole")
    take = _loop.Run.take

    def cut(self, loss):
        take(self, loss)
        if self.step == 2:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(_loop.Run, "take", cut)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    monkeypatch.setattr(_loop.Run, "take", take)
    continued_run = train(tmp_path / "cut")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, continued_run.state_dict()[name], msg=name)


def test_a_folded_wording_makes_the_same_tokens(tokenizers):
    recipe, tokenizer = small(FAMILY), tokenizers[FAMILY]
    model = untrained(recipe, tokenizer)
    last, embeddings = (
        TOWERS[FAMILY](model.model).last,
        model.model.language_model.embed_tokens.weight,
    )
    wording, heads = Wording(recipe.width, tokenizer, spread=0.05), Heads(last.in_features)
    torch.nn.init.normal_(heads.estimate.weight)
    hidden = torch.randn(1, 144, last.in_features)
    with torch.no_grad():
        wording.fold(last, heads.estimate, embeddings)
        torch.testing.assert_close(
            last(hidden), wording(heads.estimate(hidden), embeddings), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != FAMILY])
def test_an_adopted_decoder_keeps_its_words_and_layers(family, tokenizers):
    source, model = (untrained(small(name), tokenizers[name]) for name in (FAMILY, family))
    adopt(model, family, tokenizers[family], source.model.language_model, tokenizers[FAMILY])
    rows = [core.model.language_model.embed_tokens.weight for core in (model, source)]
    for text in ("circle", " circle", "7", "\n"):
        mine, theirs = (
            t.encode(text, add_special_tokens=False)[-1]
            for t in (tokenizers[family], tokenizers[FAMILY])
        )
        torch.testing.assert_close(rows[0][mine], rows[1][theirs])
    torch.testing.assert_close(
        rows[0][tokenizers[family].eos_token_id], rows[1][tokenizers[FAMILY].eos_token_id]
    )
    layers = [core.model.language_model.layers[1].mlp.up_proj.weight for core in (model, source)]
    torch.testing.assert_close(*layers)


def test_the_vision_stage_learns_and_logs(tokenizers, tmp_path):
    recipe = small("internvl", steps=6)
    model = untrained(recipe, tokenizers["internvl"])
    before = model.model.vision_tower.encoder.layer[0].mlp.fc1.weight.clone()
    words = model.model.language_model.embed_tokens.weight.clone()
    heads = Heads(model.model.multi_modal_projector.linear_2.in_features)
    train_vision(model, heads, recipe, place(tmp_path))
    assert not torch.equal(before, model.model.vision_tower.encoder.layer[0].mlp.fc1.weight)
    assert torch.equal(words, model.model.language_model.embed_tokens.weight)
    assert json.loads((tmp_path / "vision.jsonl").read_text().splitlines()[-1])["step"] == 6


def test_the_joint_stage_trains_tower_and_decoder(tokenizers, tmp_path):
    recipe, tokenizer = small("llava", steps=2), tokenizers["llava"]
    model = untrained(recipe, tokenizer)
    parts = (
        model.model.vision_tower.encoder.layers[0].mlp.fc1.weight,
        model.model.language_model.layers[0].mlp.up_proj.weight,
    )
    before = [part.clone() for part in parts]
    train_joint(
        model,
        Heads(model.model.multi_modal_projector.linear_2.in_features),
        recipe,
        tokenizer,
        place(tmp_path),
    )
    assert not any(torch.equal(old, new) for old, new in zip(before, parts, strict=True))


def test_answer_loss_counts_answer_tokens_only(tokenizers):
    recipe, tokenizer = small("qwen2_5_vl"), tokenizers["qwen2_5_vl"]
    whole = Answering(untrained(recipe, tokenizer), recipe.family, tokenizer)
    packed = Packer(whole.prompts[1], recipe.mix, 6, 160).pack(
        [[make_scene(1)], [make_scene(2)]], seed=1
    )
    _, _, number = answer_loss(
        torch.zeros(2, packed.rows.shape[1], vocabulary_size(tokenizer)), packed
    )
    assert number == int((packed.targets != -100).sum())
    assert bool(
        (
            packed.ids.gather(1, packed.rows + 1)[packed.targets != -100]
            == packed.targets[packed.targets != -100]
        ).all()
    )
