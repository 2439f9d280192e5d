"""Training of the tiny checkpoints in ``models/tiny``: ``python -m unibench.models.train qwen2_5_vl``.

Three stages, each saved and resumable; ``docs/tiny_models.md`` explains the recipe:

1. vision: tower and projector learn to say what each visual token shows (throw-away linear heads).
2. language: the decoder learns to answer from the frozen tower's tokens.
3. joint: everything together, on answers alone with a fading part of stage 1's loss.

The modules trained are those of the real Hugging Face classes. Only their forward pass is written
again here, for batches of equal pictures with many questions behind each, because that is several times
faster on a CPU; a test holds it to the original.
"""

from __future__ import annotations

if __name__ != "unibench.models.train":  # a second name would make a second copy of every class
    raise ImportError("import unibench.models.train, not models.train")
