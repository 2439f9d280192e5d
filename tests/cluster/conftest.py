"""A log of what the cluster tests saw, and SLURM for as long as they need it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster._grid import FIVE, FORTY, unibench, words

SCRIPT = Path(__file__).parent / "slurm.sh"


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Writes a line with the seconds since the first one; ``UNIBENCH_CLUSTER_LOG`` names a file to
    keep.
    """
    file = Path(
        os.environ.get("UNIBENCH_CLUSTER_LOG", tmp_path_factory.mktemp("log") / "cluster.log")
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        print(
            f"$ UNIBENCH_CLUSTER_LOG={file} python -m pytest {shlex.join(sys.argv[1:])}",
            file=stream,
        )
    begin = time.monotonic()

    def write(line: str) -> None:
        with file.open("a") as stream:
            print(f"{time.monotonic() - begin:7.1f} s  {line}", file=stream)

    return write


@pytest.fixture(scope="session")
def calm_forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The forty cells, done by one process that nobody disturbs."""
    out = tmp_path_factory.mktemp("calm40")
    unibench(*words(FORTY, out))
    return out


@pytest.fixture(scope="session")
def calm_five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for five cells."""
    out = tmp_path_factory.mktemp("calm5")
    unibench(*words(FIVE, out))
    return out


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which this machine is a SLURM cluster of one node."""
    missing = [
        name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None
    ]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install -y slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons are started as root")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        state = Path(folder)
        state.chmod(0o755)  # munged runs as a user of its own
        up = subprocess.run([SCRIPT, "up", state], capture_output=True, text=True)
        try:
            assert up.returncode == 0, up.stdout + up.stderr
            yield {**os.environ, "SLURM_CONF": str(state / "slurm.conf")}
        finally:
            subprocess.run([SCRIPT, "down", state], check=True)
