"""The harness's own command against unibench, call by call: what reaches ``generate``, and scores.

    python -m tests.harness.parity vlmevalkit qwen2_5_vl divprune     # one cell of the matrix, as JSON
    python -m benchmarks.harness_parity                               # all of them, and the page

On the harness's side stands its own class, which loads a small random checkpoint by itself, in the
harness's own loop; only "cuda" is replaced by the CPU and half precision by single. The two
classes whose code no index has (the package ``llava``, OpenGVLab's remote code) run on what
:mod:`tests.harness.shims` has written again, apart from what unibench has for them.

A random checkpoint answers nothing right, and scores of 0 are equal whatever they are of. So what
it generated is compared, and another answer is handed back: a made-up one for the sample on
unibench's side, on the harness's the one that stands for the same ids and pixels.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from unibench._compat import repair_torchvision

repair_torchvision()

import torch
from transformers import AutoTokenizer, GenerationMixin, Qwen3VLForConditionalGeneration

import unibench
from tests.harness import made_up, shims
from tests.harness.official import lmms_eval as lmms_eval_side
from tests.harness.official import vlmevalkit as vlmevalkit_side
from tests.harness.running import card
from tests.harness.running import compared as compared_paths
from tests.harness.standins import write
from tests.support.architectures import ARCHITECTURES
from tests.support.checkpoints import save
from unibench.compose import compose_cells
from unibench.config import HarnessEntry, RunConfig
from unibench.harness.child.inference import CellInference
from unibench.harness.child.serve import Child
from unibench.identity import cell_of

CARDS = {
    "qwen2_5_vl": "qwen2_5_vl_7b",
    "qwen2_vl": "qwen2_vl_7b",
    "qwen3_vl": "qwen3_vl_8b",
    "llava": "llava_1_5_7b",
    "llava_next": "llava_next_7b",
    "llava_onevision": "llava_onevision_7b",
    "internvl": "internvl3_8b",
    "smolvlm": "smolvlm2_2b",
}
TASKS = {
    "vlmevalkit": (
        *("pope", "mmstar", "ocrbench", "mmmu", "chartqa", "textvqa", "hallusionbench"),
        *("mme", "docvqa"),
    ),
    "lmms_eval": ("pope", "mmstar", "ocrbench", "mmmu", "chartqa", "textvqa", "mme", "docvqa"),
}
_QWEN3 = ARCHITECTURES["qwen3_vl"]
QUESTIONS = 6  # of every category of a task some: their means are in the scores
LENGTH = 3
FORMS = ("{right}", "{other}", "The answer is {right}.", "{right}.", "{words}")
RATIO = 0.75
DECODING = ("max_new_tokens", "repetition_penalty", "num_beams", "no_repeat_ngram_size")


@dataclass(frozen=True)
class Call:
    """What reached ``generate`` once.

    Attributes:
        ids: hash of the token ids.
        pixels: hash of the pixels in single precision, empty without pictures.
        visual: visual tokens.
        decoding: settings in force.
        answer: token ids.
    """

    ids: str
    pixels: str
    visual: int
    decoding: tuple[Any, ...]
    answer: tuple[int, ...]


@dataclass
class Answers:
    """What is handed back in place of what a random checkpoint generates.

    Attributes:
        tokenizer: of the checkpoint.
        known: by ids and pixels of a call.
        next: the answer to a prompt that has none yet; None where such a prompt is a difference.
    """

    tokenizer: Any
    known: dict[tuple[str, str], str] = field(default_factory=dict)
    next: Callable[[], str] | None = None

    def to(self, ids: str, pixels: str) -> torch.Tensor:
        """Token ids, with the end."""
        if self.next is not None:
            # two rows that ask the same are answered the same, as a model would
            self.known.setdefault((ids, pixels), self.next())
        text = self.known.get((ids, pixels), "a prompt that unibench did not have")
        found = self.tokenizer(text, add_special_tokens=False).input_ids
        return torch.tensor([[*found, self.tokenizer.eos_token_id]])


@contextmanager
def recorded(answers: Answers) -> Iterator[list[Call]]:
    """The calls of every model inside the block, which hand back these answers."""
    calls: list[Call] = []
    generate = GenerationMixin.generate

    def recording(model: Any, *args: Any, **kwargs: Any) -> Any:
        ids = kwargs["input_ids"]
        given = kwargs.get("generation_config") or model.generation_config
        settings = [kwargs.get(key, getattr(given, key, None)) for key in DECODING]
        neutral = {"repetition_penalty": 1.0, "num_beams": 1, "no_repeat_ngram_size": 0}
        out = generate(model, *args, **kwargs)
        pixels = [kwargs[key] for key in sorted(kwargs) if key.startswith("pixel_values")]
        state = hashlib.blake2b(digest_size=8)
        for values in pixels:
            if values is not None:
                state.update(f"{tuple(values.shape)}".encode())
                state.update(values.float().contiguous().numpy().tobytes())
        call = Call(
            hashlib.blake2b(ids.numpy().tobytes(), digest_size=8).hexdigest(),
            state.hexdigest() if any(values is not None for values in pixels) else "",
            int((ids == model.config.image_token_id).sum()),
            tuple(
                neutral.get(key, value) if value is None else value
                for key, value in zip(DECODING, settings, strict=True)
            ),
            tuple(out[0, ids.shape[1] :].tolist()),
        )
        calls.append(call)
        return torch.cat([ids, answers.to(call.ids, call.pixels)], dim=1)

    with patch.object(GenerationMixin, "generate", recording):
        yield calls


def checkpoint(family: str, folder: Path) -> Path:
    """A small random checkpoint whose processor has the limits of the published one."""
    with patch.dict(ARCHITECTURES, {"qwen3_vl": _published_patches}):
        place = save(family, folder)
    file = place / "processor_config.json"
    said = json.loads(file.read_text())
    if family.startswith("qwen"):
        patch_size = 16 if family == "qwen3_vl" else 14
        area = 4 * patch_size**2
        said["image_processor"]["size"] = {"shortest_edge": 4 * area, "longest_edge": 16384 * area}
        said["image_processor"]["patch_size"] = patch_size
        file.write_text(json.dumps(said))
    generation = place / "generation_config.json"
    known = json.loads(generation.read_text())
    # as the published file of Qwen2.5-VL has it: seen where a class is silent
    generation.write_text(json.dumps({**known, "repetition_penalty": 1.05}))
    return place


def _published_patches(attn: str) -> Any:
    """A Qwen3-VL with patches of 16, which both harnesses write down."""
    config = copy.deepcopy(_QWEN3(attn).config)
    config.vision_config.patch_size = 16
    return Qwen3VLForConditionalGeneration._from_config(config, attn_implementation=attn)


def cells(family: str, harness: str, method: str, folder: Path) -> list[RunConfig]:
    """One cell for each task."""
    return compose_cells(
        [
            f"task={','.join(TASKS[harness])}",
            f"harness={harness}",
            f"model={CARDS[family]}",
            f"model.path={folder / 'model'}",
            "model.dtype=float32",
            "model.device=cpu",
            f"method={method}",
            *([] if method == "vanilla" else [f"ratio={RATIO}"]),
            f"task.data={folder / 'data'}",
            f"generation.max_new_tokens={LENGTH}",
            f"out={folder / 'out'}",
        ],
        sweep=True,
    )


@dataclass(frozen=True)
class Side:
    """One side of a task.

    Attributes:
        calls: of ``generate``.
        numbers: of the harness's result, by path.
    """

    calls: Sequence[Call]
    numbers: Mapping[str, float]


def ours(configs: list[RunConfig], harness: str, answers: Answers, data: Path) -> dict[str, Side]:
    """Calls and scores by task, as unibench makes them; notes which answer stands for which
    prompt.
    """
    found: dict[str, Side] = {}
    said: list[dict[str, Any]] = []
    child, asking, now = Child(said.append), CellInference.asking, [""]

    def noting(inference: CellInference, question: Any) -> Any:
        now[0] = question.id
        return asking(inference, question)

    for config in configs:
        cell, start = cell_of(config), len(said)
        cell.folder.mkdir(parents=True, exist_ok=True)
        made = made_up.answers(harness, _name(config, harness), data, FORMS)
        answers.next = lambda made=made: made[now[0]]  # type: ignore[misc]
        with recorded(answers) as calls, patch.object(CellInference, "asking", noting):
            child.answer(cell)
        result = said[-1]
        if result["event"] != "result":
            raise RuntimeError(f"{config.task.name}: {result.get('message')}")
        numbers = {
            path: float(value)
            for path, value in result["raw"].items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        assert len(said) - start > len(made), "every sample is asked"
        found[config.task.name] = Side(calls, numbers)
    answers.next = None
    return found


def _name(config: RunConfig, harness: str) -> str:
    return str(getattr(config.task, harness).name)


@contextmanager
def pruned(model: Any, config: RunConfig, processor: Any) -> Iterator[None]:
    """The harness's own model, pruned as a user of the library would."""
    method = str(config.method["name"])
    if method == "vanilla":
        yield
        return
    with unibench.prune(model, method, ratio=RATIO, processor=processor):
        yield


