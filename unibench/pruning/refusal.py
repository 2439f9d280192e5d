"""Why a method cannot run on a model: one answer for plans, checks and sessions."""

from __future__ import annotations

from collections.abc import Sequence

from unibench.budget import Budget, BudgetMode, Positions
from unibench.cost.accounting import REFERENCE, processed
from unibench.errors import UsageError
from unibench.facts import FULL, RECURRENT, SLIDING, ModelFacts
from unibench.pruning._transformers import attention_of
from unibench.pruning.family import Family
from unibench.pruning.stage import Method, Stage, needs_of

# where the depth is not known: a reason that is the same for both does not depend on it
DEPTHS = (24, 96)
# visual tokens for which counts are tried: a picture of LLaVA-1.5, and more than any prompt has,
# where rounding cannot hide that one share exceeds another
MANY = 2**20


def refusal(
    method: Method,
    budget: Budget,
    family: type[Family],
    model: ModelFacts,
    *,
    mode: BudgetMode = "at_stage",
    positions: Positions = "original",
    after_state: bool = False,
) -> str | None:
    """Why a method cannot run on a model under a budget, in one line; None if it can.

    Only what is known of the model refuses. Nothing is loaded.

    Args:
        method: with its parameters.
        budget: of the run.
        family: the class of the model's adapter.
        model: what is known of it.
        mode: how the budget counts.
        positions: where the tokens that go on stand.
        after_state: whether tokens may be dropped that are in the state of an earlier layer.
    """
    name = type(method).__name__
    if unknown := set(model.kinds or ()) - {FULL, *SLIDING, *RECURRENT}:
        return f"{model.name}: pruning does not know layers of kind {', '.join(sorted(unknown))}"
    if missing := method.wants - family.provides:
        return (
            f"{name} needs {', '.join(sorted(missing))}, which family"
            f" {model.family or family.model_types[0]} lacks"
        )
    if method.drops_pixels and not family.pixel_dropping:
        return (
            f"{name} drops tokens ahead of the vision tower, which family"
            f" {model.family or family.model_types[0]} does not allow"
        )
    if positions == "centre" and not method.centres:
        return (
            f"{name} does not say which tokens it merges, so that positions=centre has nothing to"
            " place; take original or compact"
        )
    reason = method.requires(family, model) or _of_kernels(method, family, model)
    if reason is not None:
        return reason
    depths = DEPTHS if model.depth is None else (model.depth,)
    reasons = {
        _of_cuts(method, budget, mode, depth, model, family, after_state) for depth in depths
    }
    # two depths that disagree mean that only the loaded model can say
    return reasons.pop() if len(reasons) == 1 else None


def cuts(method: Method, depth: int, mode: BudgetMode) -> list[Stage]:
    """The cuts of a method in the order in which a prompt meets them."""
    stages = method.averaged(depth) if mode == "layer_average" else method.stages(depth)
    # sorted() is stable: two stages of one layer run in the order of their methods
    return sorted(stages, key=lambda stage: stage.layer)


def facts_of(family: Family) -> ModelFacts:
    """What a loaded model says of itself."""
    text = family.text_model.config
    tower = family.vit_attentions[0]
    return ModelFacts(
        name=text.model_type,
        family=type(family).__module__.rpartition(".")[2],  # a family is a file
        depth=len(family.text_model.layers),
        kinds=family.kinds,
        softcap=getattr(text, "attn_logit_softcapping", None),
        kv_shared=getattr(text, "num_kv_shared_layers", None),
        width=text.hidden_size,
        positions=getattr(text, "max_position_embeddings", None),
        tower_depth=len(family.vit_blocks),
        one_feature_layer=family.feature_layer is not None,
        kernel=attention_of(family.text_model),
        tower_kernel=attention_of(tower) if hasattr(tower, "config") else None,
        clip=family.clip is not None,
    )


def after_states(method: Method, depth: int, mode: BudgetMode, kinds: Sequence[str]) -> str | None:
    """The remark on a method whose cuts come after layers that carry a state; None on another.

    Args:
        method: with its parameters.
        depth: layers of the decoder.
        mode: how the budget counts.
        kinds: of the layers.
    """
    last = max((stage.layer for stage in cuts(method, depth, mode)), default=0)
    before = [layer for layer in range(last) if kinds[layer] in RECURRENT]
    if not before:
        return None
    return (
        f"after_state: cut at layer {last}, what is dropped stays in the states of {len(before)}"
        " layers before it"
    )


def _of_kernels(method: Method, family: type[Family], model: ModelFacts) -> str | None:
    """Why the attention kernels, or the tower, cannot do what the method asks of them."""
    kernel, tower = model.kernel or "sdpa", model.tower_kernel or "sdpa"
    if "flash" not in kernel and kernel not in ("sdpa", "eager"):
        return (
            f"pruning knows no mask for the attention implementation {kernel!r}; take"
            " model.attn=sdpa"
        )
    if "flash" in kernel and SLIDING & set(model.kinds or ()):
        return (
            f"{kernel} counts a sliding window in the tokens that are left, not in the places where"
            " they stood; take model.attn=sdpa"
        )
    if not (family.tower_merging and model.one_feature_layer):
        return None
    try:
        # a method may refuse while it makes its stages; that too is an answer
        merges = method.encoder(model.tower_depth or DEPTHS[0])
    except UsageError as error:
        return str(error)
    if "flash" not in tower or not any(stage.weighted for stage in merges):
        return None
    return f"merging in the vision tower weighs keys, which {tower} cannot; take model.attn=sdpa"


