"""The prefill of all rows of a prompt, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unibench.cost.memory import out_of_memory
from unibench.fused.opening import Opened
from unibench.fused.rows import Group, Held, Row, Track, grouped
from unibench.pruning import Session
from unibench.pruning._transformers import attention_of
from unibench.pruning.attention import AttentionTap, QueryKey
from unibench.pruning.family import Family
from unibench.pruning.positions import positions_of
from unibench.pruning.prefill import Prefill


class Layers:
    """The decoder layers of a model, called one by one.

    Args:
        family: of the model.
        opened: the prompt, as the model's own code hands it to the first layer.
    """

    def __init__(self, family: Family, opened: Opened) -> None:
        self.family = family
        self.kernel = attention_of(family.text_model)
        self._layers, self._opened = family.text_model.layers, opened

    def __len__(self) -> int:
        return len(self._layers)

    def run(
        self, index: int, hidden: Tensor, mask: Tensor | None, rotary: Any, cache: Any
    ) -> Tensor:
        """The output of a layer.

        Args:
            index: of the layer.
            hidden: ``[B, T, D]``.
            mask: as the kernel takes it.
            rotary: cos and sin of the rows.
            cache: its ``update`` is given the keys and values, and gives back all there are.
        """
        found = self._layers[index](
            hidden,
            attention_mask=mask,
            position_embeddings=rotary,
            # gaps would read as packed sequences to flash attention
            position_ids=None,
            **{**self._opened.arguments, self._opened.cache: cache},
        )
        output: Tensor = found[0] if isinstance(found, tuple) else found
        return output

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits ``[B, V]``, float32, of states ``[B, 1, D]`` behind the last layer."""
        model = self.family.model
        logits: Tensor = model.get_output_embeddings()(self.family.text_model.norm(hidden))
        return logits[:, -1].float()


