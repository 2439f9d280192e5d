"""Small stand-ins for published benchmarks: official formats and columns, pictures drawn by
synthvqa.

They test the path from a table to a score; their scores say nothing about the benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.harness.standins._lmms_eval import LMMS_EVAL as LMMS_EVAL
from tests.harness.standins._lmms_eval import write as write_lmms_eval
from tests.harness.standins._vlmevalkit import VLMEVALKIT as VLMEVALKIT
from tests.harness.standins._vlmevalkit import write as write_vlmevalkit
from tests.harness.standins._vlmevalkit_videos import VIDEOS
from tests.harness.standins._vlmevalkit_videos import write as write_videos

NAMES = {"vlmevalkit": tuple(VLMEVALKIT), "lmms_eval": tuple(LMMS_EVAL)}
FOLDERS = {"vlmevalkit": tuple(VIDEOS), "lmms_eval": ()}
"""Data sets of videos, which are folders in VLMEvalKit."""
OF_PAPERS = {
    "vlmevalkit": (
        *("BLINK", "VStarBench", "HRBench4K", "HRBench8K", "CV-Bench-2D", "CV-Bench-3D"),
        *("MMMU_Pro_10c", "MMMU_Pro_V", "MMVP", "MUIRBench"),
    ),
    "lmms_eval": (
        *("cv_bench", "cv_bench_2d", "cv_bench_3d", "mmerealworld", "mmerealworld_lite"),
        *("mmmu_pro_standard", "mmmu_pro_vision", "mmvp", "muirbench", "screenspot_v2"),
        *("refcoco_bbox_rec_val", "refcoco+_bbox_rec_val", "refcocog_bbox_rec_val"),
    ),
}
"""Some of them ask for what no tiny model was taught: a box, a question inside a picture. They are
asked in whole runs; their prompts are not pinned, and their scoring has no made-up answers.
"""
_WRITERS = {"vlmevalkit": write_vlmevalkit, "lmms_eval": write_lmms_eval}


def write(folder: Path, harness: str, names: Iterable[str], size: int = 24) -> list[Path]:
    """Write the tables of official names of a harness; the folder is what ``task.data=`` takes.

    Args:
        folder: is made; one folder serves both harnesses.
        harness: ``vlmevalkit`` or ``lmms_eval``.
        names: official names, see ``NAMES`` and ``FOLDERS``.
        size: questions per table (Vinoground: always 2,000).
    """
    return [
        write_videos(name, folder, size)
        if name in FOLDERS[harness]
        else _WRITERS[harness](name, folder, size)
        for name in names
    ]
