"""The processor's side: fewer placeholders, and what a method must be told of a picture.

Nothing of a family stands here. What is handed over becomes part of the hash under which the engine
caches features and blocks of keys, so that another method, budget or question is another picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from unibench.errors import UsageError
from unibench.pruning.stage import Method, needs_of
from unibench.serving._vllm import ProcessorSeams, embedded_tokens, shortened
from unibench.serving.fields import (
    MODALITIES,
    NAME,
    PICTURE,
    QUESTION,
    SAMPLE,
    SETTINGS,
    digest,
    media_ids,
)
from unibench.serving.pruner import kept_of
from unibench.serving.settings import Settings


class PrunedProcessor(ProcessorSeams):
    """In front of one of vLLM's multi-modal processors."""

    modalities: tuple[str, ...] = MODALITIES
    """Those whose placeholders are alike, so that some of them may go."""

    @cached_property
    def settings(self) -> Settings:
        return Settings.of(self.info.get_hf_config())

    @cached_property
    def method(self) -> Method:
        return self.settings.build()

    def prunes(self, modality: str) -> bool:
        """Whether items of a modality are pruned."""
        return modality in self.modalities and (modality == "image" or self.settings.videos)

    # -- the number of placeholders

    def updated(self, updates: Sequence[Any]) -> Sequence[Any]:
        """The replacements of placeholders, each shortened to the tokens that stay."""
        return [
            shortened(update, self._surplus) if self.prunes(update.modality) else update
            for update in updates
        ]

    def _surplus(self, details: Any) -> list[bool]:
        """Which tokens of a replacement stand for features that go."""
        stands = embedded_tokens(details)
        (stage,) = self.method.stages(28)
        keep = kept_of(self.settings, stage.count, int(stands.sum()))
        surplus: list[bool] = (stands & (stands.cumsum(0) > keep)).tolist()
        return surplus

    # -- what the method is told

    def arguments(self, prompt: Sequence[int], given: Mapping[str, Any]) -> dict[str, Any]:
        """The processor's arguments of a request that shows pictures, with ours."""
        more: dict[str, Any] = {SETTINGS: self.settings.stamp}
        if self._reads_question:
            more[QUESTION] = self._question(list(prompt))
        return {**given, **more}

    @cached_property
    def _reads_question(self) -> bool:
        return self.method.text_aware or needs_of(self.method.stages(28)).question

    def fields(self, items: Any, given: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Of the pictures and videos that are read anew, one row each."""
        found = {}
        for modality, count in items.get_all_counts().items():
            if not count or modality not in MODALITIES:
                continue
            pictures = [digest(items[modality].get(number)) for number in range(count)]
            found[f"{PICTURE}_{modality}"] = torch.tensor(pictures)[:, None]
            if QUESTION in given:
                asked = torch.tensor([given[QUESTION]], dtype=torch.long)
                found[f"{QUESTION}_{modality}"] = asked.repeat(count, 1)
            if SAMPLE in given:
                name = torch.tensor([list(str(given[SAMPLE]).encode())])
                found[f"{NAME}_{modality}"] = name.repeat(count, 1)
        return found

    def _question(self, prompt: list[int]) -> list[int]:
        """The question's ids: what stands behind the last picture, without the template's own."""
        shown = set(media_ids(self.info.get_hf_config()))
        last = max((place for place, token in enumerate(prompt) if token in shown), default=-1)
        lead, tail = self._margins
        rows = prompt[last + 1 :]
        # the dummy prompts of a profile run end with their picture
        return rows[lead : len(rows) - tail] or rows or prompt[-1:]

    @cached_property
    def _margins(self) -> tuple[int, int]:
        """Tokens of the chat template between picture and question, and after the question, in a
        prompt whose placeholders are not replaced yet: what a processor writes behind a picture is
        not in it.
        """
        processor, mark = self.info.get_hf_processor(), "\u00abQ\u00bb"
        if not getattr(processor, "chat_template", None):
            raise UsageError(
                f"{self.settings.method} reads the question, and this checkpoint has no chat"
                " template, which alone says where a question begins"
            )
        content = [{"type": "image"}, {"type": "text", "text": mark}]
        text: str = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        before, _, after = text.partition(mark)
        lead = before.rpartition(processor.image_token)[2]
        encode = self.info.get_tokenizer().encode
        lengths = [len(encode(part, add_special_tokens=False)) for part in (lead, after)]
        return lengths[0], lengths[1]
