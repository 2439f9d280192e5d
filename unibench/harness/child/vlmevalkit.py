"""VLMEvalKit: its data sets, prompts and scoring around our pruned model.

Imported by the child alone: it takes 15 s, and changes TLS, logging and gradients of the process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from unibench.benchmark import LENGTHS, VERSIONS, Benchmark
from unibench.config import RunConfig
from unibench.errors import UsageError
from unibench.harness.child.adapter import Run, Scored
from unibench.harness.child.importing import settings_kept
from unibench.harness.child.inference import CellInference
from unibench.harness.child.missing import check_table, fetching
from unibench.harness.child.results import flat
from unibench.harness.child.workdir import USER, variables
from unibench.harness.job import plain
from unibench.identity import Cell
from unibench.inference.ask import Question
from unibench.models import LoadedModel

with settings_kept():
    from vlmeval.dataset import DATASET_CLASSES, build_dataset
    from vlmeval.inference import infer_data_job
    from vlmeval.vlm.base import BaseModel

    from unibench.harness.child.vlmevalkit_models import Asking, Plain, asking, native

MODEL = "unibench"


class VLMEvalKit:
    """See :class:`unibench.harness.child.adapter.Adapter`."""

    def ready(self, cell: Cell, benchmark: Benchmark) -> None:
        name = benchmark.card.name
        _class_of(name)
        if cell.config.task.data is None and not (_root() / f"{name}.tsv").exists():
            with fetching(cell.config.task.name, benchmark):
                self.prefetch(name)

    def run(self, run: Run) -> Scored:
        config, name = run.cell.config, run.benchmark.card.name
        with _data(run) as digest:
            dataset: Any = build_dataset(name)
            if run.data is not None:
                check_table(dataset.data, name)
            if config.task.limit is not None:
                # before it is asked, so that evaluate() scores the same rows
                dataset.data = dataset.data.iloc[: config.task.limit]
            run.inference.begin(len(dataset.data))
            inner = _asked(run)
            model = Recording(inner, dataset, run.inference)
            infer_data_job(model, work_dir=str(run.folders.work), model_name=MODEL, dataset=dataset)
            result = dataset.evaluate(
                str(run.folders.work / f"{MODEL}_{name}.tsv"), **_judging(run.benchmark, run.judge)
            )
        if result is None:
            raise UsageError(f"{name}: VLMEvalKit gave no score; run.log says why")
        settings = _decoding(run, inner)
        return Scored(plain(flat(result)), _samples(run.folders.work), digest, plain(settings))

    def native(self, config: RunConfig) -> tuple[Any, LoadedModel]:
        return native(config)

    def prefetch(self, name: str) -> str:
        with variables({"LMUData": str(_root())}):
            if build_dataset(name) is None:
                raise UsageError(f"VLMEvalKit {VERSIONS['vlmevalkit']} does not know {name}")
        return str(_root() / f"{name}.tsv")


class Recording(BaseModel):  # type: ignore[misc]
    """The model that VLMEvalKit sees: notes which row a prompt is built for, and asks through the
    store.
    """

    INTERLEAVE = True

    def __init__(self, inner: Any, dataset: Any, inference: CellInference) -> None:
        super().__init__()
        self._inner, self._inference = inner, inference
        self._row: Any = None
        build = dataset.build_prompt

        def noting(row: Any, *args: Any, **kwargs: Any) -> Any:
            self._row = row
            # generate() is not told which row a message is of
            return build(row, *args, **kwargs)

        dataset.build_prompt = noting

    def set_dump_image(self, dump_image_func: Any) -> None:
        self._inner.set_dump_image(dump_image_func)

    def use_custom_prompt(self, dataset: str) -> bool:
        return bool(self._inner.use_custom_prompt(dataset))

    def build_prompt(self, line: Any, dataset: str) -> Any:
        self._row = line
        return self._inner.build_prompt(line, dataset)

    def generate(self, message: Any, dataset: str | None = None) -> str:
        # the index of the table, by which VLMEvalKit joins answers to rows
        sample = str(self._row["index"])
        if not self._inference.knows(sample):
            with self._inference.asking(self._question(sample, message)) as answering:
                answering.text = str(self._inner.generate(message, dataset))
        return self._inference.answer(sample)

    def _question(self, sample: str, message: Any) -> Question:
        pictures = [Path(part["value"]) for part in message if part["type"] == "image"]
        return self._inference.question(
            sample,
            truth=str(self._row.get("answer", "")),
            text="\n".join(str(part["value"]) for part in message if part["type"] == "text"),
            pictures=len(pictures),
            first_picture=pictures[0].read_bytes() if pictures else b"",
        )


def _asked(run: Run) -> Any:
    """The model object that VLMEvalKit asks."""
    convention = run.benchmark.convention
    if run.native is not None:
        return run.native
    if convention.entry is not None:
        return asking(run.inference.loaded, run.cell.config, convention, run.folders.work / "hub")
    return Plain(run.inference, convention.max_new_tokens or LENGTHS["vlmevalkit"])


def _decoding(run: Run, inner: Any) -> dict[str, Any]:
    """How the answers were decoded, as far as it is known: of stored answers, what the object
    says.
    """
    if isinstance(inner, Asking):
        return inner.standing.settings or inner.declared
    if isinstance(inner, Plain):
        length = run.benchmark.convention.max_new_tokens or LENGTHS["vlmevalkit"]
        return run.inference.settings(length)
    return dict(inner.generate_kwargs)


def _judging(benchmark: Benchmark, judge: str | None) -> dict[str, Any]:
    """Arguments of ``evaluate``."""
    if judge is None:
        # VLMEvalKit's name for rules alone
        return {"model": "exact_matching", "nproc": 2}
    return {
        "model": benchmark.judge.model,
        "nproc": 2,
        "retry": 2,
        "timeout": 3600,
        "verbose": False,
    }  # our end retries


@contextmanager
def _data(run: Run) -> Iterator[str]:
    """The table in the cell's own LMUData; yields what it is."""
    name = run.benchmark.card.name
    table = _root() / f"{name}.tsv" if run.data is None else run.data / f"{name}.tsv"
    digest = md5(table)
    published = getattr(_class_of(name), "DATASET_MD5", {}).get(name)
    if run.data is None and published is not None and digest != published:
        raise UsageError(
            f"{table} is not the published {name} (MD5 {digest}, wanted {published}); for data of"
            " your own give task.data=<folder>"
        )
    # VLMEvalKit unpacks pictures beside its table: into the cell, not the user's folder
    (run.folders.lmu / table.name).symlink_to(table.absolute())
    with accepted(name, digest):
        yield f"{'published' if digest == published else 'local'}:{name}:md5:{digest}"


