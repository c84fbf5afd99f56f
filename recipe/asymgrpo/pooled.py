"""Metrics of a loss that are exact over a mini-batch, however verl has cut it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Pooled(float):
    """A statistic of many tokens that becomes the statistic of all of them when verl averages it.

    verl takes the unweighted mean of a loss's metrics over micro-batches and ranks. That is wrong for a mean over the
    tokens of a channel, of which every micro-batch has a different number, or none. This number carries the sums it
    was computed from: adding two adds the sums, dividing by a count divides them all and so changes nothing. In a
    NumPy array of objects (:meth:`boxed`) both are all that `np.mean` does. What a mean over everything, verl's last
    step in each version, returns is a plain float64, by `dtype`: loggers write no other number.

    Args:
        finish: the statistic from the sums; 0.0 where there is no token. A function of a module, for pickling.
        sums: additive over tokens.
    """

    finish: Callable[..., float]
    sums: tuple[float, ...]

    dtype = np.dtype(np.float64)  # np.mean makes its scalar result one of these; means along an axis stay pooled

    def __new__(cls, finish: Callable[..., float], sums: tuple[float, ...]) -> Pooled:
        self = super().__new__(cls, finish(*sums))
        self.finish, self.sums = finish, sums
        return self

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):  # a list of boxes becomes an array of boxes
            other = other.item()
        if not isinstance(other, Pooled):
            return float(self) + other
        return Pooled(self.finish, tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)))

    def __truediv__(self, count: Any) -> Any:
        return Pooled(self.finish, tuple(value / float(count) for value in self.sums))

    def __reduce__(self) -> tuple:
        return Pooled, (self.finish, self.sums)

    def boxed(self) -> np.ndarray:
        """() array of this object: a value for verl's `Metric` whose arithmetic NumPy leaves to us."""
        box = np.empty((), dtype=object).view(_Box)
        box[()] = self
        return box


class _Box(np.ndarray):
    """() array of a :class:`Pooled`; np.mean adds boxes to boxes, and divides one that is alone in place."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        left, *right = (value.item() if isinstance(value, _Box) else value for value in inputs)
        if ufunc is np.add:
            return left + right[0]
        if ufunc is np.true_divide:
            return left / right[0] if out is None else np.float64(left / right[0])
        return getattr(ufunc, method)(left, *right, **kwargs)


def ratio(part: float, whole: float) -> float:
    """part / whole; 0 where there is nothing."""
    return part / whole if whole else 0.0


def covariance(xy: float, x: float, y: float, count: float) -> float:
    """Population covariance from the sums of xy, x, y and 1; 0 where there is nothing."""
    return xy / count - x / count * (y / count) if count else 0.0
