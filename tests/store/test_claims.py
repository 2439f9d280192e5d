"""Who holds a claim: exclusive, released, taken over from the dead and never from the living,
whatever the clocks say.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unibench.store import Claim, Watch, acquire, holder
from unibench.store import claim as claims

BEAT = 0.05
EXPIRY = 0.5


def take(folder: Path, watch: Watch, part: str = "0-of-1") -> Claim | None:
    return acquire(folder, part, watch, beat=BEAT)


def patiently(folder: Path, watch: Watch, seconds: float) -> Claim | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (claim := take(folder, watch)) is not None:
            return claim
        time.sleep(BEAT)
    return None


def looked_at(folder: Path, held: Claim, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a claim for four times the expiry, by a clock that waits for each beat of its heart:
    a machine with much to do may let a beat come late.
    """
    now = time.monotonic()
    while (gone := time.monotonic() - now) <= 4 * EXPIRY:
        beat = held.file.read_bytes()
        assert take(folder, watch) is None and held.held
        while held.file.read_bytes() == beat:
            assert held._thread.is_alive()
            time.sleep(BEAT / 10)
        later = now + gone + 0.9 * EXPIRY
        monkeypatch.setattr(time, "monotonic", lambda later=later: later)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holders seem to run on another machine: only their heartbeat tells whether they live."""
    monkeypatch.setattr(claims, "_kernel", lambda: None)


def abandoned(folder: Path) -> Path:
    """A claim whose holder was killed."""
    code = (
        "import os; from pathlib import Path; from unibench.store import *;"
        f" acquire(Path({str(folder)!r}), '0-of-1', Watch()); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (file,) = folder.glob("claim-*")
    return file


def test_a_claim_is_exclusive_until_it_is_closed(tmp_path: Path) -> None:
    first = take(tmp_path, Watch())
    assert first is not None and first.held
    assert take(tmp_path, Watch()) is None
    other = take(tmp_path, Watch(), "1-of-2")
    assert other is not None
    first.close()
    again = take(tmp_path, Watch())
    assert again is not None
    again.close()
    other.close()
    assert not list(tmp_path.iterdir())


def test_a_living_holder_keeps_its_claim_however_long_it_takes(
    tmp_path: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = take(tmp_path, Watch())
    assert held is not None
    looked_at(tmp_path, held, Watch(EXPIRY), monkeypatch)
    held.close()


def test_a_dead_holder_is_told_by_its_heartbeat(tmp_path: Path, elsewhere: None) -> None:
    abandoned(tmp_path)
    watch, start = Watch(EXPIRY), time.monotonic()
    assert take(tmp_path, watch) is None and holder(tmp_path, watch) is not None
    taken = patiently(tmp_path, watch, 20)
    assert taken is not None and time.monotonic() - start >= EXPIRY
    taken.close()
    assert not list(tmp_path.iterdir())


def test_a_dead_process_on_this_machine_is_told_at_once(tmp_path: Path) -> None:
    abandoned(tmp_path)
    watch = Watch(3600)
    assert holder(tmp_path, watch) is None
    taken = take(tmp_path, watch)
    assert taken is not None
    taken.close()


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff garbage", b"000000000000\n[1, 2]", b"000000000000\n{}"]
)
def test_a_damaged_claim_expires_like_one_of_a_dead_holder(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "claim-0-of-1.0").write_bytes(content)
    watch = Watch(EXPIRY)
    assert take(tmp_path, watch) is None
    taken = patiently(tmp_path, watch, 20)
    assert taken is not None
    taken.close()


@pytest.mark.parametrize("jump", [-86400.0, 86400.0, 1e9])
def test_clocks_that_jump_steal_nothing(
    tmp_path: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    held = take(tmp_path, Watch())
    assert held is not None
    watch, now = Watch(EXPIRY), time.time
    assert take(tmp_path, watch) is None
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    os.utime(held.file, (max(0.0, now() - jump), max(0.0, now() - jump)))
    looked_at(tmp_path, held, watch, monkeypatch)
    held.close()


def test_a_holder_that_slept_too_long_knows_that_it_lost(tmp_path: Path, elsewhere: None) -> None:
    file = abandoned(tmp_path)
    sleeper = Claim(file, os.open(file, os.O_WRONLY), [], beat=3600)
    watch = Watch(EXPIRY)
    taken = patiently(tmp_path, watch, 20)
    assert taken is not None and not sleeper.held
    sleeper.close()
    assert taken.held, "closing a lost claim must not end its successor's"
    taken.close()


def test_a_holder_that_wakes_up_while_it_is_taken_over_keeps_its_claim(
    tmp_path: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = abandoned(tmp_path)
    watch = Watch(0.0)
    assert take(tmp_path, watch) is None
    time.sleep(0.01)
    created = claims._created

    def beats_first(*args: object) -> Claim | None:
        file.write_bytes(b"000000000001" + file.read_bytes()[12:])
        return created(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(claims, "_created", beats_first)
    assert take(tmp_path, watch) is None
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_of_many_who_want_a_dead_holders_part_one_gets_it(tmp_path: Path) -> None:
    for round_ in range(20):
        folder = tmp_path / str(round_)
        folder.mkdir()
        (folder / "claim-0-of-1.0").write_bytes(b"")
        won: list[Claim] = []
        barrier = threading.Barrier(8)

        def want(
            folder: Path = folder, won: list[Claim] = won, barrier: threading.Barrier = barrier
        ) -> None:
            watch = Watch(0.0)
            take(folder, watch)
            time.sleep(0.01)
            barrier.wait()
            claim = take(folder, watch)
            if claim is not None:
                won.append(claim)

        threads = [threading.Thread(target=want) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1 and all(claim.held for claim in won)
        for claim in won:
            claim.close()
