"""The row of a cell: ``metrics.json``, a line of the tables, and the only place where its columns
are named.

Nothing at the top imports torch or scipy: a plan reads rows too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from types import NoneType
from typing import Any

from unibench.benchmark import VERSIONS
from unibench.controls.groups import RIGHT
from unibench.diagnostics import Diagnosis, mean_diagnosis
from unibench.errors import UsageError
from unibench.identity import (
    POSITIONS,
    TEXT_AFTER_VIDEO,
    Cell,
    candidate_of,
    condition_of,
    series_of,
    setting_of,
    source_of,
)
from unibench.inference.over_time import summary
from unibench.inference.record import Record
from unibench.inference.verdict import Metric, Sampling, Verdict
from unibench.store import DamagedError, read_samples, versions
from unibench.store.data import UnreadableError, parsed_json, read_bytes
from unibench.store.files import read_json
from unibench.store.lines import LARGEST
from unibench.videos import given

ALL = "all"  # the ability of a line that covers every sample
LONGEST = 10_000  # signs of a text
PARTS = 1000  # abilities or metrics
UNNAMED = "no ability"  # the line of samples that name no ability, beside others that do


class RowError(UsageError):
    """A stored row that is none."""


@dataclass(frozen=True)
class Score:
    """Mean score of the samples of one ability.

    Attributes:
        n: samples.
        score_100: mean, out of 100.
        ci_low, ci_high: its 95 % interval, a bootstrap over pictures, out of 100.
    """

    n: int
    score_100: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of vanilla's answers, of the samples that both answered.

    Attributes:
        harm_pct: per cent of vanilla's right answers that are wrong now.
        gain_pct: per cent of its wrong answers that are right now; None where there is none.
        new_tokens: tokens of an answer more than vanilla's, mean.
    """

    harm_pct: float | None
    gain_pct: float | None
    new_tokens: float


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a row is of.

    Attributes:
        model: name of its configuration.
        family: name of the model family.
        task: name of the task.
        pixels: name of the pixel preset.
        dtype, attn: precision and attention kernel.
        batch: prompts read together (the least of the runs), or ``"auto"``.
        max_new_tokens: configured length of an answer; None is the task's own.
        weights: digest of the checkpoint.
        method: name of the method.
        variant: the parameters that differ from the method's defaults, for example ``layer=3``.
        method_options: all parameters.
        ratio: share of visual tokens removed; None for a number of tokens.
        budget: as written, ``"0"`` for vanilla.
        budget_mode, budget_scope: what the budget means.
        positions: where the tokens that go on stand.
        text_after_video: where the text behind a video starts, see
            :class:`~unibench.config.RunConfig`.
        seed: of methods that draw.
    """

    model: str
    family: str
    task: str
    pixels: str
    dtype: str
    attn: str
    batch: int | str
    max_new_tokens: int | None
    weights: str
    method: str
    variant: str
    method_options: Mapping[str, Any]
    ratio: float | None
    budget: str
    budget_mode: str
    budget_scope: str
    positions: str = POSITIONS  # rows of before there was another do not say it
    text_after_video: str = TEXT_AFTER_VIDEO  # the same
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scored:
    """How well the cell answered.

    Attributes:
        metric: name of the score.
        n: samples.
        score: the task's or harness's own number.
        score_100: the same out of 100.
        ci_low, ci_high: 95 % interval of ``score_100``, a bootstrap over pictures; None where a
            harness's number is no mean over samples.
        vanilla_100: vanilla's ``score_100`` in the same setting.
        drop_pct: relative, ``100 (vanilla - score) / vanilla``; None where vanilla's is 0.
        retention_pct: ``100 - drop_pct``.
        abilities: scores by ability.
    """

    metric: str
    n: int
    score: float
    score_100: float
    ci_low: float | None
    ci_high: float | None
    vanilla_100: float | None
    drop_pct: float | None
    retention_pct: float | None
    abilities: Mapping[str, Score]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What answering took, counted; means over samples.

    Attributes:
        tokens_in: visual tokens of a prompt before pruning.
        text_tokens: other tokens of a prompt.
        kept_mean, kept_min, kept_max: visual tokens that entered the last decoder layer.
        equiv_tokens: visual tokens processed by a layer, mean over layers.
        tflops: teraflops of the prefill of the language model and of the selection.
        method_tflops: teraflops of the selection alone.
        tflops_ratio: ``tflops`` as a share of the unpruned prefill's.
        kv_mib: keys and values of the prompt, in MiB.
    """

    tokens_in: float
    text_tokens: float
    kept_mean: float
    kept_min: int
    kept_max: int
    equiv_tokens: float
    tflops: float
    method_tflops: float
    tflops_ratio: float | None
    kv_mib: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What answering took on the device; None with ``timing=false``.

    Attributes:
        total_s: seconds of all samples together, from pictures and text to the answer's text.
        vision_ms, prefill_ms, method_ms: medians, milliseconds, see
            :class:`~unibench.inference.record.Record`.
        decode_ms_per_token: milliseconds of a token after the first.
        peak_mib: most memory of the GPU, in MiB; None on a CPU.
    """

    total_s: float | None
    vision_ms: float | None
    prefill_ms: float | None
    method_ms: float | None
    decode_ms_per_token: float | None
    peak_mib: float | None


@dataclass(frozen=True, kw_only=True)
class Row(Measured, Counted, Scored, Named):
    """The row of a complete cell: the columns of ``metrics.json``.

    Attributes:
        tokens_per_layer: visual tokens that entered each decoder layer, means over samples.
        uncounted: operators of the selection whose teraflops are not counted.
        notes: remarks of the method and of the run.
        device: processors on which samples were answered.
        versions: releases of the packages that decide an answer, see
            :mod:`unibench.store.versions`; empty in rows of before.
        harness: who asked and scored; ``"none"`` is unibench itself.
        harness_version, harness_task, wrapper, convention: of the harness, see
            :mod:`unibench.benchmark`; None without one.
        metrics: every number of the harness, by name.
        prompts: hash of all prompts, where a harness built them.
        generation: settings of decoding, where a harness chose them.
        frames: of videos, what was asked for and what was read back: frames of a sample, visual
            tokens of a frame and shapes of the pixels, least and most; who read them, by release;
            tokens that enter the language model, of a layer on average, that leave it, and newlines
            apart, see :mod:`unibench.inference.over_time`. None for pictures.
        judge: who scored what rules cannot; None without a harness.
        judged: questions that the judge answered.
        data: what identifies the samples.
        code: version and commit of unibench.
        diagnosis: what the choices of tokens are like, means over samples.
        change: what became of vanilla's answers; None of vanilla itself, and in rows of before.
        lifted: where ``store rekey`` took the row from, and which samples it asked again; None for
            a row that was measured under its key.
        key: of the cell.
        folder: where the row was read or written.
        identity: all that the key hashes; it lies beside the row, in ``identity.json``.
    """

    tokens_per_layer: tuple[float, ...]
    uncounted: tuple[str, ...] = ()
    notes: tuple[str, ...]
    device: str
    versions: str = ""
    harness: str
    harness_version: str | None = None
    harness_task: str | None = None
    wrapper: str | None = None
    convention: Mapping[str, Any] | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    prompts: str | None = None
    generation: Mapping[str, Any] | None = None
    frames: Mapping[str, Any] | None = None
    judge: str | None
    judged: int | None = None
    data: str
    code: str
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    change: Change | None = None
    lifted: Mapping[str, Any] | None = None
    key: str
    folder: str
    identity: Mapping[str, Any] = field(repr=False)

    @cached_property
    def setting(self) -> str:
        """Rows that share it may be compared, see :func:`unibench.identity.setting_of`."""
        return setting_of(self.identity)

    @cached_property
    def series(self) -> str:
        """Rows that share it differ in their seed alone, see
        :func:`unibench.identity.series_of`.
        """
        return series_of(self.identity)

    @property
    def label(self) -> str:
        """Method and parameters, as tables name them."""
        return f"{self.method} {self.variant}".strip()

    @classmethod
    def from_json(cls, values: Any, identity: Mapping[str, Any], folder: str | None = None) -> Row:
        """The row of a parsed ``metrics.json``; one of schema 2, which lacks the columns that have
        a default here, is one too. Columns of a later schema are passed over.

        Args:
            values: what the file holds.
            identity: what ``identity.json`` beside it holds.
            folder: where they lie; None believes the row.

        Raises:
            RowError: a column is missing, or holds what it cannot.
        """
        if not isinstance(values, Mapping):
            raise RowError(f"a row wanted, not {str(values)[:60]!r}")
        known: dict[str, Any] = {"identity": identity}
        for column, (kinds, required) in _COLUMNS.items():
            if column not in values:
                if required:
                    raise RowError(f"the row lacks {column}")
                continue
            value = values[column]
            # of a file that others may have written
            if not isinstance(value, kinds):
                raise RowError(f"the row has {column}={str(value)[:60]!r}")
            known[column] = tuple(value) if isinstance(value, list) else value
            if not _is_bounded(known[column]):
                raise RowError(f"the row has {column}={str(value)[:60]!r}, more than any row has")
        try:
            # constructing them checks their columns
            known["abilities"] = {key: Score(**one) for key, one in known["abilities"].items()}
            known["metrics"] = {key: Metric(**one) for key, one in known.get("metrics", {}).items()}
            for part in (*known["abilities"].values(), *known["metrics"].values()):
                numbers = dict(vars(part))
                is_mean = numbers.pop("mean", False)  # of a harness's metric: no number
                if not all(type(n) in (int, float) and _is_bounded(n) for n in numbers.values()):
                    raise ValueError("a score is no number")
                if type(is_mean) is not bool:
                    raise ValueError("whether a metric is a mean is neither true nor false")
            if max(map(len, (known["abilities"], known["metrics"]))) > PARTS:
                raise ValueError(f"more than {PARTS} abilities or metrics")
            known["diagnosis"] = Diagnosis.from_json(known.get("diagnosis") or {})
            if known.get("change") is not None:
                known["change"] = _changed(known["change"])
            _check_identity(identity)
            # half of a surrogate pair, which cannot be printed, ends here
            "".join(value for value in known.values() if isinstance(value, str)).encode()
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise RowError(f"the row or the identity beside it is damaged: {error}") from None
        return cls(**known | ({} if folder is None else {"folder": folder}))

    def as_json(self) -> dict[str, Any]:
        """The columns of ``metrics.json``."""
        values = {column: getattr(self, column) for column in _COLUMNS}
        for column in ("abilities", "metrics"):
            values[column] = {key: vars(one) for key, one in values[column].items()}
        values["diagnosis"] = self.diagnosis.as_json()
        values["change"] = None if self.change is None else vars(self.change)
        return values

    def lines(self) -> Iterator[dict[str, Any]]:
        """The row as lines of a frame, columns :data:`LINE`: one for each metric over all samples,
        and one for each ability.
        """
        same = {column: getattr(self, column) for column in _SCALARS} | {
            "batch": str(self.batch),  # a number in some rows, "auto" in others
            "params": json.dumps(self.method_options, sort_keys=True),
            "frames": _asked_frames(self.frames),
            "source": source_of(self.identity),
            "setting": self.setting,
            "series": self.series,
            "condition": condition_of(self.identity),
            "candidate": candidate_of(self.identity),
            "low": None,
            "high": None,
        }
        main = {"main": True, "ability": ALL, "low": self.ci_low, "high": self.ci_high}
        yield same | main
        unknown = dict.fromkeys(("vanilla_100", "drop_pct", "retention_pct"))
        scores: dict[str, float | None]
        for name, metric in self.metrics.items():
            if name != self.metric:
                scores = {"score": metric.score, "score_100": metric.score_100}
                yield same | unknown | scores | {"metric": name, "main": False, "ability": ALL}
        several = len(self.abilities) > 1
        for name, part in self.abilities.items():
            if name == ALL and not several:
                continue  # the samples of the first line once more
            scores = {"n": part.n, "score": None, "score_100": part.score_100}
            interval = {"low": part.ci_low, "high": part.ci_high}
            named = {"main": True, "ability": UNNAMED if name == ALL else name}
            yield same | unknown | scores | interval | named


def _asked_frames(sampling: Mapping[str, Any] | None) -> str:
    """How many frames of a video were asked for; empty of pictures.

    >>> _asked_frames({"frames": 8}), _asked_frames({"fps": 2.0}), _asked_frames({"shown": "own"})
    ('8', '2 fps', 'all')
    """
    if sampling is None:
        return ""
    if (fps := sampling.get("fps")) is not None:
        return f"{fps:g} fps"
    return str(sampling.get("frames") or "all")


def read_row(folder: Path) -> Row:
    """The row in a cell's folder.

    Raises:
        RowError: there is none, or it or the identity beside it is damaged.
    """
    return Row.from_json(
        _stored(folder / "metrics.json"), _stored(folder / "identity.json"), str(folder)
    )


def _stored(file: Path) -> Any:
    """What a JSON file of a cell holds.

    Raises:
        RowError: why nothing can be had of it.
    """
    try:
        return parsed_json(read_bytes(file))
    except (FileNotFoundError, NotADirectoryError):
        raise RowError(f"{file.name} is missing") from None
    except UnreadableError as error:
        raise RowError(str(error)) from None
    except ValueError:
        raise RowError(f"{file.name} is damaged: it is no JSON") from None


def stored_row(cell: Cell) -> Row | None:
    """The row of a cell that is finished here or in the shared store; None also if it is damaged,
    and so has to be made again from the cell's samples.
    """
    for folder in (cell.folder, cell.shared_folder):
        if folder is None:
            continue
        with suppress(RowError):
            return Row.from_json(read_json(folder / "metrics.json"), cell.identity, str(folder))
    return None


def row_of(
    cell: Cell,
    records: Sequence[Record],
    environments: Sequence[Mapping[str, Any]],
    vanilla: Row | None,
    metric: str,
    verdict: Verdict | None = None,
) -> Row:
    """The row of a complete cell. Nothing is written.

    Args:
        cell: which one.
        records: all of its samples, scored.
        environments: of its runs.
        vanilla: row of the unpruned cell, None for that cell itself.
        metric: name of the score.
        verdict: of the harness that asked.
    """
    # made again from the samples each time: audit compares it with the stored row
    sampled = of_samples(records, environments, metric, verdict, timed=cell.config.timing)
    score, score_100 = sampled["score"], sampled["score_100"]
    reference = score if vanilla is None else vanilla.score
    return Row(
        **_named(cell, environments),
        **{**sampled, "notes": (*sampled["notes"], *_unkept(cell, verdict))},
        vanilla_100=score_100 if vanilla is None else vanilla.score_100,
        # a drop from nothing is no number
        drop_pct=100 * (reference - score) / reference if reference else None,
        retention_pct=100 * score / reference if reference else None,
        change=None if vanilla is None else change_of(records, Path(vanilla.folder)),
        **_harness(cell, verdict, records),
        # of the last run, which made the row
        code=str(environments[-1]["code"]),
        key=cell.key,
        folder=str(cell.folder),
        identity=cell.identity,
    )


def of_samples(
    records: Sequence[Record],
    environments: Sequence[Mapping[str, Any]],
    metric: str,
    verdict: Verdict | None,
    *,
    timed: bool,
) -> dict[str, Any]:
    """The columns of a row that follow from its samples alone, so that they can be checked."""
    score, score_100, interval = _score(records, metric, verdict)
    return {
        "metric": metric,
        "n": len(records),
        "score": score,
        "score_100": score_100,
        "ci_low": None if interval is None else interval.ci_low,
        "ci_high": None if interval is None else interval.ci_high,
        "abilities": _by_ability(records),
        **_costs(records),
        **_times(records if timed else ()),
        "peak_mib": max(
            (run["peak_mib"] for run in environments if run.get("peak_mib")), default=None
        ),
        "tokens_per_layer": _per_layer(records),
        "diagnosis": mean_diagnosis(record.diagnosis for record in records),
        "uncounted": tuple(sorted({name for record in records for name in record.uncounted})),
        "notes": (
            *sorted({note for record in records for note in record.notes}),
            *_out_of_memory(environments),
            *_left_out(environments),
        ),
        "device": " + ".join(dict.fromkeys(str(run["device"]) for run in environments)),
        "versions": versions.said(environments),
    }


def columns(*names: str) -> tuple[str, ...]:
    """Names of columns of a frame, for a reader that shows some of them.

    Raises:
        KeyError: a frame has no such column.
    """
    for name in names:
        if name not in LINE:
            raise KeyError(f"{name} is no column of a frame")
    return names


def _named(cell: Cell, environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of :class:`Named`."""
    config, pruned = cell.config, cell.method != "vanilla"
    options = cell.identity["method"]
    return {
        "model": config.model.name,
        "family": config.model.family,
        "task": config.task.name,
        "pixels": config.pixels,
        "dtype": config.model.dtype,
        "attn": config.model.attn,
        "batch": min(run.get("batch", config.batch_size) for run in environments),
        "max_new_tokens": config.generation.max_new_tokens,
        "weights": cell.identity["model"]["weights"],
        "method": cell.method,
        "variant": cell.variant,
        "method_options": {key: value for key, value in options.items() if key != "name"},
        "ratio": cell.budget.ratio if pruned else 0.0,
        "budget": cell.budget.label if pruned else "0",
        "budget_mode": config.budget.mode,
        "budget_scope": config.budget.scope,
        "positions": config.positions,
        "text_after_video": config.text_after_video,
        "seed": config.seed,
    }


