r"""Relations: labels (``x = 5``, ``f(x) = ...``), equations, chains, inequalities as sets of numbers, ratios."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from recipe.asymgrpo.reward.nodes import (
    Labelled,
    Many,
    Region,
    Relation,
    Scalar,
    Words,
    as_region,
    complement,
    ends,
    intersect,
    union,
)
from recipe.asymgrpo.reward.numeric import infinity, proportional, same_value
from recipe.asymgrpo.reward.scalar import NotRead
from recipe.asymgrpo.reward.text import GREEK

Reader = Callable[[str], Any]
_VARIABLE = re.compile(r"(?:[A-Za-z]|\\([a-zA-Z]+)|«[A-Za-z]»)'*(?:\s*_\s*\{[^{}]*\})?'*")
# A name of a quantity: f(x), P(A), \mathbb{E}[X], S_{n}, \angle ABC, |AB|, "the area".
_NAMED = re.compile(
    r"\\(?:sin|cos|tan|cot|sec|csc|det|dim|deg|arg)\s*\(?\s*(?:\\angle\s*)?(?:[A-Za-z]{1,3}|\\(?:alpha|beta|gamma|theta|phi|varphi|omega))\s*\)?|m\s*\\angle\s*[A-Z]+|\|[A-Za-z](?:\s*\\(?:cup|cap|setminus)\s*[A-Z])*\||(?:«[^»]*»\s*)+(?:\([^()]*\))?|\((?:[A-Za-z]|\\(?!pi)[a-z]+)\s*(?:_\{\w+\})?(?:\s*,\s*(?:[A-Za-z]|\\(?!pi)[a-z]+)\s*(?:_\{\w+\})?)+\)|(?:[A-Za-z]|\\[a-zA-Z]+)'*(?:\s*_\s*\{[^{}]*\})?\s*(?:\^\{(?:-1|\*|\\prime)\})?\s*(?:\([A-Za-z0-9,\s+\\{}_|=<>«»'.-]*\)|\[[^\[\]=]*\])"
    r"|\\mathbb\{[A-Z]\}\s*(?:_\{\w+\})?\s*(?:\[.*\]|\(.*\))|\\(?:angle|triangle|deg|overline|vec|hat|bar|tilde|widehat|Pr|operatorname)\s*\{?[A-Za-z\s]+\}?(?:\([^()]*\))?|\\frac\{[A-Z]{2,}\}\{[A-Z]{2,}\}|\|?[A-Z]{2,}\|?(?:_\{\w+\})?|\[[A-Z]{3,}\]"
    r"|\\lim\s*_\{[^{}]*\}\s*(?:[a-zA-Z](?:_\{\w+\})?(?:\([^()]*\))?)|\\\|[^|\\]+\\\||\\(?:max|min)|\\frac\{d\s*[a-z]\}\{d\s*[a-z]\}|[fgh]\([fgh]\([^()]*\)\)"
)
_OF_A_NAME = re.compile(
    r"\\(?:sin|cos|tan|cot|sec|csc)\s*\(?\s*(?:\\angle\s*)?(?:[A-Za-z]{1,3}|\\(?:alpha|beta|gamma|theta|phi|varphi|omega))\s*\)?"
)
_SEGMENTS = re.compile(r"\\frac\{[A-Z]{2,}\}\{[A-Z]{2,}\}")
_SEGMENT = re.compile(r"\|?[A-Z]{2,}\|?")
_INEQUALITY = {"<": ("<", False), ">": (">", False), "\\le": ("<", True), "\\ge": (">", True)}
_FUNCTIONS = frozenset(
    "sin cos tan sec csc cot ln log exp sqrt frac pi infty arcsin arccos arctan gcd lcm max min".split()  # noqa: SIM905
)


_NO_NAME = re.compile(
    r"«(?:not|no|never|wrong\w*|incorrect\w*|false\w*|without|except|excluding|if|when|or|neither|nor|isn't|cannot|guess\w*)»",
    re.IGNORECASE,
)


def label(text: str) -> str:
    """What a quantity is called, without spaces."""
    return re.sub(r"[\s«»{}\\]", "", text)


def is_variable(text: str) -> bool:
    """Whether a side is one variable."""
    found = _VARIABLE.fullmatch(text.strip())
    return (
        found is not None
        and (found.group(1) is None or found.group(1) in GREEK - {"pi"})
        and text.strip() not in ("e", "i")
    )


def is_name(text: str) -> bool:
    """Whether a side only says what the other side is called."""
    text = text.strip()
    if is_variable(text):
        return True
    if _NO_NAME.search(text):
        return False
    found = re.match(r"\\([a-zA-Z]+)", text)
    return (
        not (
            found
            and found.group(1) in _FUNCTIONS
            and _OF_A_NAME.fullmatch(text) is None
            and _SEGMENTS.fullmatch(text) is None
            and re.fullmatch(r"\\(?:max|min)|\\frac\{d.*", text) is None
        )
        and _NAMED.fullmatch(text) is not None
    )


def relation(parts: list[str], signs: list[str], read: Reader) -> Any:
    """The node of sides and the signs between them.

    Raises:
        NotRead: a side was not understood, or the chain is no answer.
    """
    if any(not part for part in parts):
        if parts[0] or signs[0] not in ("=", *_INEQUALITY) or len(signs) > 1:
            raise NotRead("a relation without a side")
        if signs[0] == "=":
            return read(parts[1])
        return _inequalities(["x", parts[1]], signs, read).node
    if all(sign in ("=", "\\approx") for sign in signs):
        return _equalities(parts, signs, read)
    if all(sign in _INEQUALITY for sign in signs):
        return _inequalities(parts, signs, read)
    if len(signs) > 1:
        if signs[0] == "=" and is_name(parts[0]) and "=" not in signs[1:]:
            return Labelled(label(parts[0]), relation(parts[1:], signs[1:], read))
        if signs.count("=") == 1 and set(signs) == {"=", ":"}:  # V_1 : V_2 = 11 : 21
            place = signs.index("=") + 1
            if place > 1 and all(is_name(part) for part in parts[:place]):
                return Labelled(label(":".join(parts[:place])), read(":".join(parts[place:])))
        if all(sign == ":" for sign in signs):
            return ratio([read(part) for part in parts])
        raise NotRead("a chain of relations")
    left, right, sign = *parts, signs[0]
    if sign == "\\in" and is_name(left):
        node = read(right)
        if isinstance(node, Many) and node.kind in ("tuple", "bracket") and len(node.items) == 2:
            node = as_region(node)
        return Labelled(label(left), node)
    if sign == "\\notin" and is_variable(left):
        return Labelled(label(left), complement(as_region(read(right))))
    if sign == "\\ne" and is_variable(left):
        node = read(right)
        return Labelled(label(left), complement(as_region(node)))
    if sign == ":":
        return ratio([read(left), read(right)])
    return Relation(sign, read(left), read(right))


def ratio(items: list[Any]) -> Many:
    """Of numbers, or of what stands for them: in one unit, none of them 0 or infinite, for those are in any ratio."""
    for item in items:
        if not isinstance(item, Scalar) or item.value is None or item.unit != items[0].unit:
            raise NotRead("a ratio of what is no number, or in two units")
        if (
            item.value.is_finite is False
            or item.value.has(infinity(1), infinity(-1))
            or same_value(item.value, 0 * item.value)
        ):
            raise NotRead("a ratio with 0 or infinity")
    return Many("ratio", tuple(items))


def ratio_of(node: Any) -> Any:
    """The ratio of what was read as a time of day, 1:12; else the node."""
    if not isinstance(node, Words) or re.fullmatch(r"\d+:\d+", "".join(node.parts)) is None:
        return node
    from sympy import Integer

    return ratio([Scalar(Integer(number)) for number in "".join(node.parts).split(":")])


def _equalities(parts: list[str], signs: list[str], read: Reader) -> Any:
    if len(parts) == 2 and all(_SEGMENT.fullmatch(part) for part in parts):
        return Relation("=", *(Words((label(part),)) for part in parts))
    if len(parts) > 2 and not is_name(parts[0]) and is_asked(sought := read(parts[0])):  # m + n = 7 + 12 = 19
        return Relation("=", sought, _equalities(parts[1:], signs[1:], read))
    labelled = is_name(parts[0]) and (not is_name(parts[-1]) or len(parts) == 2)
    name = label(parts[0]) if labelled else ""
    names = [part for part in parts[:-1] if is_name(part)] if labelled else []
    rest = [part for part in parts if part not in names]
    if not rest:  # a = b
        name, rest = label(parts[0]), parts[1:]
    nodes = [read(part) for part in rest]
    if not labelled and len(nodes) == 2 and signs == ["="]:
        left, right = nodes
        constant = all(isinstance(n, Scalar) and n.value is not None and n.value.is_number for n in nodes)
        if not constant and not (
            all(isinstance(n, Scalar) and n.value is not None for n in nodes) and same_value(left.value, right.value)
        ):
            return Relation("=", left, right)
    for node in nodes[1:]:
        if not _consistent(nodes[0], node):
            raise NotRead("a chain whose members differ")
    node = nodes[0]
    return Labelled(name, node) if name else node


def _consistent(first: Any, other: Any) -> bool:
    if first == other:
        return True
    if not (isinstance(first, Scalar) and isinstance(other, Scalar)) or first.value is None or other.value is None:
        return False
    if same_value(first.value, other.value):
        return True
    if other.decimals is None or not first.value.is_number:
        return False
    difference = abs((first.value - other.value).evalf(30))
    return bool(difference * 2 * 10**other.decimals <= 1)


def _inequalities(parts: list[str], signs: list[str], read: Reader) -> Any:
    variables = [place for place, part in enumerate(parts) if is_name(part) and not _is_size(part)]
    directions = {_INEQUALITY[sign][0] for sign in signs}
    if len(directions) > 1:
        raise NotRead("inequalities in both directions")
    if len(variables) == 1:
        place = variables[0]
        rest = [ends(read(part)) for number, part in enumerate(parts) if number != place]
        if all(value.is_number for value in rest):
            whole = as_region(read("\\mathbb{R}"))
            for number, sign in enumerate(signs):
                direction, closed = _INEQUALITY[sign]
                value = number if number < place else number + 1
                end = ends(read(parts[value]))
                below = (direction == "<") == (value < place)
                bound = (end, closed, infinity(1), False) if below else (infinity(-1), False, end, closed)
                whole = intersect(whole, Region((bound,)))
            return Labelled(label(parts[place]), whole)
    nodes = [read(part) for part in parts]
    if len(parts) == 3 and is_variable(parts[1]) and len(variables) > 1:
        low, high = (nodes[0], nodes[2]) if "<" in directions else (nodes[2], nodes[0])
        ins = [_INEQUALITY[sign][1] for sign in (signs if "<" in directions else signs[::-1])]
        return Labelled(label(parts[1]), Region(((ends(low), ins[0], ends(high), ins[1]),)))
    if ">" in directions:
        nodes, signs = nodes[::-1], [{">": "<", "\\ge": "\\le"}[sign] for sign in signs[::-1]]
    if len(nodes) == 2:
        found = Relation(signs[0], nodes[0], nodes[1])
        # -x < 5, |x| < 5; more would be left to do.
        alone = any(_is_size(part) or is_variable(part.removeprefix("-")) for part in parts)
        return (solved(found) if alone else None) or found
    return Relation(" ".join(signs), Many("tuple", tuple(nodes)), Many("tuple", ()))


def _is_size(text: str) -> bool:
    """Whether it is the absolute value of a real variable; z and w are complex, and their absolute value is a name."""
    found = re.fullmatch(r"\|([^|]+)\|", text)
    return found is not None and is_variable(found[1]) and not re.search("[zw]", text)


def solved(relation: Relation) -> Labelled | None:
    r"""The numbers that a linear inequality in one variable leaves, or ``|x - a| < b``; None for anything else."""
    from sympy import Abs

    if relation.sign not in ("<", "\\le") or not all(
        isinstance(node, Scalar) and node.value is not None and node.unit is None
        for node in (relation.left, relation.right)
    ):
        return None
    left, right, closed = relation.left.value, relation.right.value, relation.sign == "\\le"
    if isinstance(left, Abs) and right.is_positive:
        sides = [_below(left.args[0], right, closed), _below(-right, left.args[0], closed)]
    elif isinstance(right, Abs) and left.is_positive:
        sides = [_below(right.args[0], -left, closed), _below(left, right.args[0], closed)]
    else:
        return _below(left, right, closed)
    first, second = sides
    if first is None or second is None or first.label in "zw":  # those are complex
        return None
    whole = union([*first.node.intervals, *second.node.intervals])
    return Labelled(first.label, intersect(first.node, second.node) if isinstance(left, Abs) else whole)


def _below(left: Any, right: Any, closed: bool) -> Labelled | None:
    difference = left - right
    if len(difference.free_symbols) != 1:
        return None
    (name,) = difference.free_symbols
    slope = difference.diff(name)
    if not slope.is_Rational or slope == 0:
        return None
    end = -difference.subs(name, 0) / slope
    bound = (infinity(-1), False, end, closed) if slope > 0 else (end, closed, infinity(1), False)
    return Labelled(str(name), Region((bound,)))


def same_relation(gold: Relation, given: Relation) -> bool | None:
    """Whether two equations or inequalities say the same of the same variables; None where it is not about values."""
    sides = (gold.left, gold.right, given.left, given.right)
    if gold.sign not in ("=", "<", "\\le") or not all(
        isinstance(side, Scalar) and side.value is not None and side.unit is None for side in sides
    ):
        return None
    left, right = gold.left.value - gold.right.value, given.left.value - given.right.value
    return gold.sign == given.sign and proportional(left, right, positive=gold.sign != "=")


def asked_for(node: Any) -> Any:
    """The number of ``m + n = 7``, ``10a + b = 57`` or ``abc = 36``, a name for what was asked for; else the node."""
    if not (isinstance(node, Relation) and node.sign == "=" and is_asked(node.left)):
        return node
    number = isinstance(node.right, Scalar) and node.right.value is not None and node.right.value.is_number
    return node.right if number else node


def is_asked(node: Any) -> bool:
    """Whether a side is such a name: a sum or a product of letters. With x, y or z it is a line or a curve."""
    value = node.value if isinstance(node, Scalar) else None
    if value is None or not (value.is_Add or value.is_Mul):
        return False
    terms = [term.as_coeff_Mul() for term in value.args]
    sums = value.is_Add and all(factor.is_Integer and factor > 0 and rest.is_Symbol for factor, rest in terms)
    plain = sums or all(part.is_Symbol for part in value.args)
    return plain and not any(len(str(letter)) > 1 or str(letter) in "xyz" for letter in value.free_symbols)
