"""Shapes of grids."""

from __future__ import annotations


def coarser_grid(rows: int, columns: int, most: int) -> tuple[int, int]:
    """Rows and columns of the largest grid of at most ``most`` cells that is close to the shape of
    another grid, and in no direction finer.

    The product of its size and of its likeness in shape is maximal; of equal ones, the flattest.

    >>> coarser_grid(17, 23, 43), coarser_grid(17, 23, 1)
    ((6, 7), (1, 1))
    """
    shapes = [(r, min(columns, most // r)) for r in range(1, min(rows, most) + 1)]

    def fit(shape: tuple[int, int]) -> float:
        stretch = shape[1] * rows / (shape[0] * columns)
        return shape[0] * shape[1] * min(stretch, 1 / stretch)

    return max(shapes, key=fit)