def _score(
    records: Sequence[Record], metric: str, verdict: Verdict | None
) -> tuple[float, float, Score | None]:
    """The score, the same out of 100, and where it is a mean over samples its interval."""
    if verdict is None:
        # samples of an embedded task are scored from 0 to 1
        return _score_of(records), 100 * _score_of(records), _mean(records)
    number = verdict.metrics[metric]
    return number.score, number.score_100, _mean(records) if number.mean else None


def _mean(records: Sequence[Record]) -> Score:
    """Mean score of scored records, with its interval."""
    from unibench.stats import mean_interval  # numpy, which a plan need not wait for

    interval = mean_interval(
        [float(record.score or 0.0) for record in records], [record.group for record in records]
    )
    score_100 = 100 * _score_of(records)
    return Score(len(records), score_100, 100 * interval.low, 100 * interval.high)


def _score_of(records: Sequence[Record]) -> float:
    return fmean(float(record.score or 0.0) for record in records)


def _by_ability(records: Sequence[Record]) -> dict[str, Score]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.score is not None:
            groups.setdefault(record.ability, []).append(record)
    return {ability: _mean(group) for ability, group in groups.items()}


def _costs(records: Sequence[Record]) -> dict[str, Any]:
    """The columns of :class:`Counted`."""
    kept = [record.kept for record in records]
    full = fmean(record.tflops_full for record in records)
    # the ratio of means, not the mean of ratios: large pictures weigh as much as they cost
    tflops = fmean(record.tflops for record in records)
    return {
        "tokens_in": fmean(record.visual_tokens for record in records),
        "text_tokens": fmean(record.text_tokens for record in records),
        "kept_mean": fmean(kept),
        "kept_min": min(kept),
        "kept_max": max(kept),
        "equiv_tokens": fmean(fmean(record.processed) for record in records),
        "tflops": tflops,
        "method_tflops": fmean(record.method_tflops for record in records),
        "tflops_ratio": tflops / full if full else None,
        "kv_mib": fmean(record.kv_mib for record in records),
    }


