"""A page that follows a grid: what it says of rates and workers, and to whom."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.stats._cells import finished
from tests.support.workers import grid
from unibench.page.follow import Followed, Follower, of_grid, of_store
from unibench.page.server import serve
from unibench.store import CellFolder

ONE = Followed("k1", "divprune 0.889", "partial", 10, 100, holder="a:1")
TWO = Followed("k2", "fastv 0.889", "partial", 0, 50, holder="b:2")
BROKEN = Followed("k3", "dart 0.889", "failed", 3, 20, reason="ValueError: broken")


class Looks:
    """One look after the other, ten seconds apart."""

    def __init__(self, *looks: Sequence[Followed]) -> None:
        self._looks, self._time = list(looks), 0.0

    def __call__(self) -> Sequence[Followed]:
        return self._looks.pop(0)

    def clock(self) -> float:
        self._time += 10.0
        return self._time


def last(*looks: Sequence[Followed]) -> Any:
    found = Looks(*looks)
    follower = Follower(found, found.clock)
    return [follower.snapshot() for _ in looks][-1]


def test_rates_and_the_time_left_are_told_of_each_worker() -> None:
    seen = last([ONE, TWO], [replace(ONE, answered=30), replace(TWO, answered=5)])
    one, two = seen.workers
    assert (one.name, one.rate, one.left) == ("a:1", 2.0, 35.0)
    assert (two.name, two.rate, two.left) == ("b:2", 0.5, 90.0)
    assert seen.rate == 2.5 and seen.left == (70 + 45) / 2.5


def test_nothing_is_said_of_a_rate_before_something_was_answered() -> None:
    assert last([ONE, TWO]).rate is None
    seen = last([ONE], [ONE])
    assert seen.rate is None and seen.left is None and seen.workers[0].left is None


def test_who_finished_a_cell_between_two_looks_has_answered_it() -> None:
    done = replace(ONE, state="done", answered=100, holder=None)
    held = replace(TWO, holder="a:1")
    (worker,) = last([ONE, replace(held, holder=None)], [done, held]).workers
    assert worker.name == "a:1" and worker.rate == 9.0 and worker.left == 50 / 9


def test_a_long_pause_is_forgotten_after_the_window() -> None:
    looks = [[replace(ONE, answered=0)] for _ in range(30)]
    steps = [[replace(ONE, answered=20 * number)] for number in range(1, 25)]
    assert last(*looks, *steps).rate == pytest.approx(2.0, rel=0.06)


def test_failures_are_told_with_their_reason_and_are_no_time_left() -> None:
    seen = last([ONE, BROKEN], [replace(ONE, answered=20), BROKEN])
    assert seen.failures == (("dart 0.889", "ValueError: broken"),)
    assert seen.states == {"partial": 1, "failed": 1} and seen.left == 80.0


def test_a_cell_of_unknown_length_makes_the_end_unknown() -> None:
    seen = last([replace(ONE, total=None)], [replace(ONE, total=None, answered=20)])
    assert seen.rate == 1.0 and seen.left is None and seen.total is None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    finished(folder, [1.0, 0.0], "method=vanilla", "task.limit=2")
    (cell,) = grid(folder, "method=divprune", "task.limit=2")
    CellFolder(cell).open()
    CellFolder(cell).status("failed", error="ValueError: <b>broken</b>", traceback="", usage=False)
    return folder


def test_a_folder_shows_what_is_there_and_a_grid_what_is_to_come(out: Path) -> None:
    there = {cell.state: cell for cell in of_store(out)()}
    assert (
        set(there) == {"done", "failed"} and there["failed"].reason == "ValueError: <b>broken</b>"
    )
    assert there["failed"].total == 2
    words = ["method=divprune,fastv", "task.limit=2"]
    assert sorted(cell.state for cell in of_grid(grid(out, *words))()) == [
        "done",
        "failed",
        "missing",
    ]


@pytest.fixture
def address(out: Path) -> Iterator[str]:
    told: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    def tell(where: str) -> None:
        told.append(where)
        ready.set()

    server = threading.Thread(target=serve, args=(Follower(of_store(out)), out, 0, tell, stop))
    server.start()
    assert ready.wait(60)
    yield told[0]
    stop.set()
    server.join(60)
    assert not server.is_alive()


def test_the_page_is_served_with_the_state_as_json(address: str) -> None:
    with urllib.request.urlopen(address) as answer:
        page = answer.read().decode()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "live.js" in page and "<b>broken" not in page
    with urllib.request.urlopen(f"{address}state.json") as answer:
        state = json.load(answer)
    assert state["states"] == {"done": 1, "failed": 1}
    assert state["failures"][0][1] == "ValueError: <b>broken</b>"


@pytest.mark.parametrize(
    "path", ["../out/x", "page/../x", "page/%2e%2e/x", "page/details/x.js", "x"]
)
def test_no_file_is_served_but_those_of_the_page(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}{path}")


def test_a_name_that_leads_here_from_elsewhere_is_refused(address: str) -> None:
    host = address.removeprefix("http://").strip("/")
    connection = HTTPConnection(host)
    connection.request("GET", "/state.json", headers={"Host": "evil.example:80"})
    assert connection.getresponse().status == 403
