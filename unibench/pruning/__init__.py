"""The engine: a method's stages cut the sequence that enters a decoder layer.

Methods know :class:`Method`, :class:`Stage`, :class:`StageContext`, :class:`Selection` and
:class:`Needs`. Model families implement :class:`Family`. :class:`Session` joins the two for the
length of a ``with`` block.

What loads transformers is imported when it is used: a page reads layouts and records alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unibench._compat import repair_torchvision

repair_torchvision()  # before anything here imports transformers

if TYPE_CHECKING:
    from unibench.pruning.checking import BudgetError as BudgetError
    from unibench.pruning.checking import SelectionError as SelectionError
    from unibench.pruning.context import StageContext as StageContext
    from unibench.pruning.context import StepContext as StepContext
    from unibench.pruning.encoder import EncoderContext as EncoderContext
    from unibench.pruning.encoder import EncoderStage as EncoderStage
    from unibench.pruning.family import Family as Family
    from unibench.pruning.family import VisionCall as VisionCall
    from unibench.pruning.layout import Grid as Grid
    from unibench.pruning.layout import Item as Item
    from unibench.pruning.layout import Part as Part
    from unibench.pruning.pixels import PixelContext as PixelContext
    from unibench.pruning.session import Session as Session
    from unibench.pruning.stage import Chain as Chain
    from unibench.pruning.stage import Composite as Composite
    from unibench.pruning.stage import Method as Method
    from unibench.pruning.stage import Needs as Needs
    from unibench.pruning.stage import Selection as Selection
    from unibench.pruning.stage import Stage as Stage
    from unibench.pruning.wrapper import Wrapper as Wrapper

# no module has the name of a function or class that another one defines
_HOME = {
    "BudgetError": "checking",
    "SelectionError": "checking",
    "StageContext": "context",
    "StepContext": "context",
    "EncoderContext": "encoder",
    "EncoderStage": "encoder",
    "Family": "family",
    "VisionCall": "family",
    "Grid": "layout",
    "Item": "layout",
    "Part": "layout",
    "PixelContext": "pixels",
    "Session": "session",
    "Chain": "stage",
    "Composite": "stage",
    "Method": "stage",
    "Needs": "stage",
    "Selection": "stage",
    "Stage": "stage",
    "Wrapper": "wrapper",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
