"""Which methods cannot share a prompt with others."""

from __future__ import annotations

from unibench.facts import FULL
from unibench.pruning import Session
from unibench.pruning._transformers import attention_of
from unibench.pruning.family import Family

# decoders whose forward is embeddings, layers, norm and head, and nothing between them
PLAIN = frozenset({
    "llama", "mistral", "qwen2", "qwen2_5_vl_text", "qwen2_vl_text", "qwen3",
})  # fmt: skip
KERNELS = ("sdpa", "eager")


def apart(session: Session) -> str | None:
    """Why a session's prompts must be read by themselves, None if other methods may join in."""
    method = session.plan.method
    name = type(method).__name__
    if (reason := _of_model(session.family)) is not None:
        return reason
    if session.changes_tower:
        return f"{name} changes what the vision tower computes"
    if method.evicts:
        return f"{name} takes entries out of caches after the prefill"
    if method.rereads(len(session.family.text_model.layers)) is not None:
        return f"{name} chooses anew what decoding reads"
    return None


def _of_model(family: Family) -> str | None:
    text = family.text_model.config
    kernel, name = attention_of(family.text_model), str(text.model_type)
    if name not in PLAIN or family.deepstack or family.sees_ahead or set(family.kinds) != {FULL}:
        return f"the decoder of {name} does more between its layers than to hand states on"
    if kernel not in KERNELS:
        return f"no mask of rows of several lengths is known for {kernel}"
    return None
