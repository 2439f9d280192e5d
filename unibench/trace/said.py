"""What was found, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unibench.config import RunConfig
from unibench.identity import Cell
from unibench.inference.record import Record
from unibench.inference.row import Row
from unibench.pruning import Method
from unibench.store.lines import DIGESTS, hashed_alike
from unibench.trace.finding import Finding
from unibench.trace.live import Watched


def of_files(row: Row, records: Sequence[Record], cell: Cell | None) -> Iterator[Finding]:
    """What a cell's files say.

    Args:
        row: of the cell.
        records: all of its samples.
        cell: what its configuration is today; None where that cannot be told.
    """
    yield _removed(row, records)
    if cell is not None:
        yield _budget(records, cell)
    else:
        yield Finding("budget", "note", f"{row.budget}, {row.budget_mode}, per {row.budget_scope}")
    yield _notes(row)
    yield _harness(row, records)
    if cell is not None and cell.key != Path(row.folder).name:
        yield Finding("code", "note", f"the present code gives this cell another key, {cell.key}")


def _removed(row: Row, records: Sequence[Record]) -> Finding:
    """Whether fewer visual tokens leave the decoder than enter it."""
    whole = [
        record for record in records if record.visual_tokens and record.kept == record.visual_tokens
    ]
    shown = sum(record.visual_tokens > 0 for record in records)
    said = (
        f"{row.tokens_in:.1f} visual tokens a prompt, {row.kept_mean:.1f} in the last layer"
        f" ({row.kept_min} to {row.kept_max}), {row.equiv_tokens:.1f} a layer on average"
    )
    if row.method == "vanilla":
        return Finding("pruned", "ok" if len(whole) == shown else "wrong", f"{said}: unpruned")
    if whole:
        kept = f"; {len(whole)} of {shown} prompts kept every token"
        return Finding("pruned", "wrong" if len(whole) == shown else "note", said + kept)
    return Finding("pruned", "ok", said)


def _budget(records: Sequence[Record], cell: Cell) -> Finding:
    """Whether the number kept is that of the budget, sample by sample."""
    rule = cell.config.budget
    if cell.method == "vanilla":
        return Finding("budget", "ok", "everything")
    if rule.mode != "at_stage" or rule.scope != "sequence":
        return Finding("budget", "note", f"{cell.budget.label} {rule.mode}, one per {rule.scope}")
    met = sum(record.kept == cell.budget.keep(record.visual_tokens) for record in records)
    said = f"{cell.budget.label}, rounded {cell.budget.rounding}: {met} of {len(records)} met it"
    return Finding("budget", "ok" if met == len(records) else "note", said)


def _notes(row: Row) -> Finding:
    return Finding("remarks", "note", "; ".join(row.notes) or "none")


def _harness(row: Row, records: Sequence[Record]) -> Finding:
    """Whether an answer can have come from a harness's own cache.

    A record is made while the model reads the prompt: an answer that no prefill belongs to has
    none, and one out of a cache would lack its tokens in each layer.
    """
    read = sum(bool(record.processed) for record in records)
    if row.harness == "none":
        return Finding("cache", "ok", f"no harness; {read} of {len(records)} prompts were read")
    said = (
        f"{row.harness} runs without its answer cache; {read} of {len(records)} answers have a"
        " prefill of their own"
    )
    return Finding("cache", "ok" if read == len(records) == row.n else "wrong", said)


def of_model(
    seen: Watched, cell: Cell, method: Method, stored: Mapping[str, Record]
) -> Iterator[Finding]:
    """What a prompt of the cell does in the model.

    Args:
        seen: what was watched.
        cell: what was asked.
        method: of the cell.
        stored: records of the cell by name; the prompt need not be among them.
    """
    before = stored.get(seen.record.id)
    if before is not None:
        yield _same(seen.record, before)
    yield _layers(seen, cell)
    yield _positions(seen, cell.config)
    yield _kernel(seen, cell.config)
    yield _caches(seen, method)
    yield _decoding(seen, method)


def _same(now: Record, before: Record) -> Finding:
    """Whether the prompt and its answer are those that are stored."""
    digests = [
        name
        for name in DIGESTS
        if getattr(before, name) and hashed_alike(getattr(before, name), getattr(now, name))
    ]
    other = [
        name
        for name in (*digests, "last", "answer")
        if getattr(before, name) and getattr(now, name) != getattr(before, name)
    ]
    if other:
        return Finding("asked again", "wrong", f"{now.id}: another {', '.join(other)} than stored")
    return Finding("asked again", "ok", f"{now.id}: prompt, kept tokens and answer as stored")


def _layers(seen: Watched, cell: Cell) -> Finding:
    """Whether the layers were handed what the record says."""
    runs: list[tuple[int, int]] = []  # first layer and visual tokens of each run of layers
    for layer, count in enumerate(seen.visual):
        if not runs or runs[-1][1] != count:
            runs.append((layer, count))
    said = ", ".join(f"{count} from layer {layer}" for layer, count in runs)
    whole = f"of {seen.record.visual_tokens} visual tokens: {said}"
    if seen.visual != list(seen.record.processed):
        return Finding("layers", "wrong", f"{whole}; the record says {seen.record.processed}")
    pruned = seen.visual[-1] < seen.record.visual_tokens
    fine = pruned or cell.method == "vanilla" or not seen.record.visual_tokens
    return Finding("layers", "ok" if fine else "wrong", whole)


def _positions(seen: Watched, config: RunConfig) -> Finding:
    """Where kept and generated tokens stand, against what the cell asks for."""
    kept = {name for name in seen.places.values() if name != "whole"}
    after = {name for name in seen.steps.values() if name != "whole"}
    if not kept:
        return Finding("positions", "ok", "no layer was handed a shorter prompt")
    said = f"kept tokens {_listed(kept)}, generated ones {_listed(after) or 'none'}"
    prompt, _, answer = config.positions.partition("_then_")
    wanted = {"centre": {"moved", "original"}}.get(prompt, {prompt})
    wanted_after = {"centre": {"original"}}.get(prompt, {answer or prompt})
    fine = kept <= wanted and after <= wanted_after
    return Finding("positions", "ok" if fine else "wrong", f"{said}; asked {config.positions}")


def _kernel(seen: Watched, config: RunConfig) -> Finding:
    ran = sorted({name for forward in seen.forwards for name in forward.kernels})
    fine = all(config.model.attn.split("_")[0] in name for name in ran)
    said = f"{', '.join(ran) or 'none seen'}; asked {config.model.attn}"
    return Finding("attention", "ok" if fine and ran else "wrong", said)


def _caches(seen: Watched, method: Method) -> Finding:
    """Whether each layer's cache holds what entered it, and no more."""
    held = seen.prefill.cache
    if not held:
        return Finding("cache length", "note", "the model was called without a cache")
    entered = seen.prefill.entered
    # layers that share keys or carry a state have no cache of their own
    wrong = [layer for layer, count in enumerate(held) if count and count > entered[layer]]
    shorter = [layer for layer, count in enumerate(held) if count and count < entered[layer]]
    said = f"after the prompt {_spread(held)} tokens a layer, of a prompt of {seen.length}"
    if wrong:
        return Finding("cache length", "wrong", f"{said}; layer {wrong[0]} holds more than it read")
    if shorter and not method.evicts:
        return Finding("cache length", "note", f"{said}; a window lets the oldest go")
    return Finding("cache length", "ok", said)


def _decoding(seen: Watched, method: Method) -> Finding:
    """What the decoder could read at its last step."""
    if len(seen.forwards) < 2:
        return Finding("decoding", "note", "the answer has one token, which no step follows")
    steps, last = len(seen.forwards) - 1, seen.forwards[-1].keys
    said = f"at step {steps} the kernel was given {_spread(list(last.values()))} keys a layer"
    held = seen.prefill.cache
    if not held:
        return Finding("decoding", "note", said)
    wrong = [layer for layer, keys in last.items() if held[layer] and keys > held[layer] + steps]
    if wrong:
        return Finding("decoding", "wrong", f"{said}: layer {wrong[0]} more than it holds")
    reread = " (masked further: this method rereads)" if method.rereads(len(held)) else ""
    return Finding("decoding", "ok", said + reread)


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))


def _spread(counts: Sequence[int]) -> str:
    """The least and the greatest of some counts.

    >>> _spread([3, 5, 4]), _spread([4, 4])
    ('3 to 5', '4')
    """
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
