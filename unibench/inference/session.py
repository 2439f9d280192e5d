"""From a cell to the session that answers it: one way for the runner, the harnesses' children,
profiles and analyses.
"""

from __future__ import annotations

from unibench.budget import Budget
from unibench.identity import Cell
from unibench.models import LoadedModel
from unibench.pruning import Method, Session
from unibench.pruning.vision import Reuse
from unibench.registry import build_method


def session_of(
    cell: Cell,
    loaded: LoadedModel,
    *,
    method: Method | None = None,
    budget: Budget | None = None,
    reuse: Reuse | None = None,
) -> Session:
    """The session of a cell on a loaded model.

    Args:
        cell: names method, budget and seed.
        loaded: the model, see :attr:`unibench.identity.Cell.loaded`.
        method, budget: stand in for the cell's own.
        reuse: remembers vision features.

    Raises:
        UsageError: the method refuses its parameters, the model, or the budget.
    """
    rule = cell.config.budget
    return Session(
        loaded.family,
        method or method_of(cell),
        budget or cell.budget,
        scope=rule.scope,
        mode=rule.mode,
        seed=cell.config.seed,
        positions=cell.config.positions,
        after_state=cell.config.after_state,
        text_after_video=cell.config.text_after_video,
        reuse=reuse,
        diagnose=cell.config.diagnostics == "all",
        scores=cell.config.scores,
    )


def method_of(cell: Cell) -> Method:
    """The method of a cell with its parameters.

    Raises:
        UsageError: a parameter has a value that the method refuses.
    """
    node = cell.config.method
    options = {key: value for key, value in node.items() if key not in ("name", "source")}
    return build_method(node.get("source", node["name"]), **options)
