"""The rows of one prompt: one for each method, each with what it has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import pad as padded_tensor

from unibench.pruning import Session
from unibench.pruning.cutting import Rotary, causal_mask
from unibench.pruning.prefill import Prefill

SLACK = 8  # a group's shortest row lacks at most this part of the longest one's tokens,
FEW = 16  # or so many: a call of a layer costs more than a few rows of padding


@dataclass(frozen=True)
class Held:
    """Keys and values of one sequence in one layer, ``[heads, tokens, head_dim]``."""

    keys: Tensor
    values: Tensor


@dataclass(eq=False)
class Track:
    """A sequence on its way through the decoder.

    Attributes:
        prefill: says which tokens are left, and where they stand.
        hidden: ``[1, L', D]`` entering the next layer.
        wanted: attention modules whose queries and keys are recorded.
        held: keys and values of the layers that it has passed.
        behind: tokens at its front that are left to the whole prompt, where they are the same:
            ``hidden`` begins behind them.
    """

    prefill: Prefill
    hidden: Tensor
    wanted: set[nn.Module]
    held: list[Held] = field(default_factory=list)
    behind: int = 0

    @property
    def length(self) -> int:
        return self.hidden.shape[1]

    @property
    def sizes(self) -> Tensor | None:
        """``[1, L']`` how many tokens each stands for; None is one each."""
        return None if self.prefill.current is None else self.prefill.current.sizes


@dataclass(eq=False)
class Row:
    """The answer of one method in the making.

    Attributes:
        session: of the method.
        prefill: of this prompt under the method.
        track: what it goes by: that of the whole prompt until the method's first cut.
        wanted: attention modules that the method reads.
        error: why it ended early.
    """

    session: Session
    prefill: Prefill
    track: Track
    wanted: set[nn.Module]
    error: Exception | None = None


@dataclass(eq=False)
class Group:
    """Sequences of about one length, side by side, padded at the left.

    Attributes:
        tracks: the sequences.
        pads: padding of each, behind what is left to the whole prompt.
        behind: tokens that each leaves to it.
        hidden: ``[G, L', D]``.
        rotary: cos and sin.
        mask: of attention, as the kernel takes it.
    """

    tracks: Sequence[Track]
    pads: list[int]
    behind: int
    hidden: Tensor
    rotary: Rotary
    mask: Tensor | None

    @classmethod
    def of(cls, tracks: Sequence[Track], kind: str, kernel: str) -> Group:
        """The sequences as a batch.

        Args:
            tracks: of about one length, behind as many tokens.
            kind: of decoder layer.
            kernel: of attention.
        """
        length, behind = max(track.length for track in tracks), tracks[0].behind
        pads = [length - track.length for track in tracks]
        hidden = _beside([track.hidden for track in tracks], pads, batch=0)
        turned = [track.prefill.rotary_of(kind) for track in tracks]
        # the batch is the last axis but two: three sections may stand in front of it
        cos = _beside([part[..., behind:, :] for part, _ in turned], pads, batch=-3)
        sin = _beside([part[..., behind:, :] for _, part in turned], pads, batch=-3)
        mask = None
        weighed = any(track.sizes is not None for track in tracks)
        # is_causal of a kernel takes the first query for the first key
        if any(pads) or weighed or behind or kernel != "sdpa":
            shape, device = (len(tracks), behind + length), hidden.device
            valid = torch.ones(shape, dtype=torch.bool, device=device)
            sizes = torch.ones(shape, device=device) if weighed else None
            for row, (track, pad) in enumerate(zip(tracks, pads, strict=True)):
                valid[row, behind : behind + pad] = False
                if sizes is not None and track.sizes is not None:
                    sizes[row, behind + pad :] = track.sizes[0, behind:]
            mask = causal_mask(kernel, valid, hidden, any(pads), sizes)
        return cls(tracks, pads, behind, hidden, (cos, sin), mask)

    def unpack(self) -> None:
        """Hand each sequence its states."""
        for row, (track, pad) in enumerate(zip(self.tracks, self.pads, strict=True)):
            track.hidden = self.hidden[row : row + 1, pad:]


def grouped(tracks: Sequence[Track]) -> list[list[Track]]:
    """Sequences by length, so that little of a batch is padding; those that leave tokens to the
    whole prompt come after it.
    """
    groups: list[list[Track]] = []
    for track in sorted(tracks, key=lambda one: (one.behind, -one.length)):
        first = groups[-1][0] if groups else track
        near = first.length - track.length <= max(FEW, first.length // SLACK)
        if groups and near and first.behind == track.behind:
            groups[-1].append(track)
        else:
            groups.append([track])
    return groups


def _beside(parts: list[Tensor], pads: list[int], batch: int) -> Tensor:
    """Tensors ``[..., 1, L', C]`` side by side, each behind its padding."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(
        [padded_tensor(part, (0, 0, pad, 0)) for part, pad in zip(parts, pads, strict=True)], batch
    )