def theirs_vlmevalkit(configs: list[RunConfig], folder: Path, answers: Answers) -> dict[str, Side]:
    """Calls and scores by task, as VLMEvalKit's own loop, class and files make them."""
    from unibench.harness.child.vlmevalkit import accepted, build_dataset, infer_data_job, md5
    from unibench.harness.child.vlmevalkit_models import supported_VLM

    first = configs[0]
    entry = supported_VLM[str(first.model.harness_entry.vlmevalkit)]
    hub = folder / "hub" / entry.keywords["model_path"]
    hub.parent.mkdir(parents=True)
    hub.symlink_to(folder / "model")
    lmu = folder / "LMUData"
    lmu.mkdir()
    os.environ["LMUData"] = str(lmu)  # noqa: SIM112
    found = {}
    with ExitStack() as stack:
        stack.enter_context(shims.on_cpu())
        for module in ("qwen2_vl", "qwen3_vl"):
            name = f"vlmeval.vlm.{module}.model.get_gpu_memory"
            stack.enter_context(patch(name, lambda: [1]))
        stack.enter_context(shims.vlmevalkit(entry.func.__name__, folder / "model"))
        model = (
            partial(entry, model_path=str(hub), use_vllm=False)()
            if "use_vllm" in entry.keywords
            else entry(model_path=str(hub))
        )
        inner, processor = shims.inner(model)
        _shorten(inner)
        stack.enter_context(pruned(inner, first, processor))
        for config in configs:
            name = str(config.task.vlmevalkit.name)  # type: ignore[union-attr]
            table = folder / "data" / f"{name}.tsv"
            (lmu / table.name).symlink_to(table)
            work = folder / "work" / name
            work.mkdir(parents=True)
            with accepted(name, md5(table)), recorded(answers) as calls:
                dataset = build_dataset(name)
                infer_data_job(model, work_dir=str(work), model_name="own", dataset=dataset)
            # its own format: nothing asks for another here
            result = dataset.evaluate(
                str(work / f"own_{name}.xlsx"), model="exact_matching", nproc=2
            )
            found[config.task.name] = Side(calls, vlmevalkit_side.flat(result))
    return found


