"""Where a question begins behind what a processor itself writes after a picture."""

from __future__ import annotations

from typing import Any


def behind(margins: tuple[int, int], processor: Any, written: str) -> tuple[int, int]:
    """Margins of a prompt, see :attr:`unibench.pruning.Family.margins`, in which more stands behind
    a picture than its chat template says.

    Args:
        margins: by the template.
        processor: of the model.
        written: what the processor puts behind the tokens of a picture.
    """
    lead, tail = margins
    return lead + len(processor.tokenizer.encode(written, add_special_tokens=False)), tail
