"""The harness's own command against unibench, call by call: what reaches ``generate``.

    python -m tests.harness.parity vlmevalkit qwen2_5_vl divprune     # one cell of the matrix, as JSON
    python -m tests.harness.parity run outputs/parity                 # all of them
    python -m tests.harness.parity page outputs/parity > results/harness_parity.md

On the harness's side stands its own class, which loads a small random checkpoint by itself, in the
harness's own loop; only "cuda" is replaced by the CPU and half precision by single. The two
classes whose code no index has (the package ``llava``, OpenGVLab's remote code) run on what
:mod:`tests.harness.shims` has written again, apart from what unibench has for them.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from unibench._compat import repair_torchvision

repair_torchvision()

import torch
from transformers import (
    BatchFeature,
    GenerationMixin,
    PreTrainedModel,
    Qwen3VLForConditionalGeneration,
)

import unibench
from tests.harness import shims
from tests.harness.running import card
from tests.harness.standins import write
from tests.support.architectures import ARCHITECTURES
from tests.support.checkpoints import save
from unibench.compose import compose_cells
from unibench.config import HarnessEntry, RunConfig
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
QUESTIONS = 2
LENGTH = 3
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


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """The calls of every model inside the block."""
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
        calls.append(
            Call(
                hashlib.blake2b(ids.numpy().tobytes(), digest_size=8).hexdigest(),
                state.hexdigest() if any(values is not None for values in pixels) else "",
                int((ids == model.config.image_token_id).sum()),
                tuple(
                    neutral.get(key, value) if value is None else value
                    for key, value in zip(DECODING, settings, strict=True)
                ),
                tuple(out[0, ids.shape[1] :].tolist()),
            )
        )
        return out

    with patch.object(GenerationMixin, "generate", recording):
        yield calls


@contextmanager
def on_cpu() -> Iterator[None]:
    """ "cuda" is the CPU, half precision is single, and no GPU is asked for."""
    load, move, place = PreTrainedModel.from_pretrained.__func__, torch.Tensor.to, BatchFeature.to

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        for key in ("torch_dtype", "low_cpu_mem_usage", "use_flash_attention_2"):
            kwargs.pop(key, None)
        kwargs |= {"dtype": torch.float32, "attn_implementation": "sdpa", "device_map": None}
        return load(cls, *args, **kwargs)

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = [str(value).partition(":")[0] for value in (*args, *kwargs.values())]
        if "cuda" in named or {"torch.float16", "torch.bfloat16"} & {*named}:
            return self
        return move(self, *args, **kwargs)

    def batch_to(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self if "cuda" in map(str, args) else place(self, *args, **kwargs)

    with (
        patch.object(PreTrainedModel, "from_pretrained", classmethod(from_pretrained)),
        patch.object(torch.Tensor, "to", to),
        patch.object(torch.Tensor, "cuda", lambda self: self),
        patch.object(torch.nn.Module, "cuda", lambda self, *_: self),
        patch.object(BatchFeature, "to", batch_to),
    ):
        module_to = torch.nn.Module.to
        keep = lambda self, *args, **kwargs: (  # noqa: E731
            self if "cuda" in str(args) else module_to(self, *args, **kwargs)
        )
        with patch.object(torch.nn.Module, "to", keep):
            yield


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


def ours(configs: list[RunConfig]) -> dict[str, list[Call]]:
    """Calls by task, as unibench makes them; tables of a few questions cannot all be scored."""
    found: dict[str, list[Call]] = {}
    said: list[dict[str, Any]] = []
    child = Child(said.append)
    for config in configs:
        cell = cell_of(config)
        cell.folder.mkdir(parents=True, exist_ok=True)
        start = len(said)
        with recorded() as calls:
            child.answer(cell)
        if not any(event["event"] == "answered" for event in said[start:]):
            raise RuntimeError(f"{config.task.name}: {said[-1]['message']}")
        found[config.task.name] = list(calls)
    return found


@contextmanager
def pruned(model: Any, config: RunConfig, processor: Any) -> Iterator[None]:
    """The harness's own model, pruned as a user of the library would."""
    method = str(config.method["name"])
    if method == "vanilla":
        yield
        return
    with unibench.prune(model, method, ratio=RATIO, processor=processor):
        yield


def theirs_vlmevalkit(configs: list[RunConfig], folder: Path) -> dict[str, list[Call]]:
    """Calls by task, as VLMEvalKit's own loop and class make them."""
    from unibench.harness.child.vlmevalkit import accepted, build_dataset, infer_data_job, md5
    from unibench.harness.child.vlmevalkit_models import supported_VLM

    first = configs[0]
    entry = supported_VLM[str(first.model.harness_entry.vlmevalkit)]
    hub = folder / "hub" / entry.keywords["model_path"]
    hub.parent.mkdir(parents=True)
    hub.symlink_to(folder / "model")
    lmu = folder / "LMUData"
    lmu.mkdir()
    os.environ |= {"LMUData": str(lmu), "PRED_FORMAT": "tsv"}
    found = {}
    with ExitStack() as stack:
        stack.enter_context(on_cpu())
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
            with accepted(name, md5(table)), recorded() as calls:
                infer_data_job(
                    model, work_dir=str(work), model_name="own", dataset=build_dataset(name)
                )
            found[config.task.name] = list(calls)
    return found


