"""The child of ``engine=vllm``: answers the cells of its jobs, and says on standard output how it
goes, as the child of a harness does.

==========  =====================================================
event       content
==========  =====================================================
cell        ``environment``: the engine is about to be started
sample      ``record``: a line for ``samples.jsonl``
answered    all samples are there
refused     ``message``: the user can mend it
failed      ``message``: anything else; the traceback is in run.log
==========  =====================================================
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from unibench._compat import repair_torchvision

repair_torchvision()  # before anything imports torchvision

import torch
from PIL.Image import Image
from PIL.Image import open as open_image

from unibench import registry
from unibench.config import RunConfig, resolved, typed
from unibench.errors import UsageError
from unibench.harness.child.serve import channel, jobs
from unibench.harness.collected import collected
from unibench.identity import Cell, cell_of
from unibench.inference.ask import Question, question_of, record_of, shown
from unibench.inference.environment import environment as machine
from unibench.inference.record import Record
from unibench.models import LoadedModel, folder_of, opened
from unibench.pruning.prompt import Prompt
from unibench.serving import engine as offline
from unibench.serving.engine import Engine, Reply, Request, Traced, traced
from unibench.serving.fields import BETWEEN, digest
from unibench.serving.settings import Settings
from unibench.serving.shell import prompt_text, read, record_of_prompt, shape_of
from unibench.store.files import appending
from unibench.tasks import Sample, Task

AT_ONCE = 256  # requests handed over together: so many answers a kill may cost
Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Asked:
    """A sample on its way through the engine.

    Attributes:
        question: what is known of it.
        prompt: unpruned.
        request: what the engine is asked.
        max_new_tokens: of its answer.
        score: of an answer; None where a harness scores.
    """

    question: Question
    prompt: Prompt
    request: Request
    max_new_tokens: int
    score: Callable[[str], float] | None


class Child:
    """One engine at a time.

    Args:
        say: sends an event to the parent.
    """

    def __init__(self, say: Say) -> None:
        self._say = say

    def answer(self, cell: Cell, wanted: Sequence[str], questions: Path | None = None) -> None:
        """Answer samples of a cell, and say what goes wrong.

        Args:
            cell: of an embedded task, or of a benchmark.
            wanted: names of the samples.
            questions: where those of a benchmark lie, see :mod:`unibench.harness.collected`.
        """
        try:
            self._answer(cell, wanted, questions)
        # a refusal is the user's to mend, and has no traceback
        except UsageError as error:
            self._say({"event": "refused", "message": str(error)})
        except Exception as error:
            with appending(cell.folder / "run.log") as stream:
                stream.write(traceback.format_exc().encode(errors="backslashreplace"))
            reason = str(error).partition("\n")[0]
            self._say({"event": "failed", "message": f"{type(error).__name__}: {reason}"})

    def _answer(self, cell: Cell, wanted: Sequence[str], questions: Path | None) -> None:
        config = cell.config
        trace = cell.folder.absolute() / "pictures.jsonl"
        trace.unlink(missing_ok=True)
        settings = settings_of(config, trace)
        loaded = opened(config.model, config.pixels)
        self._say({"event": "cell", "environment": machine(torch.device(_device()))})
        engine = Engine(folder_of(config.model), settings, **_arguments(config))
        try:
            asked = (
                _of_task(loaded, settings, config, frozenset(wanted))
                if questions is None
                else _of_harness(loaded, settings, questions, frozenset(wanted))
            )
            while batch := list(islice(asked, AT_ONCE)):
                for record in answered(cell, loaded, engine, batch, trace, settings):
                    self._say({"event": "sample", "record": record.as_json()})
        finally:
            engine.close()
        self._say({"event": "answered"})


def settings_of(config: RunConfig, trace: Path | None = None) -> Settings | None:
    """The settings of the plugin for a cell, None for vanilla."""
    node = dict(config.method)
    name = str(node.pop("name"))
    if name == "vanilla":
        return None
    return Settings(
        method=str(node.pop("source", name)),
        ratio=None if config.ratio is None else str(config.ratio),
        retention=None if config.retention is None else str(config.retention),
        keep=config.keep,
        parameters=node,
        seed=config.seed,
        positions="compact" if config.positions == "compact" else "original",
        trace=None if trace is None else str(trace),
    )


def answered(
    cell: Cell,
    loaded: LoadedModel,
    engine: Engine,
    batch: Sequence[Asked],
    trace: Path,
    settings: Settings | None,
) -> Iterator[Record]:
    """The records of samples that an engine is asked all at once."""
    replies = _replies(engine, batch, cell.config.generation.penalty)
    pictures = _by_name(traced(trace))
    shape = shape_of(loaded)
    for one, reply in zip(batch, replies, strict=True):
        kept = None if settings is None else _kept(one, pictures)
        prompt = record_of_prompt(loaded, one.question.id, one.prompt, kept)
        _check(one, reply, prompt.kept, loaded)
        record = record_of(
            one.question,
            prompt,
            reply.text,
            len(reply.tokens),
            shape,
            prompt_text=prompt_text(loaded, one.prompt),
        )
        score = None if one.score is None else one.score(record.answer)
        yield replace(record, score=score)


def _replies(engine: Engine, batch: Sequence[Asked], penalty: float) -> list[Reply]:
    """The replies to a batch; what is asked for answers of one length is asked at once."""
    found: dict[int, Reply] = {}
    for length in dict.fromkeys(one.max_new_tokens for one in batch):
        places = [place for place, one in enumerate(batch) if one.max_new_tokens == length]
        replies = engine.ask([batch[place].request for place in places], length, penalty)
        found |= dict(zip(places, replies, strict=True))
    return [found[place] for place in range(len(batch))]


def _of_task(
    loaded: LoadedModel, settings: Settings | None, config: RunConfig, wanted: frozenset[str]
) -> Iterator[Asked]:
    """The samples of an embedded task."""
    task = registry.build_task(str(config.task.target), config.task.name, _options(config))
    most = config.generation.max_new_tokens or task.max_new_tokens
    for index, sample in _samples(task, config, wanted):
        sample = shown(sample)
        question = question_of(loaded, index, sample)
        text = loaded.prompt(sample.question, len(sample.images))
        score = partial(_scored, task, sample)
        yield _asked(loaded, settings, question, text, sample.images, most, score)


def _scored(task: Task, sample: Sample, answer: str) -> float:
    return float(task.score(sample, answer))


def _of_harness(
    loaded: LoadedModel, settings: Settings | None, folder: Path, wanted: frozenset[str]
) -> Iterator[Asked]:
    """The questions that a harness has put."""
    for put in collected(folder):
        if put.question.id in wanted:
            images = [open_image(folder / name) for name in put.images]
            most = put.max_new_tokens
            yield _asked(loaded, settings, put.question, put.text, images, most, None)


def _asked(
    loaded: LoadedModel,
    settings: Settings | None,
    question: Question,
    text: str,
    pictures: Sequence[Image],
    max_new_tokens: int,
    score: Callable[[str], float] | None,
) -> Asked:
    images = [picture.convert("RGB") for picture in pictures]
    prompt = read(loaded, text, images)
    # a choice that depends on the sample is one entry of the engine's caches for each
    named = settings is not None and _by_sample(settings)
    request = Request(text, images, sample=question.id if named else "")
    return Asked(question, prompt, request, max_new_tokens, score)


def _by_sample(settings: Settings) -> bool:
    method = settings.build()
    return method.text_aware or method.category == "random"


def _by_name(pictures: Sequence[Traced]) -> dict[str, tuple[int, ...]]:
    """What stayed of each picture, by its digest and, where that decides, the sample."""
    found = {}
    for picture in pictures:
        names = picture.picture.split(BETWEEN)
        found[names[0]] = found[BETWEEN.join(names[:2])] = picture.kept
    return found


def _kept(one: Asked, pictures: dict[str, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """What stayed of each picture of a sample."""
    found = {}
    for number, image in enumerate(one.request.images):
        name = f"{digest(image):016x}"
        name += f"{BETWEEN}{one.request.sample}" if one.request.sample else ""
        if name not in pictures:
            raise RuntimeError(
                f"the engine has not said what it kept of a picture of {one.question.id}"
            )
        found[number] = pictures[name]
    return found


def _check(one: Asked, reply: Reply, kept: int, loaded: LoadedModel) -> None:
    """Refuse an answer to another prompt than the record says."""
    kinds = loaded.family.visual_kind(torch.tensor(reply.prompt))
    text = [token for token, kind in zip(reply.prompt, kinds.tolist(), strict=True) if not kind]
    assert one.prompt.ids is not None
    own = one.prompt.ids[0][~one.prompt.visual[0]].tolist()
    if int((kinds > 0).sum()) != kept or text != own:
        raise RuntimeError(
            f"sample {one.question.id}: the engine read {len(text)} tokens of text and"
            f" {int((kinds > 0).sum())} of pictures, transformers {len(own)} and {kept} of them"
        )


def _samples(task: Task, config: RunConfig, wanted: frozenset[str]) -> Iterator[tuple[int, Sample]]:
    samples = enumerate(islice(task.samples(config.task.limit), config.task.limit))
    return ((index, sample) for index, sample in samples if sample.id in wanted)


def _options(config: RunConfig) -> dict[str, Any]:
    options = dict(config.task.options)
    return options if config.task.data is None else {**options, "data": config.task.data}


def _arguments(config: RunConfig) -> dict[str, Any]:
    """Arguments of ``vllm.LLM``; those that the cell names go first."""
    model: dict[str, Any] = {"dtype": config.model.dtype, "seed": 0}
    if config.model.pixels[config.pixels]:
        model["mm_processor_kwargs"] = dict(config.model.pixels[config.pixels])
    if _device() == "cpu":
        # vLLM's blocks for CPUs are longer than a pruned prompt, which could then share none
        model |= {"enforce_eager": True, "block_size": 32}
    return {**model, **config.serve.options}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def main(arguments: Sequence[str]) -> int:
    """Run the job named first, then those on standard input."""
    if len(arguments) != 1:
        print("python -m unibench.serving.child job.json", file=sys.stderr)
        return 2
    child = Child(channel())
    offline.environment()
    for job in jobs(arguments[0]):
        told = json.loads(job.read_text(encoding="utf-8"))
        (entry,) = told["cells"]
        cell = cell_of(typed(resolved(entry["config"])))
        # the parent's key: packages that are installed there alone are part of its digests of code
        questions = Path(told["questions"]) if "questions" in told else None
        child.answer(replace(cell, key=entry["key"]), told["wanted"], questions)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
