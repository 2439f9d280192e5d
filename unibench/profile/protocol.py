"""How costs are measured and which are shown: ours, and those that papers print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """A way to measure.

    Attributes:
        source: whose table it follows.
        text: what a reader must know, printed under the table.
        columns: of the table, see :mod:`unibench.profile.table`.
        samples: prompts that a repeat goes through.
        repeats: of every method, in turn.
        equal_steps: every method decodes as many tokens as the one that stops first.
    """

    source: str
    text: str
    columns: tuple[str, ...]
    samples: int = 1
    repeats: int = 5
    equal_steps: bool = False


PROTOCOLS = {
    "unibench": Protocol(
        "unibench",
        "One prompt (or batch), every span.",
        (
            "total",
            "vision",
            "prefill",
            "method",
            "decode",
            "samples/s",
            "tokens/s",
            "prefill speed-up",
            "predicted",
            "TFLOP",
            "of vanilla",
            "peak",
            "kv",
        ),
    ),
    "uniprunebench": Protocol(
        "UniPruneBench, Table 4",
        "Totals over all prompts of a repeat, as over a whole task. The paper's prefill is the"
        " decoder layers alone and its method time a look-up; here prefill is pixels to first"
        " logits, and method is scoring, choosing and cutting.",
        ("total", "prefill", "method", "speed-up"),
        samples=20,
        repeats=3,
    ),
    "trimtokenator": Protocol(
        "TrimTokenator, Table 4",
        "Every method decodes the number of tokens after which the first of them stopped by"
        " itself.",
        ("steps", "total", "prefill", "decode", "speed-up"),
        equal_steps=True,
    ),
    "idpruner": Protocol(
        "IDPruner, Table 4",
        "FlashAttention: whether the method lets the model's fused kernel run; 'rows apart'"
        " computes the scores it reads beside it.",
        ("flash", "prefill", "prefill speed-up", "total", "speed-up"),
    ),
    "stp": Protocol(
        "STP, Figure 3",
        "Memory and latency.",
        ("peak", "weights", "kv", "total", "speed-up"),
    ),
}
