"""lmms-eval: its tasks, prompts and scoring around our pruned model.

Imported by the child alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
from datasets import config as cache
from lmms_eval.api import task as task_module
from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from PIL import Image

from unibench import tables
from unibench.benchmark import VERSIONS, Benchmark
from unibench.config import RunConfig
from unibench.errors import UsageError, nearest
from unibench.harness.child import frames
from unibench.harness.child.adapter import Run, Scored
from unibench.harness.child.clips import clip_of
from unibench.harness.child.documents import Latest, contents, late
from unibench.harness.child.lmms_models import FRAMES, Asking, asking, class_of, native
from unibench.harness.child.missing import check_truths, fetching, remarks_on
from unibench.harness.child.results import flat
from unibench.harness.child.workdir import variables
from unibench.harness.job import plain
from unibench.identity import Cell
from unibench.inference.ask import Question, generated
from unibench.inference.verdict import Sampling
from unibench.models import Clip, LoadedModel, Piece
from unibench.videos import BOUNDS

datasets.disable_progress_bars()


@dataclass(frozen=True)
class Held:
    """What of a task whose questions have been asked need not be found out again.

    Attributes:
        simple: whether the model object takes text and pictures instead of a conversation.
        data: what was asked, with a digest.
        settings: of decoding.
        sampling: of videos.
    """

    simple: bool
    data: str
    settings: dict[str, Any]
    sampling: Sampling | None


class LmmsEval:
    """See :class:`unibench.harness.child.adapter.Adapter`."""

    def __init__(self) -> None:
        self._managers: dict[str, TaskManager] = {}
        self._task: tuple[Cell, Any] | None = None  # of the cell that is ready

    def ready(self, cell: Cell, benchmark: Benchmark) -> None:
        entry = benchmark.convention.entry
        simple = entry is not None and bool(class_of(entry).is_simple)
        if cell.config.task.data is None:
            with fetching(cell.config.task.name, benchmark):
                task = task_of(
                    self._manager(entry or "default"), benchmark.card.name, {}, simple=simple
                )
            self._task = cell, task

    def run(self, run: Run) -> Scored:
        config, name = run.cell.config, run.benchmark.card.name
        convention = run.benchmark.convention
        manager = self._manager(convention.entry or "default")
        held: Held | None = None if run.walk is None else run.walk.held
        asked = _asked(run) if held is None else None
        simple = is_simple(asked) if held is None else held.simple
        with _data(run) as options, frames.watching() as reading:
            # building a task reads its whole data set: the one that ready() built is used
            if self._task is not None and self._task[0] is run.cell:
                task, self._task = self._task[1], None
            else:
                # anew for each cell: some scorings count in a table of their module
                task = task_of(manager, name, options, simple=simple)
            late(task)
            size = min(config.task.limit or len(task.eval_docs), len(task.eval_docs))
            if run.data is not None and held is None:
                _check_labels(task, size, run.data / name)
                if run.benchmark.judge.kind != "endpoint":
                    truths = _truths(task, config.task.limit)
                    check_truths(truths, f"task.data={run.data}: {name}")
            run.inference.begin(size)
            model = Recording(run, task, asked, reading, simple=simple)
            length = config.generation.max_new_tokens
            result: Any = simple_evaluate(
                model=model,
                tasks=[task],
                task_manager=manager,
                batch_size=1,
                limit=config.task.limit,
                # intervals are ours, over pictures
                bootstrap_iters=0,
                log_samples=True,
                # the store remembers answers by cell; the harness's cache knows no method
                use_cache=None,
                cache_requests=False,
                # no workers beside a loaded model
                process_docs_parallel=1,
                gen_kwargs=None if length is None else f"max_new_tokens={length}",
            )
        raw = {
            key.partition(",")[0]: value
            for key, value in result["results"][name].items()
            if "stderr" not in key and key != "alias"
        }
        samples = {
            str(sample["doc_id"]): _values(sample, raw) for sample in result["samples"][name]
        }
        targets = {str(one["doc_id"]): one.get("target") for one in result["samples"][name]}
        if held is None:
            local = run.cell.identity["data"] if run.data else None
            data = local or f"published:{name}:{contents(task.eval_docs)}"
            settings = plain(_decoding(run, task, asked))
            held = Held(simple, data, settings, _sampling(run, asked))
        return Scored(
            plain(flat(raw)),
            samples,
            held.data,
            held.settings,
            remarks_on(targets, len(targets)),
            held.sampling,
            held,
        )

    def native(self, config: RunConfig) -> tuple[Any, LoadedModel]:
        return native(config)

    def prefetch(self, name: str) -> str:
        task = task_of(self._manager("default"), name, {})
        return f"{len(task.eval_docs)} samples in {cache.HF_DATASETS_CACHE}"

    def _manager(self, model_name: str) -> TaskManager:
        if model_name not in self._managers:  # it reads every task file: 4 s
            self._managers[model_name] = TaskManager(model_name=model_name)
        return self._managers[model_name]


class Recording(lmms):  # type: ignore[misc]
    """The model that lmms-eval sees: a chat model that asks through the store.

    Args:
        run: of the cell.
        task: that is asked.
        asked: model object of lmms-eval; None for our own, and where nothing is asked.
        reading: of videos.
        simple: whether requests have text and pictures instead of a conversation.
    """

    def __init__(
        self, run: Run, task: Any, asked: Any, reading: frames.Reading, *, simple: bool
    ) -> None:
        super().__init__()
        self._reading, self._by = reading, run.benchmark.card.by
        self._inference, self._asked, self._task = run.inference, asked, task
        self._convention, self._blank = run.benchmark.convention, run.benchmark.card.blank
        self.is_simple = simple

    def generate_until(self, requests: list[Instance]) -> list[str]:
        # simple_evaluate has filled task_dict
        documents = {
            task: {split: Latest(found) for split, found in splits.items()}
            for task, splits in self.task_dict.items()
        }
        if self._asked is not None:
            inner = self._asked.inner if isinstance(self._asked, Asking) else self._asked
            inner.task_dict = documents  # classes look documents up there
        answers = []
        for request in requests:
            arguments: Any = request.args
            number, task, split = arguments[3:]
            if self._inference.is_settled(str(number)):
                answers.append(self._inference.answer(str(number)) or self._blank)
                continue
            doc = documents[task][split][number]
            self._inference.look_at(str(number), pictures_in(doc))
            # names of samples are numbers of documents, the same in every run of a data set
            if not self._inference.knows(str(number)):
                content = self._content(arguments, doc)
                self._reading.taken()  # an entry reads them again, by its own rule
                own: tuple[tuple[int, ...], ...] = ()
                question = self._question(str(number), doc, content)
                reader: LoadedModel | None = None
                if self._asked is None:
                    question = replace(question, **self._places(doc, content))
                    question, reader, content = self._inference.prompted(
                        question, content, self._length(arguments)
                    )
                with self._inference.asking(question) as answering:
                    said = partial(self._said, request, content, reader)
                    for _ in answering.rounds(plain=reader is not None):
                        answering.text = said()
                    if self._asked is None:
                        # the clips say it themselves: their readers may use no decord
                        own = tuple(clip.numbers for clip in content if isinstance(clip, Clip))
                    answering.frames = own if self._asked is None else self._reading.taken()
            # the scoring of some tasks ends with an error on an empty answer
            answers.append(self._inference.answer(str(number)) or self._blank)
        self._inference.all_asked()
        return answers

    def _length(self, arguments: Any) -> int:
        """Tokens of an answer of our own model object."""
        length: int = arguments[2].get("max_new_tokens", self._convention.max_new_tokens)
        return length

    def _said(self, request: Instance, content: Sequence[Piece], reader: LoadedModel | None) -> str:
        """The answer to a request: of the reader, our own model object, or of the one that is
        asked.
        """
        if reader is not None:
            config, turns = self._inference.decoding(self._length(request.args)), [content]
            return generated(reader, turns, config).texts[0]
        told = self._asked.generate_until([request])[0]
        # newer classes wrap answers together with token counts
        return str(unwrap_generation_output(told)[0])

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise UsageError(
            "a task that compares likelihoods cannot be asked of a model that only generates"
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise UsageError("tasks of several rounds are not supported")

    def clean(self) -> None:
        """The model stays loaded for the next cell."""

    def _content(self, arguments: Any, doc: Any) -> list[Piece]:
        """What is asked, in order."""
        if not self.is_simple:
            return content_of(arguments[1](doc), self._clip)
        shown = arguments[2](doc) or []
        visuals = [
            self._clip(visual) if isinstance(visual, str) else visual
            for visual in (shown if isinstance(shown, list) else [shown])
        ]
        return [*visuals, str(arguments[0])]

    def _places(self, doc: Any, content: Sequence[Piece]) -> dict[str, Any]:
        """The box that a question of grounding is about, and the part of its picture that our own
        processor hands on; nothing where a document has no box in shares of one picture.
        """
        box, pictures = doc.get("bbox"), [one for one in content if isinstance(one, Image.Image)]
        if len(pictures) != 1 or not isinstance(box, (list, tuple)) or len(box) != 4:
            return {}
        left, top, right, bottom = map(float, box)
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            return {}
        seen = self._inference.loaded.seen(pictures[0])
        return {"boxes": (((left, top, right, bottom),),), "seen": (seen,)}

    def _clip(self, file: str) -> Clip:
        """A video as it is shown; to an entry, which reads it itself, the first frame."""
        own = self._asked is None
        sampling = self._convention.sampling if own else {"reader": "unibench", "frames": 1}
        return clip_of(file, sampling, self._inference.loaded.processor)

    def _question(self, sample: str, doc: Any, content: Sequence[Piece]) -> Question:
        shown = [piece for piece in content if not isinstance(piece, str)]
        pictures = [piece[0] if isinstance(piece, tuple) else piece for piece in shown]
        return self._inference.question(
            sample,
            truth=str(self._task.doc_to_target(doc)),
            text="\n".join(piece for piece in content if isinstance(piece, str)),
            pictures=len(pictures),
            first_picture=pictures[0].tobytes() if pictures else b"",
            kind=None if self._by is None else doc[self._by],
        )


def _check_labels(task: Any, size: int, folder: Path) -> None:
    """Refuse questions of one's own whose answer is none of their options.

    Raises:
        UsageError: names the first of them.
    """
    documents = task.eval_docs_no_media
    wrong = [
        (number, reason)
        for number in range(size)
        if (reason := tables.mistake_of_document(documents[number])) is not None
    ]
    if wrong:
        number, reason = wrong[0]
        more = f" ({len(wrong) - 1} more like it)" if wrong[1:] else ""
        raise UsageError(f"{folder} question {number}, counted from 0: {reason}{more}")


def pictures_in(value: Any) -> Iterator[Image.Image]:
    """The pictures of a document, as its data set has them."""
    if isinstance(value, Image.Image):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from pictures_in(entry)
    elif isinstance(value, dict):
        yield from pictures_in(list(value.values()))


def _asked(run: Run) -> Any:
    """The model object of lmms-eval that is asked, None for our own."""
    convention = run.benchmark.convention
    if run.native is not None or convention.entry is None:
        return run.native
    return asking(run.inference.loaded, run.cell.config, convention, run.folders.work / "hub")


def is_simple(asked: Any) -> bool:
    """Whether a model object takes text and pictures instead of a conversation."""
    return asked is not None and bool(asked.is_simple)


def _sampling(run: Run, asked: Any) -> Sampling | None:
    """How many frames of a video are asked for, None for pictures."""
    if run.cell.config.task.modality != "video":
        return None
    if asked is None:
        rule = run.benchmark.convention.sampling
        more = {key: rule.get(key) for key in ("most", "thin", *BOUNDS, "total_pixels")}
        told = {"frames": rule.get("frames"), "fps": rule.get("fps"), **more}
        return Sampling(shown="own", reader=rule["reader"], **told)
    inner = asked.inner if isinstance(asked, Asking) else asked
    counts = (getattr(inner, name, None) for name in FRAMES)
    count, fps = next(filter(None, counts), None), getattr(inner, "fps", None)
    bounds = {key: getattr(inner, key, None) for key in BOUNDS}
    return Sampling(frames=count, fps=fps, shown="video", reader=type(inner).__name__, **bounds)


def _decoding(run: Run, task: Any, asked: Any) -> dict[str, Any]:
    """How the answers were decoded; of stored answers, what the task says."""
    said = dict(task.config.generation_kwargs or {})
    if isinstance(asked, Asking):
        return asked.standing.settings or said
    if asked is not None:
        return said
    length = said.get("max_new_tokens", run.benchmark.convention.max_new_tokens)
    assert length is not None, "a convention without an entry has one"
    return run.inference.settings(length)


def content_of(messages: list[dict[str, Any]], shown: Callable[[str], Piece]) -> list[Piece]:
    """Text, pictures and videos of a prompt of one user turn, in order.

    Args:
        messages: as lmms-eval has them.
        shown: the frames of a video in a file.

    Raises:
        UsageError: it holds something else.
    """
    # a system turn is the convention's to set, and rounds cannot be resumed
    if [message["role"] for message in messages] != ["user"]:
        raise UsageError(
            f"a prompt of the turns {[message['role'] for message in messages]}; one user turn is"
            " served"
        )
    pieces: list[Piece] = []
    for part in messages[0]["content"]:
        if part["type"] == "text":
            pieces.append(part["text"])
        elif part["type"] == "image":
            pieces.append(
                part["url"] if isinstance(part["url"], Image.Image) else Image.open(part["url"])
            )
        elif part["type"] == "video" and isinstance(part["url"], str):
            pieces.append(shown(part["url"]))
        else:
            raise UsageError(
                f"a {part['type']} in a prompt; text, pictures and videos in files are served"
            )
    return pieces


def task_of(
    manager: TaskManager, name: str, options: dict[str, Any], *, simple: bool = False
) -> Any:
    """An official task, with some of its settings replaced.

    Args:
        manager: that knows the model's name, by which tasks choose their prompts.
        name: of the task.
        options: settings over the task's own.
        simple: for a model that takes text and pictures instead of a conversation.

    Raises:
        UsageError: this lmms-eval has no such task.
    """
    if name not in manager.all_subtasks:
        raise UsageError(
            f"lmms-eval {VERSIONS['lmms_eval']} has no task"
            f" {name!r}.{nearest(name, manager.all_subtasks)}"
        )
    if options:
        # its other entries, such as a token or a revision, are of the published data
        own = manager._get_config(name).get("dataset_kwargs") or {}
        options = {
            **options,
            "dataset_kwargs": {key: own[key] for key in ("video", "cache_dir") if key in own},
        }
    kind = "simple" if simple else "chat"
    return manager._load_individual_task_or_group({"task": name, **options}, task_type=kind)[name]


@contextmanager
def _data(run: Run) -> Iterator[dict[str, Any]]:
    """Settings that send a task to the user's folder; further data sets and files that it looks for
    are found there too.
    """
    if run.data is None:
        yield {}
        return
    folder = run.data / run.benchmark.card.name
    for path in (folder / "hf_home").glob("*"):
        # HF_HOME of this cell points there
        (run.folders.hf / path.name).symlink_to(path, target_is_directory=path.is_dir())
    original = datasets.load_dataset

    def load_dataset(path: str, name: str | None = None, **options: Any) -> Any:
        local = folder.parent / "__".join(filter(None, [path.replace("/", "__"), name]))
        if not local.is_dir():
            return original(path, name, **options)
        # nothing of a user's own folder needs the hub's
        options.pop("token", None)
        return original(str(local), **options)

    # lmms-eval remembers the folder of the first task
    task_module._resolve_hf_datasets_cache_dir.cache_clear()
    # a walk has left the user's tables there as lmms-eval reads them
    folders = run.folders if run.walk is None else run.walk.folders
    with (
        variables({"LMMS_EVAL_DATASETS_CACHE": str(folders.hf / "datasets")}),
        patch.object(datasets, "load_dataset", load_dataset),
    ):
        yield {"dataset_path": str(folder), "dataset_name": None}
    task_module._resolve_hf_datasets_cache_dir.cache_clear()


def _truths(task: Any, limit: int | None) -> dict[str, Any]:
    """The answers that a task scores against, by document; no picture is opened for it."""
    docs = task.eval_docs_no_media
    size = min(limit or len(docs), len(docs))
    return {str(number): task.doc_to_target(docs[number]) for number in range(size)}


def _values(sample: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """A sample's metrics: ``metric``, or ``metric.key`` where it is a dictionary."""
    found: dict[str, Any] = {}
    for name in raw:
        value = plain(sample.get(name))
        found.update(
            {f"{name}.{key}": entry for key, entry in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
    return found
