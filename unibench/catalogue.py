"""Benchmarks that a harness has and no card here describes: asked under the harness's own name.

The names are read from the harness's sources: importing one takes seconds and changes the process.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml

from unibench import plainyaml
from unibench.config import Harness
from unibench.errors import UsageError, nearest

MODULES: dict[Harness, str] = {"vlmevalkit": "vlmeval", "lmms_eval": "lmms_eval"}
VARIANT = re.compile(
    r"(?P<dataset>.+?)_(?:(?P<frames>\d+)frame|(?P<fps>\d+(?:\.\d+)?)fps)(?P<subtitles>_subs)?"
    r"(?P<more>_.*)?"
)
"""VLMEvalKit's name of a data set of videos with its number of frames."""
_TABLES = ("DATASET_URL", "DATASET_SETS")
_PATH = re.compile(r"^dataset_path\s*:\s*[\"']?([^\s\"']+)", re.MULTILINE)
_VIDEO = re.compile(r"^ +video\s*:\s*([Tt]rue)", re.MULTILINE)  # among its dataset_kwargs
_INCLUDE = re.compile(r"^include\s*:\s*[\"']?([^\s\"']+)", re.MULTILINE)
_TASK = re.compile(r"^task\s*:\s*[\"']?([\w.+-]+)[\"']?\s*$", re.MULTILINE)


def card(choice: str) -> dict[str, Any] | None:
    """The task card that ``vlmevalkit:AMBER``, ``lmms_eval:mmvet`` or ``./mine.yaml`` stands for;
    None for any other choice.

    Raises:
        UsageError: the harness does not have it, or there is no such file.
    """
    if choice.endswith((".yaml", ".yml")):
        return _of_file(Path(choice).expanduser())
    harness, colon, name = choice.partition(":")
    for known in get_args(Harness):
        if colon and harness == known:
            return _of_harness(known, name)
    return None


def video_folder(name: str) -> str | None:
    """The folder below ``task.data`` that serves VLMEvalKit's data set of videos, whatever its
    frames; None for a name that is none.

    >>> video_folder("Video-MME_64frame_subs"), video_folder("MLVU_MCQ_0.5fps")
    ('Video-MME', 'MLVU_MCQ')
    """
    parts = VARIANT.fullmatch(name)
    return parts and parts["dataset"]


def where(name: str) -> str:
    """Who has a benchmark of this name, whatever its case and its dashes, as a hint; empty for
    nobody.
    """
    found = [
        f"task={harness}:{known}"
        for harness in get_args(Harness)
        for known in sorted(names(harness))
        if _plain(known) == _plain(name)
    ]
    return f". A harness has it: {', '.join(found)}" if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


@cache
def names(harness: Harness) -> frozenset[str]:
    """The benchmarks of an installed harness; empty where it is not installed."""
    if harness == "lmms_eval":
        return frozenset(_task_files())
    spec = importlib.util.find_spec(MODULES[harness])
    if spec is None or spec.origin is None:
        return frozenset()
    return frozenset(_vlmevalkit(Path(spec.origin).parent))


def _of_file(file: Path) -> dict[str, Any]:
    try:
        content = plainyaml.loaded(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"task={file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(f"task={file} is not valid YAML") from None
    if not isinstance(content, dict):
        raise UsageError(f"task={file} holds no card: a mapping as in configs/task/*.yaml")
    return {"name": file.stem, **content}


def _of_harness(harness: Harness, name: str) -> dict[str, Any]:
    known = names(harness)
    if known and name not in known and video_folder(name) not in known:
        raise UsageError(f"{harness} has no benchmark {name!r}.{nearest(name, known)}")
    # which numbers it reports is known when it has scored; its rules come first, then a judge
    rules = "exact" if harness == "vlmevalkit" else "none"
    side = {"name": name, "metrics": [], "judges": [rules, "endpoint"]}
    of_videos = video_folder(name) if harness == "vlmevalkit" else _said(name, _VIDEO)
    modality = "image" if of_videos is None else "video"
    return {
        "name": name,
        "kind": "harness",
        "prefer": harness,
        "modality": modality,
        harness: side,
    }


def _vlmevalkit(folder: Path) -> Iterator[str]:
    """What classes say that they have: keys of ``DATASET_URL`` and ``DATASET_SETS``, lists that
    ``supported_datasets`` returns, and the data sets of videos with their frames.
    """
    for file in sorted((folder / "dataset").rglob("*.py")):
        if "utils" in file.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "supported_datasets":
                for leaf in ast.walk(node):
                    if isinstance(leaf, ast.Return) and isinstance(leaf.value, ast.List):
                        yield from _texts(leaf.value.elts)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                if any(name.startswith(_TABLES) or name.endswith("_dataset") for name in names):
                    yield from _texts(node.value.keys)


def _texts(nodes: Iterable[ast.expr | None]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant):
            yield str(node.value)


def dataset_path(name: str) -> str | None:
    """The repository with the data of a task of lmms-eval; None where its file does not say."""
    return _said(name, _PATH)


def _said(name: str, pattern: re.Pattern[str]) -> str | None:
    """What the file of a task of lmms-eval says, or the one that it includes; None for nothing."""
    file = _task_files().get(name)
    while file is not None:
        text = file.read_text(encoding="utf-8")
        said, included = pattern.search(text), _INCLUDE.search(text)
        if said is not None:
            return said[1]
        file = None if included is None else file.parent / included[1]
    return None


@cache
def _task_files() -> dict[str, Path]:
    """The file of every ``task:`` of the installed lmms-eval."""
    spec = importlib.util.find_spec(MODULES["lmms_eval"])
    if spec is None or spec.origin is None:
        return {}
    return {
        name: file
        for file in (Path(spec.origin).parent / "tasks").rglob("*.yaml")
        for name in _TASK.findall(file.read_text(encoding="utf-8"))
    }
