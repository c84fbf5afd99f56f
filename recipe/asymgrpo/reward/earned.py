r"""Whether an answer that is equal to the expected one was worked out: else who compares the two has done the work."""

from __future__ import annotations

import re
from typing import Any

from recipe.asymgrpo.reward.spelling import normalise

_TRIVIAL = re.compile(r"[-+]?(?:[\d.,]+|[A-Za-z]|\\(?:pi|theta|alpha|infty))?(?:\\?%|\\\$|\^?\\circ|\\text[A-Za-z.]+)*")
_NAME = re.compile(r"^[A-Za-z]\w*(?:\([^()]*\))?=")
_LOOSE = r"[\s{}*]|\\(?:[,;:!]|(?:cdot|times|displaystyle|limits|bigl|bigr|quad|mathrm)(?![a-z]))"
"""What makes no other formula of one."""
_AROUND = re.compile(r"^(?:[A-Za-z]|«[^»]*»)(?:_\{\w+\})?\s*=|\\\$|\\?%|\^\{\\circ\}|«[^»]*»(?:\s*\^\{\d\})?|\s+")
_NUMBER = re.compile(r"-?(?:[\d.,]+(?:/\d+)?|\d*\\frac\{-?\d+\}\{\d+\})")
_SCIENTIFIC = re.compile(r"\d\s*\\cdot\s*10\s*\^\{-?\d+\}")
_OVER_AN_INDEX = re.compile(r"\\(?:sum|prod|int|lim)(?![a-z])")
_LEFT_TO_DO = re.compile(
    r"\\(?:b?mod|pmod|gcd|lcm|max|min|lfloor|lceil|det|begin)(?![a-z])"
    r"|(?<=[\d)}\]!])\s*(?:[+-]|\\cdot(?![a-z]))|(?<=\|)\s*(?:\+|\\cdot(?![a-z]))|(?<=[\d)])\s*\(\s*\d"
)


def _spelt(text: str) -> str:
    text = re.sub(r"\\[dt]binom", r"\\binom", normalise(text.replace("−", "-")))
    return re.sub(r"\\frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))", r" \1\2/\3\4 ", text)


def _bare(answer: str) -> str:
    """Without spaces, braces, signs of products and the name of what it is the value of."""
    return _NAME.sub("", re.sub(_LOOSE, "", _spelt(answer))).removeprefix("+").rstrip(",;.")


def is_copied(gold: str, answer: str, question: Any) -> bool:
    """Whether an answer is a formula that stands in the question, and not letter by letter what was expected.

    A number, a letter or a unit is no formula.

    Args:
        gold: the expected answer.
        answer: the model's, without its box.
        question: its text, where it is known.
    """
    formula = _bare(answer)
    if not isinstance(question, str) or _TRIVIAL.fullmatch(formula) or formula == _bare(gold):
        return False
    before = r"(?<![\w.^_])" if re.match(r"\w", formula) else ""
    after = r"(?![\w^_])" if re.search(r"\w\Z", formula) else r"(?!\s*[\^_])"
    loose = rf"(?:{_LOOSE})*".join(map(re.escape, formula))
    return re.search(before + loose + after, _spelt(question)) is not None


def is_worked_out(gold: str, answer: str) -> bool:
    r"""Whether a number was given where one is expected, not sums, products or remainders that make it; and where no
    sum, integral or limit is expected, none.

    Powers, roots, fractions, factorials and binomial coefficients of numbers pass, and a chain with a number in it.

    Args:
        gold: the expected answer, of `text.plain`.
        answer: the model's, of `text.plain`.
    """
    members = re.split(r"=(?![^{}]*\})|\\approx(?![a-z])", answer)
    if _OVER_AN_INDEX.search(members[-1]) and not _OVER_AN_INDEX.search(gold):
        return False
    if not _is_number(gold) or any(map(_is_number, members)):
        return True
    return _LEFT_TO_DO.search(_SCIENTIFIC.sub("1", members[-1])) is None


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(_AROUND.sub("", text)) is not None
