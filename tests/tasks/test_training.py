"""The training's own forward pass equals Hugging Face's, and a run that is cut short continues as
if it had not been.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from training import __main__ as command
from training import _loop
from training._answering import Answering, Shown, answer_loss
from training._build import build
from training._episodes import FRAMES, episode
from training._evaluate import exact
from training._joint import train_joint, visual_tokens
from training._labels import FIELDS, NUMBERS, labels, only_ground, target_of
from training._language import (
    FAMILY,
    adopt,
    make_scenes,
    rotary_of,
    train_language,
    tune_language,
    worded,
)
from training._loop import Place
from training._packing import Packer
from training._pictures import Geometry, Pictures
from training._plan import Job, jobs, status
from training._processors import make_processor
from training._prompt import Sight, make_prompt, runs_of
from training._recipe import AIDED, RECIPES, Kind, Language, Recipe
from training._towers import TOWERS, Looked
from training._vision import Heads, train_vision
from training._wording import Wording
from training._words import make_tokenizer, role_ids, vocabulary_size
from unibench import UsageError
from unibench.compose import compose_cells
from unibench.identity import cell_of
from unibench.inference.ask import answer
from unibench.models import load
from unibench.runner.embedded import load_task
from unibench.tasks.synthvqa._frames import box_of
from unibench.tasks.synthvqa._palette import COLORS, PLATES, SEEN, SHAPES
from unibench.tasks.synthvqa._scene import make_scene

FAMILIES = tuple(RECIPES)
# one that has all parts, DeepStack and clips too, stands for the others in the default tests
ONE = [
    pytest.param(family, marks=[] if family == "qwen3_vl" else pytest.mark.slow)
    for family in FAMILIES
]
VIDEO = tuple(family for family, recipe in RECIPES.items() if recipe.video)
NO_PACKAGE = {"joint": ("plain", "places", "several"), "video": ("clip", "plain")}


def small(family: str, steps: int = 4) -> Recipe:
    recipe = dataclasses.replace(
        RECIPES[family],
        width=64,
        inner=96,
        layers=3,
        heads=2,
        vision_width=64,
        vision_depth=3,
        text_tokens=240,
        sizes=((336, 336),),
        questions=6,
        tune=2 if RECIPES[family].tune else 0,
        kinds=RECIPES[family].kinds | NO_PACKAGE,
    )
    shorter = {}
    for name in recipe.stages:
        shorter[name] = dataclasses.replace(recipe.stage(name), steps=steps, pictures=2, warmup=2)
    return dataclasses.replace(recipe, **shorter)


def untrained(recipe: Recipe) -> Any:
    tokenizer = make_tokenizer(recipe.family)
    model = build(recipe, role_ids(recipe.family, tokenizer), vocabulary_size(tokenizer), seed=0)
    for parameter in model.parameters():
        # a bias of zero would hide a forgotten one, a DeepStack projector of zero a forgotten layer
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def heads_of(model, recipe: Recipe) -> Heads:
    return Heads(TOWERS[recipe.family](model.model).last.in_features, recipe.family != FAMILY)


def place(folder, dtype=torch.float32) -> Place:
    return Place(torch.device("cpu"), dtype, folder, workers=0)


QUICK = (("qwen3_vl", "several"),)  # by default; the others are in the full run
OTHERS = [
    *((family, "several") for family in FAMILIES),
    *((family, "clip") for family in VIDEO),
]
CASES = [
    *(
        pytest.param(family, kind, marks=[] if (family, kind) in QUICK else pytest.mark.slow)
        for family, kind in [*((family, "plain") for family in FAMILIES), *OTHERS]
    ),
]


@pytest.mark.parametrize(("family", "kind"), CASES)
@torch.no_grad()
def test_the_packed_forward_equals_the_models_own(family, kind, tmp_path) -> None:
    recipe, tokenizer = small(family), make_tokenizer(family)
    model, processor = untrained(recipe), make_processor(family, tokenizer)
    whole, tower = Answering(model, family), TOWERS[family](model.model)
    batch = Pictures(Geometry.of(recipe, tower), recipe, "joint", lambda _: kind, 0)[0]
    # lists, of which a part is told, have answers of another kind
    others = {name: {**mix, "listing": 0.0} for name, mix in AIDED.items()}
    packed = Packer(family, recipe.mix, 3, 240, 0.0, others).pack(batch.episodes(), seed=0)
    logits = whole.logits(visual_tokens(tower, batch, place(tmp_path)), packed)
    prompt = make_prompt(family, batch.sight)
    one = batch.episodes()[1]
    rows = packed.targets[1] != -100
    for k in range(1, min(2, int(packed.branch[1].max())) + 1):
        here = packed.branch[1, packed.rows[1]].eq(k) & rows
        answer = packed.targets[1][here].tolist()
        asked = packed.ids[1][packed.branch[1] == k].tolist()[: -len(answer)]
        text = tokenizer.decode(asked)[len(prompt.before) : -len(prompt.after)]
        inputs = conversation(processor, list(one.draw()), text, kind == "clip")
        theirs = continued(model, inputs, answer)
        # processors change the size of pictures with another library than the training does
        resized = family in ("llava", "qwen3_vl") or (family, kind) != ("internvl", "plain")
        torch.testing.assert_close(logits[1][here], theirs, atol=2e-2 if resized else 1e-4, rtol=0)


def conversation(processor, images, text, clip: bool) -> Any:
    kinds = [{"type": "video"}] if clip else [{"type": "image"} for _ in images]
    turn = {"role": "user", "content": [*kinds, {"type": "text", "text": text}]}
    written = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    shown = {"images": images}
    if clip:
        shown = {"videos": [images], "videos_kwargs": {"do_sample_frames": False}}
    return processor(text=[written], return_tensors="pt", **shown)


def continued(model, inputs, answer) -> Tensor:
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


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_attention_that_is_taught_is_the_towers_own(family, tmp_path) -> None:
    recipe = small(family)
    model = untrained(recipe)
    model.set_attn_implementation("eager")
    tower = TOWERS[family](model.model)
    batch = Pictures(Geometry.of(recipe, tower), recipe, "joint", lambda _: "plain", 0)[0]
    looked = tower.look(batch.images, torch.float32)
    assert len(looked.found) >= 1
    for found in looked.found:
        torch.testing.assert_close(found.sum(1), torch.ones(2), atol=1e-4, rtol=0)


def test_a_question_does_not_see_the_others() -> None:
    recipe = small(FAMILY)
    whole = Answering(untrained(recipe), FAMILY)
    shown = scenes("plain", FAMILY, recipe, whole)
    episodes = make_scenes(FAMILY, "plain", (336, 336), [5, 6], Language()).episodes
    packed = Packer(FAMILY, recipe.mix, 6, 240).pack(episodes, seed=0)
    flipped = torch.where(packed.branch == 1, packed.ids.flip(1), packed.ids)
    other = packed.branch[0, packed.rows[0]] > 1
    before, after = (
        whole.logits(shown, p)[0][other] for p in (packed, dataclasses.replace(packed, ids=flipped))
    )
    torch.testing.assert_close(before, after)


def scenes(kind, form, recipe, whole) -> Shown:
    torch.manual_seed(0)
    shown = make_scenes(form, kind, (336, 336), [5, 6], Language())
    wording = Wording(recipe.width, make_tokenizer(FAMILY), 0.05)
    with torch.no_grad():
        return worded(wording, shown, whole, place(None))


def test_nothing_sees_a_dropped_token() -> None:
    recipe, scene = small(FAMILY), make_scene(5)
    whole = Answering(untrained(recipe), FAMILY)
    dropped = only_ground(torch.from_numpy(labels(scene, (12, 12)))[None])
    assert 20 < int(dropped.sum()) < 124
    shown = scenes("plain", FAMILY, recipe, whole)
    shown = dataclasses.replace(shown, tokens=shown.tokens[:1])
    changed = torch.where(dropped[..., None], torch.randn_like(shown.tokens), shown.tokens)
    episodes = make_scenes(FAMILY, "plain", (336, 336), [5, 6], Language()).episodes
    packed = Packer(FAMILY, recipe.mix, 6, 240).pack(episodes[:1], seed=0)
    other = dataclasses.replace(shown, tokens=changed)
    before, after = (whole.logits(z, packed, dropped) for z in (shown, other))
    torch.testing.assert_close(before, after)
    assert not torch.allclose(before, whole.logits(shown, packed))


@pytest.mark.parametrize("seed", range(20))
def test_labels_name_every_glyph_and_thing(seed) -> None:
    scene = make_scene(seed)
    found = dict(zip((field.name for field in FIELDS), labels(scene, (12, 12)), strict=True))
    assert (found["middle"] > 0).sum() == (found["size"] > 0).sum() == len(scene.things)
    glyphs = sum(len(sign.text) for sign in scene.signs)
    assert glyphs - 1 <= (found["glyph"] > 0).sum() <= glyphs
    assert found["across"].tolist() == list(range(1, 13)) * 12
    assert found["down"].tolist() == [i for i in range(1, 13) for _ in range(12)]
    things = (found["middle"] > 0) | (found["glyph"] > 0)
    values = target_of([scene], (12, 12), pairs=False).values[0]
    for field, shown in zip(FIELDS, values.split(NUMBERS, -1), strict=True):
        said = shown.sum(-1).numpy() > 0
        wanted = things if field.name in ("across", "down") else found[field.name] > 0
        assert np.array_equal(said, wanted)


def test_a_pair_of_frames_shows_half_of_what_one_of_them_shows() -> None:
    sign = make_scene(5).signs[0]
    shown = make_scene(5)
    empty = dataclasses.replace(shown, signs=())
    target = target_of([shown, empty], (12, 12), pairs=True)
    alone = target_of([shown], (12, 12), pairs=False)
    assert target.values.shape == alone.values.shape
    glyphs = alone.labels[0, [field.name for field in FIELDS].index("glyph")] > 0
    assert int(glyphs.sum()) >= len(sign.text)
    assert target.values[0][glyphs].sum() < alone.values[0][glyphs].sum()
    assert bool((target.labels[0, 4][glyphs] == -100).all())


@pytest.mark.parametrize("family", VIDEO)
def test_a_prompt_has_a_run_for_each_moment_that_the_family_tells_apart(family) -> None:
    sight = Sight(frames=FRAMES)
    runs = runs_of(sight, (8, 8), family)
    assert len(make_prompt(family, sight).parts) == len(runs)
    assert sum(moments for moments, _, _ in runs) == (FRAMES if family == "internvl" else 4)


def language(steps: int) -> Language:
    recipe = Language(questions=6, turn=0.25)
    return dataclasses.replace(
        recipe,
        stage=dataclasses.replace(recipe.stage, steps=steps, pictures=2, warmup=2),
        later=tuple(dataclasses.replace(part, steps=2) for part in recipe.later),
    )


def cut_at(step: int, monkeypatch) -> None:
    """Ends the first run that comes to a step, after it is saved, as a signal would."""
    end = _loop.Run.end_step

    def cut(self, every=50) -> None:
        if self.step == step:
            monkeypatch.setattr(_loop.STOP, "asked", True)
        end(self, every)

    monkeypatch.setattr(_loop.Run, "end_step", cut)


def test_a_language_stage_that_was_cut_short_ends_as_if_it_had_not_been(
    tmp_path, monkeypatch
) -> None:
    def train(folder) -> Any:
        folder.mkdir(exist_ok=True)
        model = untrained(small(FAMILY))
        wording = Wording(64, make_tokenizer(FAMILY), 0.05)
        train_language(model, wording, language(8), place(folder))
        return model

    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patched:
        cut_at(3, patched)
        with pytest.raises(SystemExit, match="stopped after step 3"):
            train(tmp_path / "cut")
    assert_equal(whole, train(tmp_path / "cut"))


def test_a_step_belongs_to_one_round() -> None:
    course = language(8)
    found = [part and part.name for part in map(course.round_at, range(10))]
    assert found == [None] * 8 + ["again"] * 2


def test_how_loud_a_field_is_is_not_learnt(tmp_path) -> None:
    model, wording = untrained(small(FAMILY)), Wording(64, make_tokenizer(FAMILY), 0.05)
    before = wording.free.clone()
    train_language(model, wording, language(2), place(tmp_path))
    assert not torch.equal(wording.free, before)
    assert wording.scale.tolist() == pytest.approx([field.loudness for field in FIELDS])


def listings(kind: Kind) -> dict[str, dict[str, str]]:
    """What the lists about an episode say, by heading."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    one = episode(kind, 7)
    for seed in range(300):
        listing = one.ask("listing", np.random.default_rng(seed), True, 0.0)
        if listing is not None and listing.topic != "letters":
            found[listing.topic] |= dict(listing.entries)
    return found


