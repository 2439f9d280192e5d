"""The cost board: every method in turn on the same batch, again and again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median, quantiles

import torch

from benchmarks.gpu.contenders import Contender, contenders, going
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.machine import flash_first
from benchmarks.gpu.plan import Block, Plan, Way
from benchmarks.gpu.prompts import Inputs, prompt, repeated, resized
from unibench.cost.counter import flop_counter, flops_of
from unibench.cost.flops import decoder_shape, tflops
from unibench.cost.memory import out_of_memory, peak_memory
from unibench.models import LoadedModel
from unibench.profile.passes import Times, timed
from unibench.pruning._transformers import cache_in
from unibench.pruning.record import PromptRecord

LEAST = 2  # complete repeats without which a block says nothing
RESIZE = "resize"  # the control as it stands on the board


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of some values, at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class Row:
    """One method on one batch. Times are milliseconds of the batch.

    Attributes:
        model: name of its card.
        shown: of each prompt.
        batch: prompts.
        method: name; vanilla, keep-all and resize too.
        kind: what it reads.
        way: of its loops and signals.
        ratio: share removed.
        tokens: visual tokens of a prompt.
        kept: after the last cut.
        one_shot: whether it chooses once.
        total, vision, prefill, selection, decode: spans, see docs/cost.md; decode is of a token.
        speedup: vanilla's prefill over this one's, repeat by repeat.
        predicted: the same by floating point operations.
        tflops: of the batch's prefill, vision included.
        peak_mib: most memory of a prefill above the weights.
        kv_mib: of the cache behind the prefill.
        repeats: complete ones.
        notes: of the method.
    """

    model: str
    shown: str
    batch: int
    method: str
    kind: str
    way: Way
    ratio: float
    tokens: int
    kept: int
    one_shot: bool
    total: Spread
    vision: Spread
    prefill: Spread
    selection: Spread
    decode: Spread
    speedup: Spread
    predicted: float
    tflops: float
    peak_mib: float
    kv_mib: float
    repeats: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """A block as far as it came.

    Attributes:
        rows: vanilla first; none where there was no time for two repeats.
        remarks: methods that were left out, and why.
    """

    rows: tuple[Row, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """What does not depend on the clock, for one contender.

    Attributes:
        record: of a prompt.
        one_shot: whether it chooses once.
        tflops: of the batch's prefill, vision included.
        peak_mib: see :class:`Row`.
        kv_mib: see :class:`Row`.
        notes: of the method.
    """

    record: PromptRecord
    one_shot: bool
    tflops: float
    peak_mib: float
    kv_mib: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Entrant:
    """A contender with the batch that it is given."""

    contender: Contender
    single: Inputs
    batch: Inputs


def measure(
    loaded: LoadedModel,
    block: Block,
    plan: Plan,
    deadline: Deadline,
    tell: Callable[[str], None],
) -> Measured:
    """The rows of a block.

    Args:
        loaded: its model.
        block: what is measured.
        plan: repeats and tokens.
        deadline: when to stop with what is there.
        tell: is told what is being done.
    """
    with flash_first():
        entrants, remarks = _entrants(loaded, block, plan)
        known: dict[Contender, _Known] = {}
        for entrant in entrants:
            if deadline.over:
                return Measured((), (*remarks, "no time to count"))
            with _tried(entrant.contender, remarks):
                known[entrant.contender] = _known(loaded, entrant, known)
        times: dict[Contender, list[Times]] = {one: [] for one in known}
        alive = [entrant for entrant in entrants if entrant.contender in known]
        # the first repeat warms up: kernels are compiled and memory is taken
        for number in range(plan.repeats + 1):
            tell(f"{block.model} {block.shown} x {block.batch}: repeat {number} of {plan.repeats}")
            for entrant in alive:
                if deadline.over:
                    break
                with _tried(entrant.contender, remarks), going(entrant.contender.way):
                    passed = timed(loaded, entrant.contender, [entrant.batch], plan.new_tokens)
                    if number:
                        times[entrant.contender].append(passed)
            alive = [one for one in alive if len(times[one.contender]) == number]
            if deadline.over:
                break
    # what fails in the pass that warms up is tried once more, and fails alike
    return Measured(tuple(_rows(block, known, times)), tuple(dict.fromkeys(remarks)))


def _entrants(loaded: LoadedModel, block: Block, plan: Plan) -> tuple[list[_Entrant], list[str]]:
    """Contenders with their batches; the control has a smaller picture."""
    single = prompt(loaded, block.shown, plan.text_tokens)
    batch = repeated(single, block.batch)
    entries = [one for one in plan.methods if not block.only or one.name in block.only]
    found, remarks = contenders(loaded, entries, block.ratio)
    entrants = [_Entrant(one, single, batch) for one in found]
    smaller = prompt(loaded, resized(block.shown, block.ratio), plan.text_tokens)
    if smaller["input_ids"].shape[1] < single["input_ids"].shape[1]:
        control = replace(found[0], name=RESIZE)
        entrants.insert(2, _Entrant(control, smaller, repeated(smaller, block.batch)))
    else:
        remarks.append("resize: the model has as many tokens for every picture")
    return entrants, remarks


@contextmanager
def _tried(contender: Contender, remarks: list[str]) -> Iterator[None]:
    """A method that fails is left out, and the others go on."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        reason = "out of memory" if out_of_memory(error) else lines[0][:160]
        remarks.append(f"{contender.name} ({contender.way}): {type(error).__name__}: {reason}")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _known(loaded: LoadedModel, entrant: _Entrant, before: dict[Contender, _Known]) -> _Known:
    """Operations of one prompt by plain loops, and memory of the batch as it will be timed."""
    model, family, contender = loaded.model, loaded.family, entrant.contender
    plain = replace(contender, way="plain")
    size = len(entrant.batch["input_ids"])
    with contender.session(loaded).installed() as session, torch.inference_mode():
        if plain in before:  # the same operations in another way
            record, counted = before[plain].record, before[plain].tflops
        else:
            with flop_counter() as counter:
                model(**entrant.single, use_cache=True, logits_to_keep=1)
            (record,) = session.take_records()
            vision = flops_of(counter, model, family.core)
            vision -= flops_of(counter, model, family.text_model)
            shape = decoder_shape(family.text_model.config, model.dtype.itemsize)
            processed = [record.text_tokens + visual for visual in record.processed]
            language = shape.prefill_tflops(processed) + tflops(record.method_macs)
            counted = size * (vision / 1e12 + language)
        with going(contender.way):
            model(**entrant.batch, use_cache=True, logits_to_keep=1)  # kernels are compiled
            with peak_memory(loaded.device) as peak:
                out = model(**entrant.batch, use_cache=True, logits_to_keep=1)
    cache = cache_in(out)
    held = sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values))
    stages = session.plan.method.stages(len(family.text_model.layers))
    one_shot = len(stages) == 1 and contender.name not in ("vanilla", "keep-all", RESIZE)
    notes = tuple(sorted(session.notes))
    return _Known(record, one_shot, counted, peak.mib, held / 2**20, notes)


