"""Which cells the workers are to do, in a file that every node reads."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from unibench import digests
from unibench.code.closure import WHOLE, Code
from unibench.compose import CONFIGS
from unibench.errors import UsageError
from unibench.harness.job import read_job, write_job
from unibench.identity import Cell

# below the folder of results: one folder for each submission, its plan and the engine's logs
SUBMITTED = ".submitted"
PLAN = "plan.json"


def write_plan(cells: Sequence[Cell], command: Sequence[str]) -> Path:
    """Write the plan of a submission into the folder of results.

    Returns:
        The submission's own folder.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = Path(cells[0].config.out, SUBMITTED, name).absolute()
    folder.mkdir(parents=True)
    write_job(cells, folder / PLAN, {"command": list(command), "code": code_digest()})
    return folder


def read_plan(folder: Path) -> list[Cell]:
    """The cells of a submission.

    Raises:
        UsageError: the file cannot be read here, or this code and data make other cells of it.
    """
    try:
        return read_job(folder / PLAN)
    except OSError as error:
        raise UsageError(
            f"{folder / PLAN} cannot be read here ({error.strerror}): is out= on a disk that all"
            " nodes share?"
        ) from None
    except ValueError as error:
        raise UsageError(
            f"{error}; python -m unibench doctor cluster=... says how the nodes differ"
        ) from None


def code_digest() -> str:
    """Digest of the package's code and configurations, which must be the same on all nodes."""
    code = Code()
    everything = code.digest(f"{name}:{WHOLE}" for name in code.package.files())
    return f"{everything}-{digests.contents(CONFIGS)}"
