"""Finished cells about one's own pictures, in which data and model say what a page must not run."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from tests.stats._cells import finished
from unibench.pruning.record import packed, scored

EVIL = "<img src=x onerror=document.title='run'></script><script>document.title='run'</script>"
TURNED = "\u202eright to left\u202c"
LONG = "a" * 100_000
ABILITY = "<script>$reading</script>"
VANILLA, PRUNED = (
    (1.0, 1.0, 0.0, 0.0),
    (1.0, 0.0, 1.0, 0.0),
)  # the second sample is lost, the third one won
SCORES = (0.25, float("nan"), 0.5, torch.finfo(torch.float32).min)  # of the places of the grid
KEPT = 2  # of a grid of two rows and two columns: the lower left place


def hostile(place: Path) -> Path:
    """The folder of vanilla and three methods on four questions."""
    data, out = place / "data", place / "out"
    data.mkdir()
    Image.new("RGB", (64, 64), "white").save(data / "white.png")
    lines = [
        {
            "id": f"s{i:04d}",
            "image": "white.png",
            "question": f"{i} {EVIL}",
            "answer": EVIL,
            "ability": ABILITY,
        }
        for i in range(4)
    ]
    (data / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = {
        "ability": ABILITY,
        "truth": EVIL,
        "layout": [[4, [[1, 2, 2, "", False]]]],
        "seen": [[0.0, 0.0, 1.0, 1.0]],
    }
    for method, scores, answer in (
        ("vanilla", VANILLA, "plain"),
        ("divprune", PRUNED, EVIL),
        ("fastv", VANILLA, "plain"),
        ("dart", PRUNED, TURNED + LONG),
    ):
        mask = torch.ones(4).bool() if method == "vanilla" else torch.arange(4) == KEPT
        budget = () if method == "vanilla" else ("ratio=0.75",)
        more = {**said, "answer": answer, "last": packed(mask)}
        if method == "dart":
            more["scores"] = scored(2, torch.tensor(SCORES))
        finished(
            out, scores, f"method={method}", *budget, f"task.data={data}", task="folder", more=more
        )
    return out