@pytest.mark.parametrize("kind", ["plain", "places"])
def test_a_list_is_answered_by_the_scene(kind) -> None:
    (scene,), found = episode(kind, 7).scenes, listings(kind)
    of = {word: [t for t in scene.things if word in t.name.split()] for word in (*COLORS, *SHAPES)}
    assert found["numbers"] == {w: str(len(ts)) for w, ts in of.items() if len(ts) <= 4}
    for topic, words in (("shapes", COLORS), ("colors", SHAPES)):
        single = {word: of[word] for word in words if len(of[word]) < 2}
        assert found[topic] == {
            word: " ".join(set(t[0].name.split()) - {word}) if t else "no"
            for word, t in single.items()
        }
    there = {thing.name for thing in scene.things}
    assert {name for name, answer in found["there"].items() if answer == "Yes"} == there
    absent = {f"{color} {shape}" for color, shape in SEEN} - there
    apart = {name for name in absent if all(of[word] for word in name.split())}
    no = {name for name, answer in found["there"].items() if answer == "No"}
    assert no and no <= (apart or absent), "what is told from one word only where there is no other"
    signs = {sign.color: sign.text for sign in scene.signs}
    assert found["texts"] == {color: signs.get(color, "no") for color in PLATES}
    every = [thing.name for thing in scene.things]
    single = {thing.name: thing for thing in scene.things if every.count(thing.name) == 1}
    assert found["columns"] == {name: str(int(t.x / 28)) for name, t in single.items()}
    assert found["rows"] == {name: str(int(t.y / 28)) for name, t in single.items()}
    boxes = {name: box_of(scene, thing) for name, thing in single.items()}
    boxes |= {f"{sign.color} sign": sign.box for sign in scene.signs}
    if kind == "plain":
        return
    for edge, topic in enumerate(("left", "top", "right", "bottom")):
        assert found[topic] == {name: str(round(100 * b[edge] / 336)) for name, b in boxes.items()}
    for pair, word in found["relations"].items():
        words = pair.split()
        one, other = boxes[" ".join(words[:2])], boxes[" ".join(words[2:])]
        axis = word in ("above", "below")
        assert (word in ("left", "above")) == (one[axis] < other[axis])


