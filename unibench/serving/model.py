"""The model's side: features are pruned as they leave the tower, and tell where they stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unibench.pruning.layout import Part
from unibench.serving._vllm import embedded_places, encoder_tokens, moved
from unibench.serving.fields import BETWEEN, MODALITIES, NAME, PICTURE, QUESTION, media_ids
from unibench.serving.pruner import Encoded, Pruner, calls_of, positions_of, with_positions
from unibench.serving.settings import Settings


@dataclass(frozen=True)
class Shown:
    """A picture or video of a call of the encoder.

    Attributes:
        modality: ``image`` or ``video``.
        parts: the grids that its tokens lie in.
        positions: ``[3, N]`` of its tokens, from 0.
    """

    modality: str
    parts: tuple[Part, ...]
    positions: Tensor

    def __len__(self) -> int:
        return self.positions.shape[1]


class Pruned:
    """In front of one of vLLM's models. A family says how its items lie (:meth:`items`), how a call
    is taken apart (:meth:`taken`), and how many tokens an item has (:meth:`tokens`).
    """

    config: Any

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        # vLLM's own pruning of videos, in the classes that have it
        self.is_multimodal_pruning_enabled = False
        model_config = vllm_config.model_config
        self.settings = Settings.of(model_config.hf_config)
        self.pruner = Pruner(self.settings)
        self.text_width: int = model_config.hf_config.get_text_config().hidden_size
        self.channels = self.settings.positions == "original"
        self.most = encoder_tokens(vllm_config)

    # -- what a family says

    def items(self, arguments: Mapping[str, Any]) -> list[Shown]:
        """The items of a call, in order."""
        raise NotImplementedError

    def taken(
        self, arguments: Mapping[str, Any], shown: Sequence[Shown], first: int, stop: int
    ) -> dict[str, Any]:
        """The arguments of a call for some of its items."""
        raise NotImplementedError

    def tokens(self, feature: Any) -> int:
        """How many tokens an item has before it is pruned."""
        raise NotImplementedError

    def prunes(self, modality: str) -> bool:
        """Whether items of a modality are pruned."""
        return modality == "image" or (modality == "video" and self.settings.videos)

    # -- what the model runner calls

    def embed_multimodal(self, **arguments: Any) -> Any:
        """The features that stay of each item, with channels of their positions."""
        told = {name: arguments.pop(name) for name in list(arguments) if _is_ours(name)}
        shown = self.items(arguments)
        found = []
        for first, stop in calls_of([len(item) for item in shown], self.most):
            part = self.taken(arguments, shown, first, stop) if len(shown) > 1 else arguments
            features = super().embed_multimodal(**part)  # type: ignore[misc]
            pairs = zip(features, range(first, stop), strict=True)
            found += [self._kept(rows, shown[number], told, number) for rows, number in pairs]
        return tuple(found)

    def _kept(self, rows: Tensor, item: Shown, told: Mapping[str, Any], number: int) -> Tensor:
        """What stays of one item."""
        if len(rows) != len(item):
            raise RuntimeError(
                f"vLLM made {len(rows)} features of a picture that unibench knows with {len(item)}"
            )
        if not self.prunes(item.modality):
            places = torch.arange(len(rows), device=rows.device)
            kept = rows
        else:
            kept, places = self.pruner(self._encoded(rows, item, told, number))
        if not self.channels:
            return kept
        return with_positions(kept, item.positions.to(places.device)[:, places])

    def _encoded(self, rows: Tensor, item: Shown, told: Mapping[str, Any], number: int) -> Encoded:
        names = {kind: told.get(f"{kind}_{item.modality}") for kind in (PICTURE, QUESTION, NAME)}
        one = {kind: None if all_ is None else all_[number] for kind, all_ in names.items()}
        picture, question, sample = one[PICTURE], one[QUESTION], one[NAME]
        embedded = None
        if question is not None:
            ids = question.reshape(-1).to(rows.device)
            embedded = self.get_language_model().embed_input_ids(ids)  # type: ignore[attr-defined]
        digest = "" if picture is None else f"{int(picture.reshape(-1)[0]):016x}"
        # of a server's request no name is known: then one picture is drawn for alike wherever shown
        name = digest if sample is None else bytes(sample.reshape(-1).tolist()).decode()
        parts = [digest, *([] if sample is None else [name])]
        parts += [] if question is None else [",".join(map(str, question.reshape(-1).tolist()))]
        named = BETWEEN.join(parts) if digest else ""
        video = item.modality == "video"
        return Encoded(rows, self.text_width, item.parts, embedded, named, name, video)

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[Any]
    ) -> tuple[Tensor, int]:
        """Positions of the prompt as if nothing had been pruned; those of the media are
        provisional. What text gets is final, so that a request whose picture lies in the prefix
        cache needs nothing else. Closed up, all are final.
        """
        tokens, stays, features = list[int](), list[bool](), list[Any]()
        done = 0
        for feature in sorted(mm_features, key=lambda feature: feature.mm_position.offset):
            place = feature.mm_position
            stands = embedded_places(feature)
            missing = self.tokens(feature) - sum(stands)
            # behind the last token that stands for a feature
            end = max(number for number, stand in enumerate(stands) if stand) + 1
            tokens += input_tokens[done : place.offset]
            stays += [True] * (place.offset - done)
            features.append(moved(feature, len(tokens), place.length + missing))
            own = input_tokens[place.offset : place.offset + place.length]
            tokens += own[:end] + [own[end - 1]] * missing + own[end:]
            stays += [True] * end + [False] * missing + [True] * (place.length - end)
            done = place.offset + place.length
        tokens += input_tokens[done:]
        stays += [True] * (len(input_tokens) - done)
        if not self.channels and not all(stays):
            return torch.arange(len(input_tokens)).expand(3, -1).contiguous(), 0
        whole = self.whole_positions(tokens, features)
        return whole[:, torch.tensor(stays)], int(whole.max()) + 1 - len(input_tokens)

    def whole_positions(self, tokens: list[int], features: list[Any]) -> Tensor:
        """Positions of an unpruned prompt, ``[3, L]``."""
        found: Tensor = super().get_mrope_input_positions(tokens, features)[0]  # type: ignore[misc]
        return found

    def recompute_mrope_positions(
        self,
        input_ids: list[int] | Tensor,
        multimodal_embeddings: Sequence[Tensor],
        mrope_positions: Tensor,
        num_computed_tokens: int,
    ) -> tuple[list[Tensor], Tensor, int]:
        """The position of each kept token of this step, read off its channels."""
        if not multimodal_embeddings:
            last = int(mrope_positions.max()) + 1 - mrope_positions.shape[1]
            return [], mrope_positions, last
        ids = torch.as_tensor(input_ids, device=mrope_positions.device)
        pairs = [positions_of(rows) for rows in multimodal_embeddings]
        relative = torch.cat([own for _, own in pairs], 1).to(mrope_positions)
        media = torch.isin(ids, torch.tensor(media_ids(self.config), device=ids.device))
        index = torch.arange(len(ids), device=ids.device)
        begins = media & ~torch.cat([media.new_zeros(1), media[:-1]])
        start = torch.where(begins, index, 0).cummax(0).values
        now = index[media & (index >= num_computed_tokens)][: relative.shape[1]]
        before = start[now] - 1  # text, whose three axes agree
        base = torch.where(before >= 0, mrope_positions[0, before.clamp_min(0)] + 1, 0)
        positions = mrope_positions.clone()
        positions[:, now] = base + relative
        features = [rows for rows, _ in pairs]
        return features, positions, int(positions.max()) + 1 - positions.shape[1]


def _is_ours(name: str) -> bool:
    kind, _, modality = name.rpartition("_")
    return kind in (PICTURE, QUESTION, NAME) and modality in MODALITIES
