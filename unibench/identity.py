"""What makes a cell the same cell: everything that can change its numbers, hashed into one key.

Nothing here imports torch: a plan of thousands of cells takes seconds.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from unibench import benchmark, registry
from unibench.budget import Budget
from unibench.config import BudgetConfig, RunConfig, TaskConfig, budget_of, model_path, parts_of
from unibench.errors import UsageError

SCHEMA = 2  # of the files in a cell's folder
ENGINE = 1  # raise it when a change of code can change a number of any method

CANDIDATE = ("method", "source", "budget")  # entries of an identity: what is compared
QUESTIONS = ("task", "data", "harness")  # what it is asked, and by whom


@dataclass(frozen=True)
class Cell:
    """One point of a grid.

    Attributes:
        config: the resolved configuration; where a harness asks, it is named, never ``auto``.
        benchmark: the task as its harness has it, None for an embedded task.
        budget: parsed.
        identity: all that the key hashes.
        key: hash of the identity.
    """

    config: RunConfig
    benchmark: benchmark.Benchmark | None
    budget: Budget
    identity: dict[str, Any]
    key: str

    @property
    def method(self) -> str:
        return str(self.config.method["name"])

    @property
    def setting(self) -> str:
        """See :func:`setting_of`."""
        return setting_of(self.identity)

    @property
    def series(self) -> str:
        """See :func:`series_of`."""
        return series_of(self.identity)

    @property
    def loaded(self) -> str:
        """Hash of what is loaded to answer the cell: cells that share it take turns at one model
        in memory.
        """
        model, pixels = self.identity["model"], self.identity["pixels"]
        return _hash([model, pixels, self.config.model.device])

    @property
    def variant(self) -> str:
        """The method's parameters that are neither its defaults nor the model's own, for example
        ``layer=3``.
        """
        defaults = registry.method(self.config.method.get("source", self.method)).parameters
        given, selector = self.identity["method"], model_path(self.config.model.selector)
        own = () if selector is None else (_content(str(selector)),)
        return ",".join(
            f"{key}={given[key]}"
            for key, default in defaults.items()
            if given[key] not in (_listed(default), *own)
        )

    @property
    def folder(self) -> Path:
        """``<out>/<model>/<task>/<method>@<ratio>[+parameters][+seed]/<key>``."""
        parts = [
            f"{self.method}@{self.budget.label}",
            re.sub(r"[^\w=.,+-]", "_", self.variant)[:60],
        ]
        parts.append(f"seed{self.config.seed}" if self.config.seed else "")
        label = "vanilla" if self.method == "vanilla" else "+".join(part for part in parts if part)
        return Path(self.config.out, self.config.model.name, self.config.task.name, label, self.key)

    @property
    def title(self) -> str:
        """For people: model, method, budget, task."""
        mode = "" if self.config.budget.mode == BudgetConfig().mode else self.config.budget.mode
        seed = f"seed {self.config.seed}" if self.config.seed else ""
        parts = [
            self.method,
            *([] if self.method == "vanilla" else [self.variant, self.budget.label, mode, seed]),
        ]
        return (
            f"{self.config.model.name} x {' '.join(part for part in parts if part)} x"
            f" {self.config.task.name}"
        )


def _listed(value: Any) -> Any:
    """Tuples as YAML has them."""
    return [_listed(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def cell_of(config: RunConfig) -> Cell:
    """The cell of a checked configuration."""
    budget = budget_of(config)
    if config.method["name"] == "vanilla":
        config = replace(
            config, seed=0, budget=BudgetConfig(), ratio=None, retention=None, keep=None
        )
    asked = benchmark.benchmark_of(config)
    if asked is not None:
        config = replace(config, harness=asked.harness)
    identity = _identity(config, budget)
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return Cell(config, asked, budget, identity, hashlib.sha256(text.encode()).hexdigest()[:16])


def vanilla_of(cell: Cell) -> Cell:
    """The unpruned cell that a cell's drop is measured against: it differs in method and budget
    alone.
    """
    return cell_of(replace(cell.config, method={"name": "vanilla"}))


def setting_of(identity: Mapping[str, Any]) -> str:
    """Hash of all that an identity says but method, budget and seed: cells of one setting may be
    compared, and a drop is measured against vanilla of the same setting.
    """
    return _hash(_without(identity, *CANDIDATE, "seed"))


def series_of(identity: Mapping[str, Any]) -> str:
    """Hash of all that an identity says but the seed: cells of one series, and no others, are
    averaged.
    """
    return _hash(_without(identity, "seed"))


def condition_of(identity: Mapping[str, Any]) -> str:
    """Hash of a setting without its questions: cells of one condition may stand in one line or
    average over tasks.
    """
    return _hash(_without(identity, *CANDIDATE, *QUESTIONS, "seed"))


def candidate_of(identity: Mapping[str, Any]) -> str:
    """Hash of what is compared over tasks: a method's parameters and source code, and its
    budget.
    """
    return _hash({name: identity[name] for name in CANDIDATE})


def questions_of(identity: Mapping[str, Any]) -> str:
    """Hash of what is asked, whatever the model: such cells have the same number of samples."""
    return _hash({name: identity[name] for name in QUESTIONS})


def _without(identity: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in names}


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _identity(config: RunConfig, budget: Budget) -> dict[str, Any]:
    plain = asdict(config)
    model, task, method = plain["model"], plain["task"], plain["method"]
    return {
        "schema": SCHEMA,
        "engine": ENGINE,
        "model": {
            "name": model["name"],
            "weights": model_digest(model),
            "dtype": model["dtype"],
            "attn": model["attn"],
            "quantization": model["quantization"],
            "processor": model["processor"],
            "architecture": model["architecture"] if model["weights"] == "random" else None,
            "clip": model["clip"],
        },
        "method": {key: _content(value) for key, value in method.items() if key != "source"},
        "source": source_digest(card.path for card in parts_of(method)),
        "budget": {"label": budget.label, **plain["budget"]},
        "seed": plain["seed"],
        "task": {key: task[key] for key in ("name", "limit", "options", "modality")},
        "data": data_digest(config.task, config.harness),
        "pixels": {plain["pixels"]: model["pixels"][plain["pixels"]]},
        "generation": plain["generation"],
        "batch_size": plain["batch_size"],
        "harness": benchmark.identity_of(config),
        **({} if config.timing else {"timing": False}),
    }


def _content(value: Any) -> Any:
    """What a parameter stands for: the file that it names by its digest, anything else itself."""
    if not isinstance(value, str) or "/" not in value or not Path(value).expanduser().exists():
        return value
    return f"files:{file_digest(Path(value).expanduser())}"


def model_digest(model: dict[str, Any]) -> str:
    """What identifies the weights without loading them: a hash of the files, or hub id and
    revision.
    """
    path = model_path(model["path"])
    if model["weights"] == "random":
        return f"random:{model['name']}"
    if path is not None:
        return f"files:{file_digest(path)}"
    return f"hub:{model['checkpoint']}@{model['revision'] or 'main'}"


def data_digest(task: TaskConfig, harness: str) -> str:
    """What identifies the samples: the files of a data folder, the source code of what draws them,
    or a published name.
    """
    if task.kind == "harness":
        chosen = benchmark.chosen(task, harness)
        local = ",".join(file_digest(path) for path in benchmark.data_of(task, chosen))
        return f"local:{local}" if local else f"published:{getattr(task, chosen).name}"
    if task.data is not None:
        return f"files:{file_digest(Path(task.data).expanduser())}"
    if task.target is not None:
        module = task.target.partition(":")[0].removeprefix("unibench.").replace(".", "/")
        place = (
            registry.ROOT / module
            if (registry.ROOT / "tasks").is_dir()
            else registry.ROOT.parent / module
        )
        sources = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        return f"code:{source_digest(sources)}"
    raise UsageError(f"task={task.name} is embedded and names no target")


@cache
def file_digest(place: Path) -> str:
    """Hash of names, sizes and contents of a file or below a folder; a large file's first and last
    megabyte stand for it.

    Hidden files and README.md of a folder, which nothing loads, do not count.
    """
    digest = hashlib.blake2b(digest_size=8)
    kept = (
        path
        for path in place.rglob("*")
        if path.is_file() and path.name[0] != "." and path.name != "README.md"
    )
    files = [place] if place.is_file() else sorted(kept)
    for file in files:
        size = file.stat().st_size
        digest.update(
            f"{file.relative_to(place.parent if place.is_file() else place)}:{size}".encode()
        )
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            if size > 1 << 20:
                stream.seek(max(1 << 20, size - (1 << 20)))
                digest.update(stream.read())
    return digest.hexdigest()


def source_digest(paths: Iterable[Path]) -> str:
    """Hash of Python source without its comments and docstrings, so that a better sentence changes
    no key.
    """
    return _source_digest(tuple(paths))


@cache
def _source_digest(paths: tuple[Path, ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                and ast.get_docstring(node, clean=False) is not None
            ):
                node.body = node.body[1:] or [ast.Pass()]
        digest.update(f"{path.name}:{ast.dump(tree)}".encode())
    return digest.hexdigest()
