"""The CLIP that a vision tower comes from: its text tower and the space it shares with the
patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from unibench import hub
from unibench.config import model_path
from unibench.errors import UsageError
from unibench.models._checkpoint import WRONG_FILES, first_line, load_whole

SEGMENT = 77  # ids that CLIP's text tower reads at once


class ClipSpace:
    """Patches and questions as CLIP compares them.

    Args:
        clip: a CLIP of which the patches' tower itself is not used.
        tokenizer: of CLIP.
        words: tokenizer of the language model that was asked.
    """

    def __init__(self, clip: Any, tokenizer: Any, words: Any) -> None:
        self.clip, self.tokenizer, self._words = clip, tokenizer, words

    def _said(self, ids: Tensor) -> str:
        said: str = self._words.decode(ids, skip_special_tokens=True)
        return said.strip()

    def patches(self, hidden: Tensor) -> Tensor:
        """Tower states of patches ``[N, C]`` in the common space ``[N, P]``, float32.

        They go through the norm and the projection that CLIP trained for its CLS token alone, as
        CDPruner does.
        """
        weight = self.clip.visual_projection.weight
        normed = self.clip.vision_model.post_layernorm(hidden.to(weight.device, weight.dtype))
        projected: Tensor = self.clip.visual_projection(normed)
        return projected.float()

    def question(self, ids: Tensor) -> Tensor:
        """A question ``[T]`` in the language model's ids, as one row per segment of 77 ids of CLIP,
        ``[M, P]``, float32.
        """
        text = self._said(ids)
        # verbose=False: the text may exceed 77 ids here, of which the tokenizer would warn
        read = self.tokenizer(text, verbose=False).input_ids
        segments = [read[start : start + SEGMENT] for start in range(0, len(read), SEGMENT)]
        device = self.clip.text_projection.weight.device
        # the mask hides the padding, so its id is of no account
        rows = torch.tensor(
            [[*segment, *[0] * (SEGMENT - len(segment))] for segment in segments], device=device
        )
        mask = torch.tensor(
            [[1] * len(segment) + [0] * (SEGMENT - len(segment)) for segment in segments],
            device=device,
        )
        pooled = self.clip.text_model(input_ids=rows, attention_mask=mask).pooler_output
        projected: Tensor = self.clip.text_projection(pooled)
        return projected.float()

    def words(self, ids: Tensor) -> Tensor:
        """Every token of a question ``[T]`` in the language model's ids, start and end included, as
        far as CLIP reads at once, ``[L, P]``, float32.
        """
        text = self._said(ids)
        read = self.tokenizer(text, truncation=True, max_length=SEGMENT).input_ids
        rows = torch.tensor([read], device=self.clip.text_projection.weight.device)
        states = self.clip.text_model(input_ids=rows).last_hidden_state[0]
        projected: Tensor = self.clip.text_projection(states)
        return projected.float()

    def project(self, hidden: Tensor) -> Tensor:
        """Tower states of patches ``[N, C]`` through the projection alone, ``[N, P]``, float32."""
        weight = self.clip.visual_projection.weight
        projected: Tensor = self.clip.visual_projection(hidden.to(weight.device, weight.dtype))
        return projected.float()


def clip_of(source: str, processor: Any, device: torch.device) -> ClipSpace:
    """The CLIP that a model's vision tower comes from.

    Args:
        source: folder or hub id.
        processor: of the model, for the words that it was asked.
        device: of the model.

    Raises:
        UsageError: the checkpoint cannot be had, or there is no processor.
    """
    if processor is None:
        raise UsageError(
            "CLIP reads the question in words, which the model's processor knows; give"
            " prune(..., processor=processor)"
        )
    path = model_path(source)
    folder = path is not None and path.is_dir()
    # without a network every file would be asked for in vain before the cache is looked at
    options = {} if folder else {"local_files_only": not hub.answers()}
    return open_clip(str(path) if folder else source, processor.tokenizer, device, options)


def open_clip(
    source: str, words: Any, device: torch.device, options: Mapping[str, Any]
) -> ClipSpace:
    """Load a CLIP checkpoint without its vision blocks, which the model under test has itself.

    Args:
        source: folder or hub id.
        words: tokenizer of the language model.
        device: of the embeddings.
        options: for ``from_pretrained``.

    Raises:
        UsageError: the checkpoint cannot be had.
    """
    try:
        clip: Any = load_whole(CLIPModel, source, source, dtype=torch.float32, **options)
        # trust_remote_code: left open, it would ask on the terminal
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    except WRONG_FILES as error:
        raise UsageError(
            f"the CLIP text tower {source} cannot be loaded ({first_line(error)}); give"
            " model.clip=<folder>, or model.clip=null for methods that have a substitute for it"
        ) from None
    # the norm and the projection behind the blocks stay, which patches go through
    del clip.vision_model.encoder, clip.vision_model.embeddings
    return ClipSpace(clip.eval().requires_grad_(False).to(device), tokenizer, words)
