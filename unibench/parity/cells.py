"""A run of somebody else's as a cell of the store, beside the cell of ours that it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unibench import __version__, hub
from unibench.asked import Scorer, scorer_of
from unibench.config import ModelConfig, model_path
from unibench.cost.flops import DecoderShape, decoder_shape
from unibench.errors import UsageError, shown, unknown
from unibench.identity import Cell, key_of, vanilla_of
from unibench.inference.record import Record, stored
from unibench.inference.row import Row, read_row, row_of
from unibench.inference.verdict import Metric, Verdict
from unibench.parity.foreign import Foreign, Line
from unibench.pruning.record import packed
from unibench.store import CellFolder, read_samples
from unibench.store.cards import cell_in
from unibench.store.files import read_json

log = logging.getLogger(__name__)
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ImportedCell(Cell):
    """A cell that no code of unibench answered."""

    @property
    def variant(self) -> str:  # type: ignore[override]
        """How its method is told from unibench's own."""
        return f"imported={self.config.method['imported']}"


def imported(foreign: Foreign, reference: Path) -> Row:
    """Write a run into the store of the cell that it belongs to, and make its row.

    Model, task, samples and budget are those of the cell; only what the code did is the run's.

    Args:
        foreign: the run.
        reference: folder of a finished cell of ours.

    Raises:
        UsageError: the run has samples that the cell has not, or lacks some; or what a row needs
            is not known.
    """
    row, ours = read_row(reference), _records(reference)
    cell = _beside(cell_in(reference), row, reference, foreign)
    _check(foreign, ours, reference)
    records = _scored(_made(foreign, ours, cell), foreign, row, reference)
    vanilla = _vanilla(cell, row, reference)
    verdict = _verdict(row, reference, records)
    folder = CellFolder(cell)
    found = folder.row()
    if found is not None:
        return read_row(folder.path)
    environment = {
        "device": f"imported from {foreign.file.name}",
        "code": __version__,
        "imported": foreign.digest,
    }
    with folder.appending(environment):
        for record in records.values():
            folder.append(record.as_json())
    folder.merge()
    merged = stored(folder.path, folder.samples().values())
    made = row_of(cell, merged, folder.environments(), vanilla, row.metric, verdict)
    folder.finish(made.as_json())
    return made


def _records(folder: Path) -> dict[str, Record]:
    records = stored(folder, read_samples(folder)[0].values())
    return {record.id: record for record in records}


def _beside(cell: Cell, row: Row, reference: Path, foreign: Foreign) -> ImportedCell:
    """The cell of the run: that of ours under another method."""
    if row.method == "vanilla":
        raise UsageError(f"{reference} is unpruned; import a run beside the cell of its method")
    method = {"name": row.method, "imported": foreign.digest}
    place = reference.absolute()  # <store>/<model>/<task>/<method>/<key>
    if place.parts[-4:-2] != (row.model, row.task):
        raise UsageError(
            f"{reference} lies in no store, where the run would be written beside it: its path does"
            f" not end in {row.model}/{row.task}/<method>/<key>"
        )
    store = place.parents[3]
    # the stored identity, so that the run shares the setting of the cell whatever the code is now
    identity = dict(row.identity)
    identity |= {"method": method, "code": {**identity["code"], "method": foreign.digest}}
    config = replace(cell.config, method=method, out=str(store), shards=1, timing=False)
    return ImportedCell(config, cell.benchmark, cell.budget, identity, key_of(identity))


def _check(foreign: Foreign, ours: Mapping[str, Record], reference: Path) -> None:
    """Refuse a run of other samples, or of other prompts.

    Raises:
        UsageError: what does not fit.
    """
    for name, line in foreign.lines.items():
        if name not in ours:
            raise unknown(f"sample of {reference}", shown(name), list(ours)[:1000])
        if line.visual_tokens != ours[name].visual_tokens:
            raise UsageError(
                f"sample {shown(name)} has {line.visual_tokens} visual tokens in {foreign.file} and"
                f" {ours[name].visual_tokens} here: the picture was resized or tiled otherwise, so"
                " that kept tokens cannot be compared"
            )
    missing = [name for name in ours if name not in foreign.lines]
    if missing:
        raise UsageError(
            f"{foreign.file} lacks {len(missing)} of the {len(ours)} samples of {reference}, for"
            f" example {shown(missing[0])}; task.limit= makes a cell of ours of fewer samples"
        )


