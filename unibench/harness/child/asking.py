"""The pruned model, asked one prompt at a time, each measured; who builds the prompt does not
matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import nn

from unibench.cost import Clock, Mark
from unibench.cost.flops import decoder_shape
from unibench.errors import UsageError
from unibench.identity import Cell
from unibench.inference.ask import tokens_of
from unibench.models import LoadedModel
from unibench.pruning import Session
from unibench.runner.embedded import method_of

Piece = str | Image | tuple[Image, ...]  # of a prompt; a tuple is the frames of a video


@dataclass(frozen=True)
class Question:
    """What is known of a sample before it is asked.

    Attributes:
        id: the harness's own.
        truth: the accepted answer, for people.
        group: samples with the same first picture share it.
    """

    id: str
    truth: str
    group: str


class Asker:
    """A method attached to a model for one cell.

    Args:
        loaded: the model, and the processor that :meth:`chat` uses.
        cell: method, budget and decoding.
    """

    def __init__(self, loaded: LoadedModel, cell: Cell) -> None:
        self.loaded, self.cell = loaded, cell
        config = cell.config
        self._session = Session(
            loaded.family,
            method_of(cell),
            cell.budget,
            scope=config.budget.scope,
            mode=config.budget.mode,
            seed=config.seed,
        )
        self._clock = Clock(loaded.device)
        self._shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)
        self._forwards: list[Mark] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Prune whatever the model reads inside the block."""
        with self._session.installed(), torch.inference_mode():
            counter = self.loaded.model.register_forward_hook(self._count)
            try:
                yield
            finally:
                counter.remove()

    def chat(self, content: Sequence[Piece], max_new_tokens: int) -> str:
        """The greedy answer to text, pictures and videos in the order given, under the model's own
        chat template.

        Args:
            content: pieces of one user turn; a tuple of pictures is a video.
            max_new_tokens: the harness's; the cell's own setting goes first.
        """
        loaded = self.loaded
        config = self.cell.config.generation
        turn = [
            (
                {"type": "text", "text": piece}
                if isinstance(piece, str)
                else {"type": _modality(piece)}
            )
            for piece in content
        ]
        text = loaded.processor.apply_chat_template(
            [{"role": "user", "content": turn}], add_generation_prompt=True, tokenize=False
        )
        pictures = [piece.convert("RGB") for piece in content if isinstance(piece, Image)]
        videos = [
            np.stack([np.asarray(frame) for frame in piece])
            for piece in content
            if isinstance(piece, tuple)
        ]
        options: dict[str, Any] = (
            {"images": [pictures], "images_kwargs": loaded.image_options} if pictures else {}
        )
        if videos:
            options.update(videos=videos, videos_kwargs={"do_sample_frames": False})
        inputs = {
            key: value.to(loaded.device)
            for key, value in loaded.processor(text=[text], return_tensors="pt", **options).items()
        }
        out = loaded.model.generate(
            **inputs,
            generation_config=loaded.generation_config(
                config.max_new_tokens or max_new_tokens, config.repetition_penalty
            ),
        )
        return loaded.answers(out[:, inputs["input_ids"].shape[1] :])[0]

    def settings(self, max_new_tokens: int) -> dict[str, Any]:
        """How :meth:`chat` decodes."""
        own = self.cell.config.generation
        return {
            "max_new_tokens": own.max_new_tokens or max_new_tokens,
            "do_sample": False,
            "repetition_penalty": own.repetition_penalty,
        }

    def ask(self, question: Question, answer: Callable[[], str]) -> dict[str, Any]:
        """The record of one sample.

        Args:
            question: the sample.
            answer: lets the model answer it, by one ``generate`` of one prompt.

        Raises:
            UsageError: the model did not read exactly one prompt, for example since a wrapper
                swallowed an error.
        """
        self._session.samples = [question.id]
        self._forwards.clear()
        start = self._clock.mark()
        text = answer()
        end = self._clock.mark()
        records, times = self._session.take_records(), self._session.take_times()
        if len(records) != 1:
            raise UsageError(
                f"sample {question.id}: the model read {len(records)} prompts where one was"
                " expected; run.log has more"
            )
        (time,) = times
        spans = {
            "total_ms": self._clock.seconds(start, end) - time.excluded,
            "vision_ms": time.vision,
            "prefill_ms": time.prefill,
            "method_ms": time.method,
            "decode_ms": (
                self._clock.seconds(time.end, self._forwards[-1])
                if len(self._forwards) > 1
                else 0.0
            ),
        }
        return {
            **vars(question),
            "ability": self.cell.config.task.ability or "all",
            "answer": text,
            "score": None,
            "prompt": self._prompt(),
            **_rounded(tokens_of(records[0], len(self._forwards), self._shape)),
            **_rounded({name: 1000 * seconds for name, seconds in spans.items()}),
            "notes": sorted(self._session.notes),
        }

    def _count(self, module: nn.Module, args: Any, output: Any) -> None:
        self._forwards.append(self._clock.mark())  # each forward of generate() makes one token

    def _prompt(self) -> str:
        """The text that the model read, each run of visual tokens as one."""
        prompt = self._session.prompt
        assert prompt is not None and prompt.ids is not None
        ids = prompt.ids[0]
        kind = self.loaded.family.visual_kind(ids[None])[0]
        first = torch.ones_like(ids, dtype=torch.bool)
        first[1:] = (kind[1:] == 0) | (ids[1:] != ids[:-1])
        text: str = self.loaded.processor.tokenizer.decode(ids[first], skip_special_tokens=False)
        return text


def _modality(piece: Image | tuple[Image, ...]) -> str:
    return "video" if isinstance(piece, tuple) else "image"


def group_of(picture: bytes) -> str:
    """A name for a picture's content."""
    return hashlib.blake2b(picture, digest_size=8).hexdigest()


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()
    }
