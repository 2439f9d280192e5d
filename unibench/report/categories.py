"""Two ways to group methods: where they cut, and what they look for."""

from __future__ import annotations

# : As UniPruneBench groups them; the methods that it does not name by the same rule: what they cut
# before the
#: language model is ViT only, inside it LLM only, both hybrid.
PLACE = {
    **dict.fromkeys(("random_pre", "random_intra", "uniform_grid", "keep_borders"), "random"),
    **dict.fromkeys(("dart", "fastv", "fitprune", "pyramiddrop", "schedule", "vtw"), "LLM only"),
    **dict.fromkeys(("mustdrop", "sparsevlm"), "hybrid"),
    "two_stage": "two stages",
    **dict.fromkeys(
        (
            "cdpruner",
            "cls_topk",
            "divprune",
            "dpp",
            "gprune",
            "greedy_diversity",
            "greedy_importance",
            "hiprune",
        ),
        "ViT only",
    ),
    **dict.fromkeys(
        (
            "holov",
            "idpruner",
            "knorm",
            "l2norm",
            "mustdrop_vit",
            "naive_hybrid",
            "pooling",
            "prumerge",
        ),
        "ViT only",
    ),
    **dict.fromkeys(
        (
            "prumerge_plus",
            "scope",
            "stp",
            "tome",
            "trimtokenator",
            "visionselector",
            "visionzip",
            "vispruner",
        ),
        "ViT only",
    ),
    **dict.fromkeys(("dycoke", "evs", "fastvid", "flashvid", "holitom", "vidcom2"), "ViT only"),
    **dict.fromkeys(("aim", "framefusion", "prunevid"), "hybrid"),
    **dict.fromkeys(("sttm",), "LLM only"),
}

# : As IDPruner groups them; the others by what decides: how much a token matters, how little it
# repeats, or both.
AIM = {
    **dict.fromkeys(("random_pre", "random_intra", "uniform_grid", "keep_borders"), "none"),
    **dict.fromkeys(
        ("cls_topk", "fastv", "fitprune", "greedy_importance", "hiprune", "knorm", "l2norm"),
        "importance",
    ),
    **dict.fromkeys(
        ("pyramiddrop", "schedule", "sparsevlm", "visionselector", "visionzip", "vtw"), "importance"
    ),
    **dict.fromkeys(
        ("dart", "divprune", "greedy_diversity", "mustdrop_vit", "pooling", "tome"), "diversity"
    ),
    **dict.fromkeys(
        ("cdpruner", "dpp", "gprune", "holov", "idpruner", "mustdrop", "naive_hybrid", "prumerge"),
        "hybrid",
    ),
    **dict.fromkeys(
        ("prumerge_plus", "scope", "stp", "trimtokenator", "two_stage", "vispruner"), "hybrid"
    ),
    **dict.fromkeys(("dycoke", "evs", "sttm", "vidcom2"), "diversity"),
    **dict.fromkeys(("aim", "fastvid", "flashvid", "framefusion", "holitom", "prunevid"), "hybrid"),
}

GROUPINGS = {"place": PLACE, "aim": AIM}


def category(method: str, grouping: str) -> str:
    """The group of a method; ``other`` for methods from outside the repository."""
    return GROUPINGS[grouping].get(method, "other")
