r"""Whether an answer that is equal to the expected one was worked out: else who compares the two has done the work."""

from __future__ import annotations

import re
from typing import Any

from recipe.asymgrpo.reward.spelling import normalise

_TRIVIAL = re.compile(
    r"(?:[A-Za-z]=)?[-+]?(?:[\d.,]+|[A-Za-z]|\\(?:pi|theta|alpha|infty))?(?:\\?%|\\\$|\^?\\circ|\\text[A-Za-z.]+)*"
)
_LOOSE = r"[\s{}]|\\[,;:!]"
_AROUND = re.compile(r"^(?:[A-Za-z]|«[^»]*»)(?:_\{\w+\})?\s*=|\\\$|\\?%|\^\{\\circ\}|«[^»]*»(?:\s*\^\{\d\})?|\s+")
_NUMBER = re.compile(r"-?(?:[\d.,]+(?:/\d+)?|\d*\\frac\{-?\d+\}\{\d+\})")
_SCIENTIFIC = re.compile(r"\d\s*\\cdot\s*10\s*\^\{-?\d+\}")
_LEFT_TO_DO = re.compile(
    r"\\(?:sum|prod|int|lim|b?mod|pmod|gcd|lcm|max|min|lfloor|lceil|det|begin)(?![a-z])"
    r"|(?<=[\d)}\]!])\s*(?:[+-]|\\cdot(?![a-z]))|\\overline\{\d+\}\s*[+-]"
)


def is_copied(answer: str, question: Any) -> bool:
    """Whether an answer is a formula that stands in the question. A number, a letter or a unit is none.

    Args:
        answer: the model's, without its box.
        question: its text, where it is known.
    """
    if not isinstance(question, str):
        return False
    squeezed = re.sub(rf"(?:{_LOOSE})+", "", normalise(answer))
    if _TRIVIAL.fullmatch(squeezed):
        return False
    formula = rf"(?:{_LOOSE})*".join(map(re.escape, squeezed))
    before = r"(?<![\w.^_])" if re.match(r"\w", squeezed) else ""
    after = r"(?![\w^_])" if re.search(r"\w\Z", squeezed) else r"(?!\s*[\^_])"
    return re.search(before + formula + after, normalise(question)) is not None


def is_worked_out(gold: str, answer: str) -> bool:
    r"""Whether a number was given where one is expected, not sums, products or remainders that make it.

    Powers, roots, fractions, factorials and binomial coefficients of numbers pass, and a chain that ends in a number.

    Args:
        gold: the expected answer, of `text.plain`.
        answer: the model's, of `text.plain`.
    """
    if _NUMBER.fullmatch(_AROUND.sub("", gold)) is None:
        return True
    last = re.split(r"=(?![^{}]*\})|\\approx(?![a-z])", answer)[-1]
    return _LEFT_TO_DO.search(_SCIENTIFIC.sub("1", last)) is None
