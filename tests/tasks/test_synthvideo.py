"""synthvideo: clips that follow from a seed, and questions that no single frame answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from unibench import UsageError, registry
from unibench.tasks import Sample
from unibench.tasks.synthvideo import ABILITIES, LENGTHS, SIDE, Clip, SynthVideo, ask, make_clip
from unibench.tasks.synthvqa._frames import draw_frames

FIRST = "clip-test-8-50000000-order blue diamond"  # of another process, on another day


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [make_clip(seed) for seed in range(40)]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(SynthVideo().samples(10))


def digest(picture) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def test_samples_are_the_same_in_every_process(samples) -> None:
    assert f"{samples[0].id} {samples[0].answers[0]}" == FIRST
    again = next(SynthVideo().samples(1))
    assert [digest(p) for p in again.images] == [digest(p) for p in samples[0].images]


def test_abilities_take_turns_and_ids_are_unique(samples) -> None:
    assert [s.ability for s in samples] == [*ABILITIES] * 2
    assert len({s.id for s in samples}) == 10
    assert {len(s.images) for s in samples} == {8}
    assert registry.tasks()["synthvideo"].modality == "video"


def test_the_ground_and_the_looks_stay_from_frame_to_frame(clips) -> None:
    clip = clips[0]
    frames = [np.asarray(frame, int) for frame in draw_frames(clip.frames)]
    assert frames[0].shape == (SIDE, SIDE, 3)
    still, radius = clip.still, int(clip.still.radius)
    window = np.s_[
        int(still.y) - radius : int(still.y) + radius, int(still.x) - radius : int(still.x) + radius
    ]
    for one, other in pairwise(frames):
        assert (one[window] == other[window]).all()
        # most of a picture is ground
        assert (one == other).all(2).mean() > 0.8


def test_nothing_overlaps_and_nothing_leaves_the_picture(clips) -> None:
    for clip in clips:
        for scene in clip.frames:
            boxes = [
                (t.x - t.radius, t.y - t.radius, t.x + t.radius, t.y + t.radius)
                for t in scene.things
            ] + [sign.box for sign in scene.signs]
            for i, one in enumerate(boxes):
                assert min(one) >= 0 and max(one) <= SIDE
                for other in boxes[:i]:
                    apart = one[2] <= other[0] or other[2] <= one[0]
                    assert apart or one[3] <= other[1] or other[3] <= one[1], clip.seed


def test_each_answer_follows_from_the_frames(clips) -> None:
    for clip in clips:
        shown = [{thing.name for thing in scene.things} for scene in clip.frames]
        rng = np.random.default_rng(clip.seed)
        answers = {ability: ask(ability, clip, rng) for ability in ABILITIES}
        always = set.intersection(*shown) - {clip.mover.name}
        assert always == {answers["still"].answer}
        there = [clip.blinker.name in names for names in shown]
        runs = sum(now and not then for then, now in pairwise([False, *there]))
        assert answers["repetition"].answer == str(runs)
        first = {name: next(i for i, names in enumerate(shown) if name in names)
                 for name in set.union(*shown) - shown[0]}  # fmt: skip
        order = sorted(first, key=first.__getitem__)
        place = 0 if answers["order"].topic == "first" else -1
        assert order[place] == answers["order"].answer
        assert all(name in answers["order"].text for name in order)
        assert all(later - earlier >= 2 for earlier, later in pairwise(sorted(first.values())))
        signs = [sign.text for scene in clip.frames for sign in scene.signs]
        assert signs == [answers["flash"].answer]


def test_motion_is_the_way_the_thing_goes(clips) -> None:
    for clip in clips:
        places = [
            next((t.x, t.y) for t in scene.things if t.name == clip.mover.name)
            for scene in clip.frames
        ]
        across, down = np.subtract(places[-1], places[0])
        sideways = "right" if across > 0 else "left"
        upright = "down" if down > 0 else "up"
        went = sideways if abs(across) > abs(down) else upright
        rng = np.random.default_rng(0)
        assert ask("motion", clip, rng).answer == went
        assert max(abs(across), abs(down)) >= 59


def test_answers_are_spread(clips) -> None:
    for ability, most in (("motion", 0.5), ("repetition", 0.6)):
        answers = Counter(ask(ability, clip, np.random.default_rng(0)).answer for clip in clips)
        assert max(answers.values()) <= most * len(clips)


@pytest.mark.parametrize("frames", LENGTHS)
def test_a_clip_may_be_longer(frames) -> None:
    sample = next(SynthVideo(frames=frames).samples(1))
    assert len(sample.images) == frames


@pytest.mark.parametrize(("option", "value"), [("frames", 9), ("frames", 32), ("split", "tst")])
def test_other_clips_are_refused(option, value) -> None:
    with pytest.raises(UsageError, match=str(value)):
        SynthVideo(**{option: value})


def test_shuffled_shows_the_next_clip(samples) -> None:
    other = next(SynthVideo(shuffled=True).samples(1))
    assert other.question == samples[0].question
    assert digest(other.images[0]) == digest(samples[5].images[0])


def test_case_does_not_count(samples) -> None:
    task = SynthVideo()
    assert task.score(samples[0], samples[0].answers[0].title()) == 1
    assert task.score(samples[0], "nothing") == 0
