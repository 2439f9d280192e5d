"""VLMEvalKit: its data sets, prompts and scoring around our pruned model.

Imported by the child alone: it takes 15 s, and changes TLS, logging and gradients of the process.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from unibench.benchmark import LENGTHS, VERSIONS, Benchmark
from unibench.catalogue import video_folder
from unibench.config import HarnessTask, RunConfig
from unibench.errors import UsageError
from unibench.harness.child import frames
from unibench.harness.child.adapter import Run, Scored
from unibench.harness.child.importing import settings_kept
from unibench.harness.child.missing import check_table, fetching, remarks_on, truths_of
from unibench.harness.child.results import flat
from unibench.harness.child.workdir import USER, variables
from unibench.harness.job import plain
from unibench.identity import Cell
from unibench.inference.ask import Question
from unibench.models import LoadedModel

with settings_kept():
    from vlmeval.dataset import DATASET_CLASSES, build_dataset
    from vlmeval.inference import infer_data_job
    from vlmeval.inference_video import infer_data_job_video
    from vlmeval.smp import dump
    from vlmeval.vlm.base import BaseModel

    from unibench.harness.child import vlmevalkit_videos as videos
    from unibench.harness.child.vlmevalkit_models import Asking, Plain, asking, native

MODEL = "unibench"


@dataclass(frozen=True)
class Held:
    """A data set whose questions have been asked.

    Attributes:
        dataset: VLMEvalKit's; its table is overwritten by each scoring.
        table: as it was asked, without pictures.
        digest: what it is, for the row.
        settings: of decoding.
    """

    dataset: Any
    table: pd.DataFrame
    digest: str
    settings: dict[str, Any]


class VLMEvalKit:
    """See :class:`unibench.harness.child.adapter.Adapter`."""

    def ready(self, cell: Cell, benchmark: Benchmark) -> None:
        name = benchmark.card.name
        video = videos.variant(name)
        if video is None:
            check_served(name)
        if cell.config.task.data is not None:
            if video is not None:
                videos.check_tables(Path(cell.config.task.data) / str(video_folder(name)))
            return
        if video is not None or not (_root() / f"{name}.tsv").exists():
            with fetching(cell.config.task.name, benchmark):
                self.prefetch(name)

    def run(self, run: Run) -> Scored:
        name = run.benchmark.card.name
        video = videos.variant(name)
        if video is not None:
            return self._videos(run, video)
        held: Held | None = None if run.walk is None else run.walk.held
        with _data(run, None if held is None else held.digest) as digest:
            if held is None:
                held = self._asked_all(run, digest)
            else:
                held.dataset.data = held.table.copy()
                _take_up(run, held.dataset)
            dataset = held.dataset
            result = dataset.evaluate(
                str(run.folders.work / f"{MODEL}_{name}.tsv"), **_judging(run.benchmark, run.judge)
            )
        if result is None:
            raise UsageError(f"{name}: VLMEvalKit gave no score; run.log says why")
        samples = _samples(run.folders.work)
        remarks = (
            *remarks_on(truths_of(held.table), len(held.table)),
            *left_out(held.table, run.benchmark.card),
        )
        settings = plain(held.settings)
        return Scored(plain(flat(result)), samples, digest, settings, remarks, held=held)

    def _asked_all(self, run: Run, digest: str) -> Held:
        """Have every question of a data set asked, or taken from the store."""
        name, limit = run.benchmark.card.name, run.cell.config.task.limit
        dataset: Any = build_dataset(name)
        if run.data is not None:
            check_table(dataset.data, name)
        if limit is not None:
            # before it is asked, so that evaluate() scores the same rows
            dataset.data = dataset.data.iloc[:limit]
        # the pictures are what is large; VLMEvalKit too drops them before it scores
        table = dataset.data.drop(columns="image", errors="ignore")
        run.inference.begin(len(dataset.data))
        inner = _asked(run)
        model = Recording(inner, dataset, run)
        infer_data_job(model, work_dir=str(run.folders.work), model_name=MODEL, dataset=dataset)
        run.inference.all_asked()
        return Held(dataset, table, digest, _decoding(run, inner))

    def _videos(self, run: Run, built: partial[Any]) -> Scored:
        name, limit = run.benchmark.card.name, run.cell.config.task.limit
        folder = None if run.data is None else run.data / str(video_folder(name))
        with (
            videos.files(built, folder, run.folders.work / "files"),
            frames.watching() as reading,
        ):
            dataset: Any = built()
            if folder is not None:
                check_table(dataset.data, name)
            if limit is not None:
                dataset.data = dataset.data.iloc[:limit].copy()
            run.inference.begin(len(dataset.data))
            inner = _asked(run)
            if isinstance(inner, Plain):
                inner.clock_of = reading.clock_of
            model = RecordingVideos(inner, dataset, run, reading)
            infer_data_job_video(
                model, work_dir=str(run.folders.work), model_name=MODEL, dataset=dataset
            )
            table = run.folders.work / f"{MODEL}_{dataset.dataset_name}.tsv"
            result = dataset.evaluate(str(table), **_judging(run.benchmark, run.judge))
        if result is None:
            raise UsageError(f"{name}: VLMEvalKit gave no score; run.log says why")
        as_video = isinstance(inner, Plain) and inner.reads_videos
        return Scored(
            plain(flat(videos.completed(result))),
            _samples(run.folders.work),
            run.cell.identity["data"] if folder else videos.published(dataset, name),
            plain(_decoding(run, inner)),
            (
                *remarks_on(truths_of(dataset.data), len(dataset.data)),
                *((videos.TIMES,) if as_video else ()),
            ),
            videos.sampling_of(dataset, "video" if model.VIDEO_LLM else "frames"),
        )

    def native(self, config: RunConfig) -> tuple[Any, LoadedModel]:
        return native(config)

    def prefetch(self, name: str) -> str:
        video = videos.variant(name)
        if video is not None:
            with videos.files(video, None, Path()):
                return videos.place_of(video())
        with variables({"LMUData": str(_root())}):
            if build_dataset(name) is None:
                raise UsageError(f"VLMEvalKit {VERSIONS['vlmevalkit']} does not know {name}")
        return str(_root() / f"{name}.tsv")


class Recording(BaseModel):  # type: ignore[misc]
    """The model that VLMEvalKit sees: notes which row a prompt is built for, and asks through the
    store.
    """

    INTERLEAVE = True

    def __init__(self, inner: Any, dataset: Any, run: Run) -> None:
        super().__init__()
        self._inner, self._inference = inner, run.inference
        self._by = run.benchmark.card.by
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
        sample = self._sample(message)
        if not self._inference.knows(sample):
            question, speak = self._put(sample, message, dataset)
            with self._inference.asking(question) as answering:
                for _ in answering.rounds(plain=isinstance(self._inner, Plain)):
                    answering.text = str(speak())
                answering.frames = self._frames()
        return self._answer(sample)

    def _sample(self, message: Any) -> str:
        """The index of the table, by which VLMEvalKit joins answers to rows."""
        sample = str(self._row["index"])
        self._inference.look_at(sample, opened(self._row, message))
        return sample

    def _put(
        self, sample: str, message: Any, dataset: str | None
    ) -> tuple[Question, Callable[[], object]]:
        """A question, and what has it answered."""
        question = self._question(sample, message)
        if not self._inference.turns or not isinstance(self._inner, Plain):
            return question, partial(self._inner.generate, message, dataset)
        turn = self._inner.pieces(message)
        question, loaded, turn = self._inference.prompted(
            question, turn, self._inner.max_new_tokens
        )
        return question, partial(self._inner.answered, loaded, turn)

    def _frames(self) -> tuple[frames.Frames, ...]:
        """Which frames of each video were just read."""
        return ()

    def _answer(self, sample: str) -> str:
        return self._inference.answer(sample)

    def _question(self, sample: str, message: Any) -> Question:
        pictures = [Path(part["value"]) for part in message if part["type"] == "image"]
        return self._inference.question(
            sample,
            truth=str(self._row.get("answer", "")),
            text="\n".join(str(part["value"]) for part in message if part["type"] == "text"),
            pictures=len(pictures),
            first_picture=pictures[0].read_bytes() if pictures else b"",
            kind=None if self._by is None else self._row[self._by],
        )


class RecordingVideos(Recording):
    """The same for videos: they reach the model as a file, or as the frames that VLMEvalKit cuts.

    VLMEvalKit's loop reads and sets how many frames a model object takes; that is the inner one's.
    """

    def __init__(self, inner: Any, dataset: Any, run: Run, reading: frames.Reading) -> None:
        self._object = inner.inner if isinstance(inner, Asking) else inner
        self._data, self._reading = dataset.data, reading
        self._cut: tuple[frames.Frames, ...] = ()
        # MVBench's scoring counts an empty answer as right, MLVU's ends with an error
        self._blank = run.benchmark.card.blank or "-"
        super().__init__(inner, dataset, run)

    @property
    def VIDEO_LLM(self) -> bool:  # noqa: N802
        """As VLMEvalKit asks its classes."""
        return bool(getattr(self._object, "VIDEO_LLM", False))

    @property
    def nframe(self) -> int | None:
        """Frames that the inner object takes of a video."""
        return getattr(self._object, "nframe", None)

    @nframe.setter
    def nframe(self, count: int | None) -> None:
        self._object.nframe = count

    @property
    def fps(self) -> float | None:
        """Frames a second instead."""
        return getattr(self._object, "fps", None)

    @fps.setter
    def fps(self, rate: float | None) -> None:
        self._object.fps = rate

    def build_prompt(self, line: Any, dataset: Any, **options: Any) -> Any:
        self._row = line
        return self._object.build_prompt(line, dataset=dataset, **options)

    def _sample(self, message: Any) -> str:
        if isinstance(self._row, int):  # its loop names rows by place
            self._row = self._data.iloc[self._row]
        pictures = [part["value"] for part in message if part["type"] == "image"]
        self._cut = self._reading.cut_into(pictures)
        return str(self._row["index"])

    def _frames(self) -> tuple[frames.Frames, ...]:
        return self._reading.taken() or self._cut

    def _answer(self, sample: str) -> str:
        answer = self._inference.answer(sample)
        return answer if answer.strip() else self._blank

    def _question(self, sample: str, message: Any) -> Question:
        shown = [str(part["value"]) for part in message if part["type"] != "text"]
        return self._inference.question(
            sample,
            truth=str(self._row.get("answer", self._row.get("correct_choice", ""))),
            text="\n".join(str(part["value"]) for part in message if part["type"] == "text"),
            pictures=len(shown),
            first_picture=frames.name_of(str(self._row["video"])),
            kind=None if self._by is None else self._row[self._by],
        )


def opened(row: Any, message: Any) -> Iterator[Image.Image]:
    """The pictures of a row as its table has them; where it names files, as these are.

    VLMEvalKit writes those of the table into files, without transparency and EXIF data.
    """
    held = row.get("image")
    texts = [text for text in (held if isinstance(held, list) else [held]) if isinstance(text, str)]
    for source in texts or [part["value"] for part in message if part["type"] == "image"]:
        with suppress(OSError, ValueError):  # what is no picture is the harness's to refuse
            yield Image.open(BytesIO(base64.b64decode(source)) if texts else source)


def left_out(table: Any, card: HarnessTask) -> tuple[str, ...]:
    """A remark where the score is that of some splits of a table, whose other rows are asked too.

    >>> from unibench.config import MetricConfig
    >>> score = MetricConfig(name="accuracy", path=("validation.Overall",), best=1.0)
    >>> card = HarnessTask(name="MMMU_DEV_VAL", metrics=(score,))
    >>> left_out(pd.DataFrame({"split": ["dev", "validation", "validation"]}), card)[0]
    'accuracy is of 2 of the 3 questions of n: 1 of split dev is asked and left out by VLMEvalKit'
    """
    if "split" not in table or not card.metrics:
        return ()
    first = card.metrics[0]
    scored = {path.partition(".")[0] for path in first.path}
    counts: dict[str, int] = table["split"].astype(str).value_counts().to_dict()
    rest = {split: count for split, count in sorted(counts.items()) if split not in scored}
    if not rest or len(rest) == len(counts):
        return ()
    total = sum(counts.values())
    named = " and ".join(f"{count} of split {split}" for split, count in rest.items())
    verb = "is" if sum(rest.values()) == 1 else "are"
    return (
        f"{first.name} is of {total - sum(rest.values())} of the {total} questions of n: {named}"
        f" {verb} asked and left out by VLMEvalKit",
    )


def _take_up(run: Run, dataset: Any) -> None:
    """Have VLMEvalKit take the stored answers for those of a run that was broken off at its end:
    then it builds no prompt.
    """
    name, work = run.benchmark.card.name, run.folders.work
    run.inference.begin(len(dataset.data))
    answers = {index: run.inference.answer(str(index)) for index in dataset.data["index"]}
    dump(answers, str(work / f"{MODEL}_{name}_PREV.pkl"))
    infer_data_job(None, work_dir=str(work), model_name=MODEL, dataset=dataset)


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
def _data(run: Run, known: str | None = None) -> Iterator[str]:
    """The table in the cell's own LMUData; yields what it is.

    Args:
        run: of the cell.
        known: what it is, if it has been read.
    """
    name = run.benchmark.card.name
    table = _root() / f"{name}.tsv" if run.data is None else run.data / f"{name}.tsv"
    digest = md5(table) if known is None else known.rpartition(":")[2]
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


def check_served(name: str) -> None:
    """Refuse a data set whose questions cannot be put to a model that looks and answers once.

    Raises:
        UsageError: says which and why.
    """
    kind = _class_of(name)
    if getattr(kind, "MODALITY", "IMAGE") == "TEXT":
        raise UsageError(f"{name} of VLMEvalKit shows no picture: there is nothing to prune")
    if getattr(kind, "TYPE", "") == "MT":
        raise UsageError(
            f"{name} of VLMEvalKit is a conversation of several turns; one question is served"
        )


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
