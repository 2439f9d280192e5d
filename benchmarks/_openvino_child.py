"""OpenVINO's side of :mod:`benchmarks.openvino`: runs in an environment of its own and imports
nothing of unibench.

    <environment>/bin/python -m benchmarks._openvino_child FOLDER

It reads ``asked.json``, exports the checkpoints named there, and writes ``replies.json``.

The pipeline does not tell which tokens it keeps. A second copy of the exported folder has another
decoder, the recorder, which answers with the positions of its prompt, one number a token: which
tokens are left is read off the answer.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("openvino", "openvino-genai", "openvino-tokenizers", "optimum-intel", "transformers"),
    "torch",
)
DECODER = "openvino_language_model.xml"
SPLIT = "CDPRUNER_SPLIT_THRESHOLD"
# the recorder is no model that paged attention knows
OPTIONS = {
    "ATTENTION_BACKEND": "SDPA",
    "INFERENCE_PRECISION_HINT": "f32",
    "INFERENCE_NUM_THREADS": 1,
}


def exported(checkpoint: Path, target: Path) -> Path:
    """The folder that ``VLMPipeline`` reads: models in float32, and the tokenizer as a model."""
    if (target / "openvino_detokenizer.xml").exists():
        return target
    import torch

    # the index's torchvision has no compiled part for a CPU's torch, see unibench/_compat.py
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import openvino
    from openvino_tokenizers import convert_tokenizer
    from optimum.exporters.openvino.__main__ import main_export
    from optimum.intel.openvino.configuration import OVConfig
    from transformers import AutoTokenizer

    task, precision = "image-text-to-text", OVConfig(dtype="fp32")
    main_export(str(checkpoint), output=target, task=task, ov_config=precision, stateful=True)
    models = convert_tokenizer(AutoTokenizer.from_pretrained(target), with_detokenizer=True)
    for name, model in zip(("tokenizer", "detokenizer"), models, strict=True):
        openvino.save_model(model, target / f"openvino_{name}.xml")
    return target


def recorder(folder: Path, target: Path) -> Path:
    """A copy of an exported folder whose decoder answers with the positions of its prompt.

    Of a prompt of T tokens, the answer is their T rows and then their T columns.
    """
    if (target / DECODER).exists():
        return target
    import numpy as np
    import openvino
    from openvino import opset13 as ops
    from openvino.op.util import Variable, VariableInfo

    def integers(*values: int) -> Any:
        return ops.constant(np.array(values, np.int64))

    target.mkdir(parents=True)
    for file in folder.iterdir():
        if not file.name.startswith("openvino_language_model"):
            shutil.copy(file, target)
    decoder = openvino.Core().read_model(folder / DECODER)
    words = decoder.output("logits").get_partial_shape()[2].get_length()
    inputs = {}
    for one in decoder.inputs:
        inputs[one.any_name] = ops.parameter(one.get_partial_shape(), one.get_element_type())
        inputs[one.any_name].output(0).get_tensor().set_names({one.any_name})
    positions, zero = inputs["position_ids"], integers(0)

    # each call appends [tokens, their rows, their columns] to the state; the first is the prompt's
    about = VariableInfo()
    about.data_shape, about.data_type = openvino.PartialShape([-1]), openvino.Type.i64
    about.variable_id = "seen"
    state = Variable(about)
    before = ops.read_value(ops.constant(np.zeros(0, np.int64)), state)
    count = ops.gather(ops.shape_of(positions), integers(2), zero)
    places = ops.reshape(ops.gather(positions, integers(1, 2), zero), integers(-1), False)
    seen = ops.concat([before, count, places], 0)
    # the mask is as long as the prompt and the answer so far, so its length says how far that is
    prompt = ops.gather(seen, integers(0), zero)
    length = ops.gather(ops.shape_of(inputs["attention_mask"]), integers(1), zero)
    step = ops.minimum(
        ops.subtract(length, prompt), ops.subtract(ops.add(prompt, prompt), integers(1))
    )
    value = ops.gather(seen, ops.add(step, integers(1)), zero)
    on, off = ops.constant(np.float32(1)), ops.constant(np.float32(0))
    depth = ops.constant(np.int64(words))
    answer = ops.one_hot(ops.unsqueeze(value, zero), depth, on, off, -1)
    result = ops.result(answer)
    result.output(0).get_tensor().set_names({"logits"})
    model = openvino.Model([result], [ops.assign(seen, state)], list(inputs.values()), "recorder")
    openvino.save_model(model, target / DECODER, compress_to_fp16=False)
    return target


class Pipeline:
    """``VLMPipeline`` on a CPU.

    Args:
        folder: exported.
        split: a limit beyond which its pruner halves the tokens; None is its default.
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        import openvino_genai

        self._genai = openvino_genai
        # read when the pruner is made, which is when the pipeline is first asked
        if split is None:
            os.environ.pop(SPLIT, None)
        else:
            os.environ[SPLIT] = split
        self._pipe = openvino_genai.VLMPipeline(str(folder), "CPU", **OPTIONS)

    def ask(
        self, prompt: str, picture: str, setting: Mapping[str, Any], new: int, whole: bool = False
    ) -> dict[str, Any]:
        """The answer to a prompt, its tokens and what the pipeline counts.

        Args:
            prompt: with its chat template.
            picture: a file.
            setting: ``percent`` to prune, ``weight`` of relevance.
            new: tokens of the answer.
            whole: it goes on behind the end-of-sequence token.
        """
        genai, tokens = self._genai, list[int]()

        class Streamed(genai.StreamerBase):  # type: ignore[name-defined, misc]
            def write(self, token: int | list[int]) -> Any:
                tokens.extend(token if isinstance(token, list) else [token])
                return genai.StreamingStatus.RUNNING

            def end(self) -> None: ...

        config = genai.GenerationConfig(max_new_tokens=new, do_sample=False, ignore_eos=whole)
        config.apply_chat_template = False
        config.pruning_ratio, config.relevance_weight = setting["percent"], setting["weight"]
        images = [_tensor(picture)]
        start = time.process_time()
        said = self._pipe.generate(
            prompt, images=images, generation_config=config, streamer=Streamed()
        )
        taken = time.process_time() - start
        return {
            "text": said.texts[0],
            "tokens": tokens,
            "prompt": said.perf_metrics.get_num_input_tokens(),
            "seconds": taken,
        }


