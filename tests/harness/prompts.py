"""The prompts of the first question of every stand-in, by rule: ``python -m tests.harness.prompts
vlmevalkit > file`` pins them.

A process of its own, since a harness changes the one that imports it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unibench._compat import repair_torchvision

repair_torchvision()

from tests.harness.standins import NAMES as WRITTEN
from tests.harness.standins import OF_PAPERS, write

Prompts = dict[str, dict[str, str]]
NAMES = {
    harness: [name for name in names if name not in OF_PAPERS[harness]]
    for harness, names in WRITTEN.items()
}
RULES = {
    "vlmevalkit": ("dataset", "internvl", "llava", "qwen"),
    "lmms_eval": ("default", "internvl_hf", "llava_hf", "qwen2_5_vl", "qwen2_vl", "qwen3_vl"),
}  # classes with prompts of their own


def vlmevalkit(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name, rule and prompt; pictures as ``<image>``."""
    from vlmeval.vlm import Qwen2VLChat
    from vlmeval.vlm.internvl.utils import reorganize_prompt

    from unibench.harness.child.vlmevalkit import accepted, build_dataset, md5
    from unibench.harness.child.vlmevalkit_models import InternVLChat, LLaVA

    classes = {"internvl": InternVLChat, "llava": LLaVA, "qwen": Qwen2VLChat}
    settings = {"_use_custom_prompt": True, "use_mpo_prompt": False, "use_cot": False}
    os.environ["LMUData"] = str(folder)  # noqa: SIM112
    for name in NAMES["vlmevalkit"]:
        with accepted(name, md5(folder / f"{name}.tsv")):
            dataset = build_dataset(name)
        line = dataset.data.iloc[0]
        for rule in RULES["vlmevalkit"]:
            message = dataset.build_prompt(line)
            if rule in classes:
                model = classes[rule].__new__(classes[rule])  # its constructor loads a checkpoint
                vars(model).update(settings, dump_image_func=dataset.dump_image, cot_prompt=None)
                if model.use_custom_prompt(name):
                    message = model.build_prompt(line, name)
            pictures = sum(part["type"] == "image" for part in message)
            shown = {"text": lambda part: part["value"], "image": lambda part: "<image>"}
            text = "".join(shown[part["type"]](part) for part in message)
            if rule == "internvl":
                text = reorganize_prompt(message, pictures, dataset=name).replace(
                    "<image>\n", "<image>"
                )
            yield name, rule, text


def lmms_eval(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name, model name and prompt of the tasks without videos."""
    import datasets
    from lmms_eval.tasks import TaskManager

    from unibench.harness.child.clips import clip_of
    from unibench.harness.child.lmms import content_of, task_of

    original = datasets.load_dataset
    datasets.load_dataset = lambda path, name=None, **options: original(
        str(_local(folder, path, name)), **_known(options)
    )
    for rule in RULES["lmms_eval"]:
        manager = TaskManager(model_name=rule)
        for name in (
            name
            for name in NAMES["lmms_eval"]
            if name not in ("videomme", "vinoground", "mathvision_test")
        ):
            task = task_of(
                manager, name, {"dataset_path": str(folder / name), "dataset_name": None}
            )
            content = content_of(
                task.doc_to_messages(task.eval_docs[0]),
                lambda file: clip_of(file, {"reader": "unibench", "frames": 32}, None),
            )
            yield (
                name,
                rule,
                "".join(piece if isinstance(piece, str) else "<image>" for piece in content),
            )


def _local(folder: Path, path: str, name: str | None) -> Path:
    hub = "__".join(filter(None, [path.replace("/", "__"), name]))
    return folder / hub if (folder / hub).is_dir() else Path(path)


def _known(options: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in options.items() if key != "token"}


def collected(found: Iterator[tuple[str, str, str]]) -> Prompts:
    """By name and rule; rules that agree with the first one, ``all``, are left away."""
    prompts: Prompts = {}
    for name, rule, prompt in found:
        prompts.setdefault(name, {})[rule] = prompt
    for given in prompts.values():
        if len(set(given.values())) == 1:
            prompt = next(iter(given.values()))
            given.clear()
            given["all"] = prompt
    return prompts


if __name__ == "__main__":
    harness = sys.argv[1]
    with tempfile.TemporaryDirectory() as place:
        os.environ |= {
            "HF_HOME": f"{place}/hf",
            "OPENAI_API_KEY": "none",
        }  # some tasks want a key before they are asked
        write(
            Path(place, "data"),
            harness,
            [name for name in NAMES[harness] if name not in ("videomme", "vinoground")],
            4,
        )
        stdout = os.dup(1)
        os.dup2(2, 1)  # what the harness prints
        found = collected(
            (vlmevalkit if harness == "vlmevalkit" else lmms_eval)(Path(place, "data"))
        )
        os.write(stdout, json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n")
