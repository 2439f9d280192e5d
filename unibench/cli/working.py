"""``work``: several workers on one machine, or one more beside those elsewhere."""

from __future__ import annotations

from unibench.cli.grid import Grid
from unibench.cli.parser import Options
from unibench.cli.progress import Progress
from unibench.errors import UsageError
from unibench.runner import work_in_processes
from unibench.store.claim import EXPIRY_SECONDS


def work(options: Options) -> int:
    """``work [-m] <overrides> [--processes N | --gpus 0,1] [--retry] [--expiry SECONDS]``."""
    if options.processes and options.gpus:
        raise UsageError("give --processes or --gpus, which makes one process for each GPU")
    grid = Grid(options)
    cells = grid.cells
    grid.announce()
    if options.retry:
        grid.retry()
    devices: list[str | None] = [None] * (options.processes or 1)
    if options.gpus:
        devices = [f"cuda:{number}" for number in options.gpus]
    expiry = options.expiry or EXPIRY_SECONDS
    return grid.show(work_in_processes(cells, devices, expiry=expiry, listener=Progress))