def _tensor(picture: str) -> Any:
    import numpy as np
    import openvino
    from PIL import Image

    with Image.open(picture) as image:
        return openvino.Tensor(np.asarray(image.convert("RGB"))[None].copy())


def parity(asked: Mapping[str, Any], root: Path) -> Iterator[dict[str, Any]]:
    """An answer and a recording of each setting and case."""
    folder = exported(Path(asked["checkpoint"]), root / f"exported_{asked['name']}")
    other = recorder(folder, root / f"recorder_{asked['name']}")
    for split in dict.fromkeys(setting["split"] for setting in asked["settings"]):
        answers, positions = Pipeline(folder, split), Pipeline(other, split)
        for setting in asked["settings"]:
            if setting["split"] != split:
                continue
            for case in asked["cases"]:
                about = case["prompt"], case["picture"], setting
                said = answers.ask(*about, asked["new_tokens"])
                seen = positions.ask(*about, 2 * said["prompt"], whole=True)["tokens"]
                yield {
                    **said,
                    "setting": setting["name"],
                    "case": case["id"],
                    "rows": seen[: said["prompt"]],
                    "columns": seen[said["prompt"] :],
                }


def cost(asked: Mapping[str, Any], root: Path) -> Iterator[dict[str, Any]]:
    """Times of the first token, the settings taking turns; ``recorder``: without a decoder."""
    name = asked["name"]
    folder = exported(Path(asked["checkpoint"]), root / f"exported_{name}")
    pipeline = Pipeline(folder)
    without = Pipeline(recorder(folder, root / f"recorder_{name}"))
    for turn in range(-1, asked["rounds"]):
        for setting in asked["settings"]:
            about = asked["prompt"], asked["picture"], setting, 1
            taken = {
                "seconds": pipeline.ask(*about)["seconds"],
                "recorder": without.ask(*about)["seconds"],
            }
            if turn >= 0:  # the first turn compiles and allocates
                yield {"name": name, "setting": setting["name"], **taken}


# -- the pruner's rule, written after openvinotoolkit/openvino.genai@da1db864
# src/cpp/src/visual_language/cdpruner

EPSILON = 1e-6  # its numerical_threshold
Kernel = Callable[[Any, Any], Any]


def count(total: int, percent: int) -> int:
    """Tokens that it keeps: the share that stays, rounded in binary.

    >>> count(144, 67), count(144, 89), count(50, 89)  # 5.5 of 50 fall just below the half
    (48, 16, 5)
    """
    return math.floor(total * (1 - percent / 100) + 0.5)


