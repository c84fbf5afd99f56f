r"""A number with what belongs to it: its unit, currency, base or scale; words where it is none."""

from __future__ import annotations

import re

from recipe.asymgrpo.reward.nodes import Scalar, Words
from recipe.asymgrpo.reward.scalar import NotRead, read_scalar
from recipe.asymgrpo.reward.units import SCALES, read_unit

_BASE = re.compile(
    r"(-?)\s*((?:[0-9A-F]|«[0-9A-F]+»)+?(?:\.[0-9A-F]+)?)\s*_\s*\{(\d+|\s*«(?:two|ten|eight|sixteen)»\s*)\}"
)
_PARTS = re.compile(r"(\d+) *(«[a-zA-Z]+») *,? *(?:«and»)? *(\d+(?:\.\d+)?) *(«[a-zA-Z]+»)")


def in_parts(text: str) -> Scalar | None:
    """3 hours 20 minutes, 5 feet 7 inches: a measure in two units, the second part below one of the first unit."""
    found = _PARTS.fullmatch(text)
    if found is None:
        return None
    first, unit, second, lower = found.groups()
    large, small = read_unit(unit), read_unit(lower)
    if large is None or small is None or large.powers != small.powers or not large.factor > small.factor:
        return None
    part = read_scalar(second) * read_scalar(str(small.factor / large.factor))
    return Scalar(read_scalar(first) + part, large) if bool(part < 1) else None


def words_of(text: str) -> Words:
    """Words, numbers and signs; a hyphen between words is none."""
    return Words(tuple(re.findall(r"«[^»]*»|[\d.:%]*[\d:%]|[-!?]", re.sub(r"(?<=»)\s*-\s*(?=«)", " ", text.lower()))))


def quantity(text: str, log_base: str) -> Scalar | Words:
    """A number with what belongs to it, or words that are no number.

    Raises:
        NotRead: it is neither, or not understood in full.
    """
    if re.fullmatch(r"\(?\s*«([A-Za-z])»\s*\)?", text):
        text = re.sub(r"[^A-Za-z]", "", text)
    if (found := _BASE.fullmatch(text)) is not None and re.search(r"\d", found.group(2) + found.group(3)):
        base = re.sub(r"[^\da-z]", "", found.group(3))
        digits = re.sub("[«»]", "", found.group(2)).lstrip("0") or "0"
        return Scalar(
            None,
            base={"two": "2", "ten": "10", "eight": "8", "sixteen": "16"}.get(base, base),
            digits=found.group(1) + digits,
        )
    if (scaled := re.fullmatch(r"(.*\d)\s*«(hundred|thousand|million|billion|trillion|dozen)»(.*)", text)) is not None:
        node = quantity(scaled.group(1) + scaled.group(3), log_base)
        if not isinstance(node, Scalar) or node.value is None:
            raise NotRead("a scale")
        return Scalar(node.value * SCALES[scaled.group(2)], node.unit)
    text = re.sub(r"(?<=[\d}]) *\(\s*((?:«[^»]*»\s*)+)\)$", r" \1", text)  # 5 (units)
    unit = None
    if (money := re.match(r"(-?)\s*(\\\$|«sterling»|«euro»)", text)) is not None:
        unit = read_unit("«dollar»" if money.group(2) == "\\$" else money.group(2))
        text = money.group(1) + text[money.end() :].strip()
    text = re.sub(
        r"(?<=[\d)}\s])\\frac\{\s*(«[^»]+»(?:\s*\^\{\d\})?)\s*\}\{\s*(«[^»]+»(?:\s*\^\{\d\})?)\s*\}$", r"\1/\2", text
    )
    start = re.search(r"«|/\s*«|\\?%|\\\$|\^\{\\circ\}(?!.*[\d}])", text)
    trigonometric = re.search(r"\\(?:sin|cos|tan|sec|csc|cot)(?![a-z])", text) is not None
    if start is not None and start.group() == "^{\\circ}" and trigonometric:
        start = None
    if start is not None and closing_depth(text[: start.start()]) == 0:
        head, tail = text[: start.start()].strip(), text[start.start() :].replace("\\$", "«dollar»").strip()
        after = read_unit(tail)
        if unit is not None and after is not None and re.match(r"«per»|/", tail):  # $26 per week
            after = unit
        if not head or after is None or (unit is not None and unit != after):
            if re.fullmatch(r"(?:«[^»]*»|[\d.:'()!?%\s-])+", text):
                return words_of(text)
            raise NotRead("words")
        unit, text = after, head.removesuffix("\\cdot").strip()
    decimal = re.fullmatch(r"[-+]?\s*\d*\.(\d+)", text)
    return Scalar(read_scalar(text, log_base), unit, len(decimal.group(1)) if decimal else None)


def closing_depth(text: str) -> int:
    """How many brackets are open at the end."""
    return sum(text.count(c) for c in "({[") - sum(text.count(c) for c in ")}]")