def theirs_lmms_eval(configs: list[RunConfig], folder: Path, answers: Answers) -> dict[str, Side]:
    """Calls and scores by task, as lmms-eval's own evaluator and class make them."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model
    from lmms_eval.tasks import TaskManager

    from unibench.harness.child.lmms import task_of

    first = configs[0]
    entry = str(first.model.harness_entry.lmms_eval)
    found = {}
    with ExitStack() as stack:
        stack.enter_context(shims.on_cpu())
        kind = get_model(entry)
        stack.enter_context(shims.lmms_eval(entry, folder / "model"))
        model = kind(pretrained=str(folder / "model"), device="cpu", device_map="cpu", batch_size=1)
        shims.placed(model)
        model.clean = lambda: None  # it would drop its model after the first task
        inner, processor = shims.inner(model)
        _shorten(inner)
        stack.enter_context(pruned(inner, first, processor))
        manager = TaskManager(model_name=entry)
        for config in configs:
            name = str(config.task.lmms_eval.name)  # type: ignore[union-attr]
            data = {"dataset_path": str(folder / "data" / name), "dataset_name": None}
            task = task_of(manager, name, data, simple=kind.is_simple)
            lmms_eval_side.forget_points(task)
            with recorded(answers) as calls:
                result = simple_evaluate(model=model, tasks=[task], task_manager=manager, batch_size=1, bootstrap_iters=0, log_samples=False, process_docs_parallel=1)  # fmt: skip
            found[config.task.name] = Side(calls, lmms_eval_side.flat(result["results"][name]))
    return found


def _shorten(model: Any) -> None:
    """Answers of a few tokens on both sides; everything else is the harness's."""

    def generate(*args: Any, **kwargs: Any) -> Any:
        # looked up at each call: it is being recorded
        return type(model).generate(model, *args, **{**kwargs, "max_new_tokens": LENGTH})

    model.generate = generate


