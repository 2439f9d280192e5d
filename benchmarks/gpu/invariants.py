"""The engine's rules at published width in half precision, under every attention kernel by name.

What is equal by construction is compared bit by bit; what goes through other kernels is compared to
a few units of the precision's last place, relative to the largest logit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import benchmarks.gpu
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.devices import MadeOn
from benchmarks.gpu.pages import UNITS
from benchmarks.gpu.plan import MAIN, Shown
from benchmarks.gpu.prompts import Inputs, prompt
from unibench import conformance
from unibench.budget import Budget
from unibench.conformance import reference
from unibench.conformance.checks import bare
from unibench.conformance.methods import Every, KeepAll
from unibench.models import LoadedModel
from unibench.pruning import Method, Session
from unibench.pruning._transformers import cache_in
from unibench.registry import build_method

Kernel = Literal["eager", "flash", "efficient", "math"]
Verdict = Literal["holds", "fails", "no kernel"]
BACKENDS: Mapping[Kernel, SDPBackend | None] = {
    "eager": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
DTYPES = (torch.bfloat16, torch.float16)
STEPS = 2
Outcome = tuple[bool, str]
"""Whether a rule holds, and by how much two computations differ."""


@dataclass(frozen=True)
class Finding:
    """One rule on one model.

    Attributes:
        model: name of its card.
        dtype: precision.
        kernel: of attention.
        rule: what was tried.
        verdict: what came out.
        detail: by how much, or why not.
    """

    model: str
    dtype: str
    kernel: Kernel
    rule: str
    verdict: Verdict
    detail: str


def findings(
    name: str, loaded: LoadedModel, shown: Shown, text_tokens: int, deadline: Deadline
) -> Iterator[Finding]:
    """Every rule in both precisions under every kernel.

    Args:
        name: of the model's card.
        loaded: the model, a few layers deep; its precision changes.
        shown: by the prompt.
        text_tokens: of the question.
        deadline: when to stop.
    """
    inputs = prompt(loaded, shown, text_tokens)
    for dtype in DTYPES:
        loaded.model.to(dtype)
        for kernel in BACKENDS:
            loaded.model.set_attn_implementation("eager" if kernel == "eager" else "sdpa")
            for rule, holds in RULES.items():
                if deadline.over:
                    return
                # the rules make tensors of their own, which stand beside the model's
                with MadeOn(loaded.device, conformance, benchmarks.gpu), torch.inference_mode():
                    verdict, detail = _tried(holds, loaded, inputs, kernel)
                yield Finding(
                    name, str(dtype).removeprefix("torch."), kernel, rule, verdict, detail
                )


def forced(kernel: Kernel) -> AbstractContextManager[None]:
    """SDPA by this backend and no other."""
    backend = BACKENDS[kernel]
    if backend is None:
        return nullcontext()
    found: AbstractContextManager[None] = sdpa_kernel(backend)
    return found


def keeping_all(loaded: LoadedModel, inputs: Inputs, kernel: Kernel) -> Outcome:
    """A session that removes nothing changes no bit."""
    with forced(kernel):
        plain = _logits(loaded, inputs)
        again = _logits(loaded, inputs, KeepAll())
    return torch.equal(plain, again), _said(loaded, again, plain)


def before_layers(loaded: LoadedModel, inputs: Inputs, kernel: Kernel) -> Outcome:
    """A cut in front of layer 0 is the bare decoder on the embeddings that are left."""
    session = Session(loaded.family, Every(), Budget.parse(ratio=0))
    with forced(kernel), session.installed():
        cut = loaded.model(**copy.deepcopy(inputs), use_cache=True).logits
    assert session.prompt is not None
    with forced(kernel):
        seen = reference.given_to_text(loaded.model, copy.deepcopy(inputs))
        kept = session.prompt.segments[0].origin[0].to(loaded.device)
        expected = bare(loaded.model, seen, kept)
    return _near(loaded, cut, expected)


def between_layers(loaded: LoadedModel, inputs: Inputs, kernel: Kernel) -> Outcome:
    """Cuts at layers 1 and 2 are what comes out where nothing is cut and everything masked."""
    session = Session(loaded.family, Every((1, 2)), Budget.parse(ratio=0))
    with forced(kernel), session.installed():
        out = loaded.model.generate(
            **copy.deepcopy(inputs), max_new_tokens=STEPS, do_sample=False,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    assert session.prompt is not None
    drops = {}
    for layer, segment in session.prompt.segments.items():
        drops[layer] = torch.ones(session.prompt.length, dtype=torch.bool)
        drops[layer][segment.origin[0]] = False
    # masks of all shapes have a kernel of plain products alone
    with forced("eager" if kernel == "eager" else "math"):
        _, scores = reference.greedy(loaded.model, copy.deepcopy(inputs), 1, drops)
    # the first token alone: where two are about as likely, rounding decides how an answer goes on
    return _near(loaded, out.logits[0][0], scores[0])


def budget_met(loaded: LoadedModel, inputs: Inputs, kernel: Kernel) -> Outcome:
    """A method keeps its budget exactly, and every layer's cache has that length."""
    budget = Budget.parse(ratio=MAIN)
    session = Session(loaded.family, build_method("divprune"), budget)
    with forced(kernel), session.installed():
        out = loaded.model(**copy.deepcopy(inputs), use_cache=True, logits_to_keep=1)
    (record,) = session.take_records()
    kept, cache = budget.keep(record.visual_tokens), cache_in(out)
    lengths = {layer.get_seq_length() for layer in cache.layers}
    met = record.kept == kept and lengths == {record.text_tokens + kept}
    return met, f"kept {record.kept} of {kept}, caches of {sorted(lengths)}"


