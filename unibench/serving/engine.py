"""vLLM in this process, asked offline. The interpreter must be the serving environment's."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL.Image import Image

from unibench.serving.fields import SAMPLE
from unibench.serving.settings import Settings, check_architecture

QUIET: Mapping[str, str] = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; more than the tiny models need
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
"""Variables of an engine in this process, where the user has set none."""


@dataclass(frozen=True)
class Request:
    """A prompt of an engine.

    Attributes:
        prompt: text under the chat template, a placeholder for each picture.
        images: in the order of their placeholders.
        video: frames, and what is known of their file.
        sample: name by which methods draw; empty takes the picture's own.
    """

    prompt: str
    images: Sequence[Image] = ()
    video: tuple[Any, Mapping[str, Any]] | None = None
    sample: str = ""

    def as_input(self) -> dict[str, Any]:
        """As ``LLM.generate`` takes it."""
        data: dict[str, Any] = {"image": list(self.images)} if self.images else {}
        if self.video is not None:
            data["video"] = self.video
        found: dict[str, Any] = {"prompt": self.prompt}
        if data:
            found["multi_modal_data"] = data
        if data and self.sample:
            found["mm_processor_kwargs"] = {SAMPLE: self.sample}
        return found


@dataclass(frozen=True)
class Reply:
    """What an engine says to a request.

    Attributes:
        text: without special tokens, stripped.
        tokens: ids of the answer, its end included.
        prompt: ids of the prompt, one placeholder for each token that stays.
        first: natural logarithms of the probabilities of the likeliest first tokens.
        cached: tokens of the prompt that lay in the prefix cache.
    """

    text: str
    tokens: tuple[int, ...]
    prompt: tuple[int, ...]
    first: Mapping[int, float] = field(default_factory=dict)
    cached: int = 0


def environment(variables: Mapping[str, str] = QUIET) -> None:
    """Set variables that vLLM reads when it is imported, where the user has set none."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


class Engine:
    """One model in vLLM.

    Args:
        folder: of the checkpoint.
        settings: of pruning; None runs vLLM's own class.
        **options: further arguments of ``vllm.LLM``.

    Raises:
        UsageError: the settings cannot work; nothing is loaded then.
    """

    def __init__(self, folder: Path, settings: Settings | None = None, **options: Any) -> None:
        environment()
        from vllm import LLM

        given = dict(options)
        if settings is not None:
            settings.build()  # refused in a line of our own rather than within vLLM's
            given["hf_overrides"] = settings.overrides(architecture_of(folder))
        self._llm: Any = LLM(model=str(folder), **given)

    def ask(
        self, requests: Sequence[Request], max_new_tokens: int, penalty: float = 1.0, top: int = 0
    ) -> list[Reply]:
        """Answer requests all at once, greedily.

        Args:
            requests: in any number; the engine batches them as its cache allows.
            max_new_tokens: of each answer.
            penalty: for repetition; 1 is none.
            top: how many of the first token's probabilities are wanted.
        """
        from vllm import SamplingParams

        sampling = SamplingParams(
            temperature=0,
            max_tokens=max_new_tokens,
            repetition_penalty=penalty,
            logprobs=top or None,
        )
        inputs = [request.as_input() for request in requests]
        outputs = self._llm.generate(inputs, sampling, use_tqdm=False)
        return [_reply(output) for output in outputs]

    def close(self) -> None:
        """Give the memory back, so that another engine can start in this process."""
        from vllm.distributed import cleanup_dist_env_and_memory

        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()


def _reply(output: Any) -> Reply:
    done = output.outputs[0]
    first = done.logprobs[0] if done.logprobs else {}
    return Reply(
        text=done.text.strip(),
        tokens=tuple(done.token_ids),
        prompt=tuple(output.prompt_token_ids),
        first={token: value.logprob for token, value in first.items()},
        cached=output.num_cached_tokens or 0,
    )


def architecture_of(folder: Path) -> str:
    """The architecture of a checkpoint, which the plugin has.

    Raises:
        UsageError: it has another one.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (name,) = config["architectures"]
    check_architecture(name)
    return str(name)


@dataclass(frozen=True)
class Traced:
    """A picture that the plugin pruned.

    Attributes:
        picture: its name, see :class:`unibench.serving.pruner.Encoded`.
        layout: how its tokens lie.
        kept: places of those that stayed.
        again: whether it had been encoded before.
    """

    picture: str
    layout: tuple[Any, ...]
    kept: tuple[int, ...]
    again: bool


def traced(file: Path) -> list[Traced]:
    """The pictures that a plugin wrote down, in the order of their encoding."""
    if not file.exists():
        return []
    rows = [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()]
    return [
        Traced(row["picture"], tuple(row["layout"]), tuple(row["kept"]), row["again"])
        for row in rows
    ]
