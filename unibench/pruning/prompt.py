"""The prompt that a session is reading or has read: where its visual tokens are, and what each
decoder layer holds of it.

What decoding needs of a prompt goes with its cache, so that several may be continued in turns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import xxhash
from torch import Tensor

from unibench.errors import UsageError
from unibench.pruning.cutting import Segment
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Item, Part

KINDS = {1: "image", 2: "video"}  # values of Family.visual_kind
PIXELS = "xxh3:"  # begins their digests, as another hash made those of earlier records


@dataclass(frozen=True)
class Choice:
    """The tokens of one sample that a stage kept.

    Attributes:
        origin: sorted indices in the unpruned sequence.
        values: their new hidden states, or None.
        sizes: how many tokens each stands for, or None.
        members: ``[2, M]`` pairs of a merged token and one that it stands for, indices in the
            unpruned sequence; or None.
    """

    origin: Tensor
    values: Tensor | None
    sizes: Tensor | None = None
    members: Tensor | None = None


@dataclass(eq=False)  # each is only itself, and tensors of two lengths cannot be compared
class Prompt:
    """One batch of prompts, as decoding needs it after the prefill.

    Attributes:
        ids: ``[B, L]`` token ids, None when the model was given embeddings.
        valid: ``[B, L]`` False on padding.
        pads: length of the padding, at the left.
        visual: ``[B, L]`` True on visual tokens.
        feature_row: ``[B, L]`` row of each visual token in the packed vision features.
        items: images and videos of each sample.
        modalities: which of them each item is.
        copies: rows of each sample side by side, for beams or several answers.
        text_behind: number of tokens behind the last visual one of each sample.
        names: one per sample.
        asked: length without what was generated since (differs from L only without a cache).
        positions: what the model handed to its text model as position_ids.
        segments: what each decoder layer after a cut sees.
        session: number of the session that read it.
        choices: what each stage kept, per sample, in the order of the stages.
        held: of a method that rereads, each segment by its identity, and where the visual tokens of
            a cache that holds it lie, of each sample.
        memory: what such a method leaves itself from step to step, of each sample.
    """

    ids: Tensor | None
    valid: Tensor
    pads: list[int]
    visual: Tensor
    feature_row: Tensor
    items: list[tuple[Item, ...]]
    modalities: list[tuple[str, ...]]
    copies: int
    text_behind: list[int]
    names: Sequence[str]
    asked: int
    positions: Tensor | None
    segments: dict[int, Segment] = field(default_factory=dict)
    session: int = 0
    choices: list[list[Choice | None]] = field(default_factory=list)
    held: dict[int, tuple[Segment | None, list[tuple[Tensor, Tensor]]]] = field(
        default_factory=dict
    )
    memory: list[dict[str, Tensor]] | None = None

    @property
    def length(self) -> int:
        return self.valid.shape[1]

    @property
    def has_visual(self) -> bool:
        return any(self.items)

    def ids_of(self, row: int) -> Tensor | None:
        """Token ids of a sample without padding."""
        return None if self.ids is None else self.ids[row][self.valid[row].to(self.ids.device)]

    @property
    def visual_counts(self) -> list[int]:
        """Visual tokens of each sample before any cut."""
        return [sum(len(item) for item in items) for items in self.items]


def prompt_of(
    family: Family,
    ids: Tensor | None,
    valid: Tensor,
    positions: Tensor | None,
    calls: dict[str, VisionCall],
    names: Sequence[str] | None,
) -> Prompt:
    """Locate the visual tokens of a batch and the vision features they came from.

    Args:
        family: the adapter of the model.
        ids: ``[B, L]`` token ids, None where the model was given embeddings.
        valid: ``[B, L]`` False on padding.
        positions: what the text model was handed as position_ids.
        calls: of the vision tower, by modality.
        names: of the samples, None to name them by their ids.

    Raises:
        UsageError: a batch of pictures on a family that reads those of one prompt at a time.
        ValueError: another number of names than of samples.
        RuntimeError: the calls made another number of features than the prompts have placeholders.
    """
    length, pads = valid.shape[1], (~valid).sum(1).tolist()
    if ids is None:
        # embeddings do not say which of them are pictures
        nothing = torch.zeros_like(valid)
        return Prompt(
            ids=None,
            valid=valid,
            pads=pads,
            visual=nothing,
            feature_row=nothing.long(),
            items=[()] * len(valid),
            modalities=[()] * len(valid),
            copies=1,
            text_behind=[length - pad for pad in pads],
            names=names or [""] * len(valid),
            asked=length,
            positions=positions,
        )
    # padding is never visual, whichever id it has
    kind = family.visual_kind(ids.to(valid.device)) * valid
    feature_row, copies = _feature_rows(kind, calls)
    # copies of one prompt for beams are no batch of pictures
    if not family.batches and int(kind[::copies].any(1).sum()) > 1:
        raise UsageError(
            f"{family.model_types[0]} reads pictures of one prompt at a time, its code mixes those"
            " of a batch: batch_size=1"
        )
    samples = [sample for sample in _items(family, kind[::copies], calls) for _ in range(copies)]
    if names is None:
        names = [digest(row[good]) for row, good in zip(ids, valid.to(ids.device), strict=True)]
    elif len(names) * copies == len(ids):
        names = [name for name in names for _ in range(copies)]
    else:
        raise ValueError(f"{len(names)} sample names for a batch of {len(ids)}")
    # the text is never cut, so its length behind the pictures holds for every stage
    last = (kind > 0).long().mul(torch.arange(1, length + 1, device=kind.device)).amax(1)
    return Prompt(
        ids=ids,
        valid=valid,
        pads=pads,
        visual=kind > 0,
        feature_row=feature_row,
        items=[tuple(item for _, item in sample) for sample in samples],
        modalities=[tuple(modality for modality, _ in sample) for sample in samples],
        copies=copies,
        text_behind=[length - max(*pair) for pair in zip(pads, last.tolist(), strict=True)],
        names=names,
        asked=length,
        positions=positions,
    )


def digest(ids: Tensor) -> str:
    """A hash of token ids ``[L]``, which also names a prompt that has no name."""
    # the same prompt has the same name in every batch, which seeds its draws
    return hashlib.blake2b(ids.cpu().numpy().tobytes(), digest_size=8).hexdigest()


Shapes = tuple[tuple[int, ...], ...]


def pixel_digests(
    family: Family, prompt: Prompt, calls: dict[str, VisionCall]
) -> list[tuple[str, Shapes]]:
    """For each sample a hash of the pixels that the vision tower was given of it, whatever stood
    beside it in the batch, and the shapes of these pixels; empty without pictures.
    """
    pixels: dict[str, Iterator[Tensor]] = {}
    for modality, call in calls.items():
        items = [
            item
            for row in range(0, len(prompt.items), prompt.copies)
            for kind, item in zip(prompt.modalities[row], prompt.items[row], strict=True)
            if kind == modality
        ]
        pixels[modality] = iter(family.pixels(call, items))
    digests: list[tuple[str, Shapes]] = []
    for row in range(0, len(prompt.items), prompt.copies):
        state, shapes = xxhash.xxh3_128(), list[tuple[int, ...]]()
        for modality in prompt.modalities[row]:
            # a call has its pictures in the order of the prompts; the sample says whose turn it is
            values = next(pixels[modality]).detach().cpu().contiguous()
            shapes.append(tuple(values.shape))
            # bytes alone are the same for two shapes
            state.update(f"{modality} {values.dtype} {tuple(values.shape)}".encode())
            # as bytes, since numpy has no bfloat16
            state.update(values.flatten().view(torch.uint8).numpy().data)
        hexed = PIXELS + state.hexdigest() if prompt.modalities[row] else ""
        digests += [(hexed, tuple(shapes))] * prompt.copies
    return digests


def _feature_rows(kind: Tensor, calls: dict[str, VisionCall]) -> tuple[Tensor, int]:
    """Row of each visual token in the features of the image call followed by those of the video
    call.

    Beam search and several returned sequences repeat each sample; the number of copies is returned.
    """
    rows = torch.zeros_like(kind)
    copies, offset = 1, 0
    for value, modality in KINDS.items():
        call = calls.get(modality)
        if call is None:
            continue
        count, features = int((kind == value).sum()), call.tokens
        # not a whole number of copies: placeholders and features belong to different prompts
        if features == 0 or count % features:
            raise RuntimeError(
                f"{count} {modality} tokens in the prompt, but {features} {modality} features"
            )
        copies = max(copies, count // features)
        # generate() repeats ids for beams but encodes each picture once
        rank = (kind[::copies] == value).flatten().cumsum(0).view_as(kind[::copies]) - 1 + offset
        rows = torch.where(kind == value, rank.repeat_interleave(copies, 0), rows)
        offset += features
    return rows, copies


def _items(
    family: Family, kind: Tensor, calls: dict[str, VisionCall]
) -> list[list[tuple[str, Item]]]:
    """The images and videos of each sample, in sequence order."""
    rows = kind.tolist()
    pictures: dict[int, Iterator[tuple[Part, ...]]] = {}
    for value, modality in KINDS.items():
        runs = [run for row in rows for run in _runs(row, value)]
        call = calls.get(modality)
        laid_out = (
            family.items(call, runs) if call is not None else [(Part(1, 1, n),) for n in runs]
        )
        pictures[value] = iter(laid_out)
    samples = []
    for row in rows:
        kinds = [value for value in row if value]
        items: list[tuple[str, Item]] = []
        start, videos = 0, 0
        while start < len(kinds):
            parts = next(pictures[kinds[start]])
            stop, modality = start + sum(len(part) for part in parts), KINDS[kinds[start]]
            number = videos if modality == "video" else None
            items.append((modality, Item(start, stop, parts, number)))
            start, videos = stop, videos + (modality == "video")
        if family.frames_are_pictures:
            joined = _joined_frames([item for _, item in items])
            items = [(modality, item) for (modality, _), item in zip(items, joined, strict=True)]
        samples.append(items)
    return samples


def _joined_frames(items: list[Item]) -> list[Item]:
    """Pictures of one grid that follow each other in one size, numbered as frames of a video."""
    found: list[Item] = []
    number = -1
    for place, item in enumerate(items):
        # a single picture between others of its own size is a frame; one alone is a picture
        beside = [items[i].parts for i in (place - 1, place + 1) if 0 <= i < len(items)]
        if len(item.parts) != 1 or item.parts[0].frames != 1 or item.parts not in beside:
            found.append(item)
            continue
        if not found or found[-1].video is None or found[-1].parts != item.parts:
            number += 1
        found.append(replace(item, video=number))
    return found


def _runs(row: list[int], value: int) -> list[int]:
    """Lengths of the contiguous runs of a value.

    >>> _runs([0, 1, 1, 0, 1, 2], 1)
    [2, 1]
    """
    runs, before = [], 0
    for entry in row:
        if entry == value:
            if before != value:
                runs.append(0)
            runs[-1] += 1
        before = entry
    return runs
