r"""Whether an answer that is equal to the expected one was worked out: else who compares the two has done the work."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from recipe.asymgrpo.reward.cutting import CONDITION, SEPARATORS, bracketed, remark_of, split
from recipe.asymgrpo.reward.nodes import Labelled, Many, Remark, Scalar
from recipe.asymgrpo.reward.notation import NotRead
from recipe.asymgrpo.reward.spelling import normalise
from recipe.asymgrpo.reward.text import plain

_TRIVIAL = re.compile(
    r"[-+]?(?:[\d.,]+|[A-Za-z]|\\(?:pi|theta|alpha|infty))?(?:\\?%|\\\$|\^?\\circ|\\text[A-Za-z.]+(?:\^?\d)?)*"
)
_FORMULA = re.compile(r"\$\$?([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NAME = re.compile(r"^[A-Za-z]\w*(?:\([^()]*\))?=")
_LOOSE = r"[\s{}*]|\\(?:[,;:!]|(?:cdot|times|displaystyle|limits|bigl|bigr|quad|mathrm)(?![a-z]))"
"""What makes no other formula of one."""
_AROUND = re.compile(
    r"^(?:[A-Za-z]|«[^»]*»)(?:_\{\w+\})?\s*=|\\\$|\\?%|\^\{\\circ\}|\s+"
    r"|\\frac\{\s*«[^»]*»\s*\}\{\s*«[^»]*»(?:\s*\^\{\d\})?\s*\}|\((?:\s*«[^»]*»)+\s*\)"
    r"|(?:(?:/|\\cdot)\s*)?«[^»]*»(?:\s*\^\{-?\d\})?"
)
_NUMBER = re.compile(r"-?(?:[\d.,]+(?:[/:]\d+)*|\d*\\frac\{-?\d+\}\{\d+\})")
_OVER_AN_INDEX = re.compile(r"\\(?:sum|prod|int|lim)(?![a-z])")
_CHAIN = re.compile(r"=|\\approx(?![a-z])")
_SET_OF_REALS = re.compile(r"[<>]|\\(?:le|ge|in|ne|cup|begin|setminus)(?![a-z])")
# What is written of numbers only, brought to one letter: a behind a number (roots, fractions), b what is not.
_PART = r"(?:b|1a|1|a)?(?:p|(?<=[ab1]))"
_PURE = rf"(?:[-+]|\\[pm]m)?{_PART}(?:[/:]{_PART})?"
_REDUCED = [
    (re.compile(rf"\\frac\{{{_PURE}\}}\{{{_PURE}\}}|\\sqrt(?:\[{_PURE}\])?\{{{_PURE}\}}"), "a"),
    (re.compile(rf"\\binom\{{{_PURE}\}}\{{{_PURE}\}}|\|{_PURE}\||\({_PURE}\)|[1abp](?:\^\{{{_PURE}\}}|!)"), "b"),
    (re.compile(rf"(?<![\w}}\]^_])\{{{_PURE}\}}"), "b"),
]


def _spelt(text: str) -> str:
    return _fractions(re.sub(r"\\[dt]binom", r"\\binom", normalise(text.replace("−", "-"))))


def _fractions(text: str) -> str:
    return re.sub(r"\\frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))", r" \1\2/\3\4 ", text)


def _bare(answer: str) -> str:
    """Without spaces, braces, signs of products and the name of what it is the value of."""
    return _NAME.sub("", re.sub(_LOOSE, "", _spelt(answer))).removeprefix("+").rstrip(",;.")


def is_copied(gold: str, answer: str, question: Any) -> bool:
    """Whether an answer is a formula that stands in the question, and not letter by letter what was expected.

    A number, a letter or a unit is no formula. Names, words, brackets and remarks around it do not hide it.

    Args:
        gold: the expected answer.
        answer: the model's, without its box.
        question: its text, where it is known.
    """
    if not isinstance(question, str):
        return False
    bare = _bare(answer)
    if _is_formula(bare) and bare != _bare(gold) and _stands_in(bare, _spelt(question), rf"(?:{_LOOSE})*"):
        return True
    return any(  # one formula in most answers that have any: only then the question's are taken apart
        _stands_in(formula, text)
        for formula in {*filter(_is_formula, _formulas(answer))}.difference(_formulas(gold))
        for found in _FORMULA.findall(question)
        for text in _formulas(max(found, key=len))
    )


def _is_formula(text: str) -> bool:
    """A number, a letter or a unit is none, nor a fraction in lowest terms."""
    fraction = re.fullmatch(r"-?(\d+)/(\d+)", text)
    in_lowest_terms = fraction is not None and math.gcd(int(fraction[1]), int(fraction[2])) == 1
    return not in_lowest_terms and _TRIVIAL.fullmatch(text) is None


def _stands_in(formula: str, text: str, between: str = "") -> bool:
    before = r"(?<![\w.^_])" if re.match(r"\w", formula) else ""
    after = r"(?![\w^_])" if re.search(r"\w\Z", formula) else r"(?!\s*[\^_])"
    return re.search(before + between.join(map(re.escape, formula)) + after, text) is not None


def _formulas(text: str) -> list[str]:
    """What stands in an answer, without names, words, remarks and brackets around it."""
    try:
        text = plain(text)
        remark = remark_of(text)
        members = _members(text if remark is None else remark[0])
    except (NotRead, RecursionError):
        return []
    found = []
    for member in members:
        last = re.sub(r",\s*\w+\s*\\in(?![a-z]).*", "", re.sub(r"«[^»]*»(?:\s*\^\{-?\d\})?", " ", member)).strip(" :")
        while (brackets := bracketed(last)) is not None and brackets[0][0] != "[":
            last = brackets[1]
        found.append(_squeezed(last))
    return found


def _squeezed(text: str) -> str:
    """Without braces, spaces, signs of products, and brackets around one thing; of `text.plain`."""
    return re.sub(r"\(([\w^.\\]+)\)", r"\1", re.sub(_LOOSE, "", _fractions(text)))


def is_worked_out(gold: str, answer: str, expected: Any) -> bool:
    r"""Whether numbers were given where numbers are expected, not sums, products or functions that make them; and where
    no sum over an index, integral or limit is expected, none.

    Powers, roots, fractions, factorials and binomial coefficients of numbers pass, and a chain with a number in it.

    Args:
        gold: the expected answer, of `text.plain`.
        answer: the model's, of `text.plain`.
        expected: the node of `gold`.
    """
    try:
        return _is_worked_out(gold, answer, expected)
    except NotRead:  # brackets that do not fit
        return False


def _is_worked_out(gold: str, answer: str, expected: Any) -> bool:
    if _OVER_AN_INDEX.search(_members(answer)[-1]) and not _OVER_AN_INDEX.search(gold):
        return False
    while isinstance(expected, (Labelled, Remark)):
        expected = expected.node
    if not _is_rational(expected) or not _are_numbers(gold, _is_number) or _are_numbers(answer, _is_pure):
        return True
    return isinstance(expected, Many) and _SET_OF_REALS.search(answer) is not None


def _is_rational(node: Any) -> bool:
    node = node.node if isinstance(node, Labelled) else node
    if isinstance(node, Many):
        return not node.dots and all(map(_is_rational, node.items))
    return isinstance(node, Scalar) and node.value is not None and bool(node.value.is_Rational)


def _are_numbers(text: str, enough: Callable[[str], bool]) -> bool:
    """Whether each of the answers in a text is a number, a chain with one in it, or ends with what is enough."""
    text = re.sub(r"\\(?:begin|end)\{(?:aligned|align\*?|gathered|split)\}|&", "", text)
    remark = remark_of(text)
    text = text if remark is None else remark[0]
    pieces = [piece for piece in split(text, SEPARATORS)[0] if not CONDITION.fullmatch(piece)]
    if len(pieces) > 1:
        return all(_are_numbers(piece, enough) for piece in pieces)
    members = _members(pieces[0] if pieces else text)
    if any(map(_is_number, members)):
        return True
    last = members[-1]
    if (brackets := bracketed(last)) is not None:
        kind, inner = brackets
        if kind == "\\{}" or (kind != "{}" and split(inner, SEPARATORS)[1]):
            return _are_numbers(inner, enough)
    return enough(last)


def _members(text: str) -> list[str]:
    return split(text, _CHAIN)[0]


def _is_number(text: str) -> bool:
    text = re.sub(r"(?<=\d)(?:[eE][-+]?\d+|\s*\\cdot\s*10\s*\^\{-?\d+\})", "", _AROUND.sub("", text))
    return _NUMBER.fullmatch(re.sub(r"^\((.*)\)$", r"\1", text).removeprefix("+")) is not None


def _is_pure(text: str) -> bool:
    """One number, power, root, fraction, factorial or binomial coefficient of numbers; with π, for an angle."""
    text = _AROUND.sub("", re.sub(r"(?<=\d)\s+(?=\d)", "·", text))
    text = re.sub(r"\\(?:overline|dot|bar)\{\d+\}|(?<=\d)\\cdot10\^\{-?\d+\}", "", text)
    text = re.sub(r"(?:\d[\d.,]*|\.\d+)(?:[eE][-+]?\d+)?", "1", text).replace("\\pi", "p").replace("\\div", "/")
    before = ""
    while before != text:
        before = text
        for pattern, letter in _REDUCED:
            text = pattern.sub(letter, text)
    return re.fullmatch(_PURE, text) is not None