def _rows(
    block: Block, known: dict[Contender, _Known], times: dict[Contender, list[Times]]
) -> Iterator[Row]:
    """The rows of contenders that were measured often enough beside vanilla."""
    vanilla = next((one for one in known if one.name == "vanilla"), None)
    if vanilla is None or len(times[vanilla]) < LEAST:
        return
    for one, facts in known.items():
        taken = times[one]
        if len(taken) < LEAST:
            continue
        spans = {
            span: Spread.of([1000 * getattr(passed, name) for passed in taken])
            for span, name in SPANS.items()
        }
        pairs = zip(times[vanilla], taken, strict=False)
        yield Row(
            model=block.model,
            shown=str(block.shown),
            batch=block.batch,
            method=one.name,
            kind=one.kind,
            way=one.way,
            ratio=block.ratio,
            tokens=facts.record.visual_tokens,
            kept=facts.record.kept,
            one_shot=facts.one_shot,
            **spans,
            speedup=Spread.of([base.prefill / passed.prefill for base, passed in pairs]),
            predicted=known[vanilla].tflops / facts.tflops,
            tflops=facts.tflops,
            peak_mib=facts.peak_mib,
            kv_mib=facts.kv_mib,
            repeats=len(taken),
            notes=facts.notes,
        )


SPANS = {
    "total": "total",
    "vision": "vision",
    "prefill": "prefill",
    "selection": "method",
    "decode": "decode",
}
"""Of a row, and what :class:`~unibench.profile.passes.Times` calls them."""
