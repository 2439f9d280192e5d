"""What a prompt is in each decoder layer: tokens that enter it, keys that the last step reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unibench.plots.canvas import COLOURS, canvas, save, title


def layers(
    path: Path,
    name: str,
    models: Sequence[str],
    *,
    text: int,
    visual: Sequence[int],
    whole: int,
    keys: Sequence[int],
) -> Path:
    """Draw one prompt.

    Args:
        path: of the file; its ending is the format.
        name: of the cell and sample.
        models: whose prompt it is.
        text: tokens that are not visual.
        visual: visual tokens that entered each layer.
        whole: visual tokens of the unpruned prompt.
        keys: that each layer's attention was given at the last step of decoding; may be empty.

    Returns:
        The path.

    Raises:
        UsageError: the ending is no known format, or the folder cannot be written.
    """
    figure, axes = canvas(1, 2 if keys else 1, width=4.6)
    places = range(len(visual))
    axes[0].bar(places, [text] * len(visual), color=COLOURS[8], label="text")
    axes[0].bar(places, visual, bottom=text, color=COLOURS[0], label="visual")
    axes[0].axhline(text + whole, color=COLOURS[1], linestyle="--", label="unpruned")
    axes[0].set(xlabel="decoder layer", ylabel="tokens that enter it")
    axes[0].legend()
    if keys:
        axes[1].bar(range(len(keys)), keys, color=COLOURS[2])
        axes[1].axhline(text + whole, color=COLOURS[1], linestyle="--", label="unpruned prompt")
        axes[1].set(xlabel="decoder layer", ylabel="keys, last step of decoding")
        axes[1].legend()
    title(figure, name, models)
    return save(figure, path)
