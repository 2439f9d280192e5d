"""A grid of methods on one prompt: answered together, and cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.gpu.board import Spread
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.machine import flash_first
from benchmarks.gpu.plan import MAIN, OTHER, Block, Plan
from benchmarks.gpu.prompts import prompt
from unibench.budget import Budget
from unibench.cost import Clock
from unibench.errors import UsageError
from unibench.fused import Fusion, apart
from unibench.models import LoadedModel
from unibench.profile.passes import decoding
from unibench.pruning import Session
from unibench.registry import build_method

ROWS = 64  # of a prompt that are in memory together


@dataclass(frozen=True)
class Grid:
    """Times are milliseconds of one prompt.

    Attributes:
        model: name of its card.
        shown: by the prompt.
        cells: answered, vanilla among them.
        vanilla: alone.
        one_by_one: all cells, each by itself.
        together: all cells at once.
        equal: answers that are the same both ways.
        left_out: methods that cannot share a prompt, and why.
    """

    model: str
    shown: str
    cells: int
    vanilla: Spread
    one_by_one: Spread
    together: Spread
    equal: int
    left_out: tuple[str, ...]


def grid(loaded: LoadedModel, block: Block, plan: Plan, deadline: Deadline) -> Grid | None:
    """Vanilla and every method at two ratios; None where there is no time."""
    sessions, left_out = _sessions(loaded, plan)
    inputs, clock = prompt(loaded, block.shown, plan.text_tokens), Clock(loaded.device)
    config = decoding(loaded, plan.new_tokens)
    length = inputs["input_ids"].shape[1]

    def read() -> list[int]:
        with loaded.decoding(config), torch.inference_mode():
            tokens: list[int] = loaded.model.generate(**inputs, generation_config=config)[
                0, length:
            ].tolist()
        return tokens

    def alone(session: Session) -> list[int]:
        with session.installed():
            tokens = read()
        session.take_records(), session.take_times()
        return tokens

    # its sessions are taken over, so that those of the cells alone are others
    fusion = Fusion(loaded.family, _sessions(loaded, plan)[0], rows=ROWS, reuse=None)
    spent: dict[str, list[float]] = {"vanilla": [], "one by one": [], "together": []}
    equal = 0
    with flash_first():
        for number in range(plan.repeats + 1):
            marks, said = [clock.mark()], []
            for session in sessions:
                if deadline.over:
                    break
                said.append(alone(session))
                marks.append(clock.mark())
            if deadline.over:
                break
            start = clock.mark()
            replies = fusion.answer("gpu", range(len(sessions)), read, config)
            end = clock.mark()
            equal = sum(list(one.tokens) == own for one, own in zip(replies, said, strict=True))
            if number:  # the first warms up
                spent["vanilla"].append(1000 * clock.seconds(marks[0], marks[1]))
                spent["one by one"].append(1000 * clock.seconds(marks[0], marks[-1]))
                spent["together"].append(1000 * clock.seconds(start, end))
    if not spent["together"]:
        return None
    vanilla, one_by_one, together = (Spread.of(values) for values in spent.values())
    return Grid(
        block.model,
        str(block.shown),
        len(sessions),
        vanilla,
        one_by_one,
        together,
        equal,
        tuple(left_out),
    )


def _sessions(loaded: LoadedModel, plan: Plan) -> tuple[list[Session], list[str]]:
    """Vanilla and the methods that can share a prompt, at two ratios; and the reasons of others."""
    found = [Session(loaded.family, build_method("vanilla"), Budget.parse(ratio=0))]
    reasons = []
    for entry in plan.methods:
        for ratio in (MAIN, OTHER):
            method = build_method(entry.name, **dict(entry.options))
            try:
                session = Session(loaded.family, method, Budget.parse(ratio=ratio))
            except UsageError as error:
                reason: str | None = str(error)
            else:
                reason = apart(session)
                if reason is None:
                    found.append(session)
            if reason is not None and ratio == MAIN:
                reasons.append(f"{entry.name}: {reason}")
    return found, reasons