def restored(loaded: LoadedModel, inputs: Inputs, kernel: Kernel) -> Outcome:
    """A block leaves the model as it was."""
    with forced(kernel):
        plain = _logits(loaded, inputs)
        _logits(loaded, inputs, Every((0, 2)))
        again = _logits(loaded, inputs)
    return torch.equal(plain, again), _said(loaded, again, plain)


Rule = Callable[[LoadedModel, Inputs, Kernel], Outcome]
RULES: Mapping[str, Rule] = {
    "keep-all, bit for bit": keeping_all,
    "cut at layer 0": before_layers,
    "cuts at layers 1 and 2": between_layers,
    "budget and caches": budget_met,
    "model restored": restored,
}


def _tried(holds: Rule, loaded: LoadedModel, inputs: Inputs, kernel: Kernel) -> tuple[Verdict, str]:
    try:
        held, detail = holds(loaded, inputs, kernel)
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0][:160]
        # torch says so where none of the backends that are allowed serves the shapes or masks
        if "No available kernel" in str(error) or "No viable backend" in str(error):
            return "no kernel", line
        return "fails", f"{type(error).__name__}: {line}"
    return "holds" if held else "fails", detail


def _logits(loaded: LoadedModel, inputs: Inputs, method: Method | None = None) -> Tensor:
    """Logits of the prompt, under a method if there is one."""
    if method is None:
        plain: Tensor = loaded.model(**copy.deepcopy(inputs), use_cache=True).logits
        return plain
    with Session(loaded.family, method, Budget.parse(ratio=0)).installed():
        return _logits(loaded, inputs)


def _apart(one: Tensor, other: Tensor) -> float:
    """Largest difference over the largest logit."""
    if one.shape != other.shape:
        return float("inf")
    return float((one.float() - other.float()).abs().max() / other.float().abs().max())


def _said(loaded: LoadedModel, one: Tensor, other: Tensor) -> str:
    places = _apart(one, other) / _place(loaded)
    return f"{_apart(one, other):.1e} of the largest logit, {places:.1f} last places"


def _near(loaded: LoadedModel, one: Tensor, other: Tensor) -> Outcome:
    # NaN is near nothing
    near = _apart(one, other) <= UNITS * _place(loaded)
    return near, _said(loaded, one, other)


def _place(loaded: LoadedModel) -> float:
    """The last place of the model's precision at 1; generate() hands out float32 whatever it is."""
    return torch.finfo(loaded.model.dtype).eps
