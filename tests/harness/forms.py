"""Odd forms of answers through unibench's child and a real harness: ``python -m tests.harness.forms
job.json`` writes each task's scores beside the job.

A process of its own, since a harness changes the one that imports it. The answers lie in the store
as a model's would; no model is asked.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.harness.made_up import filled
from unibench._compat import repair_torchvision

# what models say
SAID = (
    "{right}",
    "{other}",
    "{right}.",
    "[{right}]",
    "{right}) {words}",
    "My answer: {right}",
    "{small}",
    "图中的答案为{right}。",
    "{right}。",
    "",
    "Sorry, the picture does not let me say that.",
    "Ｂ",
    "__{right}__",
    "$\\boxed{{{right}}}$",
    "Choice {right}, which reads {words}",
    "{words}",
    "What I can make out near the lower edge is the {words}.",
    "either {other} or {right}",
    "Neither of them",
    "{other}... on a second look {right}",
    "\n\t{right} \n",
    "对，{right}",
    "Ñandú — «{right}» †",
    "It is not {other}",
)
# what a file of answers may change: words for nothing, quotes, a separator, numbers
FILED = (
    "None",
    "NA",
    "nan",
    "null",
    '"{right}"',
    "{right}\t{other}",
    "'{right}",
    "007",
    "1,000",
    "12.50",
)
# what a sheet of Excel makes another answer of: 0, and `_x000D_` for the end of a line
SHEET = ("={right}", "{right}\r{other}")
FORMS = (*SAID, *FILED, *SHEET)
NUMBERS = ("007", "12.50", "5", "3.0")  # a column of them is read as numbers
MIXED = (*SAID, *FILED)
SETS = (MIXED, (*MIXED[17:], *MIXED[:17]), FILED, NUMBERS, SHEET)
SIZE = len(FORMS)


def made(harness: str, name: str, tables: Path) -> list[dict[str, str]]:
    """The sets of answers for a stand-in, by sample; the forms of a set come in turn."""
    return [filled(harness, name, tables, cycle(forms)) for forms in SETS]


def ours(
    harness: str, task: str, tables: Path, sets: Sequence[Mapping[str, str]], out: Path
) -> list[dict[str, float]]:
    """The numbers that unibench has from the harness for stored answers."""
    from unibench.compose import compose_cells
    from unibench.harness.child.serve import Child
    from unibench.identity import cell_of

    said: list[dict[str, Any]] = []
    child, found = Child(said.append), []
    for number, answers in enumerate(sets):
        words = [f"task={task}", f"harness={harness}", f"task.data={tables}", "method=vanilla"]
        (config,) = compose_cells(
            [*words, "model.device=cpu", f"out={out / str(number)}"], sweep=False
        )
        cell = cell_of(config)
        cell.folder.mkdir(parents=True)
        lines = [json.dumps(_line(sample, text)) + "\n" for sample, text in answers.items()]
        (cell.folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
        child.answer(cell)
        if said[-1]["event"] != "result" or any(event["event"] == "sample" for event in said):
            raise RuntimeError(f"{task}: {said[-1]}")
        found.append(
            {
                path: float(value)
                for path, value in said[-1]["raw"].items()
                if isinstance(value, (int, float)) and not isinstance(value, bool)
            }
        )
    return found


def _line(sample: str, answer: str) -> dict[str, Any]:
    """A line of samples.jsonl: what a model of two layers kept is of no matter here."""
    times = dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"))
    counts = {"text_tokens": 1, "visual_tokens": 4, "kept": 4, "new_tokens": 1}
    costs = dict.fromkeys(("tflops", "tflops_full", "method_tflops", "kv_mib"), 0.0)
    texts = {"ability": "all", "group": "a", "truth": "", "last": "", "prompt": sample}
    return {
        **{"id": sample, "answer": answer, "score": None, "processed": [4, 4]},
        **{"layout": [], "notes": []},
        **times,
        **counts,
        **costs,
        **texts,
    }


def main(path: Path) -> None:
    """Score the job's sets of answers, task by task."""
    job = json.loads(path.read_text())
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(path.parent / "hf"), "OPENAI_API_KEY": "none"}  # fmt: skip
    repair_torchvision()
    tables, harness = Path(job["tables"]), job["harness"]
    found = {
        task: ours(harness, task, tables, sets, path.parent / "out" / task)
        for task, sets in job["sets"].items()
    }
    (path.parent / "scores.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
