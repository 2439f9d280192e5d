"""The harnesses' own scoring of given answers, without a model and without unibench's adapters.

Each module is run in a process of its own: importing a harness changes the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Official:
    """What a harness says.

    Attributes:
        scores: by name, for each set of answers, by path as task cards name them.
        prompts: by name and sample id.
    """

    scores: dict[str, list[dict[str, float]]]
    prompts: dict[str, dict[str, str]]


def evaluate(
    harness: str,
    folder: Path,
    answers: Mapping[str, Sequence[Mapping[str, str]]],
    work: Path,
    form: str = "tsv",
) -> Official:
    """Hand answers to a harness.

    Args:
        harness: ``vlmevalkit`` or ``lmms_eval``.
        folder: of the stand-ins.
        answers: by official name, one or several sets by sample id.
        work: an empty folder.
        form: of the table in which VLMEvalKit hands answers to its scoring: ``tsv`` as unibench
            has it write them, or ``xlsx``, which its own command writes unless told otherwise.

    Raises:
        RuntimeError: the harness failed; its last lines are in the message.
    """
    job: dict[str, object] = {
        "folder": str(folder.resolve()),
        "answers": answers,
        "work": str(work.resolve()),
    }
    job["form"] = form
    (work / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", f"tests.harness.official.{harness}", str(work / "job.json")]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[-3000:])
    return Official(**json.loads((work / "result.json").read_text()))
