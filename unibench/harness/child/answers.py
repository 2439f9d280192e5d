"""The answers of a cell: those that the store has, and the new ones on their way to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from unibench.harness.child.asking import Asker, Question
from unibench.inference.environment import environment


class Answers:
    """Stands between a harness and the model: what the store has is not asked again.

    Args:
        asker: the pruned model.
        known: records by sample.
        say: sends an event to the parent.
    """

    def __init__(
        self,
        asker: Asker,
        known: Mapping[str, Mapping[str, Any]],
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        self._asker, self._known, self._say = asker, dict(known), say
        self._used: dict[str, str] = {}  # prompts by sample, in the order of the task
        self._total: int | None = None

    def of(self, sample: str, question: Callable[[], Question], answer: Callable[[], str]) -> str:
        """The answer to a sample.

        Args:
            sample: its name.
            question: called if it must be asked.
            answer: lets the model answer it.
        """
        if sample not in self._known:
            record = {**self._asker.ask(question(), answer), "index": len(self._used)}
            self._known[sample] = record
            self._say({"event": "sample", "record": record})
        record = dict(self._known[sample])
        self._used[sample] = str(record["prompt"])
        if len(self._used) == self._total:
            self.end()
        return str(record["answer"])

    def begin(self, total: int) -> None:
        """Say how many samples there will be."""
        self._total = total
        device = self._asker.loaded.device
        self._say(
            {
                "event": "cell",
                "done": len(self._known),
                "total": total,
                "environment": environment(device),
            }
        )
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def end(self) -> None:
        """Say, once, that every sample is there."""
        if self._total is not None:
            self._total = None
            device = self._asker.loaded.device
            self._say(
                {
                    "event": "answered",
                    "peak_mib": torch.cuda.max_memory_allocated(device) / 2**20
                    if device.type == "cuda"
                    else None,
                }
            )

    @property
    def prompts(self) -> str:
        """A hash of the prompts of all samples used."""
        digest = hashlib.blake2b(digest_size=8)
        for sample in sorted(self._used):
            digest.update(f"{sample}\0{self._used[sample]}\0".encode())
        return digest.hexdigest()
