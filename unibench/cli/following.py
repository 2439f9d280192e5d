"""``serve-page``: a page that follows a grid while it runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from unibench.cli.grid import Grid
from unibench.cli.parser import Options

PORT = 8631


def serve_page(options: Options) -> int:
    """``serve-page [-m] <overrides> [--port N]``; with ``out=`` alone, whatever is in there."""
    from unibench.page.follow import Follower, of_grid, of_store
    from unibench.page.server import serve

    grid = Grid(options)
    if any(not word.startswith("out=") for word in grid.words):
        cells = grid.cells
        out, look = Path(cells[0].config.out), of_grid(cells)
    else:
        named = [word.removeprefix("out=") for word in grid.words]
        out = Path(named[-1] if named else "outputs").expanduser()
        look = of_store(out)
    port = PORT if options.port is None else options.port
    with suppress(KeyboardInterrupt):
        serve(Follower(look), out, port, _ready)
    return 0


def _ready(address: str) -> None:
    print(f"{address} (Ctrl-C ends it)", flush=True)
