"""Which of several random starts to go on with: class by class where the starts agree on who belongs together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from exafel.arrays import Float32Array
from exafel.spi.state import Assignments

_SAME = 0.8
"""Share of images on whose class two starts agree, from which their classes are taken for the same."""


def better_start(
    first: tuple[Assignments, Float32Array], second: tuple[Assignments, Float32Array]
) -> tuple[Assignments, Float32Array]:
    """Of two starts of the same images, go on with what has the better scores.

    Conformations are told apart long before their orientations are right, and one may be lost where another is found.
    So where most images are in the same class in both, every class is taken from the start in which the images that it
    has in common score better; models of classes have frames of their own, and can be put together. Else it is the
    start with the better mean score.

    Parameters
    ----------
    first, second
        Places of the images, and the models, shape (classes, m, m, m).

    Returns
    -------
    The same of what is better; classes by the numbers of the first, where they are put together.
    """
    (a, models), (b, others) = first, second
    n = len(models)
    table = np.zeros((n, n), dtype=np.int64)
    np.add.at(table, (a.best_class, b.best_class), 1)
    partner = linear_sum_assignment(table, maximize=True)[1]
    if table[np.arange(n), partner].sum() < _SAME * table.sum():
        return second if b.score.mean() > a.score.mean() else first
    renamed = np.argsort(partner)[b.best_class]
    common = a.best_class == renamed
    gain = np.bincount(a.best_class[common], weights=(b.score - a.score)[common], minlength=n)
    taken = gain > 0
    if not taken.any():
        return first
    if taken.all():
        return second
    of_first, of_second = ~taken[a.best_class], taken[renamed]  # whose place is in a frame that goes on
    from_second = np.where(of_first == of_second, b.score > a.score, of_second)
    rows = np.flatnonzero(from_second)
    moved = replace(b.hardened(), classes=renamed[:, None]).rows(rows)
    chosen = np.where(taken[:, None, None, None], others[partner], models)
    return a.hardened().replaced(rows, moved), chosen