def test_the_letters_of_options_do_not_depend_on_what_is_shown() -> None:
    asked = [
        episode("plain", seed).ask("listing", np.random.default_rng(3), True, 0.0)
        for seed in (7, 8)
    ]
    assert asked[0] == asked[1] and asked[0].topic == "letters"
    for word, letter in asked[0].entries:
        assert f"{letter}. {word}\n" in asked[0].text


def test_a_list_is_answered_by_the_clip() -> None:
    found = listings("clip")
    names = [{thing.name for thing in frame.things} for frame in episode("clip", 7).scenes]
    every = set().union(*names)
    since = {name: [name in frame for frame in names].index(True) for name in every}
    new = sorted((name for name in every if since[name]), key=since.__getitem__)
    assert found["order"] == {name: str(i) for i, name in enumerate(new, 1)}
    for topic, shown in (("first", names[0]), ("last", names[-1])):
        assert found[topic] == {name: "Yes" if name in shown else "No" for name in every}
    runs = {
        name: sum(name in now and name not in then for then, now in pairwise([set(), *names]))
        for name in every
    }
    assert len(found["times"]) == 2
    assert found["times"].items() <= {name: str(number) for name, number in runs.items()}.items()
    (way,) = (answer for answer in found["motion"].values() if answer != "no")
    assert way in ("left", "right", "up", "down")


