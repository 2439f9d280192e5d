"""Training of the tiny checkpoints in ``models/tiny``: ``python -m training all``.

Stages, each saved and resumable; ``docs/tiny_models.md`` explains the recipe:

1. language: one decoder for all families learns to answer from words for what each visual token
   shows.
2. vision: tower and projector of a family learn to say what each token shows.
3. joint: everything together, on answers and a fading part of stage 2's loss.
4. video: the same with clips, for the families that read video.

The modules trained are those of the real Hugging Face classes. Only their forward pass is written
again here, for batches of equal pictures with many questions behind each, because that is several
times faster on a CPU; a test holds it to the original.
"""

from __future__ import annotations
