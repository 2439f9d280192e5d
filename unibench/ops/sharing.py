"""Dividing a budget, and spacing it out. Whole numbers only: the result does not depend on the
device.
"""

from __future__ import annotations

from collections.abc import Sequence


def shares(total: int, sizes: Sequence[int]) -> list[int]:
    """``total`` divided in proportion to ``sizes``, whole and never above a size, by largest
    remainder.

    >>> shares(5, [10, 10, 20]), shares(2, [1, 1, 1])
    ([1, 1, 3], [1, 1, 0])
    """
    whole = sum(sizes)
    parts = [total * size // whole for size in sizes]
    # remainders of whole numbers: shares of floats would tie differently from machine to machine
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(total * sizes[i] % whole), i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def spaced(count: int, length: int) -> list[int]:
    """``count`` places out of ``length``, each in the middle of its stretch.

    >>> spaced(3, 9), spaced(2, 5), spaced(4, 4)
    ([1, 4, 7], [1, 3], [0, 1, 2, 3])
    """
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def cells(height: int, width: int, count: int) -> list[int]:
    """``count`` evenly spaced cells of a grid, in raster order.

    >>> cells(4, 4, 4)
    [5, 7, 13, 15]
    """
    rows = min(height, max(round((count * height / width) ** 0.5), -(-count // width), 1))
    found = []
    for number, row in enumerate(spaced(rows, height)):
        # rows differ by one at most, and add up to count
        in_row = (number + 1) * count // rows - number * count // rows
        found += [row * width + column for column in spaced(in_row, width)]
    return found
