"""synthscene: the same everywhere, true to its pictures, and boxes are scored by their overlap."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from unibench import UsageError
from unibench.tasks import Sample
from unibench.tasks.synthscene import (
    ABILITIES,
    IOU,
    Round,
    SynthScene,
    ask,
    make_round,
    make_scene,
    overlap,
    parse_box,
)
from unibench.tasks.synthvqa._frames import box_of, draw_frames

# of another process, on another day
FIRST = "scene-test-50000000-where [54,46,65,64]"


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(SynthScene().samples(24))


def test_samples_are_the_same_in_every_process(samples) -> None:
    assert f"{samples[0].id} {samples[0].answers[0]}" == FIRST
    again = list(SynthScene().samples(4))
    for one, other in zip(samples, again, strict=False):
        assert (one.id, one.question, one.answers) == (other.id, other.question, other.answers)
        assert [digest(p) for p in one.images] == [digest(p) for p in other.images]


def digest(picture) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def test_abilities_take_turns_and_ids_are_unique(samples) -> None:
    assert [s.ability for s in samples] == [ABILITIES[i % len(ABILITIES)] for i in range(24)]
    assert len({s.id for s in samples}) == 24
    assert [len(s.images) for s in samples[:4]] == [1, 1, 1, 3]


@pytest.mark.parametrize("seed", range(4))
def test_a_box_is_where_the_thing_is_drawn(seed) -> None:
    scene = make_scene(seed)
    for thing in scene.things:
        # the same picture without the thing differs where it was
        others = tuple(other for other in scene.things if other is not thing)
        without = type(scene)(scene.seed, scene.size, scene.ground, scene.signs, others)
        pictures = (np.asarray(draw_frames([one])[0], int) for one in (scene, without))
        down, across = np.nonzero(np.abs(np.subtract(*pictures)).sum(2))
        drawn = (across.min(), down.min(), across.max() + 1, down.max() + 1)
        assert overlap(box_of(scene, thing), tuple(map(float, drawn))) > 0.85, thing


def test_no_two_things_of_a_scene_have_one_name() -> None:
    for seed in range(40):
        names = [thing.name for thing in make_scene(seed).things]
        assert 4 <= len(names) == len(set(names)) <= 6


def test_relations_agree_with_the_places() -> None:
    for seed in range(30):
        shown = make_round_without_pictures(seed)
        question = ask("relation", shown, np.random.default_rng(seed))
        if question is None:
            continue
        things = {thing.name: thing for thing in shown.scene.things}
        named = sorted(things, key=question.text.find)
        one, other = [things[name] for name in named if question.text.find(name) >= 0]
        right = {
            "left": one.x < other.x,
            "right": one.x > other.x,
            "above": one.y < other.y,
            "below": one.y > other.y,
        }
        assert right[question.answer], (seed, question)


def make_round_without_pictures(seed) -> Round:
    return Round(make_scene(seed), ())


def test_a_second_question_is_about_something_else(samples) -> None:
    asked = [s for s in samples if s.ability == "second_question"]
    for sample in asked:
        first, middle, second = sample.question.split("\n")
        assert middle.startswith("Answer: ") and second.startswith("Next question: ")
        assert first != second.removeprefix("Next question: ")


@pytest.mark.parametrize("seed", range(5))
def test_one_of_the_pictures_shows_what_is_asked_for(seed) -> None:
    shown = make_round(seed)
    question = ask("several_pictures", shown, np.random.default_rng(seed))
    assert question is not None
    names = [{thing.name for thing in scene.things} for scene in shown.several]
    for seen, scene in zip(names, shown.several, strict=True):
        seen |= {f"{sign.color} sign" for sign in scene.signs}
    asked = question.text.split(" shows ")[1].split(":")[0].split(" ", 1)[1]
    which = ["first", "second", "third"].index(question.answer)
    assert [asked in seen for seen in names] == [i == which for i in range(3)]


def test_a_box_counts_from_half_an_overlap_on(samples) -> None:
    task, sample = SynthScene(), samples[0]
    assert task.score(sample, sample.answers[0]) == 1
    left, top, right, bottom = parse_box(sample.answers[0])
    for share, score in ((0.9, 1.0), (0.4, 0.0)):
        narrow = [left, top, left + share * (right - left), bottom]
        assert task.score(sample, str(narrow)) == score
    assert task.score(sample, f"({left}, {top}), ({right}, {bottom})") == 1
    for wrong in ("", "[1,2,3]", f"{sample.answers[0]} or 5", "[50,50,40,40]"):
        assert task.score(sample, wrong) == 0


def test_overlap_is_intersection_over_union() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    assert overlap(box, box) == 1
    assert overlap(box, (0, 0, 10, 20)) == IOU
    assert overlap(box, (10, 0, 20, 10)) == overlap(box, (5, 5, 5, 9)) == 0


def test_other_answers_count_whatever_their_case(samples) -> None:
    sample = samples[1]
    assert SynthScene().score(sample, sample.answers[0].upper() + " ") == 1
    assert SynthScene().score(sample, "no " + sample.answers[0]) == 0


def test_shuffled_shows_the_pictures_of_the_next_round(samples) -> None:
    shuffled = list(SynthScene(shuffled=True).samples(4))
    for asked, other, following in zip(samples, shuffled, samples[4:8], strict=False):
        assert asked.question == other.question
        assert digest(other.images[0]) == digest(following.images[0])


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UsageError, match="tst"):
        SynthScene(split="tst")
