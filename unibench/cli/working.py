"""``work``: several workers on one machine, or one more beside those elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from unibench.cli.options import taken
from unibench.cli.progress import Progress
from unibench.cli.running import cells_of, check_methods, finish, say_which_task
from unibench.compose import is_experiment
from unibench.errors import UsageError
from unibench.store.claim import BEAT_SECONDS, EXPIRY_SECONDS


def work(words: list[str]) -> int:
    """``work [-m] <overrides> [--processes N | --gpus 0,1] [--retry] [--expiry SECONDS]``."""
    words, options = taken(
        words, flags=("--retry",), values={"--processes": int, "--gpus": str, "--expiry": float}
    )
    if "--processes" in options and "--gpus" in options:
        raise UsageError("give --processes or --gpus, which makes one process for each GPU")
    expiry = expiry_of(options)
    cells = cells_of(words)
    say_which_task(words)
    runner = check_methods(cells, strict=not is_experiment(words))
    if "--retry" in options:
        runner.forgive(cells)
    return finish(
        runner.work_in_processes(cells, _devices(options), expiry=expiry, listener=Progress)
    )


def expiry_of(options: Mapping[str, float]) -> float:
    """The seconds after which another worker counts as dead.

    Raises:
        UsageError: live ones would too.
    """
    expiry = options.get("--expiry", EXPIRY_SECONDS)
    if expiry < 2 * BEAT_SECONDS:
        raise UsageError(
            f"--expiry {expiry:g} is too small: hearts beat every {BEAT_SECONDS:g} s; at least"
            f" {2 * BEAT_SECONDS:g}"
        )
    return expiry


def _devices(options: dict[str, object]) -> list[str | None]:
    if "--gpus" in options:
        names = str(options["--gpus"]).split(",")
        if not all(name.isdigit() for name in names) or len(set(names)) < len(names):
            raise UsageError(
                f"--gpus {options['--gpus']}: numbers of GPUs, each once, for example --gpus 0,1"
            )
        return [f"cuda:{name}" for name in names]
    count = options.get("--processes", 1)
    assert isinstance(count, int)
    if count < 1:
        raise UsageError(f"--processes {count} is too few; at least 1")
    return [None] * count