def _made(foreign: Foreign, ours: Mapping[str, Record], cell: Cell) -> dict[str, Record]:
    """The records of the run, without scores."""
    found, shape = {}, None
    for name, before in ours.items():
        line = foreign.lines[name]
        depth = len(before.processed)
        if line.layer >= depth:
            raise UsageError(
                f"sample {shown(name)}: layer={line.layer}, but the model has {depth} layers"
            )
        processed = (line.visual_tokens,) * line.layer + (len(line.kept),) * (depth - line.layer)
        if processed != before.processed and shape is None:
            shape = _shape(cell.config.model)
        found[name] = _record(before, line, processed, shape, foreign)
    return found


def _record(
    before: Record,
    line: Line,
    processed: tuple[int, ...],
    shape: DecoderShape | None,
    foreign: Foreign,
) -> Record:
    mask = torch.zeros(line.visual_tokens, dtype=torch.bool)
    mask[list(line.kept)] = True
    tokens = [before.text_tokens + count for count in processed]
    same = processed == before.processed
    if shape is None or same:  # the decoder reads as much as in our own cell
        tflops, kv_mib = before.tflops - before.method_tflops, before.kv_mib
    else:
        tflops, kv_mib = shape.prefill_tflops(tokens), shape.cache_mib(tokens)
    made = replace(
        before,
        answer=line.answer,
        score=line.score,
        kept=len(line.kept),
        processed=processed,
        last=packed(mask),
        new_tokens=0 if line.new_tokens is None else line.new_tokens,
        tflops=tflops,
        method_tflops=0.0,
        uncounted=(),
        kv_mib=kv_mib,
        notes=(f"imported from {foreign.file.name}: neither times nor the selection's operations",),
        run=0,
    )
    return made.untimed()


def _shape(model: ModelConfig) -> DecoderShape:
    """Sizes of the decoder, from the configuration of the checkpoint alone.

    Raises:
        UsageError: it is not on this disk.
    """
    from transformers import AutoConfig

    path = model_path(model.path)
    file = hub.config_file(model) if path is None else path / "config.json"
    if file is None or not file.is_file():
        raise UsageError(
            "the run keeps another number of tokens than the cell, and the operations of"
            f" {model.name} cannot be counted without its config.json on this disk: python -m"
            f" unibench prefetch model={model.name}"
        )
    config = AutoConfig.from_pretrained(file.parent).get_text_config()
    return decoder_shape(config, BYTES[model.dtype])


def _scored(
    records: Mapping[str, Record], foreign: Foreign, row: Row, reference: Path
) -> dict[str, Record]:
    """The records with scores: of embedded tasks from the answers, of a harness's from the file.

    Raises:
        UsageError: nobody here can score an answer, and the file does not.
    """
    if row.harness == "none":
        known: dict[str, Scorer] = {}
        scorer = scorer_of(reference, len(records), known)
        # a score in the file is not taken on trust where it can be computed
        return {
            name: replace(record, score=float(scorer[name](record.answer)))
            for name, record in records.items()
        }
    without = [name for name, record in records.items() if record.score is None]
    if without:
        raise UsageError(
            f"{foreign.file}: sample {shown(without[0])} has no score, and the answers of"
            f' {row.task} are scored by {row.harness} alone; add "score" to each line'
        )
    return dict(records)


def _vanilla(cell: Cell, row: Row, reference: Path) -> Row:
    """The unpruned row that the drop is measured against."""
    folder = vanilla_of(replace(cell, config=cell_in(reference).config)).folder
    for place in (folder, *_siblings(reference)):
        try:
            found = read_row(place)
        except UsageError:
            continue
        if found.method == "vanilla" and found.setting == row.setting:
            return found
    raise UsageError(
        f"the unpruned cell of {reference} is not in its store; the drop of the run is measured"
        " against it"
    )


def _siblings(reference: Path) -> Sequence[Path]:
    """Folders of the unpruned cells of the same model and task."""
    return sorted((reference.absolute().parents[1] / "vanilla").glob("*/"))


def _verdict(row: Row, reference: Path, records: Mapping[str, Record]) -> Verdict | None:
    """The harness's verdict with the mean of the run's scores in the place of its own number.

    Raises:
        UsageError: the number is no mean of the samples' scores.
    """
    if row.harness == "none":
        return None
    verdict = Verdict.from_json(read_json(reference / "harness.json"))
    metric = verdict.metrics[row.metric]
    if not metric.mean or not metric.score_100:
        raise UsageError(
            f"{row.metric} of {row.task} is no mean over samples, so that {row.harness} alone can"
            " score a run"
        )
    mean = sum(float(record.score or 0.0) for record in records.values()) / len(records)
    made = Metric(mean * 100 * metric.score / metric.score_100, 100 * mean, mean=True)
    scores = {name: float(record.score or 0.0) for name, record in records.items()}
    more: dict[str, Any] = {"metrics": {row.metric: made}, "scores": scores, "raw": {}}
    return replace(verdict, **more, judge="imported", judged=0)
