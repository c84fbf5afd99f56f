r"""What an answer can be, and sets of real numbers: intervals, their unions, complements and intersections."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cmp_to_key
from typing import Any

from recipe.asymgrpo.reward.numeric import compare, infinity
from recipe.asymgrpo.reward.scalar import NotRead
from recipe.asymgrpo.reward.units import Unit


@dataclass(frozen=True)
class Scalar:
    """An exact value, its unit, and how many decimals it was written with (None where it is no decimal)."""

    value: Any
    unit: Unit | None = None
    decimals: int | None = None
    base: str = ""
    digits: str = ""


@dataclass(frozen=True)
class Many:
    """Several answers: `kind` is list, set, tuple, bracket or ratio; `dots` where some are left out; `either` where
    "or" is between them, or "and" between values without names."""

    kind: str
    items: tuple[Any, ...]
    dots: bool = False
    either: bool = False


@dataclass(frozen=True)
class Region:
    """Real numbers: intervals (low, low is in it, high, high is in it), in order."""

    intervals: tuple[tuple[Any, bool, Any, bool], ...]


@dataclass(frozen=True)
class Labelled:
    """``x = ...``, ``x \\in ...``: what it is called is no part of a value."""

    label: str
    node: Any


@dataclass(frozen=True)
class Relation:
    """What is said of two sides, which are nodes."""

    sign: str
    left: Any
    right: Any


@dataclass(frozen=True)
class Words:
    """Words and numbers between them, in order."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of nodes; `kind` is matrix, determinant or cases."""

    kind: str
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Remark:
    """A node and what is said about it: "for all real x"; `choice` where it says when that is the answer ("if")."""

    node: Any
    said: str
    choice: bool = False


@dataclass(frozen=True)
class Residue:
    """Residues of a modulus."""

    items: tuple[Any, ...]
    modulus: Any


_FREE = re.compile(r"([a-z])\s*\\in\s*(\\mathbb\{Z\})")


def renamed(gold: Remark, given: Remark) -> Remark:
    r"""The second with the first's name for its integer: ``2n\pi, n \in Z`` for ``2k\pi, k \in Z``."""
    one, other = _FREE.fullmatch(gold.said), _FREE.fullmatch(given.said)
    if one is None or other is None or one[1] == other[1]:
        return given
    from sympy import Symbol

    used = []

    def rename(node: Any) -> Any:
        if isinstance(node, Scalar) and node.value is not None and not node.value.has(Symbol(one[1])):
            used.append(node.value.has(Symbol(other[1])))
            return replace(node, value=node.value.subs(Symbol(other[1]), Symbol(one[1])))
        if isinstance(node, Labelled):
            return Labelled(node.label, rename(node.node))
        return Many(node.kind, tuple(map(rename, node.items)), node.dots) if isinstance(node, Many) else node

    node = rename(given.node)
    return Remark(node, gold.said, given.choice) if any(used) else given


_REALS = re.compile(
    r"(?:«all»)?(?:«(?P<non>non)»)?(?:«(?P<side>(?:non)?(?:positive|negative))»)?(?:«reals?»(?:«numbers?»)?|«numbers»)"
    r"|\\mathbb\{R\}(?:[_^]\{?(?P<sign>[+-]|>0|<0|\\ge0|\\le0)\}?)?"
)


def named_region(text: str) -> Region | None:
    r"""All real numbers, or those of a sign, in words or as ``\mathbb{R}^+``; the text is without spaces."""
    found = _REALS.fullmatch(text)
    if found is None or text in ("«real»", "«number»", "«numbers»"):
        return None
    side = (found["non"] or "") + (found["side"] or "") or found["sign"]
    everything = (infinity(-1), False, infinity(1), False)
    if not side:
        return Region((everything,))
    from sympy import Integer

    above = side in ("positive", "nonnegative", "+", ">0", "\\ge0")
    closed = side.startswith("non") or "e0" in side
    zero = Integer(0)
    return Region(((zero, closed, *everything[2:]) if above else (*everything[:2], zero, closed),))


def ends(node: Any) -> Any:
    """The value of an end of an interval."""
    if not isinstance(node, Scalar) or node.value is None or node.unit is not None:
        raise NotRead("an interval's end")
    return node.value


def as_region(node: Any) -> Region:
    """A node as a set of real numbers.

    Raises:
        NotRead: it is none.
    """
    if isinstance(node, Labelled):
        return as_region(node.node)
    if isinstance(node, Region):
        return node
    if isinstance(node, Many) and node.kind in ("tuple", "bracket") and len(node.items) == 2 and not node.dots:
        low, high = (ends(item) for item in node.items)
        return Region(((low, node.kind == "bracket", high, node.kind == "bracket"),))
    if isinstance(node, Many) and node.kind in ("set", "list") and not node.dots:
        return union([(ends(item), True, ends(item), True) for item in node.items])
    if isinstance(node, Scalar):
        return Region(((ends(node), True, ends(node), True),))
    raise NotRead("not a set of numbers")


def union(intervals: list[tuple[Any, bool, Any, bool]]) -> Region:
    """The union of intervals, in order and joined where they touch; ends that cannot be ordered stay as they are."""
    try:
        kept: list[tuple[Any, bool, Any, bool]] = []

        def order(a: Any, b: Any) -> int:
            return compare(a[0], b[0]) or int(b[1]) - int(a[1])

        for low, low_in, high, high_in in sorted(intervals, key=cmp_to_key(order)):
            side = compare(low, high)
            if side > 0 or (side == 0 and not (low_in and high_in)):
                continue
            if kept and (gap := compare(low, kept[-1][2])) <= 0 and (gap < 0 or low_in or kept[-1][3]):
                last = kept[-1]
                further = compare(high, last[2])
                end = (high, high_in) if further > 0 else (last[2], last[3] or (further == 0 and high_in))
                kept[-1] = (last[0], last[1], *end)
            else:
                kept.append((low, low_in, high, high_in))
        return Region(tuple(kept))
    except TypeError:
        return Region(tuple(intervals))


def complement(region: Region) -> Region:
    """All real numbers that are not in it."""
    low, low_in = infinity(-1), False
    gaps: list[tuple[Any, bool, Any, bool]] = []
    for left, left_in, right, right_in in region.intervals:
        gaps.append((low, low_in, left, not left_in))
        low, low_in = right, not right_in
    gaps.append((low, low_in, infinity(1), False))
    return union(gaps)


def intersect(left: Region, right: Region) -> Region:
    """What is in both."""
    return complement(union([*complement(left).intervals, *complement(right).intervals]))