def _times(records: Sequence[Record]) -> dict[str, Any]:
    """The columns of :class:`Measured` that clocks give, None for records without times."""
    timed = [record for record in records if record.total_ms is not None]
    if not timed:
        return dict.fromkeys(
            ("total_s", "vision_ms", "prefill_ms", "method_ms", "decode_ms_per_token")
        )
    decoded = [record for record in timed if record.new_tokens > 1]
    steps = sum(record.new_tokens - 1 for record in decoded)
    return {
        "total_s": sum(record.total_ms or 0.0 for record in timed) / 1000,
        "vision_ms": median(record.vision_ms or 0.0 for record in timed),
        "prefill_ms": median(record.prefill_ms or 0.0 for record in timed),
        "method_ms": median(record.method_ms or 0.0 for record in timed),
        "decode_ms_per_token": (
            # answers of one token have no step after the prefill
            sum(record.decode_ms or 0.0 for record in decoded) / steps if steps else None
        ),
    }


def _per_layer(records: Sequence[Record]) -> tuple[float, ...]:
    # strict: all samples went through the same layers
    layers = zip(*(record.processed for record in records), strict=True)
    return tuple(round(fmean(layer), 3) for layer in layers)


def _unkept(cell: Cell, verdict: Verdict | None) -> tuple[str, ...]:
    """What of the harness's or a paper's way to ask is not kept, and what it could not score."""
    note = None if cell.benchmark is None else cell.benchmark.convention.note
    remarks = () if verdict is None else verdict.remarks
    return remarks if note is None else (note, *remarks)


