"""The committed table of toy results: pruning of the tiny models on synthvqa, by ability, from the rows of a store.

python -m unibench -m model=tiny_qwen2_5_vl,tiny_llava,tiny_internvl method=vanilla task.limit=1000 batch_size=16
python benchmarks/synthvqa_results.py outputs > results/synthvqa/README.md     (make synthvqa-results does both)
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from statsmodels.stats.proportion import proportion_confint

Row = dict[str, Any]

BANNER = """# synthvqa: pruning measured on toy models

> **Toy models, drawn pictures.** These are 3-million-parameter checkpoints trained for an hour or two on a CPU
> (`docs/tiny_models.md`). The table says how methods behave on them and that the machinery works. It predicts
> neither size nor order of what the same methods do to real models.

Accuracy in per cent; 95 % intervals of vanilla are Wilson's. Ratio: share of visual tokens removed. Rows of random
methods are means over the seeds named. All figures come from the rows that `make synthvqa-results` writes.
"""


def rows_of(folder: Path) -> list[Row]:
    """Rows of all finished cells under a folder that asked synthvqa."""
    rows: list[Row] = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("metrics.json"))]
    return [row for row in rows if row["task"] == "synthvqa"]


def table(rows: Sequence[Row]) -> str:
    """One model: a line for each method and ratio, a column for each ability and their mean."""
    settings: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        settings[row["method"], round(row["ratio"], 3)].append(row)
    abilities = list(rows[0]["abilities"])
    heads = ["method", "ratio", "n", "seeds", *(name.replace("_", " ") for name in abilities), "mean"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    order = {name: place for place, name in enumerate(("vanilla", "random_pre", "random_intra", "divprune", "fastv"))}
    for (method, ratio), group in sorted(settings.items(), key=lambda item: (order.get(item[0][0], 99), item[0])):
        seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in group}))
        scores = {name: fmean(row["abilities"][name]["score_100"] for row in group) for name in abilities}
        bounds = {name: _interval(group[0]["abilities"][name]) if method == "vanilla" else "" for name in abilities}
        numbers = [f"{score:.1f}{bounds[name]}" for name, score in scores.items()]
        shown = [method, f"{ratio:g}", str(group[0]["n"]), seeds, *numbers, f"{fmean(scores.values()):.1f}"]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _interval(ability: Mapping[str, float]) -> str:
    low, high = proportion_confint(ability["score_100"] / 100 * ability["n"], ability["n"], method="wilson")
    return f" ({100 * low:.0f}-{100 * high:.0f})"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the cells are (outputs)")
    rows = rows_of(parser.parse_args().folder)
    print(BANNER)
    for model in dict.fromkeys(row["model"] for row in rows):
        print(f"## {model}\n\n{table([row for row in rows if row['model'] == model])}\n")


if __name__ == "__main__":
    main()
