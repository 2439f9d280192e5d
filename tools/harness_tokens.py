"""``python -m tools.harness_tokens > docs/harness_tokens.md``: visual tokens of a picture before
pruning, by size, model and convention. No weights are needed: the harnesses' own classes prepare
the prompts, and their image tokens are counted.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unibench._compat import repair_torchvision

repair_torchvision()

import torch
from PIL import Image
from transformers import GenerationConfig

from unibench import papers
from unibench.benchmark import benchmark_of
from unibench.compose import compose_cells
from unibench.config import RunConfig
from unibench.errors import UsageErrors
from unibench.models import LoadedModel
from unibench.models._sources import blueprint

MODELS = (
    "qwen2_5_vl_7b",
    "qwen2_vl_7b",
    "qwen3_vl_8b",
    "internvl3_8b",
    "llava_1_5_7b",
    "llava_next_7b",
    "llava_onevision_7b",
    "smolvlm2_2b",
)
SIZES = ((100, 32), (300, 200), (336, 336), (640, 480), (1024, 768), (1920, 1080), (1654, 2339))
HEAD = """# Visual tokens of a picture, before pruning

    .venv/bin/python -m tools.harness_tokens > docs/harness_tokens.md

The budget of a cell is a share of these. Sizes are width x height in pixels; 1654 x 2339 is an A4
page at 200 dpi, 100 x 32 a word of OCRBench. `harness` is what the harness's own class does (MMStar
in VLMEvalKit; other data sets may have other limits, see the lines with their name), `model` the
processor of the checkpoint.
"""
ON_CPU = ("model.device=cpu", "model.weights=random", "model.dtype=float32")


class Counting(torch.nn.Module):
    """A model without weights, that counts the image tokens of what it is asked."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.device, self.dtype = config, torch.device("cpu"), torch.float32
        self.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
        self.tokens = 0

    def generate(self, *, input_ids: Any, **_: Any) -> Any:
        self.tokens = int((input_ids == self.config.image_token_id).sum())
        return torch.cat([input_ids, input_ids.new_zeros(1, 1)], 1)


def counts(config: RunConfig, dataset: str, pictures: Path, work: Path) -> list[int]:
    """Tokens of a picture of each size."""
    benchmark = benchmark_of(config)
    assert benchmark is not None
    architecture, processor = blueprint(config.model)
    model = Counting(architecture)
    options = dict(config.model.pixels[config.pixels])
    loaded: Any = LoadedModel(model, processor, SimpleNamespace(), "", options)
    convention, found = benchmark.convention, []
    asked = None
    if convention.entry is not None:
        if benchmark.harness == "vlmevalkit":
            from unibench.harness.child.vlmevalkit_models import asking
        else:
            from unibench.harness.child.lmms_models import asking
        asked = asking(loaded, config, convention, work)
    for size in SIZES:
        file = pictures / f"{size[0]}x{size[1]}.png"
        if asked is None:
            model.generate(input_ids=loaded.read([[Image.open(file), "?"]])["input_ids"])
        elif benchmark.harness == "vlmevalkit":
            message = [{"type": "image", "value": str(file)}, {"type": "text", "value": "?"}]
            asked.generate(message, dataset)
        else:
            asked.inner.task_dict = {"t": {"s": [None]}}
            asked.generate_until([_request(asked.is_simple, Image.open(file))])
        found.append(model.tokens)
    return found


def _request(simple: bool, picture: Image.Image) -> Any:
    from lmms_eval.api.instance import Instance

    content = [{"type": "image", "url": picture}, {"type": "text", "text": "?"}]
    messages = [{"role": "user", "content": content}]
    arguments: tuple[Any, ...] = ("?", lambda _: messages, {}, 0, "t", "s")
    if simple:
        arguments = ("?", {}, lambda _: [picture], 0, "t", "s")
    about = {"task": "t", "doc_id": 0, "repeats": 1}
    return Instance(request_type="generate_until", arguments=arguments, idx=0, metadata=about)


def lines() -> Iterator[tuple[RunConfig, str, str]]:
    """Cells, the data set that is asked, and what the line is called."""
    conventions = ("harness", "model", *(f"paper:{name}" for name in papers.names()))
    for model, harness, convention in itertools.product(
        MODELS, ("vlmevalkit", "lmms_eval"), conventions
    ):
        choice = (f"model={model}", f"harness={harness}", f"convention={convention}")
        try:
            (config,) = compose_cells(["task=mmstar", *choice, *ON_CPU], sweep=False)
        except UsageErrors:  # the paper says nothing of it
            continue
        if convention == "model" and harness == "lmms_eval":
            continue  # the same as under the other
        where = "both" if convention == "model" else harness
        yield config, "MMStar", f"{where} | {convention}"
        if (harness, convention) == ("vlmevalkit", "harness"):
            if model.startswith(("qwen", "internvl")):
                yield config, "OCRBench", f"{where}, OCRBench | {convention}"
            if model.startswith("internvl"):
                yield config, "MMMU_DEV_VAL", f"{where}, MMMU | {convention}"


@contextmanager
def printing_apart() -> Iterator[Any]:
    """What the harnesses print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    yield stream
    stream.flush()


def main() -> None:
    """Print the page."""
    with printing_apart() as out, tempfile.TemporaryDirectory() as place:
        pictures = Path(place, "pictures")
        pictures.mkdir()
        for size in SIZES:
            Image.effect_noise(size, 64).convert("RGB").save(pictures / f"{size[0]}x{size[1]}.png")
        print(HEAD, file=out)
        head = ["model", "harness", "convention", *(f"{w} x {h}" for w, h in SIZES)]
        print("| " + " | ".join(head) + " |", "|" + "---|" * len(head), sep="\n", file=out)
        for number, (config, dataset, name) in enumerate(lines()):
            work = Path(place, str(number))
            numbers = " | ".join(map("{:,}".format, counts(config, dataset, pictures, work)))
            print(f"| {config.model.name} | {name} | {numbers} |", file=out)
            sys.stderr.flush()


if __name__ == "__main__":
    main()
