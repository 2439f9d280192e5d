"""VLMEvalKit's data sets of videos: asked by ``infer_data_job_video``, with files from where they
are published or from a folder.

A name is one of ``supported_video_datasets`` (``Video-MME_64frame_subs``), or any data set of
videos with frames of one's own (``Video-MME_32frame``, ``MLVU_MCQ_0.5fps``), as VLMEvalKit's own
configuration files make them.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import huggingface_hub
import pandas as pd

from unibench.benchmark import VERSIONS
from unibench.catalogue import VARIANT
from unibench.errors import UsageError, nearest
from unibench.harness.child.importing import settings_kept
from unibench.inference.verdict import Sampling

with settings_kept():
    from vlmeval.dataset import VIDEO_DATASET
    from vlmeval.dataset.video_base import VideoBaseDataset
    from vlmeval.dataset.video_dataset_config import supported_video_datasets

TIMES = (
    "the frames that VLMEvalKit cuts are shown as one video, at their times in the file; where"
    " nobody knows which frames they are, as 24 a second"
)
PATHS = ("video", "prefix", "video_path", "subtitle_path")  # columns
DIGESTS = ("MD5", "MP4_MD5")  # what classes call the digest that their table must have


def variant(name: str) -> partial[Any] | None:
    """A data set of videos with its number of frames; None for a name that is none.

    Raises:
        UsageError: it is one, and cannot be asked like this; the message says why.
    """
    built: partial[Any] | None = supported_video_datasets.get(name)
    if built is None:
        built = _own_variant(name)
    if built is None:
        return None
    reason = _why_not(built)
    if reason:
        raise UsageError(f"{name} of VLMEvalKit {VERSIONS['vlmevalkit']} {reason}")
    return built


def _own_variant(name: str) -> partial[Any] | None:
    if name in _classes():
        known = [key for key, built in supported_video_datasets.items() if _set_of(built) == name]
        shown = ", ".join(known[:4] or [f"{name}_8frame", f"{name}_1fps"])
        raise UsageError(f"{name} is shown as frames; say how many: {shown}, or another number")
    parts = VARIANT.fullmatch(name)
    if parts is None or parts["more"]:
        return None
    if parts["dataset"] not in _classes():
        hint = nearest(parts["dataset"], _classes())
        raise UsageError(f"VLMEvalKit has no data set of videos {parts['dataset']!r}.{hint}")
    kind = _classes()[parts["dataset"]]
    options: dict[str, Any] = {"dataset": parts["dataset"]}
    options |= {"nframe": int(parts["frames"])} if parts["frames"] else {"fps": float(parts["fps"])}
    options |= {"use_subtitle": True} if parts["subtitles"] else {}
    unknown = options.keys() - signature(kind.__init__).parameters.keys()
    if unknown:
        raise UsageError(f"{name}: VLMEvalKit's {kind.__name__} takes no {', '.join(unknown)}")
    return partial(kind, **options)


def _classes() -> dict[str, Any]:
    """Classes by data set."""
    return {name: kind for kind in VIDEO_DATASET for name in kind.supported_datasets()}


def _set_of(built: partial[Any]) -> str:
    return str(built.keywords["dataset"])


def _why_not(built: partial[Any]) -> str | None:
    options = built.keywords
    if options.get("pack"):
        return (
            "asks all questions about a video in one prompt, which VLMEvalKit has for models behind"
            " an interface alone; take its form with _nopack"
        )
    if options.get("use_audio"):
        return "plays the sound of its videos, which no model here hears; take a form without audio"
    return None


def sampling_of(dataset: Any, shown: Literal["frames", "video"]) -> Sampling:
    """How many frames of a video a data set asks for.

    Args:
        dataset: built.
        shown: ``frames`` as pictures that VLMEvalKit cuts, or a ``video`` that the model object
            reads itself.
    """
    fps = dataset.fps if dataset.fps > 0 else None
    return Sampling(frames=dataset.nframe or None, fps=fps, shown=shown)


@contextmanager
def files(built: partial[Any], folder: Path | None, mirror: Path) -> Iterator[None]:
    """Inside, a data set finds its files: those of a user, or the published ones in the hub's
    cache, from where they are fetched.

    Args:
        built: the data set.
        folder: of the user, with the content of the published repository; None for the published.
        mirror: an empty folder of the cell. VLMEvalKit writes lock files beside videos; there they
            change neither the user's folder nor its digest.

    Raises:
        UsageError: a file that the table names is not there.
    """
    with ExitStack() as stack:
        stack.enter_context(_without_login())
        if folder is not None:
            _linked(folder, mirror)
            module = sys.modules[built.func.__module__]
            if not hasattr(module, "get_cache_path"):
                said = f"VLMEvalKit reads {_set_of(built)} from no folder"
                raise UsageError(f"task.data={folder.parent}: {said}; leave task.data away")
            there: dict[str, Any] = {
                "get_cache_path": lambda *_, **__: str(mirror),
                "snapshot_download": partial(_refused, folder),
            }
            stack.enter_context(patch.multiple(module, **there))
            for kind in _of_module(module):
                for digest in DIGESTS:
                    if digest in vars(kind):
                        table = mirror / f"{kind.supported_datasets()[0]}.tsv"
                        stack.enter_context(patch.object(kind, digest, _md5(table)))
        yield


def check_tables(folder: Path) -> None:
    """Refuse tables of a user whose options are no list of words, which VLMEvalKit would run as
    Python, or whose videos lie elsewhere than in the folder.

    Raises:
        UsageError: names the row.
    """
    for file in sorted(folder.glob("*.tsv")):
        for row in pd.read_csv(file, sep="\t").to_dict("records"):
            where = f"{file}: row with index {row.get('index')}"
            if "candidates" in row and not _is_list_of_words(str(row["candidates"])):
                raise UsageError(
                    f"{where}: candidates is no list of words, but {row['candidates']!r}"
                )
            for column in PATHS:
                path = Path(str(row.get(column, "")))
                if path.is_absolute() or ".." in path.parts:
                    raise UsageError(f"{where}: {column} leaves the folder: {path}")


def _is_list_of_words(text: str) -> bool:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(found, list) and all(isinstance(one, (str, int, float)) for one in found)


@contextmanager
def _without_login() -> Iterator[None]:
    """Some classes log in without a token, which would wait for one at the keyboard."""
    login = huggingface_hub.login

    def with_token(token: str | None = None, **options: Any) -> None:
        if token:
            login(token, **options)

    with patch.object(huggingface_hub, "login", with_token):
        yield


def _linked(folder: Path, mirror: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix != ".lock":
            place = mirror / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.absolute())


def _of_module(module: Any) -> list[Any]:
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, VideoBaseDataset)
        and kind.__module__ == module.__name__
    ]


def _refused(folder: Path, *_: Any, **__: Any) -> Any:
    raise UsageError(
        f"{folder}: a table is missing there, or a video that it names; wanted is the content of"
        " the published repository with the videos unpacked"
    )


def _md5(file: Path) -> str:
    if not file.exists():
        return ""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def published(dataset: Any, name: str) -> str:
    """What a data set from the hub is, for the row."""
    tables = [Path(part.data_file) for part in _parts(dataset)]
    return f"published:{name}:md5:{'+'.join(map(_md5, tables))}"


def _parts(dataset: Any) -> list[Any]:
    return list(getattr(dataset, "dataset_map", {"": dataset}).values())


def place_of(dataset: Any) -> str:
    """The folder with the files of a data set."""
    return str(_parts(dataset)[0].data_root)


def completed(result: Any) -> Any:
    """A result in numbers with names: a class writes ``[2, 3, "66.67%"]`` for each kind of
    questions and for all, or the right and the asked ones of each kind alone.

    >>> completed({"overall": [2, 3, "66.67%"]})
    {'overall': {'accuracy': 66.67, 'right': 2, 'asked': 3}}
    >>> completed({"order": [1, 2], "count": [0, 2]})["overall"]
    25.0
    """
    if not isinstance(result, dict):
        return result
    pairs = [value for value in result.values() if isinstance(value, list) and len(value) == 2]
    if pairs and len(pairs) == len(result):
        right, asked = (sum(pair[place] for pair in pairs) for place in (0, 1))
        kinds = {name: 100 * one / of for name, (one, of) in result.items()}
        means = {"overall": 100 * right / asked, "mean_of_kinds": sum(kinds.values()) / len(kinds)}
        return means | kinds
    return {key: _with_names(value) for key, value in result.items()}


def _with_names(value: Any) -> Any:
    if not (isinstance(value, list) and len(value) == 3 and str(value[2]).endswith("%")):
        return value
    right, asked, share = value
    return {"accuracy": float(share.rstrip("%")), "right": right, "asked": asked}
