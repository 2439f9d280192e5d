"""The ways into the engine, each answering the same three prompts with one method.

A door is what a user opens: the library call, the command line, ``profile``, the harnesses' child.
Each returns what it kept of every prompt and what the model answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    GenerationConfig,
)

import unibench
from tests.methods._contexts import FORMS, OPTIONS
from tests.support.checkpoints import save
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.harness.child.inference import CellInference
from unibench.identity import Cell, cell_of
from unibench.inference.ask import generated
from unibench.inference.session import method_of
from unibench.models import LoadedModel, load
from unibench.profile.passes import Contender, facts
from unibench.registry import ROOT
from unibench.tasks import Sample
from unibench.tasks.synthvqa import SynthVQA

PROMPTS, TOKENS, RATIO = 3, 4, 0.889
_META = {"task": "doors", "repeats": 1}
TINY = {family: ROOT / "models" / "tiny" / family for family in ("qwen2_5_vl", "llava", "internvl")}
FAMILIES = (*TINY, "llava_onevision")
# a method and words of the run beside it -> the same for prune()
RUNS: dict[str, dict[str, Any]] = {
    "divprune wrap=[cen_prune]": {"wrap": ["cen_prune"]},
    "fastv wrap=[{name:debias,prior:'random:0'}] positions=compact": {
        "wrap": [{"name": "debias", "prior": "random:0"}],
        "positions": "compact",
    },
    "sparsevlm positions=compact": {"positions": "compact"},
    "visionzip positions=centre": {"positions": "centre"},
    "divprune budget.rounding=python_int": {"rounding": "python_int"},
}


@dataclass(frozen=True)
class Kept:
    """What a door did to a prompt.

    Attributes:
        prompt: digest of the token ids.
        pixels: digest of the pixel tensors.
        last: which visual tokens entered the last decoder layer.
        processed: visual tokens that entered each decoder layer.
        answer: of the model.
    """

    prompt: str
    pixels: str
    last: str
    processed: tuple[int, ...]
    answer: str


@dataclass(frozen=True)
class House:
    """A checkpoint, and where the doors lead into it.

    Attributes:
        family: of the model.
        checkpoint: its folder.
        clip: folder of the CLIP that its tower comes from, None where it has none.
        folder: for results.
    """

    family: str
    checkpoint: Path
    clip: Path | None
    folder: Path

    @property
    def words(self) -> list[str]:
        """How the command line names the model."""
        card = f"tiny_{self.family}" if self.family in TINY else "llava_onevision_7b"
        clip = [] if self.clip is None else [f"model.clip={self.clip}"]
        more = [f"model.path={self.checkpoint}", "model.dtype=float32", "model.device=cpu"]
        return [f"model={card}", *clip, *([] if self.family in TINY else more)]

    def cell(self, name: str) -> Cell:
        """The cell of a method, or of one of its further forms."""
        return _cell(self, name)

    @property
    def loaded(self) -> LoadedModel:
        """The model as the runner loads it."""
        return _loaded(self)


@cache
def _cell(house: House, name: str) -> Cell:
    (config,) = compose_cells([*house.words, *command(name), f"out={house.folder}"], sweep=False)
    return cell_of(config)


@cache
def _loaded(house: House) -> LoadedModel:
    spec = house.cell("vanilla").config
    return load(spec.model, spec.pixels)


@cache
def samples() -> tuple[Sample, ...]:
    """Three questions about different pictures, with grain: patches of a plain ground are equal but
    for the last bits, and those differ with where a tensor lies in memory.
    """
    found: dict[str, Sample] = {}
    for sample in SynthVQA().samples():
        if sample.group not in found:
            grained = tuple(_grained(image, len(found)) for image in sample.images)
            found[sample.group] = replace(sample, images=grained)
        if len(found) == PROMPTS:
            break
    return tuple(found.values())


def _grained(image: Image.Image, seed: int) -> Image.Image:
    shape = (image.height, image.width, 3)
    grain = np.random.default_rng(seed).integers(-24, 25, shape)
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def options_of(name: str) -> tuple[str, dict[str, Any]]:
    """A method's name and parameters, from the name of one of its forms."""
    name = name.partition(" ")[0]
    return FORMS.get(name, (name, OPTIONS.get(name, {})))


def command(name: str) -> list[str]:
    """The words of the command line for a method."""
    base, options = options_of(name)
    given = [f"method.{key}={json.dumps(value)}" for key, value in options.items()]
    words = [f"method={base}", *given, f"ratio={RATIO}", f"generation.max_new_tokens={TOKENS}"]
    return [*words, *name.split()[1:]]