@contextmanager
def accepted(name: str, digest: str) -> Iterator[None]:
    """Inside, a table with this MD5 is taken for a data set; another would be downloaded over."""
    owner = _class_of(name)
    known = getattr(owner, "DATASET_MD5", None)
    if known is not None:
        # a table whose MD5 is not listed is downloaded over
        owner.DATASET_MD5 = {**known, name: digest}
    try:
        yield
    finally:
        if known is not None:
            owner.DATASET_MD5 = known


def _class_of(name: str) -> Any:
    for owner in DATASET_CLASSES:
        if name in owner.supported_datasets():
            return owner
    raise UsageError(f"VLMEvalKit {VERSIONS['vlmevalkit']} does not know {name}")


def _root() -> Path:
    """The user's own LMUData."""
    root = Path(USER["LMUData"] or Path.home() / "LMUData")
    root.mkdir(parents=True, exist_ok=True)
    return root


def md5(file: Path) -> str:
    """Of a file's content, as VLMEvalKit lists its data."""
    with file.open("rb") as stream:
        # in pieces: tables have gigabytes
        return hashlib.file_digest(stream, "md5").hexdigest()


def _samples(work: Path) -> dict[str, dict[str, Any]]:
    """Values by sample in the tables that ``evaluate`` wrote beside the prediction."""
    found: dict[str, dict[str, Any]] = {}
    # the newest last, whose values win
    for file in sorted(work.rglob(f"{MODEL}_*"), key=os.path.getmtime):
        if file.suffix not in (".tsv", ".xlsx"):
            continue
        table: Any = pd.read_excel(file) if file.suffix == ".xlsx" else pd.read_csv(file, sep="\t")
        if "index" in table:
            for row in table.to_dict(orient="records"):
                found.setdefault(str(row["index"]), {}).update(
                    {str(key): plain(value) for key, value in row.items()}
                )
    return found
