"""A real Ray cluster of two nodes on this machine, one of them killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.cluster._grid import (
    FORTY,
    assert_equal,
    complete,
    environment,
    mid_cell,
    wait_for,
    words,
)
from tests.runner.test_chaos import answered, children

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
OPEN = {"RAY_AUTH_MODE": "disabled"}  # whatever lies in ~/.ray
RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[int]:
    return [found for child in children(pid) for found in (child, *descendants(child))]


def kill(node: subprocess.Popen[bytes]) -> int:
    """Kill a node with all its processes, as a power cut does; returns how many there were."""
    victims = [node.pid, *descendants(node.pid)]
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(victims)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address and nodes; each node is a process group of its own."""
    address = f"127.0.0.1:{free_port()}"
    common = ["--num-cpus=1", "--object-store-memory=100000000", "--block", "--disable-usage-stats"]
    head = [
        f"--port={address.partition(':')[2]}",
        "--head",
        "--include-dashboard=false",
        f"--temp-dir=/tmp/ray-{os.getpid()}",
    ]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for more in (head, [f"--address={address}"]):
            with (tmp_path / f"node{len(nodes)}.log").open("wb") as log:
                line = [RAY, "start", "--node-ip-address=127.0.0.1", *more, *common]
                nodes.append(
                    subprocess.Popen(
                        line,
                        stdout=log,
                        stderr=log,
                        env=environment(**OPEN),
                        start_new_session=True,
                    )
                )
            wait_for(
                lambda: (
                    b"Ray runtime started" in (tmp_path / f"node{len(nodes) - 1}.log").read_bytes()
                ),
                120,
            )
        yield address, nodes
    finally:
        for node in nodes:
            kill(node)
            node.wait()


def start(out: Path, address: str, output: Path) -> subprocess.Popen[bytes]:
    line = [
        sys.executable,
        "-m",
        "unibench",
        "submit",
        *words(FORTY, out),
        "cluster=ray",
        "--address",
        address,
        "--workers",
        "2",
    ]
    with output.open("wb") as stream:
        # whoever was started with & by a script ignores Ctrl-C, and so do its children
        default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
        return subprocess.Popen(
            line, stdout=stream, stderr=stream, env=environment(**OPEN), preexec_fn=default
        )


def test_what_ctrl_c_and_a_lost_node_leave_the_others_finish(
    tmp_path: Path,
    cluster: tuple[str, list[subprocess.Popen[bytes]]],
    calm_forty: Path,
    log: Callable[[str], None],
) -> None:
    (address, nodes), out, output = cluster, tmp_path / "ray", tmp_path / "driver.log"
    driver = start(out, address, output)
    log(f"ray: two nodes at {address}, two workers")
    wait_for(lambda: mid_cell(out, 6))
    driver.send_signal(signal.SIGINT)
    assert driver.wait(120) == 130, output.read_text()
    wait_for(lambda: not list(out.rglob("claim-*")), 30)
    assert "all answers are kept" in output.read_text() and 0 < answered(out) < 240
    log(
        f"ray: Ctrl-C ended both workers; {answered(out)} of 240 samples are there, no claim is"
        " left"
    )

    driver = start(out, address, output)
    lost = wait_for(
        lambda: next(
            (held for held in mid_cell(out, 6) if held.pid in descendants(nodes[1].pid)), None
        )
    )
    log(
        f"ray: the second node is killed (its {kill(nodes[1])} processes), after {lost.samples} of"
        f" 6 samples of {lost.folder.parent.name}"
    )
    assert driver.wait(1200) == 0 and complete(out, 40), output.read_text()
    log(
        "ray: forty cells are complete;"
        f" {'; '.join(line for line in output.read_text().splitlines() if line.startswith('worker '))}"
    )
    assert_equal(out, calm_forty, 40)
    log("ray: all but times is equal to an undisturbed run in one process")
