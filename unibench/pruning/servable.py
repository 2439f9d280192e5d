"""Whether a method can run inside a serving engine, which has one picture's features and no more.

An engine encodes each picture once, for all prompts that show it, and its cache has one length for
all decoder layers. It writes the placeholders of a picture before its encoder runs, so that the
number of kept tokens has to follow from the picture's size.
"""

from __future__ import annotations

from collections.abc import Sequence

from unibench.pruning.stage import Method, Stage, needs_of

DEPTH, TOWER = 28, 24  # of a decoder and a tower that no method finds too short


def obstacles(method: Method, depth: int = DEPTH) -> tuple[str, ...]:
    """Why a method cannot run inside a serving engine, in half sentences; empty where it can.

    Args:
        method: with its parameters.
        depth: decoder layers of the model.
    """
    stages = list(method.stages(depth))
    return (*_of_cuts(method, stages, depth), *_of_needs(stages), *_of_count(method, stages))


def _of_cuts(method: Method, stages: Sequence[Stage], depth: int) -> list[str]:
    """What stands against where it cuts."""
    found = []
    later = sorted({stage.layer for stage in stages if stage.layer})
    if later:
        shown = ", ".join(map(str, later[:4])) + (", ..." if len(later) > 4 else "")
        found.append(
            f"it cuts at decoder layer {shown}, and the engine's cache has one length in all"
        )
    if not stages:
        found.append("it removes nothing, so that the engine's own model class serves it")
    elif not later and len(stages) > 1:
        found.append("it cuts more than once before the language model")
    if method.evicts:
        found.append("it takes entries out of the cache, whose blocks the engine shares")
    if method.rereads(depth) is not None:
        found.append("it chooses at each step what decoding reads")
    if method.encoder(TOWER):
        found.append("it merges inside the vision tower, which is the engine's own")
    if method.drops_pixels:
        found.append("it drops pixels ahead of the vision tower, which is the engine's own")
    if any(stage.weighted for stage in stages):
        found.append("it weighs keys, which no paged attention kernel does")
    return found


def _of_needs(stages: Sequence[Stage]) -> list[str]:
    """What stands against what it reads."""
    found, needs = [], needs_of(stages)
    if needs.vision:
        found.append("it reads the vision tower, of which the engine keeps its features only")
    if needs.pooling:
        found.append("it reads the pooling head of the vision tower")
    if needs.llm_attention or needs.entering:
        found.append("it reads the decoder's attention, which fused kernels do not keep")
    return found


def _of_count(method: Method, stages: Sequence[Stage]) -> list[str]:
    """What stands against how many tokens it keeps."""
    if method.adaptive or any(not stage.exact for stage in stages):
        return ["how many tokens it keeps is not known before the picture is encoded"]
    return []
