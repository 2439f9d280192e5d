"""How far models, tasks and trainings agree on the order of methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.stats._cells import finished
from unibench import frame
from unibench.cli import main
from unibench.comparison.order import Order, orders

COUNT = 100
METHODS = ("divprune", "dpp", "l2norm", "stp")


def place(out: Path, model: str, counts: Mapping[str, int], *words: str) -> None:
    """Vanilla, and methods with so many right answers."""
    finished(out, [1.0] * COUNT, f"model={model}", "method=vanilla")
    for method, count in counts.items():
        scores = [float(number < count) for number in range(COUNT)]
        finished(out, scores, f"model={model}", f"method={method}", "ratio=0.5", *words)


def found(out: Path) -> list[Order]:
    return orders(frame.whole(frame.over_seeds(frame.load(out), intervals=False)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two models of which the second puts the last two of four methods the other way round."""
    place(tmp_path, "tiny_qwen2_5_vl", dict(zip(METHODS, (80, 60, 40, 20), strict=True)))
    place(tmp_path, "tiny_llava", dict(zip(METHODS, (90, 70, 10, 30), strict=True)))
    return tmp_path


def test_each_two_places_have_the_tau_of_their_scores(store: Path) -> None:
    """Five of six pairs are in one order: (5 - 1) / 6."""
    (one,) = found(store)
    assert one.budget == "0.5" and one.methods == METHODS
    assert one.places == ("tiny_llava", "tiny_qwen2_5_vl")
    assert one.tau[0, 1] == one.tau[1, 0] == pytest.approx(4 / 6)


def test_halves_of_pictures_say_whether_an_order_is_more_than_noise(store: Path) -> None:
    (one,) = found(store)
    assert one.tau[0, 0] > 0.9 and one.tau[1, 1] > 0.9, "twenty points between any two methods"
    # alike in number, each right on other pictures: whatever order halves give, the other turns it
    for method, start in zip(METHODS, range(0, COUNT, 25), strict=True):
        scores = [float(start <= number < start + 25) for number in range(COUNT)]
        words = ("model=tiny_internvl", f"method={method}", "ratio=0.667")
        finished(store, scores, *words)
    two = {order.budget: order for order in found(store)}["0.667"]
    assert two.tau[0, 0] < -0.5


def test_controls_and_what_one_place_lacks_have_no_part_in_it(store: Path) -> None:
    place(store, "tiny_qwen2_5_vl", {"random_pre": 5, "knorm": 50, "pooling": 99})
    place(store, "tiny_llava", {"random_pre": 5, "pooling": 1})
    (one,) = found(store)
    assert one.methods == METHODS and one.left_out == ("knorm",)
    assert one.tau[0, 1] == pytest.approx(4 / 6)


def test_the_view_shows_a_matrix_and_says_what_it_is_of(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "view=order", f"out={store}"]) == 0
    text = capsys.readouterr().out
    assert "order of 4 methods at 0.5" in text and ": divprune, dpp, l2norm, stp." in text
    line = next(line for line in text.splitlines() if "tiny_llava" in line)
    assert "0.67" in line and "(" in line


def test_two_methods_have_no_order_worth_a_number(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "view=order", "method=divprune,dpp", f"out={store}"]) == 2
    assert "no 3 methods have a common budget" in capsys.readouterr().err
