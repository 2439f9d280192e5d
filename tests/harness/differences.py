"""``python -m tests.harness.differences > results/harness_differences.md``: the two harnesses on
the same pictures.
"""

from __future__ import annotations

import importlib.metadata
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import made_up, scoring, standins
from tests.harness.official import Official, evaluate
from tests.harness.test_cards import BENCHMARKS, card
from unibench.config import HarnessTask

SIZE = 12
HARNESSES = ("vlmevalkit", "lmms_eval")
FORMS = {
    "right alone": "{right}",
    "with a full stop": "{right}.",
    "small letters": "{small}",
    "in brackets": "({right})",
    "in a sentence": "The answer is {right}.",
    "its words": "{words}",
    "words in a sentence": "It is the {words}.",
    "with the reason": "{right}\nbecause it can be seen",
    "right, not another": "I would say {right}, not {other}",
}
JUDGED = (
    "mmbench_cn",
    "hallusionbench",
    "mathvista",
    "mia_bench",
)  # lmms-eval leaves these to a judge
UNAVAILABLE = ("mathvision", "coco_cap")  # latex2sympy2 is missing; captions have no right form


def main() -> None:
    pictures = [name for name in BENCHMARKS if card(name).modality == "image"]
    names = [name for name in pictures if card(name).vlmevalkit and card(name).lmms_eval]
    asked = [name for name in names if name not in (*JUDGED, *UNAVAILABLE)]
    sides = {
        harness: {name: getattr(card(name), harness) for name in asked} for harness in HARNESSES
    }
    with tempfile.TemporaryDirectory() as folder:
        found = {
            harness: _ask(harness, list(sides[harness].values()), Path(folder))
            for harness in HARNESSES
        }
    print(
        HEAD.format(
            vlmeval=importlib.metadata.version("ms-vlmeval"),
            lmms=importlib.metadata.version("lmms-eval"),
            size=SIZE,
        )
    )
    print("## Prompts\n\nThe first question of each, pictures as `<image>`, line breaks as `/`.\n")
    print(
        _table(
            ("benchmark", "VLMEvalKit", "lmms-eval"),
            [(n, *(_shown(found[h].official, sides[h][n]) for h in HARNESSES)) for n in asked],
        )
    )
    print(
        "\n## Which forms of a right answer are read\n\nPer cent of what the bare right answer"
        " scores: VLMEvalKit / lmms-eval. By the"
    )
    print("recomputation (`tests/harness/scoring`), which is checked against the harnesses.\n")
    print(_table(("benchmark", *FORMS), [(n, *_read(n, found, sides)) for n in asked]))
    print(
        "\n## Metrics, on the same answers\n\nThe forms above in turn, every third answer wrong.\n"
    )
    print(
        _table(
            ("benchmark", "VLMEvalKit", "lmms-eval"),
            [(n, *(_scores(found[h].official, sides[h][n]) for h in HARNESSES)) for n in asked],
        )
    )
    print("\n## What the cards say\n")
    print("\n".join(f"- **{name}**: {card(name).differs}" for name in names))


@dataclass(frozen=True)
class Asked:
    """One harness on the stand-ins.

    Attributes:
        official: prompts and scores of the mixed answers, by the harness.
        forms: by official name, scores of each form of answer, computed again.
    """

    official: Official
    forms: dict[str, list[dict[str, float]]]


def _ask(harness: str, sides: Sequence[HarnessTask], folder: Path) -> Asked:
    """Hand the mixture to the harness, every form of answer to the recomputation, which must agree
    on the mixture.
    """
    tables, work = folder / "tables", folder / harness
    work.mkdir()
    standins.write(tables, harness, [side.name for side in sides], SIZE)
    mixed = {side.name: made_up.answers(harness, side.name, tables, _mixed()) for side in sides}
    official = evaluate(harness, tables, {name: [given] for name, given in mixed.items()}, work)
    forms = {}
    for side in sides:
        again = scoring.score(harness, side.name, tables, mixed[side.name])
        for path in side.metrics[0].path:
            assert math.isclose(again[path], official.scores[side.name][0][path], abs_tol=1e-9), (
                f"{side.name}: {path}"
            )
        answers = [made_up.answers(harness, side.name, tables, [form]) for form in FORMS.values()]
        forms[side.name] = [scoring.score(harness, side.name, tables, given) for given in answers]
    return Asked(official, forms)


def _mixed() -> list[str]:
    """All forms, with a wrong answer in every third place."""
    forms = list(FORMS.values())
    return [
        form for pair in zip(forms[::2], forms[1::2], strict=False) for form in (*pair, "{other}")
    ]


def _shown(official: Official, side: HarnessTask) -> str:
    text = next(iter(official.prompts[side.name].values())).strip()
    return "`" + text.replace("\n", " / ").replace("|", "\\|") + "`"


def _value(side: HarnessTask, scores: Mapping[str, float]) -> float:
    return sum(scores[path] for path in side.metrics[0].path)


def _read(
    name: str, found: Mapping[str, Asked], sides: Mapping[str, Mapping[str, HarnessTask]]
) -> list[str]:
    columns = []
    for place in range(len(FORMS)):
        shares = []
        for harness in HARNESSES:
            side = sides[harness][name]
            scores = found[harness].forms[side.name]
            shares.append(f"{100 * _value(side, scores[place]) / _value(side, scores[0]):.0f}")
        columns.append(" / ".join(shares))
    return columns


def _scores(official: Official, side: HarnessTask) -> str:
    mixed = official.scores[side.name][-1]
    shown = [
        (metric, sum(mixed[path] for path in metric.path))
        for metric in side.metrics
        if set(metric.path) <= set(mixed)
    ]
    return ", ".join(f"{metric.name} {value:.4g} of {metric.best:g}" for metric, value in shown)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


HEAD = """# Where the two harnesses differ

    .venv/bin/python -m tests.harness.differences > results/harness_differences.md

VLMEvalKit (ms-vlmeval {vlmeval}) and lmms-eval {lmms}, each with its own prompts and its own scoring, on the same {size}
drawn questions per benchmark and the same made-up answers; no model is involved. Prompts are the harnesses' defaults;
VLMEvalKit's model classes have their own on top. Benchmarks whose score a judge decides, captions and those that one
harness lacks are left to the last section. Answers of the two are never compared: rows of different harnesses do not join.
"""

if __name__ == "__main__":
    main()
