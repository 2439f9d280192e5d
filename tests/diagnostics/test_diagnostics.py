"""Diagnostics of choices: each against a plain reference, and on a real tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unibench.compose import compose_cells
from unibench.diagnostics import Diagnosis, mean_diagnosis
from unibench.diagnostics.places import (
    boxed,
    centre,
    coverage,
    diagnosis,
    edge,
    grids,
    jaccard,
    mask,
)
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of, vanilla_of
from unibench.inference.ask import answer
from unibench.inference.record import Record, parse
from unibench.models import load
from unibench.ops import effective_rank, nearest_cosine
from unibench.pruning.layout import read
from unibench.pruning.record import packed
from unibench.store.lines import line_of
from unibench.tasks.folder import Folder
from unibench.tasks.synthscene import SynthScene
from unibench.tasks.synthvqa import SynthVQA


def of_a_hundred(check: Callable[[int], None]) -> Callable[[range], None]:
    """A test of cases that are drawn by their number, ten at a time: a check takes less than pytest
    does to set up a test.
    """

    @pytest.mark.parametrize("numbers", [range(first, first + 10) for first in range(0, 100, 10)])
    def test(numbers: range) -> None:
        for number in numbers:
            check(number)

    return test


def case(number: int) -> tuple[Any, np.ndarray[Any, Any], list[tuple[int, int, int, int, int]]]:
    """A layout, a mask, and for each visual token that shows a patch: token, row, column and size
    of its grid, made token by token.
    """
    rng = np.random.default_rng(number)
    layout, places, token = [], [], 0
    for _ in range(int(rng.integers(1, 4))):
        parts, start = [], token
        for _ in range(int(rng.integers(1, 3))):
            frames, height, width = (int(side) for side in rng.integers(1, [3, 8, 8]))
            newline = str(rng.choice(["", "row", "end"]))
            for _ in range(frames):
                for row in range(height):
                    for column in range(width):
                        places.append((token, row, column, height, width))
                        token += 1
                    token += newline == "row"
            token += newline == "end"
            parts.append((frames, height, width, newline, False))
        layout.append((token - start, tuple(parts)))
    return tuple(layout), rng.random(token) < rng.uniform(0.05, 0.6), places


@of_a_hundred
def test_where_tokens_lie_is_what_a_look_at_each_token_says(number: int) -> None:
    layout, kept, places = case(number)
    assert len(kept) == sum(len(item) for item in read(layout))
    listed = [int(token) for own in grids(layout) for grid in own for token in grid.ravel()]
    assert listed == [token for token, *_ in places]
    chosen = [place for place in places if kept[place[0]]]
    rim = [r in (0, h - 1) or c in (0, w - 1) for _, r, c, h, w in chosen]
    middle = [
        0.25 < (r + 0.5) / h < 0.75 and 0.25 < (c + 0.5) / w < 0.75 for _, r, c, h, w in chosen
    ]
    if not chosen:
        assert edge(kept, layout) is centre(kept, layout) is None
        return
    assert edge(kept, layout) == pytest.approx(np.mean(rim))
    assert centre(kept, layout) == pytest.approx(np.mean(middle))


@of_a_hundred
def test_coverage_is_the_share_of_patches_with_a_kept_neighbour(number: int) -> None:
    layout, kept, _ = case(number)
    near: list[bool] = []
    for own in grids(layout):
        for part in own:
            for grid in part:
                height, width = grid.shape
                near += [
                    any(
                        kept[grid[y, x]]
                        for y in range(max(0, row - 1), min(height, row + 2))
                        for x in range(max(0, column - 1), min(width, column + 2))
                    )
                    for row in range(height)
                    for column in range(width)
                ]
    assert coverage(kept, layout) == pytest.approx(np.mean(near))


@of_a_hundred
def test_what_is_kept_of_a_box_is_counted_patch_by_patch(number: int) -> None:
    rng = np.random.default_rng(number)
    height, width = (int(side) for side in rng.integers(2, 12, 2))
    kept = rng.random(height * width) < 0.4
    part = (0.1, 0.0, 0.9, 1.0)
    left, top = rng.uniform(0, 0.6, 2)
    box = (left, top, left + rng.uniform(0.1, 0.4), top + rng.uniform(0.1, 0.4))
    inside = [
        kept[row * width + column]
        for row in range(height)
        for column in range(width)
        if box[0] <= 0.1 + 0.8 * (column + 0.5) / width < box[2]
        and box[1] <= (row + 0.5) / height < box[3]
    ]
    layout = ((height * width, ((1, height, width, "", False),)),)
    found = boxed(kept, layout, [part], [[box]])
    assert found == (pytest.approx(np.mean(inside)) if inside else None)


@of_a_hundred
def test_common_tokens_are_counted_as_sets(number: int) -> None:
    rng = np.random.default_rng(number)
    one, two = rng.random((2, 30)) < rng.uniform(0, 0.5)
    first, second = ({*np.flatnonzero(each)} for each in (one, two))
    expected = len(first & second) / len(first | second) if first | second else 1.0
    assert jaccard(one, two) == pytest.approx(expected)
    assert np.array_equal(mask(packed(torch.from_numpy(one)), 30), one)


@of_a_hundred
def test_how_alike_tokens_are_is_what_numpy_says(number: int) -> None:
    rng = np.random.default_rng(number)
    features = rng.normal(size=(int(rng.integers(2, 20)), int(rng.integers(2, 30))))
    values = np.linalg.svd(features, compute_uv=False)
    shares = values / values.sum()
    rank = np.exp(-(shares * np.log(shares)).sum())
    given = torch.from_numpy(features)
    assert effective_rank(given) == pytest.approx(rank)
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = [max(rows[i] @ rows[j] for j in range(len(rows)) if j != i) for i in range(len(rows))]
    assert nearest_cosine(given) == pytest.approx(np.mean(nearest))
    assert 1 - 1e-9 <= effective_rank(given) <= min(features.shape) + 1e-9


def test_of_one_token_nothing_is_nearest_and_nothing_kept_lies_nowhere() -> None:
    assert nearest_cosine(torch.ones(1, 4)) is None
    nothing = np.zeros(4, dtype=bool)
    layout = ((4, ((1, 2, 2, "", False),)),)
    assert (edge(nothing, layout), coverage(nothing, layout)) == (None, 0.0)
    assert coverage(nothing, ((4, ()),)) is None
    assert diagnosis("", 4, layout) == Diagnosis()


def test_a_mean_is_over_the_samples_that_have_a_number() -> None:
    found = [Diagnosis(coverage=0.5, edge=1.0), Diagnosis(coverage=0.25), None]
    assert mean_diagnosis(found) == Diagnosis(coverage=0.375, edge=1.0)
    with pytest.raises(ValueError, match="numbers by name"):
        Diagnosis.from_json({"coverage": "much"})
    assert Diagnosis.from_json({"coverage": 1, "of a later version": 2.0}) == Diagnosis(coverage=1)


def cell(*words: str) -> Cell:
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", *words], sweep=False)
    return cell_of(config)


def asked(*words: str, count: int = 2) -> list[Record]:
    one, task = cell(*words), SynthVQA()
    return list(answer(one, task, load(one.config.model), enumerate(task.samples(count))))


def test_records_say_where_tokens_lie_and_on_request_how_alike_they_are() -> None:
    words = "method=fastv", "method.layer=1", "ratio=0.75"
    plain, whole = asked(*words), asked(*words, "diagnostics=all")
    for one, more in zip(plain, whole, strict=True):
        assert one.diagnosis is not None and more.diagnosis is not None
        assert (one.answer, one.last) == (more.answer, more.last)
        known = one.diagnosis.as_json()
        assert set(known) == {"coverage", "edge", "centre"}
        assert known.items() <= more.diagnosis.as_json().items()
        assert 1 < float(more.diagnosis.effective_rank or 0) <= one.kept
        assert 0 < float(more.diagnosis.attention or 0) <= 1
        assert -1 <= float(more.diagnosis.nearest_cosine or 0) <= 1
        stored = parse(line_of(more.as_json())[:-1])
        assert stored is not None and stored.as_json() == more.as_json()
    # a fourth of the tokens, chosen for their attention, has more than a fourth of it
    assert float(whole[0].diagnosis.attention or 0) > 0.25  # type: ignore[union-attr]


def test_diagnostics_are_another_cell_of_the_same_setting_with_the_same_vanilla() -> None:
    plain, whole = cell("method=fastv"), cell("method=fastv", "diagnostics=all")
    assert plain.key != whole.key and "diagnostics" not in plain.identity
    assert plain.setting == whole.setting
    assert vanilla_of(plain).key == vanilla_of(whole).key
    assert cell("method=vanilla", "diagnostics=all").key == cell("method=vanilla").key


def test_a_question_of_ones_own_may_say_where_its_answer_is(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    line = {"image": "a.png", "question": "What?", "answer": "yes"}
    (tmp_path / "questions.jsonl").write_text(json.dumps({**line, "box": [0.5, 0, 1, 0.25]}))
    (sample,) = Folder(data=str(tmp_path)).samples()
    assert sample.boxes == (((0.5, 0.0, 1.0, 0.25),),)
    for box in ([0, 0, 2, 1], [0, 0, 1], "left", [1, 0, 0.5, 1]):
        (tmp_path / "questions.jsonl").write_text(json.dumps({**line, "box": box}))
        with pytest.raises(UsageError, match="box is .* is wanted"):
            Folder(data=str(tmp_path))


def test_what_is_kept_of_the_place_asked_for_is_in_the_record() -> None:
    task = SynthScene()
    samples = [sample for sample in task.samples(4) if sample.ability == "where"]
    assert all(0 <= edge <= 1 for sample in samples for edge in sample.boxes[0][0])
    for words, wanted in ((["method=vanilla"], 1.0), (["control=blind_grey"], None)):
        one = cell(*words, "task=synthscene")
        (record,) = answer(one, task, load(one.config.model), enumerate(samples))
        assert record.diagnosis is not None and record.diagnosis.boxed == wanted
