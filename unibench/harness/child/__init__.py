"""The child process: VLMEvalKit and lmms-eval with our pruned model under their prompts and their
scoring.
"""

from __future__ import annotations
