r"""Where an answer is cut: separators outside of brackets, remarks behind it, thousands."""

from __future__ import annotations

import re

from recipe.asymgrpo.reward.notation import NotRead
from recipe.asymgrpo.reward.spelling import closing_of

_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")

_REMARK = re.compile(r"(?:,|;)?\s*\(?\s*«(?:where|with|for|whenever|provided|when|if)»")

_SAYS = re.compile(
    r"[<>=]|\\(?:in|ge|le|ne|notin)(?![a-z])|«(?:reals?|integers?|positive|negative|natural|constants?|all|any|every|arbitrary|primes?|nonnegative|even|odd|otherwise)»",
    re.IGNORECASE,
)

SEPARATORS = re.compile(r",\s*«(?:and|or)»|[,;]|«(?:and|or)»")

CONDITION = re.compile(r"(\\?[A-Za-z]+)\s*(?:\\(?:in|ge|le|ne)(?![a-z])|[<>]).*")


def split(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The parts of a text between matches outside of brackets, and the matches."""
    parts: list[str] = []
    signs: list[str] = []
    last = position = 0
    while position < len(text):
        if text[position] in "({[":
            end = closing_of(text, position)
            if end < 0:
                raise NotRead("a bracket that does not close")
            position = end + 1
            continue
        if text[position] in ")}]":
            raise NotRead("a bracket that does not open")
        found = pattern.match(text, position)
        if found and found.end() > position:
            parts.append(text[last:position].strip())
            signs.append(found.group().strip())
            last = position = found.end()
            continue
        position += 1
        if text[position - 1] == "\\":
            position += text[position : position + 1] not in ("{", "}")
    return [*parts, text[last:].strip()], signs


def bracketed(text: str) -> tuple[str, str] | None:
    r"""The brackets around all of a text, as ``()`` or ``\{}``, and what is in them."""
    opening = re.match(r"\\?[({\[]", text)
    if opening is None or closing_of(text, opening.end() - 1) != len(text) - 1:
        return None
    return opening.group() + text[-1], text[opening.end() : -1].removesuffix("\\").strip()


def remark_of(text: str) -> tuple[str, str, bool] | None:
    """An answer, what is said about it, and whether that is a condition of its being the answer."""
    if (
        found := re.fullmatch(r"(.*[^\s(\[{,]) ?\(([^()=]*(?:\\(?:in|ge|le|ne)(?![a-z])|[<>])[^()=]*)\)", text)
    ) is not None and "\\" not in found.group(1)[-1:]:
        return found.group(1), found.group(2), False
    parts, signs = split(text, _REMARK)
    if len(parts) != 2 or not parts[0] or not parts[1]:
        return None
    said = parts[1].rstrip(")").strip() if signs[0].startswith("(") or "(" in signs[0] else parts[1]
    return (parts[0].rstrip(",; "), said, "«if»" in signs[0] or "«when»" in signs[0]) if _SAYS.search(said) else None


def without_thousands(text: str) -> str:
    out, depth, last = [], 0, 0
    for found in _THOUSANDS.finditer(text):
        before = text[: found.start()]
        depth = sum(before.count(c) for c in "({[") - sum(before.count(c) for c in ")}]")
        if depth == 0:
            out += [text[last : found.start()], found.group().replace(",", "")]
            last = found.end()
    return "".join(out) + text[last:]


def occurs(name: str, parts: list[str]) -> bool:
    """Whether a variable is in each part, and is not what a part is about."""
    alone = re.escape(name) + r"(?![A-Za-z])"
    return all(
        re.search(r"(?<![A-Za-z\\«])" + alone, part)
        and not re.match(alone + r"\s*=", part)
        and not re.search(r"\\(?:in|notin|ge|le|ne)(?![a-z])|[<>]", part)
        for part in parts
    )
