"""synthvqa: the same everywhere, balanced, true to its pictures, and full."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from functools import cache

import numpy as np
import pytest

from unibench import UsageError
from unibench.tasks.synthvqa._palette import COLORS, HELD_OUT, PLATES, PLURALS, SHAPES
from unibench.tasks.synthvqa._questions import ABILITIES, MOST, RULES, ask
from unibench.tasks.synthvqa._scene import Box, Scene, make_scene
from unibench.tasks.synthvqa._task import SynthVQA

FINGERPRINT = """
import hashlib
from unibench.tasks.synthvqa._task import SynthVQA
for s in SynthVQA().samples(10):
    pixels = b"".join(image.tobytes() for image in s.images)
    print(s.id, s.answers[0], hashlib.sha256(pixels + s.question.encode()).hexdigest()[:12])
"""


@cache
def scenes() -> list[Scene]:
    return [make_scene(seed) for seed in range(60_000_000, 60_000_060)]


def fingerprint(sample) -> str:
    pixels = b"".join(image.tobytes() for image in sample.images)
    return (
        f"{sample.id} {sample.answers[0]}"
        f" {hashlib.sha256(pixels + sample.question.encode()).hexdigest()[:12]}"
    )


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def boxes(scene) -> list[Box]:
    things = [
        (t.x - t.radius, t.y - t.radius, t.x + t.radius, t.y + t.radius) for t in scene.things
    ]
    return things + [sign.box for sign in scene.signs]


def test_samples_are_the_same_in_every_process() -> None:
    command = [sys.executable, "-c", FINGERPRINT]
    runs = [
        subprocess.run(
            command, env={"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        ).stdout
        for salt in "12"
    ]
    assert runs[0] == runs[1]
    assert runs[0].splitlines() == [fingerprint(sample) for sample in SynthVQA().samples(10)]


@pytest.mark.parametrize("variant", ["single", "large", "pair", "sparse"])
def test_ids_are_unique_and_a_limit_is_a_prefix(variant) -> None:
    everything = [s.id for s in SynthVQA(variant=variant, size=60).samples()]
    assert len(set(everything)) == 60
    assert [s.id for s in SynthVQA(variant=variant).samples(33)] == everything[:33]


def test_abilities_are_balanced_and_groups_are_pictures() -> None:
    samples = list(SynthVQA().samples(60))
    assert [s.ability for s in samples] == [ABILITIES[i % len(ABILITIES)] for i in range(60)]
    assert Counter(s.group for s in samples) == Counter({s.group: len(ABILITIES) for s in samples})


def test_splits_and_seeds_share_no_picture() -> None:
    draws = [
        {s.images[0].tobytes() for s in SynthVQA(split=split, seed=seed).samples(20)}
        for split in ("test", "dev", "combinations")
        for seed in (0, 1)
    ]
    assert len(set.union(*draws)) == sum(map(len, draws))


def test_pictures_are_full_and_nothing_overlaps() -> None:
    for scene in scenes():
        assert 6 <= len(scene.things) <= 12, scene.seed
        assert 3 <= len(scene.signs) <= 5, scene.seed
        assert 12 <= sum(len(sign.text) for sign in scene.signs) <= 24, scene.seed
        assert all(2 <= len(sign.text) <= 6 for sign in scene.signs), scene.seed
        assert len({sign.color for sign in scene.signs}) == len(scene.signs), scene.seed
        placed = boxes(scene)
        for i, a in enumerate(placed):
            assert 0 <= a[0] < a[2] <= 336 and 0 <= a[1] < a[3] <= 336, scene.seed
            assert not any(
                a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in placed[:i]
            ), scene.seed


def test_held_out_pairs_are_in_their_split_only() -> None:
    def shown(scene) -> set[tuple[str, str]]:
        return {(thing.color, thing.shape) for thing in scene.things} & set(HELD_OUT)

    assert not any(shown(scene) for scene in scenes())
    assert all(shown(make_scene(seed, held_out=True)) for seed in range(40))
    names = {" ".join(pair) for pair in HELD_OUT}
    asked = [s for s in SynthVQA(split="combinations").samples(100) if s.ability == "existence"]
    assert all(any(name in s.question for name in names) for s in asked)
    for seed, scene in enumerate(scenes()):
        for ability in ABILITIES:
            question = ask(ability, scene, rng(seed), varied=True)
            assert question is None or not any(name in question.text for name in names)


@pytest.mark.parametrize("varied", [False, True])
def test_existence_agrees_with_the_scene(varied) -> None:
    for scene in scenes():
        check_existence(scene, varied)


def check_existence(scene, varied) -> None:
    question = ask("existence", scene, rng(scene.seed), varied=varied)
    shown = {thing.name for thing in scene.things} | {f"{sign.color} sign" for sign in scene.signs}
    candidates = {f"{color} {shape}" for color in COLORS for shape in SHAPES} | {
        f"{s} sign" for s in PLATES
    }
    named = next(
        name for name in candidates if f" {name} " in question.text or f" {name}?" in question.text
    )
    assert question.answer == ("Yes" if named in shown else "No"), scene.seed


def test_reading_and_counting_agree_with_the_scene() -> None:
    for scene in scenes():
        check_reading_and_counting(scene)


def check_reading_and_counting(scene) -> None:
    reading = ask("reading", scene, rng(scene.seed))
    sign = next(sign for sign in scene.signs if f" {sign.color} sign" in reading.text)
    assert reading.answer == sign.text, scene.seed
    counting = ask("counting", scene, rng(scene.seed, 1))
    if counting.topic == "count":
        noun = counting.text.split("How many ")[1].split(" are there")[0]
        singular = {plural: shape for shape, plural in PLURALS.items()}
        if noun == "signs":
            truth = len(scene.signs)
        elif noun in singular:
            truth = sum(thing.shape == singular[noun] for thing in scene.things)
        else:
            truth = sum(thing.color == noun.removesuffix(" objects") for thing in scene.things)
        assert int(counting.answer) == truth, scene.seed
    assert 0 <= int(counting.answer) <= MOST + 1, scene.seed


def test_a_picture_with_many_of_all_it_shows_has_its_questions_too() -> None:
    scene = make_scene(
        6_067_968
    )  # six orange and five blue, six squares and five diamonds: numbers above those asked about
    shown = (
        Counter(thing.color for thing in scene.things),
        Counter(thing.shape for thing in scene.things),
    )
    assert all(min(counts.values()) > MOST for counts in shown)
    found = [
        ask("counting", scene, rng(number), varied=True, brief=False, held_out=False)
        for number in range(60)
    ]
    assert "less" not in {question.topic for question in found}
    assert {int(question.answer) for question in found} >= {0, 1}


def test_multiple_choice_has_different_options_and_fair_letters() -> None:
    asked = [ask("multiple_choice", make_scene(seed), rng(seed)) for seed in range(600)]
    letters: Counter[str] = Counter()
    for question in filter(None, asked):
        options = [line for line in question.text.splitlines() if line[1:3] == ". "]
        assert len(set(options)) == len(options) == round(1 / question.chance)
        if len(options) == 4:
            letters[question.answer] += 1
    assert min(letters.values()) > 0.2 * letters.total()


def test_yes_and_no_are_equally_common_and_half_of_no_is_adversarial() -> None:
    asked = [ask("existence", make_scene(seed), rng(seed)) for seed in range(800)]
    assert 0.45 < sum(question.answer == "Yes" for question in asked) / len(asked) < 0.55
    kinds = Counter(question.topic for question in asked if question.answer == "No")
    assert 0.35 < kinds["adversarial"] / (kinds["adversarial"] + kinds["random"]) < 0.65


def test_each_rule_of_the_format_ability_is_asked_and_case_counts() -> None:
    samples = [s for s in SynthVQA(size=400).samples() if s.ability == "format"]
    assert {
        rule for rule, (text, _) in RULES.items() if any(text in s.question for s in samples)
    } == set(RULES)
    capitals = next(s for s in samples if "capital" in s.question)
    assert SynthVQA().score(capitals, capitals.answers[0]) == 1.0
    assert SynthVQA().score(capitals, capitals.answers[0].lower()) == 0.0


def test_scoring_ignores_case_and_space_and_nothing_else() -> None:
    sample = next(s for s in SynthVQA().samples(5) if s.ability == "reading")
    assert SynthVQA().score(sample, f" {sample.answers[0].lower()}\n") == 1.0
    assert SynthVQA().score(sample, sample.answers[0] + ".") == 0.0
    assert SynthVQA().score(sample, "") == 0.0


def test_variants_differ_in_pictures() -> None:
    sizes = {
        variant: [image.size for image in next(SynthVQA(variant=variant).samples(1)).images]
        for variant in ("single", "large", "pair")
    }
    assert sizes == {
        "single": [(336, 336)],
        "large": [(448, 448)],
        "pair": [(336, 336), (336, 336)],
    }


def test_a_shuffled_question_is_about_another_picture() -> None:
    asked, shown = list(SynthVQA().samples(15)), list(SynthVQA(shuffled=True).samples(10))
    assert [s.question for s in shown] == [s.question for s in asked[:10]]
    assert all(
        ours.images[0].tobytes() == later.images[0].tobytes()
        for ours, later in zip(shown, asked[5:], strict=True)
    )


def test_sparse_pictures_show_little() -> None:
    drawn = [
        scene
        for _, (shown, _) in zip(range(20), SynthVQA(variant="sparse")._pictures(), strict=False)
        for scene in shown
    ]
    assert {len(scene.signs) for scene in drawn} == {1, 2}
    assert {len(scene.things) for scene in drawn} == {2, 3, 4}


def test_an_unknown_split_or_variant_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="combinations, dev, test"):
        SynthVQA(split="train")
    with pytest.raises(UsageError, match="large, pair, single, sparse"):
        SynthVQA(variant="huge")
