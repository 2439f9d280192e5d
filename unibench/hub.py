"""Whether a checkpoint can be had here, told without loading torch."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from huggingface_hub import constants

from unibench.config import ModelConfig
from unibench.errors import unknown

SECONDS = 5.0
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")


def commit_of(checkpoint: str, revision: str | None) -> str | None:
    """The commit that a branch or tag of a repository points to on this disk; None before its
    download.

    Models are loaded at this commit, so a branch that has moved on since does not change a cell.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    return _reference(cache_of(checkpoint), revision)


def cache_of(checkpoint: str) -> Path:
    """The folder of a repository in the hub's cache; it need not exist."""
    return Path(constants.HF_HUB_CACHE, f"models--{checkpoint.replace('/', '--')}")


def resolve(checkpoint: str, revision: str | None) -> str | None:
    """The commit that a branch or tag points to now, by downloading the repository's configuration;
    None where it cannot be had.
    """
    from huggingface_hub import hf_hub_download  # takes as long to load as a plan to make

    if commit_of(checkpoint, revision) is not None or not answers():
        return commit_of(checkpoint, revision)
    # whatever the hub's client raises, loading the model will say what is wrong
    with suppress(Exception):
        hf_hub_download(checkpoint, "config.json", revision=revision)
    return commit_of(checkpoint, revision)


def snapshot(repository: Path, revision: str | None) -> Path:
    """The folder of a revision in a repository's folder of the hub's cache.

    Raises:
        UsageError: it is not there; the message names those that are.
    """
    commit = _reference(repository, revision) or str(revision)
    known = sorted(entry.name for entry in (repository / "snapshots").iterdir())
    if commit not in known:
        raise unknown(
            "revision",
            commit,
            known,
            f"{repository} holds these snapshots; give model.revision=<one of them>",
        )
    return repository / "snapshots" / commit


def _reference(repository: Path, revision: str | None) -> str | None:
    file = repository / "refs" / (revision or MAIN)
    return file.read_text(encoding="ascii").strip() if file.is_file() else None


def cached(spec: ModelConfig) -> bool:
    """Whether the checkpoint of a model is on this disk, or none is needed."""
    if spec.weights == "random" or spec.path is not None or spec.checkpoint is None:
        return True
    from huggingface_hub import (
        try_to_load_from_cache,
    )  # its module takes as long to load as a plan to make

    return isinstance(
        try_to_load_from_cache(spec.checkpoint, "config.json", revision=spec.revision), (str, Path)
    )


def config_file(spec: ModelConfig) -> Path | None:
    """The ``config.json`` of a hub checkpoint in the cache on this disk, None if it is not there.

    The cache's layout is read here, since the module of huggingface_hub that knows it takes as long
    to load as a plan to make.
    """
    if spec.checkpoint is None:
        return None
    folder = Path(constants.HF_HUB_CACHE) / f"models--{spec.checkpoint.replace('/', '--')}"
    revision = spec.revision or "main"
    named = folder / "refs" / revision
    commit = named.read_text().strip() if named.is_file() else revision
    file = folder / "snapshots" / commit / "config.json"
    return file if file.is_file() else None


@cache
def answers() -> bool:
    """Whether the hub can be reached; without it transformers would retry for minutes."""
    if constants.HF_HUB_OFFLINE:
        return False
    # with http and ssl a tenth of the time that a plan takes
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS).close()
    except HTTPError:
        return True  # an answer, if not a friendly one
    except (OSError, TimeoutError):
        return False
    return True


def trouble(error: BaseException) -> str | None:
    """What is wrong with a download where there is no network: the hub's client may then ask for a
    token, which would help nobody. None for errors of others, and where the hub answers.
    """
    ours = type(error).__module__.partition(".")[0] in ("huggingface_hub", "httpx")
    if not ours or answers():
        return None
    set_off = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    return f"{constants.ENDPOINT} does not answer from here{set_off}"


def how_to_get(spec: ModelConfig) -> str:
    """What to do when the checkpoint can neither be found nor downloaded."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return (
        f"model={spec.name}: the checkpoint {spec.checkpoint} is neither in the cache ({home}) nor"
        " can it be downloaded here. Download it where there is a network (`hf download"
        f" {spec.checkpoint}`) and give model.path=<folder>, or take model.weights=random (real"
        f" size, no answers) or model=tiny_{spec.family}"
    )
