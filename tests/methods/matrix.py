"""Which method runs on which family, and what it says there.

    python -m tests.methods.matrix [METHOD ..] > results/method_family_matrix.md

Families of the tests are tiny models of the real classes; the others are published cards at the
reduced size of ``python -m unibench check``. It takes about half an hour on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import unibench
from tests.families.test_architectures import spec_of
from tests.methods._contexts import BESIDES, METHODS, OPTIONS, VIDEO_ONLY, video_of
from tests.support.models import FAMILIES, VIDEOS, generate, inputs_of, model_of
from unibench import UsageError, registry
from unibench.conformance import checks
from unibench.pruning.layout import separators_of

RATIO = 0.667
STEPS = 2
WITH_NEWLINES = ("llava_next", "llava_next_video", "llava_onevision", "llava_video")
CARDS = {
    "llava_video": "llava_video_7b",
    "gemma3": "gemma3_4b",
    "gemma4": "gemma4_e2b",
    "paligemma": "paligemma2_3b",
    "glm4v": "glm4_1v_9b",
    "qwen3_5": "qwen3_5_9b",
    "minicpm_v": "minicpm_v_4_6",
    "molmo2": "molmo2_8b",
}
EAGER = ("paligemma",)  # whose class has no other kernel


@dataclass(frozen=True)
class Outcome:
    """One method on one family.

    Attributes:
        kept, total: visual tokens in the last layer and before any cut; None where it is refused.
        remarks: of the method, or why it is refused.
        newlines: tokens that separate: left, and all.
    """

    kept: int | None
    total: int | None
    remarks: tuple[str, ...]
    newlines: tuple[int, int] | None = None


@cache
def subject(family: str) -> checks.Subject:
    return checks.Subject.of(spec_of(CARDS[family]), "eager" if family in EAGER else "sdpa")


def prompt(family: str, video: bool) -> tuple[Any, dict[str, Any]]:
    """A model of a family and two pictures, or a video, for it.

    Raises:
        UsageError: the family reads no video.
    """
    if family in CARDS:
        one = subject(family)
        if video and not one.reads_video:
            raise UsageError("no video")
        return one.model, one.prompt(0, 2, video=video)
    if not video:
        return model_of(family), inputs_of(family, 0, 2)
    if family not in VIDEOS:
        raise UsageError("no video")
    return model_of(family), video_of(family)


def outcome(method: str, family: str) -> Outcome:
    """What a method does on a family."""
    try:
        model, inputs = prompt(family, method in VIDEO_ONLY)
        with unibench.prune(
            model, method, ratio=RATIO, **BESIDES, **OPTIONS.get(method, {})
        ) as session:
            generate(model, inputs, STEPS)
    except UsageError as error:
        return Outcome(None, None, (str(error),))
    (record,) = session.take_records()
    read = session.prompt
    assert read is not None
    segments = [read.segments[layer] for layer in sorted(read.segments)]
    origin = segments[-1].origin[0] if segments else torch.arange(read.length)
    rank = (read.visual[0].cumsum(0) - 1)[origin[read.visual[0][origin]]]
    newlines = (
        int(separators_of(read.items[0], rank).sum()),
        sum(sum(item.separators) for item in read.items[0]),
    )
    return Outcome(record.kept, record.visual_tokens, tuple(sorted(session.notes)), newlines)


def table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")
    print()


def number_of(remarks: dict[str, int]) -> Callable[[Outcome], str]:
    """Cells of the first table, with the numbers of their remarks."""

    def cell(found: Outcome) -> str:
        numbers = [str(remarks.setdefault(text, len(remarks) + 1)) for text in found.remarks]
        said = "-" if found.kept is None else f"{found.kept}/{found.total}"
        return f"{said} [{','.join(numbers)}]" if numbers else said

    return cell


def main(methods: Sequence[str]) -> None:
    """Print the tables.

    Args:
        methods: their names; all if there are none.
    """
    families = [*FAMILIES, *CARDS]
    found = {
        method: {family: outcome(method, family) for family in families}
        for method in methods or METHODS
    }
    runs = sum(one.kept is not None for line in found.values() for one in line.values())
    every = len(found) * len(families)
    print("# Methods and families\n")
    print(
        f"Each method on a small random model of each family: two pictures (a video for"
        f" {', '.join(VIDEO_ONLY)}), {100 * RATIO:.1f} % removed; visual tokens in the last layer of"
        " all that there were. - is refused, for the reason that the number names."
    )
    print(
        f"Made by `python -m tests.methods.matrix`: {runs} of {every} pairs run. The numbers say"
        " that it runs, nothing about accuracy.\n"
    )
    remarks: dict[str, int] = {}
    cell = number_of(remarks)
    lines = [[name, *(cell(line[family]) for family in families)] for name, line in found.items()]
    table(["method", *families], lines)
    for text, number in remarks.items():
        print(f"{number}. {text}")
    print("\n## Counts\n")
    print(
        "A method that is not declared adaptive keeps what the budget says, in every family; of the"
        f" others, the share kept, mean over families (the budget: {1 - RATIO:.3f}).\n"
    )
    lines = []
    for method, line in found.items():
        shares = [one.kept / one.total for one in line.values() if one.kept and one.total]
        declared = "adaptive" if registry.method(method).adaptive else "exact"
        if shares:
            mean = sum(shares) / len(shares)
            numbers = (f"{share:.3f}" for share in (mean, min(shares), max(shares)))
            lines.append([method, declared, *numbers])
    table(["method", "declared", "kept, mean over families", "least", "most"], lines)
    print("## What is left of the newline tokens\n")
    print(
        "Methods that read the vision tower are not shown them, and they go first; to the others"
        " they are tokens like any.\n"
    )
    lines = []
    for method, line in found.items():
        left = [line[family].newlines for family in WITH_NEWLINES]
        lines.append(
            [method, *("-" if pair is None else f"{pair[0]} of {pair[1]}" for pair in left)]
        )
    table(["method", *WITH_NEWLINES], lines)


if __name__ == "__main__":
    main(sys.argv[1:])
