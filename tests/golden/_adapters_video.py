"""Adapters of the video methods: frames of one size, newlines, signals of the tower. Imported by
``_adapters.py``, which registers them.
"""

from __future__ import annotations

from typing import Any

import torch

from tests.golden import _context
from tests.golden._adapters import Answer, Call, adapter, answer, one_stage
from unibench import StageContext
from unibench.pruning import Item, Part


def part_of(call: Call) -> Part:
    """The frames of a case."""
    sizes = (int(call.case.params[name]) for name in ("frames", "height", "width"))
    return Part(*sizes, newline="row" if call.case.params.get("newline") == "row" else "")


def video(call: Call, **more: Any) -> StageContext:
    """The context before the language model: the frames of one video, nothing else.

    Where the case has a newline behind each row, it stands in the sequence and ``features`` has
    patches alone.
    """
    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    features = arrays["features"]
    shows_patch = ~torch.tensor(part.separators)
    newline = arrays.get("newline", torch.ones(features.shape[1], dtype=features.dtype))
    hidden = newline.expand(len(part), -1).clone()
    hidden[shows_patch] = features
    values: dict[str, Any] = dict(
        layer=0,
        keep=call.case.keep,
        total=len(part),
        hidden=hidden,
        visual=torch.arange(len(part)),
        origin=torch.arange(len(part)),
        vision_rows=torch.arange(len(part)),
        items=(Item(0, len(part), (part,), video=0),),
        sample=call.case.name,
        note=call.note,
    )
    return StageContext(**{**values, **more})


@adapter
def frames(call: Call) -> Answer:
    """Features of the frames of a video in, indices out."""
    return answer(one_stage(call.build()), video(call))


@adapter
def redundancy(call: Call) -> Answer:
    """VidCom2: its two scores and the numbers of the frames are stored too."""
    from unibench.methods.vidcom2 import frame_counts
    from unibench.methods.vidcom2 import redundancy as scores

    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    per_video, per_frame = scores(arrays["features"].unflatten(0, (part.frames, -1)))
    for name, found in (("video_score", per_video), ("frame_score", per_frame)):
        if name in arrays:
            torch.testing.assert_close(found, arrays[name], rtol=1e-4, atol=1e-5)
    counts = frame_counts(per_video, call.case.params["retention"])
    assert counts.tolist() == arrays["counts"].tolist()
    return frames(call)  # type: ignore[return-value]


@adapter
def dissimilarity(call: Call) -> Answer:
    """EVS: how far each token is from the one before is stored too."""
    from unibench.methods.evs import dissimilarity as apart

    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    found = apart(arrays["features"].unflatten(0, (part.frames, -1)))
    torch.testing.assert_close(found, arrays["dissimilarity"], rtol=1e-4, atol=1e-5)
    return frames(call)  # type: ignore[return-value]


@adapter
def windows_of_four(call: Call) -> Answer:
    """DyCoke: the default is what the paper describes, which is stored too."""
    plain = answer(one_stage(call.build(variant="default")), video(call))
    assert plain.kept.tolist() == call.case.arrays["kept_paper"].tolist()
    return frames(call)  # type: ignore[return-value]
