"""Where the tokens that go on stand: the positions by which rotary embeddings turn them.

Three policies, and two that released code mixes of them. ``original``: every token stays where it
was in the whole prompt. ``compact``: the tokens of a layer stand at 0, 1, 2, ... as if the others
had never been there, on every axis where positions have three (time, height, width), since that is
where a decoder puts rows that it is given without positions; a sample that has lost nothing stays
as it is. ``centre``: a merged token stands at the mean position of the tokens it stands for, on
each axis, all others where they were.

A layer's generated tokens continue its own sequence: under ``compact`` one that holds 40 tokens
goes on at 40, and one before the cut where the whole prompt ended. What is removed from a cache
after the prefill moves nothing, for its keys have been turned already.

The mixtures differ in where generated tokens go on, which is a fault of the code that they
reproduce. ``original_then_compact``: the prompt keeps its positions, generated tokens count the
tokens that are left, and so stand inside the prompt (AngelSlim's LLaVA, cut before the language
model). ``compact_then_original``: the prompt closes up, generated tokens go on where the whole
prompt ended (UniPruneBench's InternVL, cut inside the language model).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unibench.budget import Positions
from unibench.pruning.cutting import Rotary, Segment
from unibench.pruning.prompt import Choice, Prompt

Rotate = Callable[[Tensor, str], Rotary]


class Places:
    """Positions of the tokens of one batch of prompts, under a policy that moves them.

    Args:
        policy: any but original.
        prompt: as it was read.
        rotate: cos and sin at positions ``[B, L]``, or ``[3, B, L]`` where there are three axes,
            for a kind of decoder layer.

    Attributes:
        at: ``[axes, B, L]`` position of each token of the whole prompt, float32: a mean of
            positions is a fraction, and integers are exact up to 2^24. Of those that are gone it
            is where they last were.
    """

    def __init__(self, policy: Positions, prompt: Prompt, rotate: Rotate) -> None:
        self.policy, self._rotate = policy, rotate
        self.at = positions_of(prompt)
        self._pads, self._length = prompt.pads, prompt.length
        # under "centre" no token goes past the end, so what is generated stands where it stood
        self._end = self.at[..., -1:] + 1

    def moved(self, segment: Segment, choices: Sequence[Choice | None]) -> Segment:
        """The segment after a cut, its tokens turned by where they stand now.

        Args:
            segment: what the cut leaves, turned by the original positions.
            choices: what the cut kept of each sample, with the groups of merged tokens.
        """
        for row, choice in enumerate(choices):
            if self.policy in ("compact", "compact_then_original"):
                self._close_up(row, segment)
            elif choice is not None and choice.members is not None:
                self._centre(row, choice.members)
        at = self.at.to(segment.origin.device)
        at = at.gather(2, segment.origin.expand(len(at), -1, -1))
        end = at[..., -1:] + 1 if self.policy == "compact" else self._end
        if self.policy == "original_then_compact":
            end = segment.valid.sum(1, keepdim=True).to(at).expand_as(end)
        # cos and sin differ by kind of layer: those that run ask for theirs
        return replace(segment, rotary={}, at=at, end=end)

    def rotary(self, at: Tensor, kind: str) -> Rotary:
        """cos and sin at positions ``[axes, B, L]``, for a kind of decoder layer."""
        return self._rotate(at if len(at) == 3 else at[0], kind)

    def _close_up(self, row: int, segment: Segment) -> None:
        kept = segment.origin[row][segment.valid[row]].to(self.at.device)
        # on three axes even an uncut prompt does not stand at 0, 1, 2, ...: it is left alone
        if len(kept) < self._length - self._pads[row]:
            self.at[:, row, kept] = torch.arange(len(kept), device=self.at.device).to(self.at)

    def _centre(self, row: int, members: Tensor) -> None:
        into, given = members.to(self.at.device)
        ones = torch.ones(len(into), device=self.at.device)
        count = self.at.new_zeros(self._length).index_add(0, into, ones)
        # from where the members stand now: an earlier stage may have moved them
        total = torch.zeros_like(self.at[:, row]).index_add(1, into, self.at[:, row, given])
        centred = count > 0
        self.at[:, row, centred] = total[:, centred] / count[centred]


def positions_of(prompt: Prompt) -> Tensor:
    """``[axes, B, L]`` position of each token of a prompt as the model has it, float32.

    Three axes are handed to a text model alone, or behind the positions in the text (four), by
    which nothing is turned; without any it counts from 0, padding included.
    """
    at = prompt.positions
    if at is None:
        at = torch.arange(prompt.length, device=prompt.valid.device)[None]
    # Qwen hands over four rows, of which the first serves masks only
    at = at[None] if at.ndim == 2 else at[-3:]
    return at.float().expand(-1, len(prompt.valid), -1).clone()
