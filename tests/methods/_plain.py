"""The image methods of 2025 and 2026 once more, slowly, from their papers and official codes.

Lists, loops and float64 in NumPy; nothing of a method's own code or of ``unibench.ops``. Where two
tokens are as good, the one of lower index wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Group = dict[int, list[int]]


def highest(score: Sequence[float] | Array, number: int, among: Sequence[int] = ()) -> list[int]:
    """Sorted indices of the ``number`` highest; ``among`` is where from."""
    pool = list(among) if len(among) else list(range(len(score)))
    return sorted(sorted(pool, key=lambda i: (-score[i], i))[:number])


def unit(rows: Array) -> Array:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def cosine(rows: Array, others: Array) -> Array:
    return unit(rows) @ unit(others).T


def softmax(values: Array, axis: int = -1) -> Array:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def by_remainder(total: int, weights: Sequence[Fraction], most: Sequence[int]) -> list[int]:
    """``total`` shared by weights: floors, then one each by falling remainder, never above
    ``most``.
    """
    whole = sum(weights)
    exact = [total * w / whole if whole else Fraction(total, len(weights)) for w in weights]
    given = [min(math.floor(part), bound) for part, bound in zip(exact, most, strict=True)]
    order = sorted(range(len(exact)), key=lambda i: (math.floor(exact[i]) - exact[i], i))
    while sum(given) < total:
        for i in order:
            if sum(given) < total and given[i] < most[i]:
                given[i] += 1
    return given


# -- hired


def hired(
    early: Array,
    late: Array,
    pictures: Sequence[tuple[list[int], list[list[int]], tuple[int, int], tuple[int, int]]],
    keep: int,
    alpha: float = 0.5,
    content: str = "count",
) -> list[int]:
    """``pictures``: tokens of the overview, of each tile (none: a picture that is not tiled), rows
    and columns of the overview, rows and columns of tiles.
    """
    sizes = [len(overview) + sum(map(len, tiles)) for overview, tiles, _, _ in pictures]
    parts = by_remainder(keep, [Fraction(size) for size in sizes], sizes)
    kept: list[int] = []
    for (overview, tiles, (height, width), (down, across)), budget in zip(
        pictures, parts, strict=True
    ):
        if not tiles:
            kept += highest(late, budget, overview) if budget else []
            continue
        first = min(int(alpha * budget), len(overview))
        rest = min(budget - first, sum(map(len, tiles)))
        worth = [Fraction(0)] * len(tiles)
        for token in highest(early, int(len(overview) * (1 - alpha)), overview):
            y, x = divmod(overview.index(token), width)
            tile = (y * down // height) * across + x * across // width
            worth[tile] += 1 if content == "count" else Fraction(float(early[token]))
        counts = [budget - rest, *by_remainder(rest, worth, [len(tile) for tile in tiles])]
        for tokens, number in zip([overview, *tiles], counts, strict=True):
            kept += highest(late, number, tokens) if number else []
    return sorted(kept)


# -- prunesid


def prunesid(features: Array, score: Array | None, keep: int, official: bool = False) -> list[int]:
    """Without a score, the rule of the Qwen port."""
    count, width = features.shape
    if keep >= count:
        return list(range(count))
    qwen, wanted = score is None, keep + official
    groups = min(max(wanted // 4, 4 if qwen and keep >= 4 else 1), count, width)
    squashed = 1 / (1 + np.exp(-features))
    squashed = squashed - squashed.mean(1, keepdims=True)
    loading = np.abs(np.linalg.svd(squashed, full_matrices=False)[0][:, :groups])
    slot = loading.argmax(1)
    values = loading.max(1) if score is None else score
    alike = cosine(features, features)
    upper = np.triu_indices(count, 0 if qwen else 1)
    if qwen:
        limit = max(wanted / (count / 18), 1) * alike[upper].sum() / count**2
    else:
        limit = wanted / 32 * alike[upper].mean()
    ranked, alive = [], []
    for group in range(groups):
        left = sorted(np.flatnonzero(slot == group).tolist(), key=lambda i: (-values[i], i))
        taken: list[int] = []
        members = list(left)
        while left:
            taken.append(left[0])
            left = [i for i in left[1:] if alike[i, taken[-1]] <= limit]
        ranked.append(taken + [i for i in members if i not in taken])
        alive.append(len(taken))
    size = [len(part) for part in ranked]
    least = [min(1, n) for n in size]
    most = [min(5 * math.ceil(wanted / 64), n, m) for n, m in zip(size, alive, strict=True)]
    while sum(most) < wanted:
        most = [min(up + 1, n) for up, n in zip(most, size, strict=True)]
    free = max(0, wanted - sum(least) - int(official))
    reached = [
        int(np.round(np.float32(free) * np.float32(sum(alive[: k + 1])) / np.float32(sum(alive))))
        for k in range(groups)
    ]
    given = [
        min(reached[k] - (reached[k - 1] if k else 0) + least[k], most[k]) for k in range(groups)
    ]
    for k in sorted(range(groups), key=lambda k: (-alive[k], k)):
        more = min(free + sum(least) - sum(given), most[k] - given[k])
        given[k] += max(0, more)
    return sorted(i for part, number in zip(ranked, given, strict=True) for i in part[:number])


# -- v2drop


def v2drop(states: Array, layers: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """``states [layers, N, D]`` that enter each layer; what is left after each cut."""
    present, found = list(range(states.shape[1])), []
    for layer, number in zip(layers, counts, strict=True):
        moved = np.linalg.norm(states[layer] - states[layer - 1], axis=-1)
        present = highest(moved, number, present)
        found.append(present)
    return found


# -- mmtok


def mmtok(
    tokens: Array,
    states: Array,
    words: Array,
    keep: int,
    text_temperature: float = 0.02,
    vision_temperature: float = 0.2,
    alpha: float = 0.5,
    barred: Sequence[int] = (),
) -> list[int]:
    asked = softmax(cosine(words, tokens) / text_temperature) / max(1, len(words))
    own = softmax(cosine(states, states) / vision_temperature) / len(states)
    table = np.concatenate([asked.reshape(-1, len(tokens)), alpha * own])
    covered, picks = np.zeros(len(table)), list[int]()
    for _ in range(min(keep, len(tokens))):
        gain = np.maximum(0, table - covered[:, None]).sum(0)
        open_to = [i for i in range(len(tokens)) if i not in picks and i not in barred]
        best = max(gain[i] for i in open_to)
        # equal but for rounding: the lower index
        picks.append(next(i for i in open_to if gain[i] >= best * (1 - 1e-9)))
        covered = np.maximum(covered, table[:, picks[-1]])
    return sorted(picks)


# -- vscan


def windows(sizes: Sequence[tuple[int, int]], side: int) -> list[int]:
    """The window of each token of grids that follow each other."""
    found, first = [], 0
    for height, width in sizes:
        small = min(height, width) < side
        down, across = (1, 1) if small else (height // side, width // side)
        for y in range(height):
            for x in range(width):
                row, column = min(y // side, down - 1), min(x // side, across - 1)
                found.append(first + row * across + column)
        first += down * across
    return found


def vscan(
    shallow: Array, deep: Array, rows: Array, sizes: Sequence[tuple[int, int]], keep: int, bug: bool
) -> tuple[list[int], Array, Group]:
    """What the first part keeps, the rows there, and the tokens that each is the mean of."""
    served = all(size == (24, 24) for size in sizes)
    window = windows(sizes, 6 if served else 4)
    number, wanted = max(window) + 1, int(keep * 0.5)
    limit = wanted // number if served else math.ceil(wanted / number)
    local: list[int] = []
    for token in sorted(range(len(shallow)), key=lambda i: (-shallow[i], i)):
        inside = sum(window[other] == window[token] for other in local)
        if inside < limit and len(local) < wanted:
            local.append(token)
    rest = keep - (wanted if bug else len(local))
    others = [i for i in range(len(deep)) if i not in local]
    kept = sorted(local + (highest(deep, rest, others) if rest else []))
    return kept, *_averaged(rows, rows, kept)


def _averaged(rows: Array, metric: Array, kept: list[int]) -> tuple[Array, Group]:
    """Kept rows with every other token averaged into the one that it resembles most."""
    alike = cosine(metric, metric[kept])
    groups: Group = {token: [token] for token in kept}
    for token in range(len(rows)):
        if token not in groups:
            groups[kept[int(alike[token].argmax())]].append(token)
    return np.stack([rows[groups[token]].mean(0) for token in kept]), groups


# -- d2pruner


def d2pruner(
    attention: Array,
    prior: Array,
    states: Array,
    keep: int,
    ratio: float = 0.7,
    threshold: float = 0.8,
) -> list[int]:
    score = attention / (prior + 1e-7)
    pivots = highest(score, max(1, int(ratio * keep)))[:keep]
    alike = cosine(states, states) > threshold
    left = [i for i in range(len(score)) if i not in pivots]
    chosen: list[int] = []
    available = list(left)
    while available and len(pivots) + len(chosen) < keep:
        best = max(available, key=lambda i: (score[i], -i))
        chosen.append(best)
        available = [i for i in available if i != best and not alike[i, best]]
    left = [i for i in left if i not in chosen]
    missing = keep - len(pivots) - len(chosen)
    return sorted(pivots + chosen + (highest(score, missing, left) if missing else []))


def resampled(grid: Array, height: int, width: int) -> Array:
    """A grid at another size: bilinear between the centres of its cells, the rim continued."""

    def between(cells: int, places: int, place: int) -> list[tuple[int, float]]:
        at = max(0.0, (place + 0.5) * cells / places - 0.5)
        low = min(int(at), cells - 1)
        return [(low, 1 - (at - low)), (min(low + 1, cells - 1), at - low)]

    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for row, above in between(grid.shape[0], height, y):
                for column, beside in between(grid.shape[1], width, x):
                    found[y, x] += grid[row, column] * above * beside
    return found


# -- ficoco_v


def ficoco(
    logits: Array, place: Sequence[int], side: int, number: int, weight: float, epsilon: float
) -> tuple[list[int], Array]:
    """One merge: the patches that stay, and the weights ``[1 + kept, 1 + n]`` of their rows.

    Args:
        logits: ``[1 + n, 1 + n]``, CLS first.
        place: of the patches in the whole grid.
        side: of the grid.
        number: of patches that go.
        weight: of the attention of CLS.
        epsilon: quantile above which a retained patch receives.
    """
    count = len(place)
    seen, mean = logits[0, 1:], logits[1:, 1:].mean(1)
    score = (1 - weight) * mean / np.linalg.norm(mean) - weight * seen / np.linalg.norm(seen)
    raised = score.copy()
    inside: dict[tuple[int, int], list[int]] = {}
    for i, at in enumerate(place):
        inside.setdefault((at // side // 2, at % side // 2), []).append(i)
    for members in inside.values():
        first = max(members, key=lambda i: (score[i], -i))
        raised[first] = score[first] * 2 if score[first] > 0 else score[first] / 2
    gone = highest(raised, number)
    kept = [i for i in range(count) if i not in gone]
    share = softmax(logits)
    table = np.zeros((1 + len(kept), 1 + count))
    table[0, 0] = 1
    for row, i in enumerate(kept):
        table[1 + row, 1 + i] = 1
    for i in gone:
        agreement = np.array([logits[1 + i, 1 + j] for j in kept])
        limit = np.quantile(agreement, epsilon)
        targets = [row for row in range(len(kept)) if agreement[row] > limit]
        targets = targets or [int(agreement.argmax())]
        whole = sum(share[1 + i, 1 + kept[row]] for row in targets)
        for row in targets:
            table[1 + row, 1 + i] = share[1 + i, 1 + kept[row]] / whole
    return kept, table / table.sum(1, keepdims=True)


# -- visiontrim


def visiontrim(
    seen: Array | None,
    received: Array,
    features: Array,
    words: Array,
    shown: Callable[[Array], Array],
    keep: int,
    metric: Array | None = None,
) -> tuple[list[int], dict[int, Array]]:
    """What stays, and the new rows of the centres among it, in front of the projector.

    Args:
        seen: attention of CLS; None is a tower without it.
        received: from the other patches.
        features: in front of the projector.
        words: ``[L, P]`` of length one.
        shown: features in the space of the words.
        keep: budget.
        metric: instead of both attentions.
    """
    number = math.floor(keep / 4 + 0.5) if keep >= 4 else min(keep, math.floor(keep / 4 + 0.5))
    number = max(number, int(keep >= 4))
    if metric is None:
        given = received / np.linalg.norm(received)
        metric = given if seen is None else (seen / np.linalg.norm(seen) + given) / 2
    dominant = highest(metric, keep - number) if keep > number else []
    rest = [i for i in range(len(features)) if i not in dominant]
    spoken = unit(shown(features)) @ words.T
    centres = highest(spoken.mean(1), number, rest) if number else []
    others = [i for i in rest if i not in centres]
    rows = {i: features[i].copy() for i in centres}
    for _ in range(3 if centres else 0):
        toward = unit(shown(np.stack([rows[i] for i in centres]))) @ words.T
        joined: Group = {i: [] for i in centres}
        for i in others:
            joined[centres[int((toward @ spoken[i]).argmax())]].append(i)
        for i, members in joined.items():
            if members:
                rows[i] = rows[i] + features[members].mean(0)
    return sorted(dominant + centres), rows


def local_affinity(features: Array, sizes: Sequence[tuple[int, int]]) -> Array:
    """LTAM: how like its 3 x 3 neighbours each token of grids that follow each other is."""
    places = [(y, x) for height, width in sizes for y in range(height) for x in range(width)]
    picture = [n for n, (height, width) in enumerate(sizes) for _ in range(height * width)]
    by_feature, by_place = features.var(ddof=1), np.array(places, dtype=float).var(ddof=1)
    found = np.zeros(len(places))
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            if picture[i] == picture[j] and abs(y - v) <= 1 and abs(x - u) <= 1:
                far = (y - v) ** 2 + (x - u) ** 2
                found[i] -= ((features[i] - features[j]) ** 2).sum() / by_feature
                found[i] -= 0.5 * far / by_place
    return softmax(found / 9)


def adaptive_mix(seen: Array, near: Array) -> Array:
    """The released mix of global and local scores, softmax upon softmax."""
    whole, near = softmax(seen), softmax(near)
    of_whole, of_near = whole.var(), near.var()
    return (of_near * whole + of_whole * near) / (of_whole + of_near)


# -- pact


def pact(
    score: Array, keys: Array, states: Array, share: float, cutoff: float, recover: float = 1.5
) -> tuple[list[int], Group]:
    """Centres and the tokens that each stands for, with a cutoff given."""
    alive = highest(score, max(1, int(len(score) * share)))
    centres = _peaks(keys, alive, cutoff)
    return centres, _members(keys, alive, centres, [], recover * cutoff)


def pact_to(
    score: Array, keys: Array, states: Array, keep: int, recover: float = 1.5
) -> tuple[list[int], Group]:
    """The same with a budget: the cutoff by bisection, single tokens make the number up."""
    if keep >= len(score):
        return list(range(len(score))), {i: [i] for i in range(len(score))}
    alive = highest(score, max(1, int(len(score) * math.sqrt(keep / len(score)))))
    low, high = 0.0, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        if len(_peaks(keys, alive, middle)) <= keep:
            high = middle
        else:
            low = middle
    centres = _peaks(keys, alive, high)
    others = [i for i in alive if i not in centres]
    missing = keep - len(centres)
    alone = highest(score, missing, others) if missing else []
    groups = _members(keys, alive, centres, alone, recover * high)
    return sorted(centres + alone), groups | {i: [i] for i in alone}


def _peaks(keys: Array, alive: list[int], cutoff: float) -> list[int]:
    apart = np.clip(1 - cosine(keys, keys), 0, 2)
    density = {i: sum(math.exp(-((apart[i, j] / 2) ** 2)) for j in alive) for i in alive}
    centres: list[int] = []
    for i in sorted(alive, key=lambda i: (-density[i], i)):
        if all(apart[i, centre] > cutoff for centre in centres):
            centres.append(i)
    return sorted(centres)


def _members(
    keys: Array, alive: list[int], centres: list[int], alone: list[int], reach: float
) -> Group:
    apart = np.clip(1 - cosine(keys, keys), 0, 2)
    groups: Group = {centre: [centre] for centre in centres}
    for i in range(len(keys)):
        if i in centres or i in alone:
            continue
        nearest = min(centres, key=lambda centre: (apart[i, centre], centre))
        if i in alive or apart[i, nearest] <= reach:
            groups[nearest].append(i)
    return groups


# -- zoo_prune


def sensitivity(
    entered: Array, pushes: Array, projector: Callable[[Array], Array], step: float
) -> Array:
    slope = np.zeros(len(entered))
    for push in pushes:
        ahead, behind = projector(entered + step * push), projector(entered - step * push)
        slope += np.linalg.norm(ahead - behind, axis=1) / (2 * step)
    return slope / len(pushes)


def zoo_prune(score: Array, projected: Array, keep: int) -> list[int]:
    spread = score.max() - score.min()
    weight = (score - score.min()) / (spread + 1e-8) if spread > 0 else np.ones_like(score)
    apart = 1 - cosine(projected, projected)
    picks = [int(weight.argmax())]
    while len(picks) < min(keep, len(score)):
        worth = weight * apart[:, picks].min(1)
        worth[picks] = -np.inf
        picks.append(int(worth.argmax()))
    return sorted(picks)


# -- duet


def duet(
    attention: Array, keys: Array, features: Array, keep: int, sums: int, width: int
) -> tuple[list[int], dict[int, Array], Group]:
    """What the first part keeps, the rows of the anchors, and the tokens in each."""
    order = sorted(range(len(attention)), key=lambda i: (-attention[i], i))
    dominant, rest = order[: keep - sums], order[keep - sums :]
    looked_at = rest[: min(max(1, width * sums), len(rest))]
    step = max(1, len(looked_at) // sums)
    anchors = looked_at[::step][:sums]
    alike, groups = cosine(keys, keys), {anchor: [anchor] for anchor in anchors}
    for i in looked_at:
        if i not in anchors:
            best = max(range(sums), key=lambda n: (alike[i, anchors[n]], -n))
            groups[anchors[best]].append(i)
    rows = {}
    for anchor, members in groups.items():
        mean = features[members[1:]].mean(0) if len(members) > 1 else 0
        rows[anchor] = features[anchor] + mean
    return sorted(dominant + anchors), rows, groups


def duet_cuts(scores: Sequence[Array], entered: int, ratios: Sequence[float]) -> list[list[int]]:
    """What each cut leaves; ``scores`` of all tokens at each cut."""
    present, found = list(range(entered)), []
    for score, ratio in zip(scores, ratios, strict=True):
        number = int(entered * ratio)
        present = highest(score, number, present) if number else []
        found.append(present)
    return found


# -- attention inside the language model


def attention(query: Array, key: Array, rows: Sequence[int], causal: bool = True) -> Array:
    """``[heads, rows, L]``; as many heads of queries as of keys, or a multiple."""
    found = []
    for head in range(len(query)):
        logits = query[head, list(rows)] @ key[head * len(key) // len(query)].T
        logits = logits / math.sqrt(query.shape[-1])
        for line, row in enumerate(rows):
            if causal:
                logits[line, row + 1 :] = -np.inf
        found.append(softmax(logits))
    return np.stack(found)


# -- pixelprune


def pixelprune(
    picture: Array, metric: str = "max", tau: float = 0.0, anchored: bool = True, order: str = ""
) -> list[int]:
    """``picture [h, w, n]`` pixels of each token from 0 to 1."""
    height, width, _ = picture.shape

    def alike(one: Array, other: Array) -> bool:
        apart = np.abs(one - other)
        if metric == "rmse":
            return bool(np.sqrt((apart**2).mean()) <= tau)
        return bool((apart.max() if metric == "max" else apart.mean()) <= tau)

    if order:
        path = [(y, x) for y in range(height) for x in range(width)]
        if order == "serpentine":
            path = [(y, width - 1 - x if y % 2 else x) for y, x in path]
        kept, before = [path[0]], path[0]
        for place in path[1:]:
            if not alike(picture[place], picture[before]):
                kept.append(place)
                before = place
            elif not (anchored and tau > 0):
                before = place
        return sorted(y * width + x for y, x in kept)
    seen, stays = picture.copy(), []
    for y in range(height):
        for x in range(width):
            if y == 0 and x == 0:
                stays.append(0)
                continue
            if y == 0:
                guess = seen[0, x - 1]
            elif x == 0:
                guess = seen[y - 1, 0]
            else:
                left, upper, corner = seen[y, x - 1], seen[y - 1, x], seen[y - 1, x - 1]
                guess = upper if alike(corner, left) and not alike(corner, upper) else left
            if not alike(picture[y, x], guess):
                stays.append(y * width + x)
            elif anchored and tau > 0:
                seen[y, x] = guess
    return stays
