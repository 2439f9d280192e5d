"""The library's front door."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar, cast, get_args

from unibench import registry
from unibench.budget import (
    Budget,
    BudgetMode,
    Number,
    Positions,
    Rounding,
    Scope,
    TextAfterVideo,
)
from unibench.config import ModelConfig
from unibench.errors import UsageError, unknown
from unibench.models import LoadedModel, cached_processor, card_clip, family_of, whole_model
from unibench.models import load as load_model
from unibench.pruning import Family, Method, Needs, Session
from unibench.pruning.family import CommonSpace
from unibench.pruning.stage import needs_of
from unibench.registry import build_method as build_method

M = TypeVar("M")
Clip = str | Callable[[], CommonSpace] | None


class _Auto:
    """Stands for an argument that was not given."""

    def __repr__(self) -> str:
        return "<found from the model>"


AUTO: Final = _Auto()


def load(model: ModelConfig | str, pixels: str = "native") -> LoadedModel:
    """A model with its processor and adapter.

    Args:
        model: a name (``python -m unibench list models``), or its configuration.
        pixels: preset of image settings.

    Raises:
        UsageError: there is no such model or preset, or its checkpoint cannot be had.
    """
    if isinstance(model, str):
        try:
            from unibench.compose import compose_cells, options
        except ModuleNotFoundError as error:  # Hydra, which prune() does without
            raise UsageError(
                f'load() by name needs {error.name}: pip install "unibench-pruning[bench]"; or'
                " load the model with transformers and give it to prune()"
            ) from None
        if model not in options("model"):
            raise unknown("model", model, options("model"), "python -m unibench list models")
        model = compose_cells([f"model={model}"], sweep=False)[0].model
    if not isinstance(model, ModelConfig):
        raise UsageError(f"load takes the name of a model or a ModelConfig, not {model!r}"[:200])
    if pixels not in model.pixels:
        raise unknown(f"pixels of model {model.name}", pixels, model.pixels)
    return load_model(model, pixels)


def _named(name: str, parameters: dict[str, Any]) -> Method:
    """A method by name; a misspelt parameter may have meant a keyword of :func:`prune` too."""
    card = registry.method(name)
    if wrong := [key for key in parameters if key not in card.parameters]:
        raise unknown(
            f"parameter of method {name}",
            wrong[0],
            [*card.parameters, *_KEYWORDS],
            f"python -m unibench show method {name}",
        )
    return build_method(name, **parameters)


@contextmanager
def prune(
    model: Any,
    method: Method | str,
    *,
    processor: Any = None,
    clip: Clip | _Auto = AUTO,
    ratio: Number | None = None,
    retention: Number | None = None,
    keep: int | None = None,
    scope: Scope = "sequence",
    budget_mode: BudgetMode = "at_stage",
    seed: int = 0,
    positions: Positions = "original",
    after_state: bool = False,
    rounding: Rounding = "half_up",
    text_after_video: TextAfterVideo = "max_side",
    wrap: Sequence[str | Mapping[str, Any]] = (),
    method_options: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> Iterator[Session]:
    """Prune every prompt that ``model`` reads inside the block; outside it the model is as it was.

    Args:
        model: a Hugging Face image-text-to-text model, or a wrapper that passes calls on to one;
            who calls ``generate`` does not matter.
        method: a :class:`Method`, or its name.
        processor: of the model, for methods that read the question; if it is not given, it is
            looked for where the model came from, without the network.
        clip: folder or hub id of the CLIP that the vision tower comes from, for methods that
            compare patches with the question in it; None lets them take their substitute. If it is
            not given, the model's card in ``configs/model`` names it.
        ratio: share of visual tokens REMOVED; or
        retention: share kept; or
        keep: number kept.
        scope: ``"sequence"``, ``"item"``, ``"tile"`` or ``"first_tile"``: one budget for all images
            of a prompt, one for each image or video, one for each tile or frame, or one for the
            first tile and one for all others.
        budget_mode: ``"at_stage"`` or ``"layer_average"``: tokens left after the cuts, or processed
            per layer on average.
        seed: for methods that draw.
        positions: ``"original"``, ``"compact"`` or ``"centre"``: the tokens that go on stay where
            they were, close up to 0, 1, 2, ..., or a merged one stands amid those it stands for;
            ``"original_then_compact"`` and ``"compact_then_original"`` as released code decodes.
        after_state: whether a cut may come after layers that carry a state (linear attention), in
            which what it drops stays.
        rounding: ``"half_up"``, ``"python_round"`` or ``"python_int"``: of a share of tokens, see
            :mod:`unibench.budget`.
        text_after_video: ``"max_side"`` or ``"last"``: where the text behind a video starts on
            Qwen2-VL and Qwen2.5-VL, as transformers or as vLLM has it.
        wrap: wrappers around the method, the outermost first: names, or mappings with a name and
            parameters, ``[{"name": "debias", "prior": "prior.safetensors"}]``. As on the command
            line, vanilla is never wrapped.
        method_options: parameters of the method that have the name of a keyword here, such as
            fastvid's ``retention``, which is no budget: ``{"retention": 0.25}``.
        **parameters: of the method, when it is given by name.

    Raises:
        UsageError: unknown names, no budget where the method needs one or one out of range, a
            family that cannot serve the method, a processor or a CLIP that cannot be found; inside
            the block, a way of calling the model that pruning cannot follow.
    """
    parameters |= method_options or {}
    if "mode" in parameters and not _has_parameter(method, "mode"):
        warnings.warn("mode= of prune() is now budget_mode=", DeprecationWarning, stacklevel=3)
        budget_mode = parameters.pop("mode")
    if isinstance(method, str):
        built = _named(method, parameters)
    elif parameters:
        raise unknown("keyword of prune() with a built method", next(iter(parameters)), _KEYWORDS)
    else:
        built = method
    built = _wrapped(built, wrap)
    for kind, given, allowed in (
        ("budget scope", scope, Scope),
        ("budget mode", budget_mode, BudgetMode),
        ("positions", positions, Positions),
        ("text_after_video", text_after_video, TextAfterVideo),
        ("rounding of the budget", rounding, Rounding),
    ):
        if given not in get_args(allowed):
            raise unknown(kind, given, get_args(allowed))
    budget = Budget.parse(ratio, retention, keep, rounding)
    family = _family_for(built, whole_model(model), processor, clip)
    session = Session(
        family,
        built,
        budget,
        scope=scope,
        mode=budget_mode,
        seed=seed,
        positions=positions,
        after_state=after_state,
        text_after_video=text_after_video,
    )
    if ratio is retention is keep is None and (built.uses_budget or budget_mode == "layer_average"):
        raise UsageError(
            f"{_name_of(method)} needs a budget: give ratio= (share of visual tokens removed, for"
            " example ratio=0.889), retention= (share kept) or keep= (number kept)"
        )
    with session.installed():
        yield session


# an attribute of the model, not an entry of a table: the two refer to each other, and a table of
# them would keep a model alive that nobody has any more
_WRAPPED: Final = "_unibench_wrapped"


def wrap(model: M, method: Method | str, **keywords: Any) -> M:
    """Prune every prompt that ``model`` reads from now on, until :func:`unwrap`.

    The same as entering :func:`prune` without a block to leave: for code in which ``generate`` is
    called somewhere else.

    Args:
        model: as :func:`prune` takes it.
        method: a :class:`Method`, or its name.
        **keywords: of :func:`prune`: ``ratio``, ``keep``, parameters of the method, ...

    Returns:
        The same model.

    Raises:
        UsageError: as :func:`prune`; also where the model is wrapped already.
    """
    whole = whole_model(model)
    if _WRAPPED in vars(whole):
        raise UsageError("this model is wrapped already; unibench.unwrap(model) comes first")
    with ExitStack() as stack:
        session = stack.enter_context(prune(model, method, **keywords))
        # past every check: what was entered stays open beyond this function
        vars(whole)[_WRAPPED] = (stack.pop_all(), session)
    return model


def unwrap(model: Any) -> Session:
    """End what :func:`wrap` began; the model is as it was, bit for bit.

    Returns:
        The session, whose ``take_records()`` says what was kept of each prompt.

    Raises:
        UsageError: the model is not wrapped.
    """
    whole = whole_model(model)
    if _WRAPPED not in vars(whole):
        raise UsageError("this model is not wrapped; unibench.wrap(model, method, ratio=...) is")
    stack, session = vars(whole).pop(_WRAPPED)
    stack.close()
    return cast(Session, session)


def _wrapped(method: Method, wrap: Sequence[str | Mapping[str, Any]]) -> Method:
    """A method inside wrappers, the first of which is the outermost."""
    if isinstance(wrap, str | Mapping):
        wrap = [wrap]
    vanilla: type[Method] = registry.method("vanilla").load()
    if isinstance(method, vanilla):
        return method  # the reference of the others
    for entry in reversed(wrap):
        node = dict(registry.wrapper_of(f"wrap={entry!r}", entry))
        method = build_method(node.pop("name"), inner=method, **node)
    return method


_KEYWORDS = [
    name
    for name, parameter in inspect.signature(prune).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
]


def _family_for(method: Method, model: Any, processor: Any, clip: Clip | _Auto) -> Family:
    """The adapter of the model with what the method needs of the checkpoint besides weights."""
    plain = family_of(model, processor)
    needs: Needs = needs_of(method.stages(len(plain.text_model.layers)))
    if processor is None and needs.question:
        processor = cached_processor(model)
    if isinstance(clip, _Auto):
        compares = needs.clip and "clip_tower" in plain.provides
        clip = card_clip(model) if compares else None
    return family_of(model, processor, clip=clip)


def _has_parameter(method: Method | str, name: str) -> bool:
    return isinstance(method, str) and name in registry.method(method).parameters


def _name_of(method: Method | str) -> str:
    return method if isinstance(method, str) else type(method).__name__