def test_of_a_list_the_answers_alone_are_answered() -> None:
    one, packer = episode("several", 7), Packer(FAMILY, {}, 1, 240)
    listing = one.ask("listing", np.random.default_rng(1), True, 0.0)
    (pair,) = packer.fitting(one, [listing])
    wanted = [target for target in pair.targets if target != -100]
    assert packer.tokenizer.decode(wanted).split() == [answer for _, answer in listing.entries]
    assert packer.tokenizer.decode(pair.answer[:-1]) == listing.spans()[0]


def assert_equal(one, other) -> None:
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_later_stage_that_was_cut_short_ends_as_if_it_had_not_been(
    family, tmp_path, monkeypatch
) -> None:
    recipe = small(family, steps=3)

    def train(folder) -> Any:
        folder.mkdir(exist_ok=True)
        model = untrained(recipe)
        heads = heads_of(model, recipe)
        train_vision(model, heads, recipe, place(folder))
        for name in recipe.stages[1:]:
            train_joint(model, heads, recipe, place(folder), name)
        return model

    whole = train(tmp_path / "whole")
    for _ in recipe.stages:
        with monkeypatch.context() as patched:
            cut_at(2, patched)
            with pytest.raises(SystemExit):
                train(tmp_path / "cut")
    assert_equal(whole, train(tmp_path / "cut"))
    rows = [json.loads(line) for line in (tmp_path / "cut" / "joint.jsonl").open()]
    assert rows[-1]["step"] == 3