def chosen(features: Any, text: Any, setting: Mapping[str, Any], kernel: Kernel) -> list[int]:
    """The tokens that it keeps of a picture.

    Args:
        features: ``[N, D]`` visual tokens of the language model.
        text: ``[T, D]`` embeddings of all tokens of the prompt outside the picture.
        setting: its ``percent`` and ``split``.
        kernel: makes ``[N, N]`` of features and the mean of the text.

    Returns:
        Rising indices.
    """
    total = len(features)
    keep, word, middle = count(total, setting["percent"]), text.mean(0), total // 2
    if setting["split"] == "0":
        return sorted(greedy(kernel(features, word), keep))
    first = greedy(kernel(features[:middle], word), keep // 2)
    second = greedy(kernel(features[middle:], word), keep - keep // 2)
    return sorted([*first, *(middle + pick for pick in second)])


def kernel_in_float32(weight: float) -> Kernel:
    """Blends similarity with similarity times relevance (its documentation has an exponential)."""
    import numpy as np

    def kernel(features: Any, word: Any) -> Any:
        unit = features / np.sqrt(np.square(features).sum(-1, keepdims=True) + EPSILON)
        relevance = unit @ (word / np.sqrt(np.square(word).sum() + EPSILON))
        relevance = relevance - relevance.min()
        relevance /= relevance.max() + EPSILON
        return unit @ unit.T * (1 - weight + weight * np.outer(relevance, relevance))

    return kernel


def kernel_of_openvino(weight: float) -> Kernel:
    """The same as OpenVINO computes it where nothing is said of precision: in bfloat16 on a
    processor that has it.
    """
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    def axis(number: int) -> Any:
        return ops.constant(np.array([number]))

    def scalar(value: float) -> Any:
        return ops.constant(np.float32(value))

    features, word = ops.parameter([-1, -1, -1], np.float32), ops.parameter([-1, -1], np.float32)
    unit = ops.normalize_l2(features, axis(2), EPSILON, "add")
    cosine = ops.matmul(unit, ops.normalize_l2(word, axis(1), EPSILON, "add"), False, True)
    relevance = ops.reduce_mean(cosine, axis(2), False)
    low, high = ops.reduce_min(relevance, axis(1), True), ops.reduce_max(relevance, axis(1), True)
    spread = ops.add(ops.subtract(high, low), scalar(EPSILON))
    relevance = ops.divide(ops.subtract(relevance, low), spread)
    similarity = ops.matmul(unit, unit, False, True)
    rows = ops.multiply(ops.unsqueeze(relevance, axis(2)), similarity)
    conditional = ops.multiply(rows, ops.unsqueeze(relevance, axis(1)))
    plain = ops.multiply(similarity, scalar(1 - weight))
    blend = ops.add(plain, ops.multiply(conditional, scalar(weight)))
    model = openvino.Model([ops.result(blend)], [features, word], "kernel")
    compiled = openvino.Core().compile_model(model, "CPU")
    return lambda features, word: compiled([features[None], word[None]])[0][0]


def greedy(kernel: Any, keep: int) -> list[int]:
    """Greedy MAP of a determinantal point process, as it is computed there."""
    import numpy as np

    gain = np.diag(kernel).astype(np.float32)
    factor = np.zeros((keep, len(gain)), np.float32)
    picks = list[int]()
    for step in range(keep):
        pick = int(gain.argmax())
        row = kernel[pick].astype(np.float32)
        for before in factor[:step]:
            if abs(before[pick]) >= EPSILON:
                row -= before[pick] * before
        factor[step] = row / np.sqrt(gain[pick] + np.float32(EPSILON))
        gain -= np.square(factor[step])
        gain[[*picks, pick]] = -np.inf
        picks.append(pick)
    return picks


def ruled(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the rule keeps of the features that the other side wrote."""
    from safetensors.numpy import load_file

    drawn = load_file(asked["features"])
    for setting in asked["settings"]:
        if setting["percent"]:
            kernels = {
                "float32": kernel_in_float32(setting["weight"]),
                "default": kernel_of_openvino(setting["weight"]),
            }
            for case in asked["cases"]:
                about = drawn[f"{case['id']}.features"], drawn[f"{case['id']}.text"], setting
                kept = {name: chosen(*about, kernel) for name, kernel in kernels.items()}
                yield {"setting": setting["name"], "case": case["id"], **kept}


def main(folder: Path) -> None:
    """Answer what is asked in a folder."""
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    found = {
        "versions": {package: version(package) for package in PACKAGES},
        "parity": list(parity(asked["parity"], folder)),
        "rule": list(ruled(asked["parity"])),
        "cost": [reply for one in asked["cost"] for reply in cost(one, folder)],
    }
    (folder / "replies.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