def _of_cuts(
    method: Method,
    budget: Budget,
    mode: BudgetMode,
    depth: int,
    model: ModelFacts,
    family: type[Family],
    after_state: bool,
) -> str | None:
    """Why the cuts cannot be made in a decoder of ``depth`` layers, or the budget not be met."""
    name = type(method).__name__
    try:
        stages = cuts(method, depth, mode)
        for stage in stages:
            if not 0 <= stage.layer < depth:
                return (
                    f"{name} cuts at layer {stage.layer}, but the model has {depth} decoder layers"
                )
        if budget.retention is not None:
            # under an average, rounding on a huge picture would refuse what a real one reaches
            for total in (REFERENCE,) if mode == "layer_average" else (REFERENCE, MANY):
                processed(stages, budget.keep(total), total, depth)
    except UsageError as error:
        return str(error)
    if any(stage.weighted for stage in stages) and "flash" in (model.kernel or ""):
        return f"{name} weighs keys, which {model.kernel} cannot; take model.attn=sdpa"
    if (first := method.rereads(depth)) is not None and not 1 <= first < depth:
        return (
            f"{name} restricts what layers from {first} on read; the model has {depth} decoder"
            " layers"
        )
    if reason := _of_layers(method, stages, depth, model, family, after_state):
        return reason
    needs = needs_of(stages)
    if method.drops_pixels and needs.vision:
        return f"{name} drops tokens ahead of the vision tower, of which no signal can be recorded"
    for layer in needs.llm_attention:
        if not 0 <= layer < depth:
            return (
                f"{name} reads attention of layer {layer}, but the model has {depth} decoder layers"
            )
    blocks = model.tower_depth
    for layer in (*needs.vit_attention, *needs.vit_hidden):
        if blocks is not None and not -blocks <= layer < blocks:
            return f"{name} reads vision layer {layer} of a tower with {blocks} blocks"
    return None


def _of_layers(
    method: Method,
    stages: Sequence[Stage],
    depth: int,
    model: ModelFacts,
    family: type[Family],
    after_state: bool,
) -> str | None:
    """Why layers that do not attend to everything cannot do what the method asks of them. A cut
    that every such layer comes after is none of their business: they never meet what it drops.
    """
    name, kinds = type(method).__name__, model.kinds or (FULL,) * depth
    # a window's cache drops by age and a state cannot give a token back
    if set(kinds) != {FULL}:
        if method.evicts:
            return f"{name} takes entries out of caches, which needs full attention in every layer"
        if method.rereads(depth) is not None:
            return f"{name} chooses what decoding reads, which needs full attention in every layer"
    states = [layer for layer, kind in enumerate(kinds) if kind in RECURRENT]
    asked = {layer for stage in stages for layer in stage.needs.llm_attention}
    asked |= {stage.layer for stage in stages if stage.needs.entering}
    whole = {layer for layer, kind in enumerate(kinds) if kind == FULL}
    if without := sorted(asked - whole):
        return (
            f"{name} reads attention of layer {without[0]} of {model.name}, which does not attend"
            f" to everything; layers that do: {_listed(whole) or 'none'}"
        )
    if asked and family.sees_ahead:
        return (
            f"{name} reads attention of the decoder as causal, and {model.name} reads a prompt in"
            " both directions"
        )
    if asked and model.softcap and model.kernel == "eager":
        return (
            f"{name} reads attention of the decoder, whose logits {model.name} caps under eager;"
            " take model.attn=sdpa, which does not"
        )
    if states and any(stage.weighted for stage in stages):
        return f"{name} weighs keys, which the layers of {model.name} that carry a state cannot"
    stored = _stored(kinds, model.kv_shared or 0)
    for stage in stages:
        if not after_state and any(layer < stage.layer for layer in states):
            return (
                f"{name} cuts at layer {stage.layer}: by then the tokens are in the state of layer"
                f" {states[0]} of {model.name}; cut at layer 0, or take after_state=true, which"
                " leaves what is dropped in the states before the cut"
            )
        # behind that layer keys of the whole prompt would meet queries of what is left
        if stage.layer > stored:
            return (
                f"{name} cuts at layer {stage.layer}, but later layers of {model.name} read the"
                f" keys and values of layer {stored}: cut at layer {stored} or before"
            )
    return None


def _stored(kinds: Sequence[str], shared: int) -> int:
    """The first layer whose keys and values later ones read; the last layer where none are."""
    own, readers = kinds[: len(kinds) - shared], set(kinds[len(kinds) - shared :])
    last = {kind: layer for layer, kind in enumerate(own) if kind in readers}
    return min(last.values(), default=len(kinds) - 1) if shared else len(kinds) - 1


def _listed(layers: set[int]) -> str:
    """The first few of some layers."""
    first = [str(layer) for layer in sorted(layers)[:4]]
    return ", ".join([*first, "..."] if len(layers) > len(first) else first)
