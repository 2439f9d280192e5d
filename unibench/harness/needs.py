"""What a benchmark needs beside its model: data, a judge, programs. Looked at in seconds, before a
child is started or a model loaded; no harness is imported for it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from functools import cache
from pathlib import Path

from huggingface_hub import constants

from unibench import hub
from unibench.benchmark import Benchmark
from unibench.catalogue import dataset_path, video_folder
from unibench.config import JudgeConfig
from unibench.credentials import secret_of
from unibench.errors import UsageError
from unibench.identity import Cell

SERVER = "https://opencompass.openxlab.space"  # that has most tables of VLMEvalKit
NLTK = "nltk:"  # before the name of a piece of nltk's data
OFFLINE = "there is no network"
# of the user; a child sets the variable to a folder of the cell
LMU_DATA = os.environ.get("LMUData") or str(Path.home() / "LMUData")  # noqa: SIM112


def check(cell: Cell) -> None:
    """Refuse a benchmark that could not be asked or scored on this machine.

    Raises:
        UsageError: says what is missing and which command fetches it.
    """
    benchmark = cell.benchmark
    assert benchmark is not None
    config = cell.config
    check_requirements(config.task.name, benchmark, other=config.harness_options.python)
    check_judge(benchmark.judge, cell.folder)
    if config.task.data is None and not present(benchmark) and not _network(benchmark):
        raise not_here(config.task.name, benchmark, OFFLINE)


def check_requirements(task: str, benchmark: Benchmark, other: str | None = None) -> None:
    """Refuse a benchmark whose scoring needs a program, a package or data that is not here.

    Args:
        task: its name here.
        benchmark: its name there.
        other: interpreter that has the packages instead of this one.

    Raises:
        UsageError: names it, and the command that brings it.
    """
    for need in benchmark.card.requires:
        if need.startswith(NLTK):
            piece = need.removeprefix(NLTK)
            missing = not any(_of_nltk(folder, piece) for folder in _nltk_folders())
            how = f"python -m nltk.downloader {Path(piece).name}"
        else:
            package = other is None and importlib.util.find_spec(need) is not None
            missing = not package and other is None and shutil.which(need) is None
            how = "apt install default-jre-headless" if need == "java" else f"pip install {need}"
        if missing:
            raise UsageError(
                f"task={task}: {benchmark.harness} needs {need} to score {benchmark.card.name}, and"
                f" it is not installed: `{how}`"
            )


def check_judge(judge: JudgeConfig, folder: Path) -> None:
    """Refuse a judge without a key, or one that does not answer; one whose replies a cell already
    has may be gone.

    Raises:
        UsageError: says which.
    """
    if judge.kind != "endpoint":
        return
    if secret_of(judge.key, os.environ) is None:
        raise UsageError(
            f"the judge's key is read from {'' if '/' in judge.key else '$'}{judge.key}, which"
            " is not set; where none is wanted, set it to anything"
        )
    reason = None if (folder / "judge.jsonl").exists() else unreachable(str(judge.url))
    if reason is not None:
        raise UsageError(
            f"the judge at {judge.url} does not answer: {reason}. Start it, or give"
            " harness_options.judge.url=<server>/v1"
        )


def present(benchmark: Benchmark) -> bool:
    """Whether the published data seems to be on this machine; True where only the harness could
    tell.
    """
    name = benchmark.card.name
    if benchmark.harness == "vlmevalkit" and video_folder(name) is None:
        return (Path(home_of(benchmark)[1]) / f"{name}.tsv").exists()
    repositories = Path(constants.HF_HUB_CACHE)
    if benchmark.harness == "vlmevalkit":  # its classes alone know the repository
        return any(repositories.glob("datasets--*"))
    path = dataset_path(name)
    if path is None:
        return True
    built = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME, "datasets"))
    return any(
        place.exists()
        for place in (
            repositories / f"datasets--{path.replace('/', '--')}",
            *(
                built / f"{one}"
                for one in (path.replace("/", "___"), path.replace("/", "___").lower())
            ),
            Path(path),
        )
    )


def not_here(task: str, benchmark: Benchmark, reason: str) -> UsageError:
    """What to say of published data that can neither be found nor fetched."""
    variable, folder = home_of(benchmark)
    ask = f"`python -m unibench prefetch task={task} harness={benchmark.harness}`"
    return UsageError(
        f"task={task}: the data of {benchmark.card.name} ({benchmark.harness}) is not below"
        f" ${variable} ({folder}) and cannot be fetched: {reason}. Fetch it where there is a"
        f" network with {ask} and set {variable} to that folder, or give task.data=<folder> with"
        " tables of your own"
    )


def home_of(benchmark: Benchmark) -> tuple[str, str]:
    """The variable that says where a harness keeps published data, and that place."""
    if benchmark.harness == "lmms_eval" or video_folder(benchmark.card.name) is not None:
        return "HF_HOME", constants.HF_HOME
    return "LMUData", LMU_DATA


@cache
def unreachable(url: str) -> str | None:
    """Why a server does not answer; None if it does, whatever it says."""
    from http.client import HTTPException  # see hub.answers
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(url, method="HEAD"), timeout=hub.SECONDS).close()
    except HTTPError:
        return None
    except (OSError, HTTPException, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def _network(benchmark: Benchmark) -> bool:
    tables = benchmark.harness == "vlmevalkit" and video_folder(benchmark.card.name) is None
    return hub.answers() or (tables and unreachable(SERVER) is None)


def _nltk_folders() -> list[Path]:
    """Where nltk looks, read without importing it."""
    given = [Path(entry) for entry in os.environ.get("NLTK_DATA", "").split(os.pathsep) if entry]
    usual = [Path(sys.prefix, *parts) for parts in (("nltk_data",), ("share", "nltk_data"))]
    system = ("/usr/share/nltk_data", "/usr/local/share/nltk_data", "/usr/lib/nltk_data")
    return [*given, Path.home() / "nltk_data", *usual, *map(Path, system)]


def _of_nltk(folder: Path, piece: str) -> bool:
    return (folder / piece).exists() or (folder / f"{piece}.zip").exists()