def test_a_folded_wording_makes_the_same_tokens() -> None:
    model = untrained(small(FAMILY))
    last = TOWERS[FAMILY](model.model).last
    embeddings = model.model.language_model.embed_tokens.weight
    wording = Wording(64, make_tokenizer(FAMILY), spread=0.05)
    heads = Heads(last.in_features)
    torch.nn.init.normal_(heads.estimate.weight)
    hidden = torch.randn(1, 144, last.in_features)
    with torch.no_grad():
        wording.fold(last, heads.estimate, embeddings)
        torch.testing.assert_close(
            last(hidden), wording(heads.estimate(hidden), embeddings), atol=1e-4, rtol=1e-4
        )


def test_an_adopted_decoder_is_the_shared_one_and_can_be_tuned(tmp_path) -> None:
    recipe = small("qwen3_vl")
    source, model = untrained(small(FAMILY)), untrained(recipe)
    adopt(model, source.model.language_model)
    cores = [one.model.language_model for one in (model, source)]
    torch.testing.assert_close(*(core.embed_tokens.weight for core in cores))
    torch.testing.assert_close(*(core.layers[1].mlp.up_proj.weight for core in cores))
    norms = [layer.self_attn.q_norm.weight.detach() for layer in cores[0].layers]
    assert all(norm.std() < 1e-6 and norm[0] != 1 for norm in norms)
    wording = Wording(recipe.width, make_tokenizer(FAMILY), 0.05)
    before = norms[0].clone()
    tune_language(model, wording, recipe, language(4), place(tmp_path))
    assert not torch.equal(before, norms[0])


