r"""Whether two answers are equal, and why: the reading policy of docs/reward.md.

Both texts are brought to one spelling (`text`), read to the end (`reading`), and compared by what they are. What is not
understood in full is equal only to the same text.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from recipe.asymgrpo.reward.earned import is_worked_out
from recipe.asymgrpo.reward.measures import scalars, verdict
from recipe.asymgrpo.reward.names import by_name, is_tuple, narrows, other_labels, several_labels
from recipe.asymgrpo.reward.nodes import (
    Labelled,
    Many,
    Region,
    Relation,
    Remark,
    Residue,
    Scalar,
    Table,
    Words,
    as_region,
    renamed,
)
from recipe.asymgrpo.reward.numeric import same_value
from recipe.asymgrpo.reward.reading import Policy, read
from recipe.asymgrpo.reward.relations import asked_for, ratio_of, same_relation, solved
from recipe.asymgrpo.reward.scalar import NotRead
from recipe.asymgrpo.reward.spelling import last_boxes, spaced_numbers, with_words_of
from recipe.asymgrpo.reward.text import plain

EQUAL = ("equal text", "equal value", "equal words")
"""Reasons of a right answer."""
DIFFERENT = ("different value", "different kind", "unit differs", "base differs", "label differs", "condition differs",
             "different number of answers", "different words", "not read", "gold not read",
             "not worked out")  # fmt: skip
"""Reasons of a wrong one."""
_POLICIES = [Policy(thousands, base) for base in ("e", "10") for thousands in (True, False)]


def judge(gold: str, answer: str) -> str:
    """Why an answer is right, one of `EQUAL`, or wrong, one of `DIFFERENT`.

    Args:
        gold: the expected answer, LaTeX or plain.
        answer: the model's, without its box.

    Raises:
        MemoryError: the memory limit was reached.
    """
    expected, given = plain(last_boxes(gold) or gold), plain(answer)
    expected, given = with_words_of(given, expected), with_words_of(expected, given)
    if expected and expected.replace(" ", "") == given.replace(" ", "") and not spaced_numbers(expected, given):
        return "equal text"
    letters = [re.sub("[«» ]", "", text) for text in (expected, given)]
    if letters[0] == letters[1] and letters[0].isalpha():  # a word, with \text{} or without
        return "equal text"
    first = ""
    for policy in _POLICIES:
        if (not policy.thousands and "," not in expected + given) or (
            policy.log_base == "10" and "\\log" not in expected + given
        ):
            continue
        reason, node = _judge(expected, given, policy)
        if reason in EQUAL:
            return reason if is_worked_out(expected, given, node) else "not worked out"
        first = first or reason
    return first


def _judge(gold: str, answer: str, policy: Policy) -> tuple[str, Any]:
    """The reason, and the node of the gold."""
    try:
        expected = read(gold, policy)
    except (NotRead, RecursionError):
        return "gold not read", None
    try:
        return compare_nodes(_single(expected), _single(read(answer, policy))), expected
    except (NotRead, RecursionError):
        return "not read", expected
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return "not read", expected


def compare_nodes(gold: Any, given: Any) -> str:
    """Why two nodes are equal or not."""
    if isinstance(given, Remark) or isinstance(gold, Remark):
        return _remarks(gold, given)
    if isinstance(gold, Words) is not isinstance(given, Words):  # 1:12, which alone is a time of day
        gold, given = ratio_of(gold), ratio_of(given)
    if not (isinstance(gold, Labelled) and is_tuple(given)):  # its names stand in the order that is meant
        gold = by_name(gold)
    given = by_name(given)
    inner = given.node if isinstance(given, Labelled) else given
    if isinstance(gold, Relation) and (isinstance(inner, Region) or is_tuple(inner)):
        gold = solved(gold) or gold
    if isinstance(gold, Labelled) and isinstance(given, Labelled):
        if gold.label != given.label:
            both = _equation_of(gold, given)
            return both if both in EQUAL else "label differs"
        return compare_nodes(gold.node, given.node)
    if isinstance(gold, Labelled) or isinstance(given, Labelled):
        if isinstance(gold, Relation) or isinstance(given, Relation):
            return _equation_of(gold, given)
        if other_labels(gold, given) or other_labels(given, gold):
            return "label differs"
        # x = 2, 3 are two values of one variable, and no point or interval.
        if is_tuple(gold) and isinstance(given.node, Many) and given.node.kind == "list" and given.label[0] != "(":
            return "different kind"
        gold, given = (node.node if isinstance(node, Labelled) else node for node in (gold, given))
        return compare_nodes(gold, given)
    if isinstance(gold, Scalar):
        given = asked_for(given)
    if isinstance(gold, Scalar) and isinstance(given, Scalar):
        return scalars(gold, given)
    if isinstance(gold, Region) or isinstance(given, Region):
        return _regions(gold, given)
    if isinstance(gold, Many) or isinstance(given, Many):
        return _collections(gold, given)
    if type(gold) is not type(given):
        return "different kind"
    if isinstance(gold, Words):
        return "equal words" if _phrase(gold) == _phrase(given) else "different words"
    if isinstance(gold, Relation):
        same = same_relation(gold, given)
        if same is None:
            same = gold.sign == given.sign and (
                (_equal(gold.left, given.left) and _equal(gold.right, given.right))
                or (
                    gold.sign in ("=", "\\parallel", "\\perp", "\\sim", "\\cong", "\\ne")
                    and _equal(gold.left, given.right)
                    and _equal(gold.right, given.left)
                )
            )
        return verdict(same)
    if isinstance(gold, Table):
        return _tables(gold, given)
    if isinstance(gold, Residue):
        if not _equal(gold.modulus, given.modulus) or len(gold.items) != len(given.items):
            return "different value"
        return verdict(_matched(gold.items, given.items, lambda a, b: _congruent(a, b, gold.modulus)))
    return "different kind"


def _single(node: Any) -> Any:
    """A set of one answer is that answer, where it is all that was said."""
    if isinstance(node, Labelled):
        return Labelled(node.label, _single(node.node))
    one = isinstance(node, Many) and node.kind in ("set", "list") and len(node.items) == 1 and not node.dots
    return node.items[0] if one and isinstance(node.items[0], (Scalar, Words)) else node


def _equal(gold: Any, given: Any) -> bool:
    return compare_nodes(gold, given) in EQUAL


def _remarks(gold: Any, given: Any) -> str:
    if isinstance(gold, Remark) and isinstance(given, Remark):
        given = renamed(gold, given)
        reason = compare_nodes(gold.node, given.node)
        same = judge(gold.said, given.said) in EQUAL
        return reason if same or reason not in EQUAL else "condition differs"
    said = (gold if isinstance(gold, Remark) else given).said
    if any(isinstance(node, Remark) and node.choice for node in (gold, given)):
        return "condition differs"
    # An equation or a choice changes what the answer is, and so does a condition that leaves one value.
    node = next(one.node for one in (gold, given) if isinstance(one, Remark))
    if narrows(node, said):
        return "condition differs"
    if "=" in said or "«or»" in said or "«otherwise»" in said or "«even»" in said or "«odd»" in said:
        return "condition differs"
    return compare_nodes(*(node.node if isinstance(node, Remark) else node for node in (gold, given)))


def _equation_of(gold: Any, given: Any) -> str:
    """A label with a value is an equation where the other side is one: y = 2x + 1 beside 2x - y + 1 = 0."""
    from sympy import Symbol

    sides = []
    if isinstance(gold, Labelled) and isinstance(gold.node, Scalar) and getattr(gold.node.value, "is_number", True):
        return "different kind"  # the equation is what was to be solved
    for node in (gold, given):
        if isinstance(node, Labelled):
            if not (isinstance(node.node, Scalar) and len(node.label) == 1):
                return "different kind"
            sides.append(Relation("=", Scalar(Symbol(node.label)), node.node))
        elif isinstance(node, Relation):
            sides.append(node)
        else:
            return "different kind"
    return compare_nodes(*sides)


def _regions(gold: Any, given: Any) -> str:
    if not all(
        isinstance(node, Region) or (isinstance(node, Many) and node.kind in ("tuple", "bracket", "set"))
        for node in (gold, given)
    ):
        return "different kind"
    left, right = as_region(gold).intervals, as_region(given).intervals
    return verdict(
        len(left) == len(right)
        and all(
            a[1] == b[1] and a[3] == b[3] and same_value(a[0], b[0]) and same_value(a[2], b[2])
            for a, b in zip(left, right, strict=True)
        )
    )


def _collections(gold: Any, given: Any) -> str:
    if isinstance(gold, Scalar) and isinstance(given, Many) and given.either:  # one number, in several spellings
        reasons = [compare_nodes(gold, item) for item in given.items]
        return "equal value" if all(reason in EQUAL for reason in reasons) else "different number of answers"
    for one, other in ((gold, given), (given, gold)):
        if not isinstance(other, Many):
            if isinstance(one, Many) and one.kind == "tuple" and isinstance(other, Table) and other.kind == "matrix":
                column = [cell for row in other.rows for cell in row]
                if len(other.rows) == 1 or len(column) == len(other.rows):  # a vector
                    vector = Many("tuple", tuple(column))
                    return compare_nodes(gold if one is gold else vector, given if one is given else vector)
            if isinstance(one, Many) and one.kind == "ratio" and isinstance(other, Scalar) and len(one.items) == 2:
                return verdict(same_value(one.items[0].value, other.value * one.items[1].value))
            return (
                "different number of answers"
                if isinstance(other, (Scalar, Labelled)) and isinstance(one, Many) and one.kind != "ratio"
                else "different kind"
            )
    kinds = {gold.kind, given.kind}
    if is_tuple(gold) and given.either:
        return "different kind"
    if gold.dots != given.dots:
        return "different value"
    if "ratio" in kinds:
        if len(kinds) > 1 or len(gold.items) != len(given.items):
            return "different kind"
        first, second = ([item.value for item in node.items] for node in (gold, given))
        return verdict(all(same_value(a * second[0], b * first[0]) for a, b in zip(first, second, strict=True)))
    if kinds == {"set", "tuple"} or ("bracket" in kinds and len(kinds) > 1):
        return "different kind"
    if kinds == {"set"} or kinds == {"set", "list"}:
        items = [_distinct(node.items) for node in (gold, given)]
    else:
        items = [list(gold.items), list(given.items)]
    if len(items[0]) != len(items[1]):
        return "different number of answers"
    if "tuple" in kinds or "bracket" in kinds or gold.dots or several_labels(gold) != several_labels(given):
        reasons = [compare_nodes(a, b) for a, b in zip(*items, strict=True)]
        return next((reason for reason in reasons if reason not in EQUAL), "equal value")
    return verdict(_matched(items[0], items[1], _equal))


def _distinct(items: Any) -> list[Any]:
    kept: list[Any] = []
    for item in items:
        if not any(_equal(other, item) for other in kept):
            kept.append(item)
    return kept


def _matched(gold: Any, given: Any, equal: Any) -> bool:
    """Whether each one of the first has its own among the second."""
    left = list(given)
    for item in gold:
        place = next((number for number, other in enumerate(left) if equal(item, other)), None)
        if place is None:
            return False
        left.pop(place)
    return not left


def _congruent(gold: Any, given: Any, modulus: Any) -> bool:
    if not all(isinstance(node, Scalar) and node.value is not None for node in (gold, given, modulus)):
        return _equal(gold, given)
    difference = (gold.value - given.value) / modulus.value
    return bool(same_value(gold.value, given.value) or difference.is_integer)


def _tables(gold: Table, given: Table) -> str:
    if gold.kind != given.kind or [len(row) for row in gold.rows] != [len(row) for row in given.rows]:
        return "different kind"
    if gold.kind == "cases":
        rows = [[Many("tuple", row) for row in table.rows] for table in (gold, given)]
        return verdict(_matched(rows[0], rows[1], _equal))
    pairs = zip(itertools.chain(*gold.rows), itertools.chain(*given.rows), strict=True)
    return verdict(all(_equal(a, b) for a, b in pairs))


def _phrase(words: Words) -> list[str]:
    parts = [part.strip("«»") for part in words.parts]
    return [
        part
        for number, part in enumerate(parts)
        if part not in ("the", "a", "an") or len(parts) == 1 or number == len(parts) - 1
    ]