def _frames(
    cell: Cell, sampling: Sampling | None, records: Sequence[Record]
) -> dict[str, Any] | None:
    """What was asked for and what was read of videos. A grid of the layout is a frame, or the two
    that a Qwen reads together.
    """
    if cell.config.task.modality != "video":
        return None
    # a clip of an embedded task is shown whole, or evenly spaced frames of it
    asked = vars(sampling) if sampling is not None else {"shown": "own", **given(cell.config)}
    shapes = sorted({tuple(shape) for record in records for shape in record.pixel_shapes})
    read = [len(numbers) for record in records for numbers in record.frames]
    items = [item for record in records for item in record.layout if item[1]]
    sizes = [length / sum(part[0] for part in parts) for length, parts in items]
    return {
        **asked,
        "read": [min(read), max(read)] if read else None,
        "tokens_a_grid": [min(sizes), max(sizes)] if sizes else None,
        "pixel_shapes": [list(shapes[0]), list(shapes[-1])] if shapes else None,
        "readers": dict(cell.identity.get("video", {}).get("readers", {})),
        **summary(records),
    }


def change_of(records: Sequence[Record], vanilla: Path) -> Change | None:
    """What became of the answers in vanilla's folder; None where its samples are gone.

    Args:
        records: of the pruned cell, scored.
        vanilla: folder of the unpruned one.
    """
    try:
        before = read_samples(vanilla)[0]
    except DamagedError:  # `store verify` names it; this row is of other samples
        return None
    return change_from(before, records)


