"""What is measured in a block: methods under a budget, each with the ways in which it can run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from benchmarks.gpu.plan import Entry, Way
from unibench.budget import Budget
from unibench.errors import UsageError
from unibench.models import LoadedModel
from unibench.profile.passes import KeepAll
from unibench.pruning import Method, Session
from unibench.pruning.streamed import streamed
from unibench.registry import build_method


@dataclass(frozen=True)
class Contender:
    """A method as it is measured; it has what :mod:`unibench.profile.passes` asks of one.

    Attributes:
        name: of the method, ``vanilla``, ``keep-all`` or ``resize``.
        kind: what it reads.
        method: with its parameters.
        budget: how much it keeps.
        way: of its loops and signals.
    """

    name: str
    kind: str
    method: Method
    budget: Budget
    way: Way = "plain"

    def session(self, loaded: LoadedModel) -> Session:
        """A session of its own.

        Raises:
            UsageError: the method is refused on this model.
        """
        return Session(loaded.family, self.method, self.budget)


def contenders(
    loaded: LoadedModel, entries: Sequence[Entry], ratio: float
) -> tuple[list[Contender], list[str]]:
    """Vanilla, keep-all and the methods that the model takes; and why others are left out."""
    whole, budget = Budget.parse(ratio=0), Budget.parse(ratio=ratio)
    vanilla = build_method("vanilla")
    found = [
        Contender("vanilla", "", vanilla, whole),
        Contender("keep-all", "", KeepAll(), whole),
    ]
    refused = []
    for entry in entries:
        method = build_method(entry.name, **dict(entry.options))
        one = Contender(entry.name, entry.kind, method, budget)
        try:
            one.session(loaded)
        except UsageError as error:
            refused.append(f"{entry.name}: {error}")
            continue
        found.append(one)
        if entry.at_once:
            found.append(Contender(entry.name, entry.kind, method, budget, "at once"))
    return found, refused


def triton_serves() -> bool:
    """Whether Triton is here and has something to run on: a GPU, or its interpreter."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return find_spec("triton") is not None and (torch.cuda.is_available() or interpreted)


@contextmanager
def going(way: Way) -> Iterator[None]:
    """Loops and signals run in one of their ways for the length of the block."""
    with ExitStack() as stack:
        if way == "at once" and triton_serves():
            from unibench.ops.one_kernel import one_kernel  # these import Triton
            from unibench.ops.one_pass import columns

            stack.enter_context(one_kernel())
            stack.enter_context(streamed(columns))
        elif way == "at once":
            stack.enter_context(streamed())
        yield
