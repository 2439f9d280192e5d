"""Which method runs on which family, and what it says there.

python -m tests.methods.matrix > results/method_family_matrix.md
"""

from __future__ import annotations

import torch

import unibench
from tests.methods._contexts import BESIDES, METHODS, OPTIONS
from tests.support.models import FAMILIES, LAYERS, generate, inputs_of, model_of
from unibench import UsageError, registry
from unibench.pruning.layout import separators_of

RATIO = 0.667
WITH_NEWLINES = ("llava_next", "llava_next_video", "llava_onevision")


def outcome(method: str, family: str) -> tuple[str, str, float | None]:
    """``runs``, with the method's remarks, or why it refuses; what is left of the newline tokens;
    and the share of all visual tokens that is left in the end.
    """
    try:
        with unibench.prune(
            model_of(family), method, ratio=RATIO, **BESIDES, **OPTIONS.get(method, {})
        ) as session:
            generate(model_of(family), inputs_of(family, 0, 2), 4)
    except UsageError as error:
        return f"refuses: {error}", "-", None
    (record,) = session.take_records()
    said = "; ".join([f"runs, {record.kept} of {record.visual_tokens}", *sorted(session.notes)])
    prompt = session.prompt
    assert prompt is not None
    part = prompt.segments.get(LAYERS - 1)
    origin = torch.arange(prompt.length) if part is None else part.origin[0]
    rank = (prompt.visual[0].cumsum(0) - 1)[origin[prompt.visual[0][origin]]]
    return (
        said,
        (
            f"{int(separators_of(prompt.items[0], rank).sum())} of"
            f" {sum(sum(item.separators) for item in prompt.items[0])}"
        ),
        record.kept / record.visual_tokens,
    )


def main() -> None:
    """Print the table."""
    print("# Methods and families")
    print()
    print(
        f"Each method on a random tiny model of each family: two pictures, {100 * RATIO:.1f} %"
        " removed, visual tokens in the last layer."
    )
    print(
        "Made by `python -m tests.methods.matrix`; the numbers say that it runs, nothing about"
        " accuracy."
    )
    print()
    print(f"| method | {' | '.join(FAMILIES)} |")
    print(f"|---|{'---|' * len(FAMILIES)}")
    left, counts = {}, {}
    for method in METHODS:
        found = {family: outcome(method, family) for family in FAMILIES}
        left[method] = [found[family][1] for family in WITH_NEWLINES]
        counts[method] = [share for _, _, share in found.values() if share is not None]
        print(f"| {method} | {' | '.join(found[family][0] for family in FAMILIES)} |")
    print()
    print("## Counts")
    print()
    print(
        "A method that is not declared adaptive keeps what the budget says, in every family; of the"
        f" others, the share kept, mean over families (the budget: {1 - RATIO:.3f})."
    )
    print()
    print("| method | declared | kept, mean over families | least | most |")
    print("|---|---|---|---|---|")
    for method, shares in counts.items():
        if shares:
            declared = "adaptive" if registry.method(method).adaptive else "exact"
            mean = sum(shares) / len(shares)
            print(f"| {method} | {declared} | {mean:.3f} | {min(shares):.3f} | {max(shares):.3f} |")
    print()
    print("## What is left of the newline tokens")
    print()
    print(
        "Methods that read the vision tower are not shown them, and they go first; to the others"
        " they are tokens like any."
    )
    print()
    print(f"| method | {' | '.join(WITH_NEWLINES)} |")
    print(f"|---|{'---|' * len(WITH_NEWLINES)}")
    for method, lines in left.items():
        print(f"| {method} | {' | '.join(lines)} |")


if __name__ == "__main__":
    main()
