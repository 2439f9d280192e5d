"""The command; see :mod:`benchmarks.gpu`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.pages import Found, write
from benchmarks.gpu.plan import dry_plan, full_plan

RESULTS = Path(__file__).resolve().parents[2] / "results" / "gpu"
DRY = Path("outputs/gpu_dry")


def main(given: list[str] | None = None) -> int:
    """Measure and write the pages; 0 also where the time was over before everything was done."""
    given = sys.argv[1:] if given is None else given
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="after which it stops, default 8"
    )
    parser.add_argument("--out", type=Path, help=f"folder of the pages, default {RESULTS}")
    parser.add_argument(
        "--dry", action="store_true", help=f"at reduced size, on a CPU too; pages go to {DRY}"
    )
    arguments = parser.parse_args(given)
    if not arguments.minutes > 0:
        parser.error(f"--minutes {arguments.minutes}: more than 0, for example 8")
    command = " ".join(["python -m benchmarks.gpu", *given])
    deadline = Deadline(60 * arguments.minutes)
    folder = arguments.out or (DRY if arguments.dry else RESULTS)
    if not torch.cuda.is_available() and not arguments.dry:
        write(Found(None, command), folder)
        print(f"torch {torch.__version__} sees no GPU here; the pages in {folder} say so")
        return 0
    from benchmarks.gpu.run import Run  # models and methods

    plan = dry_plan() if arguments.dry else full_plan()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)  # of a few small products, which more threads slow down
    found = Run(plan, device, deadline, folder, command).all()
    print(f"{len(found.rows)} rows; pages in {folder}. {found.ended}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