class _Taking:
    """Stands where the layers expect a cache, and keeps what one of them stores.

    Args:
        front: what the layer has of the tokens in front of these; None is nothing.
    """

    def __init__(self, front: Held | None) -> None:
        self._front = front
        self.keys = self.values = torch.empty(0)

    def update(self, keys: Tensor, values: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values = keys, values
        if self._front is None:
            return keys, values
        rows = (len(keys), -1, -1, -1)
        front = (self._front.keys.expand(rows), self._front.values.expand(rows))
        return torch.cat([front[0], keys], 2), torch.cat([front[1], values], 2)


class Reading:
    """Reads one prompt for several methods.

    Rows that have not been cut yet all go by one track, that of the whole prompt. The text in front
    of the first picture sees nothing of what is cut: where some row is never cut, others leave it
    to that one.

    Args:
        layers: of the decoder.
        opened: the prompt.
        sessions: one for each row.
    """

    def __init__(self, layers: Layers, opened: Opened, sessions: Sequence[Session]) -> None:
        self._layers, self._family = layers, layers.family
        self._kind = self._family.kinds[0]
        wanted = [self._modules(session) for session in sessions]
        self.trunk = Track(opened.prefill, opened.hidden, set().union(*wanted))
        self.rows: list[Row] = []
        for session, modules in zip(sessions, wanted, strict=True):
            prefill, prompt = opened.copy()
            session.begin(prefill, prompt, opened.hidden)
            self.rows.append(Row(session, prefill, self.trunk, modules))
        self._calls: dict[nn.Module, list[QueryKey]] | None = None
        self._asked: Prefill | None = None  # of the row whose method is being asked
        # a text alone is never cut
        pictured = opened.prefill.prompt.has_visual
        self._cuts = {layer for one in sessions for layer in one.stages} if pictured else set()
        whole = pictured and any(not one.stages for one in sessions)
        self._front = int(opened.prefill.prompt.visual[0].int().argmax()) if whole else 0

    def _modules(self, session: Session) -> set[nn.Module]:
        """The attention modules that a method reads."""
        return {self._family.llm_attention(layer) for layer in session.plan.needs.llm_attention}

    def read(self) -> list[Row]:
        """Take every row through all layers; those whose method failed are left out."""
        entering = {
            self._family.llm_attention(stage.layer)
            for row in self.rows
            for stage in row.session.plan.stages
            if stage.needs.entering
        }
        tap = AttentionTap(self.trunk.wanted | entering, self._listening, alone=self._alone)
        groups = [Group.of([self.trunk], self._kind, self._layers.kernel)]
        with tap.installed():
            for index in range(len(self._layers)):
                if index in self._cuts:
                    for group in groups:
                        group.unpack()
                    self._cut(index)
                    groups = self._regrouped()
                self._note(index)
                for group in groups:
                    self._run(group, index)
        for group in groups:
            group.unpack()
        return [row for row in self.rows if row.error is None]

    def _listening(self, module: nn.Module) -> list[QueryKey] | None:
        return None if self._calls is None else self._calls.setdefault(module, [])

    def _alone(self, module: nn.Module) -> bool:
        """Whether a method calls an attention module for its queries and keys."""
        return self._asked is not None and self._asked.alone is module

    def _cut(self, index: int) -> None:
        """Ask every method that cuts in front of a layer."""
        for row in self.rows:
            if row.error is None and index in row.session.stages:
                try:
                    self._branch(row, index)
                except Exception as error:  # of this method; the others go on
                    if out_of_memory(error):
                        raise
                    row.error = error
                finally:
                    self._calls = self._asked = None

    def _branch(self, row: Row, index: int) -> None:
        prefill, before = row.prefill, row.track.hidden
        if row.track is self.trunk:
            # what the layers of the whole prompt have recorded so far, for this method's eyes
            seen = self.trunk.prefill.recorded.items()
            prefill.recorded = {key: list(calls) for key, calls in seen if key in row.wanted}
        self._calls, self._asked = prefill.recorded, prefill
        hidden = before
        for number, stage in row.session.stages[index]:
            hidden = row.session.cut(prefill, number, stage, hidden)
        if row.track is not self.trunk:
            row.track.hidden = hidden
        elif hidden is not before:
            behind = self._front if self._leaves_front(row, index) else 0
            held = list(self.trunk.held)
            row.track = Track(prefill, hidden[:, behind:], row.wanted, held, behind)

    def _leaves_front(self, row: Row, index: int) -> bool:
        """Whether a row that has been cut in front of a layer can leave the text in front of the
        first picture to the whole prompt: it is all there, in its place, and nobody reads it again.
        """
        current, front = row.prefill.current, self._front
        later = {self._family.llm_attention(layer) for layer in range(index, len(self._layers))}
        if not front or current is None or later & row.wanted or row.session.plan.diagnose:
            return False
        if max(row.session.stages) > index:  # a later cut is handed all of the row
            return False
        origin = current.origin[0, :front]
        if not torch.equal(origin, torch.arange(front, device=origin.device)):
            return False
        if current.sizes is not None and not bool((current.sizes[0, :front] == 1).all()):
            return False
        if current.at is None:
            return True
        stood, stands = positions_of(row.prefill.prompt)[..., :front], current.at[..., :front]
        return stood.shape == stands.shape and torch.equal(stands.to(stood), stood)

    def _regrouped(self) -> list[Group]:
        """The sequences that are still wanted, in batches of about one length."""
        # in the order of the rows, each once
        tracks = list(dict.fromkeys(row.track for row in self.rows if row.error is None))
        return [Group.of(some, self._kind, self._layers.kernel) for some in grouped(tracks)]

    def _note(self, index: int) -> None:
        """Note how many visual tokens enter a layer in each row, and which."""
        for row in self.rows:
            prefill, stages = row.prefill, row.session.stages
            if row.error is not None or not self._cuts or not stages or index < min(stages):
                continue
            if prefill.current is not None:
                prefill.prompt.segments[index] = prefill.current
            again = index in stages or not prefill.counts
            prefill.counts.append(prefill.visual_counts() if again else prefill.counts[-1])

    def _run(self, group: Group, index: int) -> None:
        module, front = self._family.llm_attention(index), None
        if group.behind:  # the whole prompt has gone through this layer before
            whole, to = self.trunk.held[index], group.behind
            front = Held(whole.keys[:, :to], whole.values[:, :to])
        taking = _Taking(front)
        listeners = [module in track.wanted for track in group.tracks]
        self._calls = {} if any(listeners) else None
        group.hidden = self._layers.run(index, group.hidden, group.mask, group.rotary, taking)
        calls = [] if self._calls is None else self._calls.get(module, [])
        self._calls = None
        for number, (track, pad) in enumerate(zip(group.tracks, group.pads, strict=True)):
            keys, values = taking.keys[number, :, pad:], taking.values[number, :, pad:]
            if front is not None:
                keys = torch.cat([front.keys, keys], 1)
                values = torch.cat([front.values, values], 1)
            track.held.append(Held(keys, values))
            if listeners[number]:
                track.prefill.recorded.setdefault(module, []).extend(
                    QueryKey(
                        qk.query[number : number + 1, :, pad:],
                        qk.key[number : number + 1, :, pad:],
                        qk.scaling,
                    )
                    for qk in calls
                )
