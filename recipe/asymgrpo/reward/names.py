"""Which of several answers is which, by their names or by their order, and what is said of all of them."""

from __future__ import annotations

import re
from string import ascii_lowercase
from typing import Any

from recipe.asymgrpo.reward.nodes import Labelled, Many, Region, Scalar

_RUNS = {ascii_lowercase[i:j] for i in range(26) for j in range(i + 2, min(i + 5, 27))} | {"hk"}
_RUNS -= {"mn", "st", "wxyz"}  # (n, m) and (x, y, z, w) are written as well


def is_tuple(node: Any) -> bool:
    """Whether its order and its brackets count."""
    return isinstance(node, Many) and node.kind in ("tuple", "bracket")


def by_name(node: Any) -> Any:
    """Coordinates in the order of their names: ``(y,x) = (1,2)`` is ``(x,y) = (2,1)``, ``y=1, x=2`` is ``x=2, y=1``.

    Of names that follow each other in the alphabet; the order of others, as l and w, is not known.
    """
    inner = node.node if isinstance(node, Labelled) else node
    if not isinstance(inner, Many) or inner.dots or inner.either:
        return node
    if isinstance(node, Labelled):
        if not re.fullmatch(r"\([a-z](?:,[a-z])+\)", node.label):
            return node
        names = node.label[1:-1].split(",")
    else:
        names = [item.label for item in inner.items if isinstance(item, Labelled)]
    if len(names) != len(inner.items) or "".join(sorted(names)) not in _RUNS:
        return node
    items = tuple(item for _, item in sorted(zip(names, inner.items, strict=True), key=lambda pair: pair[0]))
    ordered = Many(inner.kind, items)
    return Labelled(f"({','.join(sorted(names))})", ordered) if isinstance(node, Labelled) else ordered


_BOUND = r"[<>]|\\(?:ne|ge|le)(?![a-z])"
_NARROWER = re.compile(
    _BOUND + r"|\\(?:in|notin)(?![a-z])|«(?:integers?|natural|primes?|positive|negative|nonnegative|rational)»"
)


def narrows(node: Any, said: str) -> bool:
    """Whether a remark takes numbers out of a set of them: an interval, as such or as a pair, or a list."""
    if isinstance(node, Labelled):
        if node.label[0] == "(":
            return False
        node = node.node
    said = re.sub(r"\\in\s*\\mathbb\{R\}", "", said)
    if isinstance(node, Many):
        numbers = all(isinstance(item, Scalar) and getattr(item.value, "is_number", False) for item in node.items)
        if not numbers:
            return False
        if not is_tuple(node):
            return re.search(_BOUND, said) is not None
        return len(node.items) == 2 and _NARROWER.search(said) is not None
    return isinstance(node, Region) and _NARROWER.search(said) is not None


def several_labels(node: Many) -> bool:
    """x = 1, y = 2: without its labels only its order says which is which."""
    labels = {item.label for item in node.items if isinstance(item, Labelled)}
    return len(labels) > 1 and not all(re.fullmatch(r"x_\d", name) for name in labels)  # x_1, x_2 are the roots


def other_labels(node: Any, several: Any) -> bool:
    """x = 1, 2 beside x = 1, y = 2."""
    labels = [getattr(item, "label", "") for item in several.items] if isinstance(several, Many) else []
    return (
        isinstance(node, Labelled)
        and isinstance(several, Many)
        and node.label != f"({','.join(labels)})"  # (a,b) = (3,4)
        and any(
            isinstance(item, Labelled) and item.label.partition("_")[0] != node.label.partition("_")[0]
            for item in several.items
        )
    )
