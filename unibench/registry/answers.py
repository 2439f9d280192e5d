"""What configured methods say of models, remembered between commands.

Only the method itself knows which values it refuses and what it needs, so it is built and asked. An
answer depends on the source, the parameters and what is known of the model; under these it is kept
in a cache, so that a plan of a grid imports no torch.
"""

from __future__ import annotations

import atexit
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unibench import jsoncache, registry
from unibench.budget import Budget, BudgetMode, Positions
from unibench.errors import UsageError
from unibench.facts import ModelFacts
from unibench.registry.importing import own_line, place_of

if TYPE_CHECKING:
    from unibench.pruning import Method


def refusal(
    node: Mapping[str, Any],
    budget: Budget,
    family: str,
    model: ModelFacts,
    mode: BudgetMode,
    positions: Positions,
    after_state: bool,
) -> str | None:
    """Why a configured method cannot run on a model under a budget, None if it can.

    Args:
        node: the method as a configuration has it.
        budget: of the run.
        family: name of the adapter.
        model: what is known of the model.
        mode: how the budget counts.
        positions: where the tokens that go on stand.
        after_state: whether tokens may be dropped that are in the state of an earlier layer.
    """
    rules: dict[str, Any] = {"mode": mode, "positions": positions, "after_state": after_state}
    question = {
        "method": _method_key(node),
        "budget": [str(budget.retention), budget.tokens],
        "family": family,
        "model": asdict(model) | {"selector": _state(model.selector)},
        **rules,
    }

    def ask() -> str | None:
        from unibench.pruning.refusal import refusal

        try:
            method = _method(node)
            cls = registry.families()[family].load()
            return refusal(method, budget, cls, model, **rules)
        except UsageError as error:
            return str(error)
        except Exception as error:
            theirs = [card.path for card in registry.parts_of(node) if card.outside]
            if own_line(error, theirs):
                return place_of(error, theirs[0])
            if isinstance(error, (TypeError, ValueError)):  # how Python code refuses a value
                return f"method={node['name']}: {' '.join(str(error).split())}"
            if not theirs:
                raise
            return f"method={node['name']}: {place_of(error, theirs[0])}"

    reason: str | None = _MEMORY.answer("refusal", question, ask)
    return reason


def uses_budget(node: Mapping[str, Any]) -> bool:
    """Whether the budget decides how many tokens a configured method keeps.

    Raises:
        UsageError: the method refuses its parameters.
    """
    answer = _MEMORY.answer(
        "uses_budget", _method_key(node), lambda: bool(_method(node).uses_budget)
    )
    return bool(answer)


def unservable(node: Mapping[str, Any]) -> list[str]:
    """Why a configured method cannot run inside a serving engine; empty where it can.

    Raises:
        UsageError: the method refuses its parameters.
    """

    def ask() -> list[str]:
        from unibench.pruning.servable import obstacles

        return list(obstacles(_method(node)))

    found: list[str] = _MEMORY.answer("unservable", _method_key(node), ask)
    return found


def facts(text: str, model_type: str | None = None, **more: Any) -> ModelFacts:
    """What a ``config.json`` says of a model, with the defaults of its class where it omits them.

    Args:
        text: of the file.
        model_type: stands where the text names none.
        **more: facts that it does not hold.
    """
    question = [
        blake2b(text.encode(), digest_size=8).hexdigest(),
        _version("transformers"),
        model_type,
    ]
    known = _MEMORY.answer("facts", question, lambda: _read(json.loads(text), model_type))
    if "kinds" in known:
        known = {**known, "kinds": tuple(known["kinds"])}  # JSON has lists alone
    return ModelFacts(**{**known, **more})