def change_from(
    before: Mapping[str, Mapping[str, Any]], records: Sequence[Record]
) -> Change | None:
    """What became of the unpruned model's answers; None where no sample has a score in both.

    Args:
        before: samples of vanilla by id, as they are stored.
        records: of the pruned cell, scored.
    """
    pairs = [
        (before[record.id], record)
        for record in records
        if record.id in before and record.score is not None
    ]
    pairs = [(full, record) for full, record in pairs if full["score"] is not None]
    if not pairs:
        return None
    right = [float(one.score or 0) for full, one in pairs if full["score"] >= RIGHT]
    wrong = [float(one.score or 0) for full, one in pairs if full["score"] < RIGHT]
    return Change(
        harm_pct=100 * fmean(score < RIGHT for score in right) if right else None,
        gain_pct=100 * fmean(score >= RIGHT for score in wrong) if wrong else None,
        new_tokens=fmean(record.new_tokens - full["new_tokens"] for full, record in pairs),
    )


def _changed(values: Mapping[str, Any]) -> Change:
    """The change of parsed JSON.

    Raises:
        TypeError, ValueError: it is none.
    """
    change = Change(**values)
    if not all(value is None or type(value) in (int, float) for value in vars(change).values()):
        raise ValueError("a change is no number")
    return change