def compared(harness: str, family: str, method: str) -> dict[str, dict[str, Any]]:
    """Of each task: calls, and how many of them have the same ids, pixels, visual tokens, decoding
    and answers; numbers of the score, how many of them are equal, and the first metric of both.
    """
    theirs = {"vlmevalkit": theirs_vlmevalkit, "lmms_eval": theirs_lmms_eval}[harness]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        checkpoint(family, folder / "model")
        sides = {task: card(task, harness) for task in TASKS[harness]}
        write(folder / "data", harness, [str(side.name) for side in sides.values() if side], QUESTIONS)  # fmt: skip
        configs = cells(family, harness, method, folder)
        answers = Answers(AutoTokenizer.from_pretrained(folder / "model"))
        mine = ours(configs, harness, answers, folder / "data")
        own = theirs(configs, folder, answers)
    return {
        task: _equal(mine[task].calls, own[task].calls)
        | _scored(sides[task], mine[task], own[task])
        for task in mine
    }


def _scored(side: Any, mine: Side, own: Side) -> dict[str, Any]:
    """How many numbers of a result are equal, and the card's first metric of both."""
    paths = compared_paths(side, mine.numbers, own.numbers)
    same = [math.isclose(mine.numbers[path], own.numbers[path], rel_tol=1e-9) for path in paths]
    first = side.metrics[0]
    native, ours_ = (sum(one.numbers[path] for path in first.path) for one in (own, mine))
    return {
        "numbers": len(paths),
        "scores": sum(same),
        "score": {"of": first.name, "best": first.best, "native": native, "unibench": ours_},
    }


def _equal(mine: Sequence[Call], own: Sequence[Call]) -> dict[str, Any]:
    order = sorted if len(mine) == len(own) else list  # lmms-eval's classes sort their requests
    key = lambda call: (call.ids, call.pixels)  # noqa: E731
    pairs = (
        list(zip(order(mine, key=key), order(own, key=key), strict=False))
        if len(mine) == len(own)
        else list(zip(mine, own, strict=False))
    )
    same: dict[str, Any] = {"calls": len(own), "asked": len(mine)}
    for name in Call.__dataclass_fields__:
        same[name] = sum(getattr(one, name) == getattr(other, name) for one, other in pairs)
    return same


def asked_for(harness: str, family: str) -> bool:
    """Whether the harness has a model object of the family."""
    return getattr(entry_of(CARDS[family]), harness) is not None


def entry_of(name: str) -> HarnessEntry:
    """What the harnesses call a configured model."""
    (config,) = compose_cells([f"model={name}"], sweep=False)
    return config.model.harness_entry


def equal(tasks: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every call of every task is the same in every respect, every score too, and there are
    any.
    """
    counted = ("calls", "asked", *Call.__dataclass_fields__)
    counts = [{same[name] for name in counted} for same in tasks.values()]
    scores = [{same["numbers"], same["scores"]} for same in tasks.values()]
    return bool(counts) and all(len(count) == 1 and 0 not in count for count in counts + scores)


def cell(harness: str, family: str, method: str) -> None:
    """One cell of the matrix, as JSON."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # what a harness prints
    os.environ |= {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    with tempfile.TemporaryDirectory() as home:
        os.environ["HF_HOME"] = home
        result = compared(harness, family, method)
    os.write(stdout, json.dumps(result).encode() + b"\n")


if __name__ == "__main__":
    cell(*sys.argv[1:])
