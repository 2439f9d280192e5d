"""What all stages share: schedule, optimizer, log, checkpoints that a killed run continues from."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from training._recipe import Stage

LOG = logging.getLogger(__name__)
MUON_SHARE = 2.5  # of the stage's rate
SAVED_EVERY = 120.0  # seconds


@dataclass
class Stop:
    """Whether the process was told to end: the step that it is at is finished and saved first."""

    asked: bool = False

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as a wish to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


STOP = Stop()


@dataclass(frozen=True)
class Place:
    """Where a training runs: device, compute dtype, folder of its checkpoints, processes that draw
    pictures.
    """

    device: torch.device
    dtype: torch.dtype
    folder: Path
    workers: int


def rate(stage: Stage, step: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to 3 % of the peak.

    >>> stage = Stage(steps=100, pictures=1, rate=1.0, warmup=10, decay=0.0, first_seed=0)
    >>> [round(rate(stage, step), 2) for step in (0, 9, 55, 99)]
    [0.1, 1.0, 0.52, 0.03]
    """
    done = max(0.0, (step - stage.warmup) / max(1, stage.steps - stage.warmup))
    return (
        stage.rate
        * min(1.0, (step + 1) / stage.warmup)
        * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
    )


def optimizers(
    parameters: Iterable[nn.Parameter],
    stage: Stage,
    slow: Iterable[nn.Parameter],
    muon: Iterable[nn.Parameter],
) -> list[Any]:
    """AdamW with weight decay on matrices only, a fiftieth of the rate for ``slow`` parameters;
    Muon for ``muon``.
    """
    held, turned = {id(parameter) for parameter in slow}, {id(parameter) for parameter in muon}
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    fast = [parameter for parameter in trained if id(parameter) not in held | turned]
    groups = [
        {"params": [p for p in fast if p.dim() > 1], "weight_decay": stage.decay, "share": 1.0},
        {"params": [p for p in fast if p.dim() <= 1], "weight_decay": 0.0, "share": 1.0},
        {"params": [p for p in trained if id(p) in held], "weight_decay": 0.0, "share": 0.02},
    ]
    out: list[Any] = [
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=stage.rate,
            betas=(0.9, 0.98),
            fused=True,
        )
    ]
    if matrices := [p for p in trained if id(p) in turned]:
        group = {"params": matrices, "share": MUON_SHARE}
        out.append(
            torch.optim.Muon(
                [group], lr=stage.rate, weight_decay=stage.decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return out


class Run:
    """One stage being trained: takes steps, writes ``<stage>.jsonl``, keeps ``<stage>.pt``.

    ``slow`` is for the last map of the projector. Its inputs have a large common part, so at the
    full rate the tokens drift together until what tells them apart is lost in their norm (seen: 170
    against 27 after a thousand steps, and nothing learnt).
    """

    def __init__(
        self,
        name: str,
        stage: Stage,
        modules: dict[str, nn.Module],
        parameters: Iterable[nn.Parameter],
        place: Place,
        slow: Iterable[nn.Parameter] = (),
        muon: Iterable[nn.Parameter] = (),
    ) -> None:
        self.name, self.stage, self.modules, self.place = name, stage, modules, place
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizers = optimizers(self.parameters, stage, slow, muon)
        self.step = 0
        self.seconds = 0.0  # of the steps before the last save, whichever process took them
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.started = self.saved = time.monotonic()
        if self.file.exists():
            self._load(torch.load(self.file, map_location=place.device, weights_only=True))

    @property
    def file(self) -> Path:
        return self.place.folder / f"{self.name}.pt"

    def take(self, loss: Tensor) -> None:
        """One optimizer step on a loss."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate(self.stage, self.step) * group["share"]
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1

    @property
    def minutes(self) -> float:
        """That the steps so far took, in all processes."""
        return (self.seconds + time.monotonic() - self.started) / 60

    def count(self, name: str, total: float, number: float = 1.0) -> None:
        """Adds to a mean that the next line of the log shows."""
        self.sums[name][0] += total
        self.sums[name][1] += number

    def end_step(self, every: int = 50) -> None:
        """Ends a step: a line for the log every so many, a save every so many seconds.

        Raises:
            SystemExit: the process was told to end; the step is saved.
        """
        done = self.step == self.stage.steps
        if done or self.step % every == 0:
            LOG.info("%s %s", self.name, self._report())
        if done or STOP.asked or time.monotonic() - self.saved > SAVED_EVERY:
            self.save()
        if STOP.asked:
            raise SystemExit(f"{self.name}: stopped after step {self.step}, which is saved")

    def _report(self) -> str:
        """A line of the means since the last one, which are begun anew."""
        row: dict[str, Any] = {
            "step": self.step,
            "minutes": round(self.minutes, 2),
            "rate": round(rate(self.stage, self.step), 6),
        }
        for name, (total, number) in self.sums.items():
            row[name] = round(total / max(1e-9, number), 4)
        self.sums.clear()
        line = json.dumps(row)
        with (self.place.folder / f"{self.name}.jsonl").open("a") as log:
            log.write(line + "\n")
        return line

    def save(self) -> None:
        now = time.monotonic()
        self.seconds, self.started, self.saved = self.seconds + now - self.started, now, now
        states = {name: module.state_dict() for name, module in self.modules.items()}
        part = self.file.with_suffix(".part")
        torch.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "sums": {name: list(pair) for name, pair in self.sums.items()},
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                **states,
            },
            part,
        )
        part.replace(self.file)

    def _load(self, saved: dict[str, Any]) -> None:
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.sums.update(saved["sums"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for name, module in self.modules.items():
            module.load_state_dict(saved[name])


def conclude(run: Run, folder: Path, family: str, accuracy: dict[str, float]) -> None:
    """Adds a line to the log of the whole training: what a stage took, what is learnt by then."""
    line = {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "family": family,
        "stage": run.name,
        "step": run.step,
        "of": run.stage.steps,
        "minutes": round(run.minutes, 1),
        "accuracy": {name: round(100 * share, 1) for name, share in accuracy.items()},
    }
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