def theirs_lmms_eval(configs: list[RunConfig], folder: Path) -> dict[str, list[Call]]:
    """Calls by task, as lmms-eval's own evaluator and class make them."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model
    from lmms_eval.tasks import TaskManager

    from unibench.harness.child.lmms import task_of

    first = configs[0]
    entry = str(first.model.harness_entry.lmms_eval)
    found = {}
    with ExitStack() as stack:
        stack.enter_context(on_cpu())
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
            with recorded() as calls:
                simple_evaluate(model=model, tasks=[task], task_manager=manager, batch_size=1, bootstrap_iters=0, log_samples=False, process_docs_parallel=1)  # fmt: skip
            found[config.task.name] = list(calls)
    return found


def _shorten(model: Any) -> None:
    """Answers of a few tokens on both sides; everything else is the harness's."""

    def generate(*args: Any, **kwargs: Any) -> Any:
        # looked up at each call: it is being recorded
        return type(model).generate(model, *args, **{**kwargs, "max_new_tokens": LENGTH})

    model.generate = generate


def compared(harness: str, family: str, method: str) -> dict[str, Any]:
    """Of each task: calls, and how many of them have the same ids, pixels, visual tokens, decoding
    and answers.
    """
    theirs = {"vlmevalkit": theirs_vlmevalkit, "lmms_eval": theirs_lmms_eval}[harness]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        checkpoint(family, folder / "model")
        names = [str(card(task, harness).name) for task in TASKS[harness]]  # type: ignore[union-attr]
        write(folder / "data", harness, names, QUESTIONS)
        configs = cells(family, harness, method, folder)
        mine = ours(configs)
        own = theirs(configs, folder)
    return {task: _equal(mine[task], own[task]) for task in mine}


def _equal(mine: list[Call], own: list[Call]) -> dict[str, int]:
    order = sorted if len(mine) == len(own) else list  # lmms-eval's classes sort their requests
    key = lambda call: (call.ids, call.pixels)  # noqa: E731
    pairs = (
        list(zip(order(mine, key=key), order(own, key=key), strict=False))
        if len(mine) == len(own)
        else list(zip(mine, own, strict=False))
    )
    same = {"calls": len(own), "asked": len(mine)}
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


def equal(tasks: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether every call of every task is the same in every respect, and there are any."""
    counts = [set(same.values()) for same in tasks.values()]
    return bool(counts) and all(len(count) == 1 and 0 not in count for count in counts)


HEAD = """# The harnesses' own commands and unibench, call by call

    .venv/bin/python -m tests.harness.parity run outputs/parity      # {minutes}
    .venv/bin/python -m tests.harness.parity page outputs/parity > results/harness_parity.md

On one side VLMEvalKit's loop (`infer_data_job`) or lmms-eval's evaluator with the harness's own model class, which loads a small
random checkpoint of the family by itself; on the other unibench with `convention=harness`. Counted are calls of `generate` with the
same token ids, pixels (in single precision), visual tokens, decoding (length, repetition penalty, beams) and answer.
Under *divprune* the harness's own model is pruned by `unibench.prune(model, "divprune", ratio={ratio})`. Two classes cannot be
loaded here, since their code is on no index: VLMEvalKit's `LLaVA` and lmms-eval's `llava` (package `llava`), and
VLMEvalKit's `InternVLChat` (OpenGVLab's remote code). They run, with everything that the harness has of them, on those functions
written again for the test (`tests/harness/shims.py`), apart from unibench's. Of the resize by PIL alone both take transformers'.
"""


def page(folder: Path) -> str:
    """The matrix as a page."""
    lines = [HEAD.format(minutes="30 runs", ratio=RATIO)]
    lines.append(
        "| harness | family | entry | method | tasks | calls | ids | pixels | visual tokens | decoding | answers |"
    )
    lines.append("|---|---|---|---|---|---|---|---|---|---|---|")
    for file in sorted(folder.glob("*.json")):
        harness, family, method = _parts(file.stem)
        tasks = json.loads(file.read_text())
        total = {
            key: sum(same[key] for same in tasks.values()) for key in next(iter(tasks.values()))
        }
        entry = getattr(entry_of(CARDS[family]), harness)
        numbers = [str(total[key]) for key in ("calls", *Call.__dataclass_fields__)]
        lines.append(
            f"| {harness} | {family} | `{entry}` | {method} | {len(tasks)} | "
            + " | ".join(numbers)
            + " |"
        )
    return "\n".join([*lines, ""])


def _parts(stem: str) -> tuple[str, str, str]:
    harness = next(name for name in TASKS if stem.startswith(name))
    family, _, method = stem.removeprefix(f"{harness}_").rpartition("_")
    return harness, family, method


def run(folder: Path) -> None:
    """Every cell of the matrix that is not there yet, each in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for harness, family, method in itertools.product(TASKS, CARDS, ("vanilla", "divprune")):
        file = folder / f"{harness}_{family}_{method}.json"
        if file.exists() or not asked_for(harness, family):
            continue
        words = [sys.executable, "-m", "tests.harness.parity", harness, family, method]
        with (folder / f"{file.stem}.log").open("wb") as log:
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, check=False)
        print(f"{file.stem}: {'done' if done.returncode == 0 else 'failed, see the log beside it'}")
        if done.returncode == 0:
            file.write_bytes(done.stdout)


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
    if sys.argv[1] == "run":
        run(Path(sys.argv[2]))
    elif sys.argv[1] == "page":
        print(page(Path(sys.argv[2])), end="")
    else:
        cell(*sys.argv[1:])
