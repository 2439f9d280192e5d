"""What a cell reads beside its code, by contents: a checkpoint, data, files of parameters."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unibench import benchmark, datafiles, digests, hub, paths
from unibench.config import ModelConfig, TaskConfig, model_path

UNKNOWN = "?"  # stands after a branch of the hub whose commit is not on this disk
LONGEST_PATH = 4096


def value_digest(value: Any) -> Any:
    """What a parameter stands for: the file that it names by its digest, anything else itself."""
    if isinstance(value, Mapping):
        return {key: value_digest(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [value_digest(entry) for entry in value]
    # a word without a dot or a slash, such as a mode, names no file, whatever lies in the folder
    if not isinstance(value, str) or not {*"./"} & {*value} or len(value) > LONGEST_PATH:
        return value
    place = paths.expanded(value)
    return f"files:{digests.contents(place)}" if place.exists() else value


def model_digest(model: Mapping[str, Any]) -> str:
    """What identifies the weights without loading them: a hash of the files, or hub id and
    commit; in front of them the adapter, and how it is applied.
    """
    adapter = model_path(model.get("adapter"))
    if adapter is not None:
        base = model_digest({**model, "adapter": None})
        return f"{model['adapter_mode']}:{digests.contents(adapter)}+{base}"
    path = model_path(model["path"])
    if model["weights"] == "random":
        return f"random:{model.get('card') or model['name']}"
    if path is not None and (path / "snapshots").is_dir():
        path = hub.snapshot(path, model["revision"])
    return checkpoint_digest(str(path or model["checkpoint"]), model["revision"])


def checkpoint_digest(source: str, revision: str | None) -> str:
    """Digest of a checkpoint in a folder, or of one on the hub."""
    path = model_path(source)
    if path is not None and path.exists():
        return f"files:{digests.contents(path)}"
    commit = hub.commit_of(source, revision)
    return f"hub:{source}@{commit or f'{revision or hub.MAIN}{UNKNOWN}'}"


def pinned_processor(model: ModelConfig) -> dict[str, Any]:
    """Image settings that go before those in the checkpoint's own files: what the card pins holds
    for the card's checkpoint; for another one in a folder, only what a command says beyond it.
    """
    if model.path is None or model.weights == "random":
        return model.processor
    return given_processor(model)


def given_processor(model: ModelConfig) -> dict[str, Any]:
    """Image settings that a command says beyond those of the model's card."""
    card = _card_processor(model.card or model.name)
    return {key: value for key, value in model.processor.items() if card.get(key) != value}


@cache
def _card_processor(name: str) -> Mapping[str, Any]:
    """The image settings of a model's card."""
    file = paths.part("configs") / "model" / f"{name}.yaml"
    if not file.is_file():
        return {}
    card = yaml.safe_load(file.read_text(encoding="utf-8"))
    found: Mapping[str, Any] = card.get("processor", {})
    return found


def own_code(model: ModelConfig) -> Any:
    """Whether code of the checkpoint runs, and the commits of other repositories that it is from;
    what lies beside the weights is in their digest.
    """
    if not model.trust_remote_code or model.weights == "random":
        return False
    path = model_path(model.path)
    if path is None and model.checkpoint is not None:
        commit = hub.commit_of(model.checkpoint, model.revision)
        path = hub.cache_of(model.checkpoint) / "snapshots" / str(commit)
    named = set[str]()
    for file in () if path is None else path.glob("*config.json"):
        # {"auto_map": {"AutoModel": "other/repository--modeling.Class"}}
        named |= set(re.findall(r'"([\w.-]+/[\w.-]+)--[\w.]+"', digests.text(file)))
    return sorted(checkpoint_digest(repository, None) for repository in named) or True


def data_digest(task: TaskConfig, harness: str) -> str | None:
    """What identifies the samples: the files of a data folder and the pictures that they name, or a
    published name; None where code draws them.
    """
    if task.kind == "harness":
        asker = benchmark.harness_of(task, harness)
        places = benchmark.data_of(task, asker)
        local = ",".join(digests.contents(place, _in_table(place)) for place in places)
        return f"local:{local}" if local else f"published:{getattr(task, asker).name}"
    if task.data is not None:
        data, options = paths.expanded(task.data), task.options
        columns, split = options.get("columns"), options.get("split")
        named = datafiles.pictures_named(data, columns, split)
        return f"files:{digests.contents(data, (n for n in named if len(n) <= LONGEST_PATH))}"
    return None


def _in_table(table: Path) -> Iterator[str]:
    """The pictures that a table of VLMEvalKit names in place of holding them."""
    if table.suffix != ".tsv" or not table.is_file():
        return
    with table.open(encoding="utf-8", errors="replace", newline="") as stream:
        if "image_path" not in stream.readline().rstrip("\r\n").split("\t"):
            return
        stream.seek(0)
        csv.field_size_limit(sys.maxsize)  # pictures in base64 are longer than its default
        for row in csv.DictReader(stream, delimiter="\t"):
            named = re.findall(r"[^\[\]'\",]+", row["image_path"] or "")
            yield from (path for path in named if Path(path).is_absolute())
