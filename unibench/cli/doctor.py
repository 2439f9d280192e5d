"""``doctor``: what is installed on this machine, or on the nodes of a cluster."""

from __future__ import annotations

from unibench.cli.findings import needed, optional, show
from unibench.cli.parser import Options
from unibench.errors import UsageError, UsageErrors


def doctor(options: Options) -> int:
    """``doctor [--import]``: exit code 1 if something that every run needs is missing.

    With ``cluster=slurm|ray|local`` the nodes of a cluster are asked; with ``run=CELL`` it is asked
    whether that cell was pruned.
    """
    if options.run is not None:
        if options.mistakes:
            raise UsageErrors(options.mistakes)
        from unibench.cli.watching import doctor_run

        return doctor_run(options)
    if options.cluster is not None:
        from unibench.cli.nodes import ask_nodes  # composes cells

        return ask_nodes(options)
    if options.mistakes:
        raise UsageErrors(options.mistakes)
    if options.words:
        raise UsageError(
            f"doctor takes {options.words[0]!r} only with cluster=slurm|ray|local, whose nodes are"
            " asked for these cells"
        )
    return show(needed(), optional(options.importing))
