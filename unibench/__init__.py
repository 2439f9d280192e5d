"""unibench: fair comparison of visual token pruning in vision-language models.

Three lines prune any supported Hugging Face model, whoever calls ``generate``::

    with unibench.prune(model, "divprune", ratio=0.889) as session:
        model.generate(**inputs)

:func:`wrap` and :func:`unwrap` do the same without a block. ``ratio`` is the share of visual tokens
REMOVED. Names are imported when first used, so that the command line answers without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not (Path(__file__).parent / "methods").is_dir():  # a checkout whose tool made no symbolic links
    __path__.append(str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from unibench.api import load as load
    from unibench.api import prune as prune
    from unibench.api import unwrap as unwrap
    from unibench.api import wrap as wrap
    from unibench.budget import Budget as Budget
    from unibench.errors import UsageError as UsageError
    from unibench.pruning import Chain as Chain
    from unibench.pruning import EncoderContext as EncoderContext
    from unibench.pruning import EncoderStage as EncoderStage
    from unibench.pruning import Method as Method
    from unibench.pruning import Needs as Needs
    from unibench.pruning import Selection as Selection
    from unibench.pruning import Stage as Stage
    from unibench.pruning import StageContext as StageContext

__version__ = "0.2.0"

_HOME = {
    "prune": "api",
    "wrap": "api",
    "unwrap": "api",
    "Budget": "budget",
    "UsageError": "errors",
    "load": "api",
    "Chain": "pruning",
    "EncoderContext": "pruning",
    "EncoderStage": "pruning",
    "Method": "pruning",
    "Needs": "pruning",
    "Selection": "pruning",
    "Stage": "pruning",
    "StageContext": "pruning",
}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'unibench' has no attribute {name!r}")
    return getattr(import_module(f"unibench.{_HOME[name]}"), name)
