r"""Notation that the parser would read otherwise: mixed numbers, decimals, names and applied functions."""

from __future__ import annotations

import re
from fractions import Fraction
from zlib import crc32

from recipe.asymgrpo.reward.spelling import closing_of


class NotRead(ValueError):
    """A part of an answer that was not understood."""


REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?")

MIXED = re.compile(r"(?<![\d.\w^_}{])(\d+) ?(?:\\frac\{(\d+)\}\{(\d+)\}|(?<= )(\d+) ?/ ?(\d+)(?![\d./]))")

APPLIED = re.compile(
    r"(?:(?<![A-Za-z\\«])[fghFGHP]'*|\\(?:gcd|lcm) ?)\s*\((?!(?<=(?:cd|cm)\()[\d,\s]*\)|(?<=(?:cd|cm) \()[\d,\s]*\))"
)


def plain_number(number: str) -> str:
    if "." not in number:
        return number.lstrip("0") or "0"
    value = Fraction(number)
    return f"(\\frac{{{value.numerator}}}{{{value.denominator}}})"


def top_commas(text: str) -> list[str]:
    parts, depth, last = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "({[") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append(text[last:position])
            last = position + 1
    return [*parts, text[last:]]


def symbol(name: str) -> str:
    """A variable for the parser that stands for a name it would not keep; equal names get equal ones."""
    return f"v_{{{crc32(name.encode())}}}"


def opaque_applications(text: str) -> str:
    while found := APPLIED.search(text):
        end = closing_of(text, found.end() - 1)
        if end < 0:
            raise NotRead("brackets")
        name = re.sub(r"[\s«»]", "", text[found.start() : end + 1])
        text = text[: found.start()] + " \\hat{" + f"Q{crc32(name.encode())}" + "}" + text[end + 1 :]
    return text


def mixed(found: re.Match[str]) -> str:
    whole, above, below, above2, below2 = found.groups()
    whole, above, below = int(whole), int(above or above2), int(below or below2)
    if not 0 < above < below:
        if above2:
            raise NotRead("two numbers side by side")
        return f"{whole}\\cdot \\frac{{{above}}}{{{below}}}"
    return f"\\frac{{{whole * below + above}}}{{{below}}}"


def repeating(found: re.Match[str]) -> str:
    whole, fixed, again = found.groups()
    scale = 10 ** len(fixed)
    value = Fraction(int((whole or "0") + fixed), scale) + Fraction(int(again), scale * (10 ** len(again) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