def task_refusal(name: str, target: str, options: Mapping[str, Any]) -> str | None:
    """Why an embedded task cannot be asked with these options, None if it can.

    Args:
        name: of the task.
        target: ``module:Class`` or ``path/to/file.py:Class``.
        options: arguments of the class.
    """
    texts = {key: value for key, value in options.items() if isinstance(value, str)}
    # ./mine.py:function is answered anew when the file was edited
    files = {key: _state(re.sub(r"(\.py):\w+$", r"\1", value)) for key, value in texts.items()}
    own = registry.task(target).source if ".py" in target else ""
    question = [registry.tasks_digest(), own, target, dict(options), files]

    def ask() -> str | None:
        try:
            registry.build_task(target, name, options)
        except UsageError as error:
            return str(error)
        return None

    reason: str | None = _MEMORY.answer("task", question, ask)
    return reason


def _read(config: dict[str, Any], model_type: str | None) -> dict[str, Any]:
    """The facts of a configuration, completed by its class if transformers has it."""
    from unibench._compat import repair_torchvision

    repair_torchvision()
    from transformers import AutoConfig

    try:
        given = {key: value for key, value in config.items() if key != "model_type"}
        whole = AutoConfig.for_model(config.get("model_type", model_type), **given).to_dict()
    except Exception:  # remote code, or a version that this transformers does not know
        whole = config
    try:
        facts = asdict(ModelFacts.of_config(whole))
    except (AttributeError, TypeError):
        return {}  # a damaged file, which loading the model will name
    return {key: value for key, value in facts.items() if _known(value)}


def _known(value: Any) -> bool:
    """Whether a fact has a form that facts have: a number in quotes, say, is damage too."""
    if isinstance(value, tuple):  # the kinds of layers
        return all(isinstance(kind, str) for kind in value)
    return isinstance(value, int | float)


def _method_key(node: Mapping[str, Any]) -> list[Any]:
    """What an answer of a method depends on: sources, parameters, the files that they name."""
    sources = [card.source for card in registry.parts_of(node)]
    files = {key: _state(value) for key, value in node.items() if isinstance(value, str)}
    return [sources, dict(node), {key: state for key, state in files.items() if state is not None}]


def _state(value: str | None) -> Any:
    """Time of change and size of the file that a value names, or of the files in a folder; None
    for a value that names none.
    """
    if not value:
        return None
    try:
        place = Path(value).expanduser().absolute()  # a relative name is another file elsewhere
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        return [[str(file), file.stat().st_mtime_ns, file.stat().st_size] for file in files]
    except (OSError, ValueError, RuntimeError):  # no such file, or no name of one
        return None


def _method(node: Mapping[str, Any]) -> Method:
    """The method of a configuration, built once in a process."""
    return _built(json.dumps(dict(node), sort_keys=True), json.dumps(_method_key(node)))


@cache
def _built(text: str, key: str) -> Method:
    """Args: the node; what else the method depends on."""
    node = json.loads(text)
    name = node.get("source") or node["name"]
    parameters = {key: value for key, value in node.items() if key not in ("name", "source")}
    return registry.build_method(name, **parameters)


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@dataclass
class _Memory:
    """Answers by digest of their question, read once and written when the process ends.

    Attributes:
        known: the answers; None until the file has been read.
        fresh: those that it does not hold yet.
    """

    known: dict[str, Any] | None = None
    fresh: dict[str, Any] | None = None

    def answer(self, kind: str, question: Any, ask: Any) -> Any:
        """The answer to a question, asked only where it is not known."""
        text = json.dumps([kind, question], sort_keys=True, default=str)
        key = blake2b(text.encode(), digest_size=12).hexdigest()
        if self.known is None:
            self.known = jsoncache.read(_file())
        if key not in self.known:
            self.known[key] = ask()
            if self.fresh is None:
                self.fresh = {}
                atexit.register(self.save)
            self.fresh[key] = self.known[key]
        return self.known[key]

    def save(self) -> None:
        """Add the fresh answers to the file, to which others may have added meanwhile."""
        if self.fresh:
            jsoncache.write(_file(), {**jsoncache.read(_file()), **self.fresh})
            self.fresh = {}


def _file() -> str:
    return f"answers-{registry.core_digest()}"


_MEMORY = _Memory()
