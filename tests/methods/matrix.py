"""Which method runs on which family, and what it says there.

python -m tests.methods.matrix > results/method_family_matrix.md
"""

from __future__ import annotations

import unibench
from tests.methods._contexts import METHODS, OPTIONS
from tests.support.models import FAMILIES, generate, inputs_of, model_of
from unibench import UsageError

RATIO = 0.667


def outcome(method: str, family: str) -> str:
    """``runs``, with the method's remarks, or why it refuses."""
    try:
        with unibench.prune(model_of(family), method, ratio=RATIO, **OPTIONS.get(method, {})) as session:
            generate(model_of(family), inputs_of(family, 0, 2), 4)
    except UsageError as error:
        return f"refuses: {error}"
    (record,) = session.take_records()
    return "; ".join([f"runs, {record.kept} of {record.visual_tokens}", *sorted(session.notes)])


def main() -> None:
    """Print the table."""
    print("# Methods and families")
    print()
    print(f"Each method on a random tiny model of each family: two pictures, {100 * RATIO:.1f} % removed, visual tokens in the last layer.")
    print("Made by `python -m tests.methods.matrix`; the numbers say that it runs, nothing about accuracy.")
    print()
    print(f"| method | {' | '.join(FAMILIES)} |")
    print(f"|---|{'---|' * len(FAMILIES)}")
    for method in METHODS:
        print(f"| {method} | {' | '.join(outcome(method, family) for family in FAMILIES)} |")


if __name__ == "__main__":
    main()