def _harness(cell: Cell, verdict: Verdict | None, records: Sequence[Record]) -> dict[str, Any]:
    """Who asked and scored."""
    frames = _frames(cell, None if verdict is None else verdict.sampling, records)
    if verdict is None:
        own = {"judge": None, "data": cell.identity["data"], "frames": frames}
        return {"harness": "none", **own}
    asked = cell.identity["harness"]
    return {
        "harness": asked["name"],
        "harness_version": VERSIONS[asked["name"]],
        "harness_task": asked["task"],
        "wrapper": asked["wrapper"],
        "convention": asked["convention"],
        "metrics": verdict.metrics,
        "prompts": verdict.prompts,
        "generation": verdict.generation,
        "frames": frames,
        "judge": verdict.judge,
        "judged": verdict.judged,
        "data": verdict.data,
    }


def _out_of_memory(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """A remark where a batch did not fit: times of such rows are those of two batch sizes."""
    halved = {
        (run["out_of_memory_at"], run["batch"]) for run in environments if "out_of_memory_at" in run
    }
    return [
        f"out of memory at batch {asked}: went on with {taken}" for asked, taken in sorted(halved)
    ]


def _left_out(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """A remark where questions of one's own were not asked."""
    count = max((run["left_out"] for run in environments if "left_out" in run), default=0)
    plural = "" if count == 1 else "s"
    said = f"{count} question{plural} left out, whose pictures are missing or broken"
    return [said] if count else []


def _is_bounded(value: Any) -> bool:
    """Whether tables can bear a value: a number that fits a column, a text that fits a line."""
    if isinstance(value, (int, float)):
        return not abs(value) > LARGEST  # of a number that is none neither is true
    if isinstance(value, str):
        return len(value) <= LONGEST
    if isinstance(value, tuple):
        plain = (int, float, str, NoneType)
        return all(isinstance(one, plain) and _is_bounded(one) for one in value)
    if isinstance(value, Mapping):
        return all(len(name) <= LONGEST for name in value)
    return True


def _check_identity(identity: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError where an entry is missing that readers look up."""
    for key in ("model", "task", "method"):
        str(identity[key]["name"]).encode()
    for key in ("budget", "seed", "data", "harness", "pixels"):
        identity[key]
    source_of(identity)


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, NoneType),
    "int": (int,),
    "int | None": (int, NoneType),
    "int | str": (int, str),
    "float": (int, float),  # JSON has 1 for 1.0
    "float | None": (int, float, NoneType),
    "tuple[float, ...]": (list, tuple),
    "tuple[str, ...]": (list, tuple),
}
_FIELDS = [entry for entry in fields(Row) if entry.name != "identity"]
_COLUMNS: dict[str, tuple[tuple[type, ...], bool]] = {
    entry.name: (
        _KINDS.get(str(entry.type), (Mapping, NoneType)),
        # a column without a default was there in every schema
        entry.default is entry.default_factory is MISSING,
    )
    for entry in _FIELDS
}  # what each column may hold, and whether a row must have it
_SCALARS = tuple(
    entry.name
    for entry in _FIELDS
    if entry.type in _KINDS and "tuple" not in str(entry.type) and entry.name[:3] != "ci_"
)
MEASURED = tuple(entry.name for entry in fields(Measured))
HASHES = ("setting", "series", "condition", "candidate", "source")
LINE = (*_SCALARS, *HASHES, "params", "frames", "main", "ability", "low", "high")
"""Columns of a frame: those of a row that hold one value; hashes of its identity, of which
``source`` is the digest of the method's code; the parameters as JSON; how many frames of a video
were asked for; and of each line whether its metric is the row's own, the ability that it covers
(``all`` is every sample) and the 95 % interval of ``score_100``."""
NUMBERS = (
    *(entry.name for entry in _FIELDS if entry.name in _SCALARS and "float" in str(entry.type)),
    *("low", "high"),
)
