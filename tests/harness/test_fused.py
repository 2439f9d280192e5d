"""Cells that a harness asks together: the answers and scores of each alone, from one pass over its
data.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.harness.running import HARNESSES, SHORT, Cells, cards, run
from tests.harness.standins import write
from unibench.cli import main
from unibench.inference.record import TIMES

pytestmark = pytest.mark.slow
# before and inside the decoder, and one that is answered by itself
GRID = ("method=divprune,fastv,mustdrop", "timing=false")
KEYS = ("vanilla", "divprune", "fastv", "mustdrop")
SIZE = 4
# The real child, which notes what it reads; until there is a file "killed" it is killed while the
# second sample is on its way to the store: one cell has it and the others do not.
CHILD = """#!{python}
import functools, os, pathlib, signal, sys
from unibench.harness.child import serve

here = pathlib.Path({folder!r})

def note(what):
    with (here / "log").open("a") as log:
        log.write(what + chr(10))

def noting(owner, name, what):
    plain = getattr(owner, name)
    @functools.wraps(plain)
    def noted(*args, **kwargs):
        note(what)
        return plain(*args, **kwargs)
    setattr(owner, name, noted)

def channel():
    say, samples = plain_channel(), []
    def saying(event):
        say(event)
        if event["event"] == "sample" and event.get("left"):
            samples.append(event["record"]["id"])
            if len(set(samples)) == 2 and not (here / "killed").exists():
                (here / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
    return saying

def adapter(self, harness):
    new = harness not in self._adapters
    found = plain_adapter(self, harness)
    if new and harness == "vlmevalkit":
        import unibench.harness.child.vlmevalkit as module
        noting(module, "build_dataset", "data")
        noting(module.Recording, "_question", "question")
        from vlmeval.dataset.image_base import ImageBaseDataset
        noting(ImageBaseDataset, "dump_image", "prompt")
    if new and harness == "lmms_eval":
        import unibench.harness.child.lmms as module
        from datasets.packaged_modules.parquet.parquet import Parquet
        noting(Parquet, "_generate_tables", "data")
        noting(module.Recording, "_question", "question")
        from unibench.harness.child.inference import CellInference
        noting(CellInference, "look_at", "prompt")
    return found

plain_channel, serve.channel = serve.channel, channel
plain_adapter, serve.Child._adapter = serve.Child._adapter, adapter
note("started")
sys.exit(serve.main(sys.argv[3:]))
"""


def answered(cells: Cells, method: str) -> dict[str, dict[str, Any]]:
    """The samples of a cell, without what says how they were answered."""
    left_out = {*TIMES, "run", "beside"}
    return {
        name: {column: value for column, value in sample.items() if column not in left_out}
        for name, sample in cells.samples("pope", method).items()
    }


@pytest.mark.parametrize("harness", HARNESSES)
def test_a_grid_that_is_killed_and_continued_is_that_of_its_cells_alone(
    harness: str, tmp_path: Path
) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], SIZE)
    alone = run(harness, ["pope"], tmp_path, *GRID)
    child = tmp_path / "child"
    child.write_text(CHILD.format(python=sys.executable, folder=str(tmp_path)))
    child.chmod(0o755)
    fused = (*GRID, "fuse=cells", f"harness_options.python={child}")
    words = ["task=pope", f"harness={harness}", f"task.data={tmp_path / 'data'}", SHORT]
    assert main(["-m", *words, f"out={tmp_path / 'fused'}", *fused]) == 2
    assert (tmp_path / "killed").exists()
    (tmp_path / "log").unlink()
    together = run(harness, ["pope"], tmp_path, *fused, out="fused")
    for method in KEYS:
        assert answered(together, method) == answered(alone, method)
        one, two = alone.rows["pope", method], together.rows["pope", method]
        assert (one["score"], one["prompts"]) == (two["score"], two["prompts"])
        assert (one["metrics"], one["notes"], one["generation"], one["data"]) == (
            two["metrics"], two["notes"], two["generation"], two["data"],
        )  # fmt: skip
        assert two["prefill_ms"] is None
    beside = {method: together.samples("pope", method) for method in KEYS}
    assert all(sample["beside"] for sample in beside["fastv"].values())
    assert not any(sample["beside"] for sample in beside["mustdrop"].values())
    # for three cells together, and once more for the one that is answered by itself
    seen = Counter((tmp_path / "log").read_text().splitlines())
    assert (seen["started"], seen["data"], seen["prompt"]) == (1, 2, 2 * SIZE)
    assert seen["question"] == SIZE - 1 + SIZE, "what the store has is not asked again"
    assert not list((tmp_path / "fused").rglob("harness")), "what was read goes with the grid"