def library(house: House, name: str) -> list[Kept]:
    """``unibench.prune`` around ``generate`` on a model that transformers loaded alone."""
    model, processor = _plain(house.checkpoint)
    base, options = options_of(name)
    greedy = GenerationConfig(
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    kept = []
    clip = None if house.clip is None else str(house.clip)
    pruned = unibench.prune(
        model,
        base,
        processor=processor,
        clip=clip,
        ratio=_ratio(name),
        **options,
        **RUNS.get(name, {}),
    )
    with pruned as session, torch.inference_mode():
        for sample in samples():
            content = [{"type": "image"}, {"type": "text", "text": sample.question}]
            text = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            inputs = processor(text=[text], images=[*sample.images], return_tensors="pt")
            session.samples = [sample.id]
            out = model.generate(**inputs, generation_config=greedy)
            (record,) = session.take_records()
            tokens = out[:, inputs["input_ids"].shape[1] :]
            kept.append(_kept(record, house.loaded.answers(tokens)[0]))
    return kept


def _ratio(name: str) -> float | None:
    return None if name == "vanilla" else RATIO


@cache
def _plain(checkpoint: Path) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(checkpoint)


def command_line(house: House, names: Sequence[str]) -> dict[str, list[Kept]]:
    """``python -m unibench`` on one's own pictures, every method at once where it has no options."""
    data = house.folder / "data"
    data.mkdir(exist_ok=True)
    lines = []
    for number, sample in enumerate(samples()):
        sample.images[0].save(data / f"{number}.png")
        entry = {"image": f"{number}.png", "question": sample.question, "id": sample.id}
        lines.append(json.dumps({**entry, "answer": list(sample.answers)}))
    (data / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    common = [*house.words, "task=folder", f"task.data={data}"]
    plain = [name for name in names if not options_of(name)[1] and name not in RUNS]
    places = {name: house.folder / re.sub(r"\W+", "_", name) for name in names}
    together = f"method={','.join(plain)}"
    budget = [f"ratio={RATIO}", f"generation.max_new_tokens={TOKENS}"]
    if plain:
        assert main(["-m", together, *budget, *common, f"out={house.folder / 'plain'}"]) == 0
    for name in set(names) - set(plain):
        assert main([*command(name), *common, f"out={places[name]}"]) == 0
    kept = {}
    for name in names:
        place = house.folder / "plain" if name in plain else places[name]
        base = house.cell(name).method
        (file,) = (file for file in place.rglob("metrics.json") if _method(file) == base)
        rows = (file.parent / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        kept[name] = [_of_line(json.loads(row)) for row in rows]
    return kept


def _method(file: Path) -> str:
    return str(json.loads(file.read_text(encoding="utf-8"))["method"])


def profile(house: House, name: str) -> list[Kept]:
    """The pass of ``profile``, on these prompts instead of drawn noise."""
    cell, loaded = house.cell(name), house.loaded
    method = method_of(cell)
    contender = Contender(name, name, cell, method)
    kept = []
    for sample in samples():
        inputs = loaded.read([[*sample.images, sample.question]])
        found = facts(loaded, contender, inputs, TOKENS)
        kept.append(_kept(found.record, ""))
    return kept


def child(house: House, name: str) -> list[Kept]:
    """What the child process of a harness does with a prompt, without the harness."""
    cell = house.cell(name)
    events: list[dict[str, Any]] = []
    inference = CellInference(cell, house.loaded, {}, events.append)
    with inference.installed():
        for sample in samples():
            content = [*sample.images, sample.question]
            picture = sample.images[0].tobytes()
            question = inference.question(sample.id, sample.answers[0], sample.question, 1, picture)
            with inference.asking(question) as answering:
                config = inference.decoding(TOKENS)
                answering.text = generated(inference.loaded, [content], config).texts[0]
            assert inference.answer(sample.id) == answering.text
    return [_of_line(event["record"]) for event in events if event["event"] == "sample"]


def harness_object(house: House, name: str) -> tuple[list[Kept], list[dict[str, Any]]]:
    """lmms-eval's own model object for the family, which makes its own prompt and pictures.

    Returns:
        What was kept; the arguments of each call of ``generate``.
    """
    from lmms_eval.api.instance import Instance

    inner, loaded = _harness_object(house)
    calls, events = [], []
    inference = CellInference(_asked_by_lmms(house, name), loaded, {}, events.append)
    generate = type(loaded.model).generate

    def recording(**arguments: Any) -> Any:
        calls.append(arguments)
        return generate(loaded.model, **arguments)

    with inference.installed(), patch.object(loaded.model, "generate", recording):
        for number, sample in enumerate(samples()):
            arguments = _arguments(inner.is_simple, number, sample)
            request = Instance("generate_until", arguments, number, _META | {"doc_id": number})
            picture = sample.images[0].tobytes()
            question = inference.question(sample.id, sample.answers[0], sample.question, 1, picture)
            with inference.asking(question) as answering:
                answering.text = str(unwrap(inner.generate_until([request])[0]))
    return [_of_line(event["record"]) for event in events if event["event"] == "sample"], calls


def unwrap(told: Any) -> Any:
    """The text of what an object of lmms-eval answers."""
    from lmms_eval.api.instance import unwrap_generation_output

    return unwrap_generation_output(told)[0]


def _arguments(simple: bool, number: int, sample: Sample) -> tuple[Any, ...]:
    """A question as lmms-eval hands it to a class of the simple or the chat kind."""
    decoding = {"max_new_tokens": TOKENS, "until": []}
    place = (number, "doors", "test")
    if simple:
        return (sample.question, decoding, lambda doc: [*doc.images], *place)
    content = [{"type": "image", "url": image} for image in sample.images]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": sample.question}]}]
    return (sample.question, lambda doc: messages, decoding, *place)


def _asked_by_lmms(house: House, name: str) -> Cell:
    """The cell of a method that a harness asks."""
    # LLaVA's class needs code that no index has to load a checkpoint, and stands around ours
    native = [] if house.family == "llava" else ["harness_options.wrapper=native"]
    words = [*house.words, "task=mme", "harness=lmms_eval", *native, *command(name)]
    (config,) = compose_cells([*words, f"out={house.folder}"], sweep=False)
    return cell_of(config)


@cache
def _harness_object(house: House) -> tuple[Any, LoadedModel]:
    """The object and the model in it; it finds the questions under the task ``doors``."""
    from unibench.harness.child import lmms_models

    cell = _asked_by_lmms(house, "vanilla")
    if house.family == "llava":
        assert cell.benchmark is not None
        loaded = house.loaded
        convention = cell.benchmark.convention
        inner: Any = lmms_models.asking(loaded, cell.config, convention, house.folder)
        inner.inner.task_dict = {"doors": {"test": samples()}}
        return inner, loaded
    inner, loaded = lmms_models.native(cell.config)
    inner.task_dict = {"doors": {"test": samples()}}
    return inner, loaded


def again(house: House, name: str, calls: Sequence[dict[str, Any]]) -> list[Kept]:
    """The library, on the very calls of ``generate`` that a harness's object made."""
    model, processor = _plain(house.checkpoint)
    base, options = options_of(name)
    clip = None if house.clip is None else str(house.clip)
    pruned = unibench.prune(
        model, base, processor=processor, clip=clip, ratio=_ratio(name), **options
    )
    kept = []
    with pruned as session, torch.inference_mode():
        for sample, call in zip(samples(), calls, strict=True):
            session.samples = [sample.id]
            out = model.generate(**call)
            (record,) = session.take_records()
            tokens = out[:, call["input_ids"].shape[1] :]
            kept.append(_kept(record, house.loaded.answers(tokens)[0]))
    return kept


def _kept(record: Any, answer: str) -> Kept:
    return Kept(
        record.prompt_digest, record.pixel_digest, record.last, tuple(record.processed), answer
    )


def _of_line(line: dict[str, Any]) -> Kept:
    digests = line["prompt_digest"], line["pixel_digest"]
    return Kept(*digests, line["last"], tuple(line["processed"]), line["answer"])


def open_house(family: str, folder: Path) -> House:
    """A checkpoint of a family; LLaVA's with a CLIP of its tower's shape beside it."""
    if family not in TINY:
        return House(family, save(family, folder / "checkpoint"), None, folder)
    clip = _clip(TINY[family], folder / "clip") if family == "llava" else None
    return House(family, TINY[family], clip, folder)


def _clip(checkpoint: Path, place: Path) -> Path:
    """A CLIP with random weights whose vision tower has the shape of a checkpoint's."""
    vision = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["vision_config"]
    place.mkdir()
    letters = [chr(ord("a") + number) for number in range(26)]
    entries = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    (place / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (place / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt"))
    tokenizer.save_pretrained(place)
    text = {
        "vocab_size": len(entries),
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": len(entries) - 2,
        "eos_token_id": len(entries) - 1,
    }
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(place)
    return place


DOORS: dict[str, Callable[[House, str], list[Kept]]] = {
    "library": library,
    "profile": profile,
    "child": child,
}
