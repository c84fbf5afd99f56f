r"""The structure of an answer: a value, a list, a tuple, a set of numbers, a relation, words, a matrix, a residue.

`read` takes the small LaTeX of `text.plain` apart at its outermost separators and gives each expression to `scalar`.
All of the text is accounted for, or `NotRead` is raised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from recipe.asymgrpo.reward.cutting import CONDITION, SEPARATORS, bracketed, occurs, remark_of, split, without_thousands
from recipe.asymgrpo.reward.nodes import (
    Labelled,
    Many,
    Region,
    Remark,
    Residue,
    Scalar,
    Table,
    Words,
    as_region,
    complement,
    ends,
    intersect,
    named_region,
    union,
)
from recipe.asymgrpo.reward.numeric import determinant
from recipe.asymgrpo.reward.quantity import in_parts, quantity, words_of
from recipe.asymgrpo.reward.relations import is_variable, label, relation
from recipe.asymgrpo.reward.scalar import NotRead
from recipe.asymgrpo.reward.text import ROW


@dataclass(frozen=True)
class Policy:
    """What may be read in two ways; both sides of a comparison are read in the same one."""

    thousands: bool = True
    log_base: str = "e"


_RELATIONS = re.compile(
    r"\\(le|ge|ne|in|notin|equiv|approx|sim|to|mapsto|mid|parallel|perp|Rightarrow|subset|subseteq|cong|propto|iff|Leftrightarrow)(?![a-zA-Z])|([=<>:])"
)
_ENVIRONMENT = re.compile(
    r"\\begin\{(aligned|align\*?|gathered|split|pmatrix|bmatrix|matrix|vmatrix|array|cases|Bmatrix|smallmatrix)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}"
)


_EXCEPT = re.compile(r"(.*«(?:reals?|numbers)»)\s*,?\s*«(?:except|excluding)»\s*(?:«for»|«when»)?(.*)")


def read(text: str, policy: Policy) -> Any:
    """The node that all of a text (of `text.plain`) stands for.

    Raises:
        NotRead: some of it was not understood.
    """
    text = text.strip().removeprefix("\\approx").removeprefix("\\sim").strip().rstrip(".").strip()
    if not text:
        raise NotRead("nothing")
    if (node := _special(text, policy)) is not None:
        return node
    if (found := remark_of(text)) is not None:
        return Remark(read(found[0], policy), *found[1:])
    if policy.thousands:
        text = re.sub(r" (?=\d{3})", "", text) if re.fullmatch(r"-?[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?", text) else text
        text = without_thousands(text)
    parts, signs = split(text, SEPARATORS)
    if len(parts) > 1:
        return _several(parts, signs, policy)
    return _one(parts[0], policy)


def _special(text: str, policy: Policy) -> Any:
    squeezed = re.sub(r"[\s]|(?<=»)-(?=«)", "", text.lower() if "«" in text else text)
    if (region := named_region(squeezed)) is not None:
        return region
    if (measure := in_parts(text)) is not None:
        return measure
    if (found := _EXCEPT.fullmatch(text)) is not None:
        whole, without = as_region(read(found.group(1), policy)), as_region(read(found.group(2), policy))
        return intersect(whole, complement(without))
    if squeezed in ("\\emptyset", "\\{\\}", "«empty»«set»", "«the»«empty»«set»", "«no»«solution»", "«no»«solutions»"):
        return Many("set", ())
    if (found := _ENVIRONMENT.fullmatch(text)) is not None:
        kind = {"cases": "cases", "vmatrix": "determinant"}.get(found.group(1), "matrix")
        aligned = found.group(1).startswith(("align", "gathered", "split"))
        rows = [row for row in found.group(2).split(ROW) if row.strip()]
        if aligned or (kind == "cases" and len(rows) > 1 and "&" not in found.group(2)):  # a system: its equations
            return read(", ".join(row.replace("&", "").strip().strip(",;") for row in rows), policy)
        if kind == "cases":
            return Table(
                kind,
                tuple(
                    tuple(_loose(cell.strip().strip(",").strip(), policy) for cell in row.split("&")) for row in rows
                ),
            )
        if kind == "determinant":
            return Scalar(determinant([[ends(read(cell, policy)) for cell in row.split("&")] for row in rows]))
        return Table(
            kind, tuple(tuple(read(cell, policy) for cell in row.replace("\\hline", "").split("&")) for row in rows)
        )
    if (found := re.fullmatch(r"(.*?),?\s*\(?\s*\\(?:pmod|mod|bmod)\s*\{?\s*([^{}()]+?)\s*\}?\s*\)?", text)) is None:
        found = re.fullmatch(r"(.*?)\s*\(\s*(?:\\[bp]?mod|«mod»|mod)\s*([^{}()]+?)\s*\)", text)
    if found is not None and (re.search(r"\\b?mod(?![a-z])", text) is None or "\\equiv" in text):
        before, signs = split(found.group(1), re.compile(r"\\equiv"))
        items = read(before[-1], policy)
        node = Residue(items.items if isinstance(items, Many) else (items,), read(found.group(2), policy))
        return Labelled(label(before[0]), node) if len(before) == 2 else node if not signs else None
    return None


def _loose(text: str, policy: Policy) -> Any:
    """A cell of cases: read, or its text."""
    text = re.sub(r"^«(?:if|when|for)»", "", text.strip()).strip().rstrip(",;.")
    try:
        return read(text, policy)
    except NotRead:
        return Words(tuple(re.findall(r"«[^»]*»|\S", text.lower())))


def _several(parts: list[str], signs: list[str], policy: Policy) -> Any:
    if any(not part for part in parts):
        raise NotRead("a separator without what it separates")
    if (
        (condition := CONDITION.fullmatch(parts[-1]))
        and signs[-1] in (",", ";")
        and occurs(condition.group(1), parts[:-1])
    ):
        text = parts[0] + "".join(sign + part for sign, part in zip(signs, parts[1:-1], strict=False))
        return Remark(read(text, policy), parts[-1])
    items = [None if part == "\\ldots" else read(part, policy) for part in parts]
    if None in items:
        if all(isinstance(item, (Scalar, Labelled, type(None))) for item in items):
            return Many("list", tuple(Words(("\\ldots",)) if item is None else item for item in items), dots=True)
        raise NotRead("dots")
    if len(set(signs)) == 1 and all(_region(item) is not None for item in items):
        bounds = [bound for item in items if (bound := _region(item)) is not None]
        if "«or»" in signs[0]:
            merged = union([i for b in bounds for i in b.intervals])
            return _relabel(items, merged)
        same = len({item.label if isinstance(item, Labelled) else "" for item in items}) == 1
        if isinstance(items[0], Labelled) and (same or signs[0] == "«and»"):
            whole = bounds[0]
            for other in bounds[1:]:
                whole = intersect(whole, other)
            if signs[0] == "," and not whole.intervals:  # x < -1, x > 1: no number is both
                whole = union([i for b in bounds for i in b.intervals])
            return _relabel(items, whole)
    labels = {item.label for item in items if isinstance(item, Labelled)}
    named = any(isinstance(item, Labelled) for item in items)
    first, either = items[0], any("«or»" in sign or ("«" in sign and not named) for sign in signs)
    if len(labels) == 1 and isinstance(first, Labelled):
        bare = [item.node if isinstance(item, Labelled) else item for item in items]
        if all(isinstance(item, Labelled) for item in items) or not any(
            isinstance(item, Labelled) for item in items[1:]
        ):
            return Labelled(first.label, _flat("list", bare, either))
    return _flat("list", items, either)


def _flat(kind: str, items: list[Any], either: bool = False) -> Many:
    flat: list[Any] = []
    for item in items:
        flat += item.items if isinstance(item, Many) and item.kind == "list" and not item.dots else [item]
    return Many(kind, tuple(flat), either=either)


def _relabel(items: list[Any], region: Region) -> Any:
    labels = {item.label for item in items if isinstance(item, Labelled)}
    if len(labels) > 1:
        raise NotRead("conditions on two variables")
    return Labelled(labels.pop(), region) if labels else region


def _region(node: Any) -> Region | None:
    node = node.node if isinstance(node, Labelled) else node
    return node if isinstance(node, Region) else None


def _one(text: str, policy: Policy) -> Any:
    parts, signs = split(text, _RELATIONS)
    if signs and re.fullmatch(r"\s*\d{1,2}:\d{2}\s*(?:«[^»]*»|\s|\.)*", text):  # a time of day
        return words_of(text)
    if signs:
        return relation(parts, signs, lambda text: read(text, policy))
    return term(text, policy)


def term(text: str, policy: Policy) -> Any:
    """A node without a relation at its top."""
    pieces, operators = split(text, re.compile(r"\\(?:cup|setminus)(?![a-zA-Z])"))
    if operators:
        regions = [as_region(read(piece, policy)) for piece in pieces]
        whole = regions[0]
        for sign, other in zip(operators, regions[1:], strict=True):
            whole = (
                union([*whole.intervals, *other.intervals]) if sign == "\\cup" else intersect(whole, complement(other))
            )
        return whole
    pieces, operators = split(text, re.compile(r"\\b?mod(?![a-zA-Z])"))
    if operators:
        numbers = [ends(read(piece, policy)) for piece in pieces]
        if len(numbers) != 2 or not all(number.is_Integer for number in numbers) or numbers[1] == 0:
            raise NotRead("a remainder")
        if 0 <= numbers[0] < numbers[1]:  # nothing to work out: a residue and its modulus
            return Residue((Scalar(numbers[0]),), Scalar(numbers[1]))
        return Scalar(numbers[0] % numbers[1])
    if (brackets := bracketed(text)) is not None:
        kind, inner = brackets
        if kind == "\\{}" and re.search(r"\\mid|:|\|", inner):
            condition = re.fullmatch(r"([^:|]*?)(?:\\mid|:|\|)(.*)", inner)
            if condition is None:
                return read(inner, policy)
            if is_variable(re.sub(r"\\in\s*\\mathbb\{R\}", "", condition.group(1))):
                return read(condition.group(2), policy)
            return Remark(Many("set", (read(condition.group(1), policy),)), condition.group(2).strip())
        pieces, signs = split(inner, re.compile(r"[,;]|\\ldots"))
        if kind in ("()", "[]") and _ENVIRONMENT.fullmatch(inner):
            return read(inner, policy)
        if kind == "()" and signs and "\\pm" in inner:
            return _both_signs(text, policy)
        if kind in ("()", "{}") and not signs and inner:
            try:
                return read(inner, policy)
            except NotRead:
                pass
        if len(pieces) >= 2 or kind in ("\\{}", "[]"):
            if "\\ldots" in signs:
                listed = read(inner, policy)
                return Many({"\\{}": "set", "()": "tuple"}.get(kind, "bracket"), listed.items, dots=True)
            inside = Policy(False, policy.log_base)
            items = [read(piece, inside) for piece in pieces]
            if kind == "\\{}":
                return _flat("set", items)
            if kind in ("(]", "[)") and len(items) == 2:
                return Region(((ends(items[0]), kind[0] == "[", ends(items[1]), kind[1] == "]"),))
            if kind in ("()", "[]"):
                return Many("tuple" if kind == "()" else "bracket", tuple(items))
        if kind in ("(]", "[)"):
            raise NotRead("brackets")
    if "\\pm" in text or "\\mp" in text:
        return _both_signs(text, policy)
    return quantity(text, policy.log_base)


def _both_signs(text: str, policy: Policy) -> Many:
    signs = re.findall(r"\\(?:pm|mp)", text)
    if len(signs) > 3:
        raise NotRead("many signs")
    linked = "\\mp" in signs
    readings = []
    for number in range(2 if linked else 2 ** len(signs)):
        version = text
        for place, sign in enumerate(signs):
            plus = bool(number & 1) == (sign == "\\mp") if linked else not number >> place & 1
            version = version.replace(sign, "+" if plus else "-", 1)
        readings.append(read(re.sub(r"(^|[(\[{])\s*\+", r"\1", version), policy))
    return _flat("list", readings)
