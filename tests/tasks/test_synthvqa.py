"""synthvqa: the same everywhere, balanced, and true to its pictures."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from unibench import UsageError
from unibench.tasks.synthvqa import SynthVQA
from unibench.tasks.synthvqa._first_questions import ask
from unibench.tasks.synthvqa._first_scene import COLORS, draw, make_scene

FINGERPRINT = """
import hashlib
from unibench.tasks.synthvqa import SynthVQA
for s in SynthVQA().samples(20):
    pixels = b"".join(image.tobytes() for image in s.images)
    print(s.id, s.answers[0], hashlib.sha256(pixels + s.question.encode()).hexdigest()[:12])
"""


def test_samples_are_the_same_in_every_process():
    command = [sys.executable, "-c", FINGERPRINT]
    runs = [subprocess.run(command, env={"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True).stdout for salt in "12"]
    assert runs[0] == runs[1]
    here = [
        f"{s.id} {s.answers[0]} {hashlib.sha256(s.images[0].tobytes() + s.question.encode()).hexdigest()[:12]}"
        for s in SynthVQA().samples(20)
    ]
    assert runs[0].splitlines() == here


def test_ids_are_unique_and_a_limit_is_a_prefix():
    everything = [s.id for s in SynthVQA(size=120).samples()]
    assert len(set(everything)) == 120
    assert [s.id for s in SynthVQA().samples(33)] == everything[:33]


def test_abilities_are_balanced_and_groups_are_pictures():
    samples = list(SynthVQA().samples(100))
    abilities = SynthVQA.abilities
    assert [s.ability for s in samples] == [abilities[i % len(abilities)] for i in range(100)]
    for i in range(0, 100, len(abilities)):
        assert len({s.group for s in samples[i : i + len(abilities)]}) == 1
    assert len({s.group for s in samples}) == 100 // len(abilities)


def test_splits_and_seeds_share_no_picture():
    draws = [{s.group for s in SynthVQA(split=split, seed=seed).samples(50)} for split in ("test", "dev") for seed in (0, 1)]
    assert len(set.union(*draws)) == sum(map(len, draws))


@pytest.mark.parametrize("seed", range(60_000_000, 60_000_040))
def test_answers_agree_with_the_scene(seed):
    scene = make_scene(seed)
    there = {f"{thing.color} {thing.shape}" for thing in scene.things}
    existence = ask("existence", scene, np.random.default_rng(seed))
    named = existence.text.split("Is there a ")[1].split(" in the")[0]
    assert existence.answer == ("yes" if named in there else "no")
    counting = ask("counting", scene, np.random.default_rng(seed))
    noun = counting.text.split("How many ")[1].split(" are there")[0].removesuffix(" objects")
    if noun in COLORS:
        assert int(counting.answer) == sum(thing.color == noun for thing in scene.things)
    elif noun == "objects":
        assert int(counting.answer) == len(scene.things)
    else:
        assert int(counting.answer) == sum(noun.startswith(thing.shape) for thing in scene.things)


def test_multiple_choice_has_four_different_options_and_fair_letters():
    samples = [s for s in SynthVQA(size=2000).samples() if s.ability == "multiple_choice"]
    for s in samples:
        options = [line for line in s.question.splitlines() if line[1:2] == "."]
        assert len(set(options)) == 4
    letters = Counter(s.answers[0] for s in samples)
    assert min(letters.values()) > 0.15 * len(samples)


def test_yes_and_no_are_equally_common():
    answers = Counter(s.answers[0] for s in SynthVQA(size=2000).samples() if s.ability == "existence")
    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_scoring_ignores_case_and_space_and_nothing_else():
    task = SynthVQA()
    sample = next(s for s in task.samples(5) if s.ability == "reading")
    assert task.score(sample, f" {sample.answers[0].lower()}\n") == 1.0
    assert task.score(sample, sample.answers[0] + ".") == 0.0
    assert task.score(sample, "") == 0.0


def test_pictures_are_rgb_and_144_tokens_large():
    scene = make_scene(60_000_000)
    assert draw(scene).mode == "RGB"
    assert draw(scene).size == (336, 336)


def test_an_unknown_split_names_the_known_ones():
    with pytest.raises(UsageError, match="dev, test"):
        SynthVQA(split="train")
