"""Goes through a plan until it is done or the time is over; pages are written after each step."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.gpu import golden, invariants, loops, models
from benchmarks.gpu.board import measure
from benchmarks.gpu.contenders import triton_serves
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.grid import grid
from benchmarks.gpu.machine import flash_first, kernels, machine, state
from benchmarks.gpu.pages import Found, write
from benchmarks.gpu.plan import Block, Plan, Shown, without_repeats
from benchmarks.gpu.prompts import prompt
from unibench.models import LoadedModel

# of the whole time, from the step's begin on: what comes later must have some left
GOLDEN, RULES, ALONE = 0.12, 0.2, 0.1
CHECKED = Shown((672, 672))  # of the engine's rules: 576 tokens of Qwen2.5-VL
LEAST = 5.0  # seconds with which a model is not loaded any more


class Run:
    """One run of the command.

    Args:
        plan: what to do.
        device: on which.
        deadline: when to stop.
        folder: of the pages.
        command: that was given, for the pages.
        tell: is told what is being done.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        deadline: Deadline,
        folder: Path,
        command: str,
        tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        self.plan, self.device, self.deadline = plan, device, deadline
        self.folder, self.tell = folder, tell
        self.found = Found(machine(device), command, dry=not plan.full)
        self._name = ""
        self._loaded: LoadedModel | None = None

    def all(self) -> Found:
        """Everything; the pages are whole whenever this ends, in whatever way."""
        self.save("the start")
        # memory is measured behind a collection, which would go through all that was imported
        gc.collect()
        gc.freeze()
        first = (self.golden, self.first_rules, self.first_blocks)
        for step in (*first, self.alone, self.rules, self.board):
            if self.deadline.over:
                break
            step()
        over = "the time was over" if self.deadline.over else "the plan was done"
        self.found.ended = f"The run ended since {over}, {self.deadline.left:.0f} s were left."
        self.save("the end")
        return self.found

    def save(self, when: str) -> None:
        """Note clocks and power, and write the pages."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.found.states.append(state(when))
        write(self.found, self.folder)

    # -- steps

    def golden(self) -> None:
        """The picks of every method are those of the CPU, with plain loops and with kernels."""
        deadline = self.deadline.part(GOLDEN)
        for way in ("plain", "at once"):
            if way == "at once" and not triton_serves():
                continue
            with self._kept_going(f"golden cases, {way}"):
                share = deadline.part(0.5 if way == "plain" else 1)
                every = self.plan.every
                self.found.compared.append(golden.compared(self.device, way, every, share))
        self.save("golden cases")

    def first_rules(self) -> None:
        """The engine's rules on the most important model."""
        self._rules(self.plan.checked[:1], self.deadline.part(RULES / 2))

    def rules(self) -> None:
        """And on the others."""
        self._rules(self.plan.checked[1:], self.deadline.part(RULES))

    def first_blocks(self) -> None:
        """The most important rows."""
        self._blocks(self.plan.blocks[:2])

    def board(self) -> None:
        """The other rows."""
        self._blocks(without_repeats(self.plan.blocks)[2:])

    def alone(self) -> None:
        """Loops and signals by themselves."""
        deadline = self.deadline.part(ALONE)
        for count in self.plan.loops:
            if not deadline.over:
                with self._kept_going(f"loops of {count}"), torch.inference_mode():
                    self.found.timed += loops.loops(count, self.device)
        for count in self.plan.signals:
            if not deadline.over:
                with self._kept_going(f"signals of {count}"), torch.inference_mode():
                    self.found.timed += loops.signals(count, self.device)
        self.save("loops")

    def _rules(self, names: tuple[str, ...] | list[str], deadline: Deadline) -> None:
        for name in names:
            if deadline.left < (LEAST if self.plan.full else 0):
                return
            with self._kept_going(f"rules on {name}"):
                self._forget()
                loaded = self._made(name, self.plan.layers)
                shown = CHECKED if self.plan.full else self.plan.blocks[0].shown
                text = self.plan.text_tokens
                for finding in invariants.findings(name, loaded, shown, text, deadline):
                    self.found.findings.append(finding)
                    # a kernel that ends the process takes nothing with it that was known before
                    write(self.found, self.folder)
                del loaded
            self._forget()
            self.save(f"rules on {name}")

    def _blocks(self, blocks: list[Block] | tuple[Block, ...]) -> None:
        for block in blocks:
            if self.deadline.left < (LEAST if self.plan.full else 0) or self.deadline.over:
                return
            title = f"{block.model} {block.shown} x {block.batch}"
            with self._kept_going(title):
                loaded = self._model(block.model)
                self._name_kernels(loaded, block)
                measured = measure(loaded, block, self.plan, self.deadline, self.tell)
                self.found.blocks.append((block, measured))
            self.save(title)
            if block.grid and not self.deadline.over:
                with self._kept_going(f"a grid on {block.model}"):
                    one = grid(self._model(block.model), block, self.plan, self.deadline)
                    self.found.grids += [] if one is None else [one]
                self.save(f"a grid on {block.model}")

    # -- models

    def _model(self, name: str) -> LoadedModel:
        """A model of the board; the one before is forgotten."""
        if self._name != name or self._loaded is None:
            self._forget()
            self.tell(f"making {name}, {self.deadline.left:.0f} s are left")
            self._loaded, self._name = self._made(name, None), name
        return self._loaded

    def _made(self, name: str, layers: int | None) -> LoadedModel:
        if not self.plan.full:
            return models.small(name, self.device)
        return models.full(name, self.device, layers)

    def _forget(self) -> None:
        self._name, self._loaded = "", None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _name_kernels(self, loaded: LoadedModel, block: Block) -> None:
        """Which kernels a model's prefill runs, once for each model."""
        if block.model in self.found.kernels:
            return
        inputs = prompt(loaded, block.shown, self.plan.text_tokens)
        with flash_first(), torch.inference_mode():
            forward = lambda: loaded.model(**inputs, use_cache=True, logits_to_keep=1)  # noqa: E731
            forward()
            self.found.kernels[block.model] = kernels(forward, self.device)

    @contextmanager
    def _kept_going(self, what: str) -> Iterator[None]:
        """What fails in one step is said on the page of the machine, and the next step begins."""
        self.tell(f"{what}, {self.deadline.left:.0f} s are left")
        try:
            yield
        except Exception as error:
            line = (str(error).strip().splitlines() or [""])[0][:200]
            self.found.failed.append(f"{what}: {type(error).__name__}: {line}")
            self.tell(self.found.failed[-1])
