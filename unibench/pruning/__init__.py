"""The engine: a method's stages cut the sequence that enters a decoder layer.

Methods know :class:`Method`, :class:`Stage`, :class:`StageContext`, :class:`Selection` and
:class:`Needs`. Model families implement :class:`Family`. :class:`Session` joins the two for the
length of a ``with`` block.
"""

from __future__ import annotations

from unibench._compat import repair_torchvision

repair_torchvision()  # before anything here imports transformers

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
