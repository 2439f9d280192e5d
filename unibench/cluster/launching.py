"""Hydra's launchers: every cell of a sweep a job of joblib's or submitit's plugin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.types import RunMode

from unibench.cluster.submitting import EXTRA
from unibench.cluster.worker import Worker
from unibench.errors import UsageError

CONFIG = "unibench_launch"  # what Hydra composes for a job: the place of its cell in the plan


@dataclass(frozen=True)
class _Job:
    """Hydra's task function."""

    worker: Worker

    def __call__(self, config: Any) -> str:
        return self.worker(config.cell, only=config.cell)


def launch(worker: Worker, places: Sequence[int], words: Sequence[str]) -> list[str]:
    """Let a Hydra launcher run a job for each cell, and wait for them.

    Args:
        worker: of a written plan.
        places: of the cells in the plan.
        words: the overrides of Hydra's own configuration: ``hydra/launcher=joblib
            hydra.launcher.n_jobs=2``.

    Returns:
        What went wrong outside of the cells, in lines.

    Raises:
        UsageError: the launcher does not exist here, or has no such option.
    """
    ConfigStore.instance().store(name=CONFIG, node={"cell": None})
    GlobalHydra.instance().clear()
    own = [
        f"hydra.sweep.dir={json.dumps(str(worker.folder))}",
        "hydra/job_logging=none",
        "hydra.job.name=unibench",
    ]
    with initialize_config_module("unibench.configs", version_base="1.3", job_name="unibench"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        overrides = [*own, *words, f"cell={','.join(map(str, places))}"]
        try:
            hydra.compose_config(
                CONFIG, overrides, run_mode=RunMode.MULTIRUN, with_log_configuration=False
            )
        except HydraException as error:
            raise UsageError(
                f"{' '.join(words)}: {' '.join(str(error).split())} ({EXTRA})"
            ) from None
        try:
            returned = hydra.multirun(CONFIG, _Job(worker), overrides, with_log_configuration=False)
        # a job that was killed or cancelled; what became of the cells their folders tell
        except Exception as error:
            return [f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"]
    return [
        str(job._return_value)
        for batch in returned
        for job in batch
        if job.status is not JobStatus.COMPLETED
    ]