def test_attention_learns_to_find_what_a_picture_shows() -> None:
    torch.manual_seed(0)
    target = target_of([make_scene(5), make_scene(6)], (12, 12), pairs=False)
    heads = Heads(8)
    even = torch.full((2, 144), 1 / 144)
    on = target.things / target.things.sum(1, keepdim=True)
    hidden = torch.randn(2, 144, 8)
    losses = [heads.finding(Looked(hidden, found=[found]), target) for found in (even, on)]
    assert losses[1][0] < losses[0][0]
    assert losses[0][1] == pytest.approx(float(target.things.float().mean()), abs=0.02)
    assert losses[1][1] == pytest.approx(1)


def test_answer_loss_counts_answer_tokens_only() -> None:
    episodes = make_scenes(FAMILY, "plain", (336, 336), [1, 2], Language()).episodes
    packed = Packer(FAMILY, small(FAMILY).mix, 6, 240).pack(episodes, seed=1)
    size = vocabulary_size(make_tokenizer(FAMILY))
    _, _, number = answer_loss(torch.zeros(2, packed.rows.shape[1], size), packed)
    asked = packed.targets != -100
    assert number == int(asked.sum())
    assert bool((packed.ids.gather(1, packed.rows + 1)[asked] == packed.targets[asked]).all())


def test_accuracy_is_measured_by_ability(tmp_path) -> None:
    recipe = small(FAMILY)
    shares = exact(untrained(recipe), recipe, place(tmp_path), ("plain", "places"), batches=1)
    assert {"existence", "reading", "where", "relation", "second_question"} <= set(shares)
    assert all(0 <= share <= 1 for share in shares.values())


def test_the_shared_decoder_turns_with_the_positions_of_each_family() -> None:
    x = torch.zeros(1, 1, 64)
    positions = torch.tensor([1, 2, 3])[:, None, None]
    turned = [rotary_of(form)(x, positions)[0] for form in ("qwen2_5_vl", "qwen3_vl")]
    assert turned[0].shape == turned[1].shape == (1, 1, 32)
    assert not torch.allclose(*turned)


@pytest.mark.parametrize("family", ONE)
def test_an_exported_checkpoint_answers_each_task(family, tmp_path) -> None:
    recipe = small(family)
    command.export(untrained(recipe), family, tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    assert plain.config.model_type == family
    cells = compose_cells(
        [
            *("method=divprune", "ratio=0.5", f"model=tiny_{family.replace('3_vl', '2_5_vl')}"),
            *(f"model.path={tmp_path}", f"model.family={family}", "model.selector=null"),
            "task=synthvqa,synthscene,synthvideo",
        ],
        sweep=True,
    )
    loaded = load(cells[0].model)
    for config in cells:
        cell = cell_of(config)
        samples = list(load_task(cell).samples(5))
        asked = answer(cell, load_task(cell), loaded, iter(enumerate(samples)))
        if family == "llava" and config.task.modality == "video":
            with pytest.raises(UsageError, match="reads no video"):
                next(asked)
            continue
        records = list(asked)
        assert [record.ability for record in records] == [sample.ability for sample in samples]
        assert all(record.visual_tokens == 2 * record.kept for record in records)


# -- the command


def test_jobs_wait_for_what_they_need_and_for_each_other(tmp_path) -> None:
    everything = jobs("all")
    assert len(set(everything)) == len(everything) == 16
    shared, joint = Job("language", "language"), Job("llava", "joint")
    ready = [job for job in everything if job.is_ready(tmp_path)]
    assert shared in ready and Job("llava", "vision") in ready and joint not in ready
    for job in (shared, Job("llava", "vision")):
        with job.locked(tmp_path) as free:
            assert free
            job.finish(tmp_path)
    assert joint.is_ready(tmp_path)
    with joint.locked(tmp_path), Job("llava", "vision").locked(tmp_path) as free:
        assert not free
    assert "done" in status(tmp_path).splitlines()[0]


def test_training_without_the_package_says_how_to_get_it(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "easy_vqa", None)
    assert command.main(["language", f"--folder={tmp_path}"]) == 2
    assert "pip install easy-vqa" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
