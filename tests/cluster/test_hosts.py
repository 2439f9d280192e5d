"""Two hosts on one machine: own host name, processes, network, mount of the store, and clocks days
apart.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster._grid import (
    FORTY,
    assert_equal,
    complete,
    environment,
    unibench,
    wait_for,
    words,
)
from tests.runner.test_chaos import answered

pytestmark = pytest.mark.slow
NAMESPACES = (
    "unshare",
    "--uts",
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--time",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


CLOCK = """
import os, time
wall, wall_ns, ahead = time.time, time.time_ns, int(os.environ["SECONDS_AHEAD"])
time.time, time.time_ns = lambda: wall() + ahead, lambda: wall_ns() + ahead * 10**9
"""


def usable() -> str | None:
    """Why hosts cannot be simulated here, if so."""
    if shutil.which("unshare") is None:
        return "no unshare here"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True)
    return tried.stderr.strip() or None if tried.returncode else None


def host(
    name: str, store: Path, seen_as: Path, days: int, command: list[str]
) -> subprocess.Popen[bytes]:
    """A command on another host, which sees the folder ``store`` at another place and whose clocks
    are days ahead or behind.

    The monotonic clock is that of a name space of time, which can only be set ahead. The wall clock
    is changed for Python (with libfaketime ``time.sleep`` fails), while files carry the kernel's
    time, as those on a file server do. Since it has process ids of its own, they mean nothing to
    the other host.
    """
    seen_as.mkdir(exist_ok=True)
    clock = store.parent / "clock"
    clock.mkdir(exist_ok=True)
    (clock / "sitecustomize.py").write_text(CLOCK)
    script = (
        'hostname "$1"; mount -t tmpfs none /dev/shm; mount --bind "$2" "$3"; shift 3; exec "$@"'
    )
    ahead = str(max(days, 0) * 86400)
    line = [
        *NAMESPACES,
        "--monotonic",
        ahead,
        "--boottime",
        ahead,
        "sh",
        "-ec",
        script,
        "sh",
        name,
        str(store),
        str(seen_as),
        *command,
    ]
    env = environment(SECONDS_AHEAD=str(days * 86400))
    env["PYTHONPATH"] += f":{clock}"
    with (store.parent / f"{name}.log").open("ab") as stream:
        return subprocess.Popen(line, stdout=stream, stderr=stream, env=env)


def hosts_of(store: Path) -> set[str]:
    """Who has answered samples that are there."""
    found = set()
    for file in store.rglob("*"):
        if file.name == "env.json" or file.name.startswith("samples-"):
            with suppress(FileNotFoundError):  # merged meanwhile
                found |= set(re.findall(r'"host": ?"(\w+)"', file.read_text()))
    return found


def worker(out: Path) -> list[str]:
    return [sys.executable, "-m", "unibench", "work", *words(FORTY, out), "--expiry", "20"]


def test_two_hosts_with_clocks_days_apart_share_a_store_and_one_dies(
    tmp_path: Path, calm_forty: Path, log: Callable[[str], None]
) -> None:
    if reason := usable():
        pytest.skip(reason)
    store = tmp_path / "store"
    store.mkdir()
    first = host(
        "alpha", store, tmp_path / "alpha-mount", 3, worker(tmp_path / "alpha-mount" / "out")
    )
    second = host(
        "beta", store, tmp_path / "beta-mount", -2, worker(tmp_path / "beta-mount" / "out")
    )
    try:
        wait_for(
            lambda: (
                first.poll() is not None
                or (answered(store) >= 40 and hosts_of(store) == {"alpha", "beta"})
            )
        )
        assert first.poll() is None, "".join(
            (tmp_path / f"{name}.log").read_text() for name in ("alpha", "beta")
        )
        first.send_signal(signal.SIGKILL)  # and with it, its whole namespace of processes
        log(
            f"hosts: alpha (three days ahead) is killed at {answered(store)} of 240 samples; beta"
            " (two days behind) goes on"
        )
        assert second.wait(1200) == 0, (tmp_path / "beta.log").read_text()
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert complete(store, 40)
    assert hosts_of(store) == {"alpha", "beta"}
    assert_equal(store, calm_forty, 40)
    log(
        "hosts: both have worked, forty cells are complete, all but times is equal to a run in one"
        " process"
    )
    assert unibench("store", "verify", str(store / "out")).returncode == 0
