"""VLMEvalKit and lmms-eval in a child process: our pruned model under their prompts and their scoring.

The parent side (:mod:`client`, :mod:`cells`) knows no harness; everything else here runs in the child.
"""

from __future__ import annotations

from unibench.harness.cells import HarnessCells as HarnessCells
