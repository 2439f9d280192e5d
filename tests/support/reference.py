"""The slow reference, which the conformance command uses as well."""

from unibench.conformance.reference import (
    Added,
    Drops,
    Merges,
    Moves,
    added_to,
    given_to_text,
    greedy,
    logits,
    prompt_of,
)

__all__ = [
    "Added",
    "Drops",
    "Merges",
    "Moves",
    "added_to",
    "given_to_text",
    "greedy",
    "logits",
    "prompt_of",
]
