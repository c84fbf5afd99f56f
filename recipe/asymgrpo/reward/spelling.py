r"""What stands around an answer: its box, brackets, signs; and the quickest look at whether two texts are the same."""

from __future__ import annotations

import re
from collections.abc import Callable

from recipe.asymgrpo.reward.units import PLAIN


def unwrap(text: str) -> str:
    r"""Without what stands around an answer: dollars, ``\[..\]``, a box, bold, ``####``, a stop, "the answer is"."""
    before = None
    while before != text:
        before = text
        text = text.strip().removeprefix("####").removeprefix("\\therefore").removeprefix("∴").strip()
        text = re.sub(
            r"^(?:the |my )?(?:final |correct )?answer(?: is)?\s*[:=]?\s*(?=\S)", "", text, flags=re.IGNORECASE
        )
        if not text.endswith(("...", "\\.")):
            text = text.rstrip(". \n") if re.search(r"[^.\s]", text) else text
        for opening, closing in (
            ("$$", "$$"),
            ("\\[", "\\]"),
            ("\\(", "\\)"),
            ("**", "**"),
            ("`", "`"),
            ("$", "$"),
            ("*", "*"),
            ("__", "__"),
            ('"', '"'),
            ("'", "'"),
            ("“", "”"),
        ):
            inner = text[len(opening) : -len(closing)]
            if (
                text.startswith(opening)
                and text.endswith(closing)
                and len(text) > len(opening) + len(closing)
                and opening not in inner
                and not inner.endswith("\\")
            ):
                text = inner
        for box in ("\\boxed{", "\\fbox{", "{"):
            if text.startswith(box) and closing_of(text, len(box) - 1) == len(text) - 1:
                text = text[len(box) : -1]
    dollars = re.findall(r"(?<!\\)\$", text)
    if dollars and len(dollars) % 2 == 0:
        text = re.sub(r"(?<!\\)\$", " ", text)
    elif len(dollars) == 1:
        text = re.sub(r"(?<!\\)\$", r"\\$", text)
    return text


def closing_of(text: str, start: int) -> int:
    """Where the bracket at `start` closes; -1 where it does not. Brackets of any kind close each other."""
    depth, position = 0, start
    while position < len(text):
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] not in ("{", "}"):
            position += 1
        elif character in "({[":
            depth += 1
        elif character in ")}]":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1


_SIZES = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg)(?![a-zA-Z])")
_SPACES = re.compile(r"(?:\s|\\[,!;:> ]|~)+")
# A space between two letters or digits means something: 1 1/2 is not 11/2.
_NEEDLESS_SPACE = re.compile(r"(?<![0-9A-Za-z.]) | (?![0-9A-Za-z.])")


def normalise(answer: str) -> str:
    """A spelling that does not depend on spaces, sizes of brackets, dollar signs and variants of fractions."""
    answer = answer.replace("\\$", "").replace("$", "")
    answer = _NEEDLESS_SPACE.sub("", _SPACES.sub(" ", _SIZES.sub("", answer).strip()))
    answer = answer.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    return answer.removesuffix(".")


def with_words_of(source: str, text: str) -> str:
    """Letters without a ``\\text{}`` are a word where the other side has that word in one: red, for \text{red}."""
    for word in {word.lower() for word in re.findall(r"«([A-Za-z]{2,})»", source)} - PLAIN:
        text = re.sub(
            rf"(?<![\\«A-Za-z]){word}(?![A-Za-z»])", lambda found: f"«{found.group()}»", text, flags=re.IGNORECASE
        )
    return text


def spaced_numbers(left: str, right: str) -> bool:
    """Whether a space between two digits is in one of them: 2 3 is not 23."""
    return any(
        a.isdigit() and b.isdigit()
        for text in (left, right)
        for a, _, b in zip(text, text[1:] + " ", text[2:] + "  ", strict=False)
        if _ == " "
    )


BOX = re.compile(r"\\f?box(?:ed)?\s*(?:\{|(?=[0-9+-])|\s(?=\S))")
_BARE = re.compile(r"[-+]?(?:\d(?:[\d,]*\d)?(?:\.\d+)?|[A-Za-z])(?![\w\\{])")
_MAX_BETWEEN = 120
# One piece of what may stand between boxes that belong together; a separator is among them.
_BETWEEN = re.compile(
    r"(?P<separator>[,;]|\\text\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z]))"
    r"|[\s$.\\()\[\]]|[a-z]_?\d?\s*="
)


def _joins(between: str) -> bool:
    """Whether boxes with this between them are parts of one answer. Looks at each character once."""
    if len(between) > _MAX_BETWEEN:
        return False
    between = re.sub(r"\\q?quad", " ", between)
    position, separated = 0, False
    while position < len(between):
        found = _BETWEEN.match(between, position)
        if found is None:
            return False
        separated |= found["separator"] is not None
        position = found.end()
    return separated


def last_boxes(text: str, accept: Callable[[str], bool] = bool, most: int = 16) -> str:
    """The last box whose content is accepted, with those that a comma, "and" or "or" joins to it; else ""."""
    found: list[str] = []
    following = len(text)
    for match in reversed(list(BOX.finditer(text))[-most:]):
        content = content_of(text, match)
        if content is None or not accept(content):
            continue
        if found and not _joins(text[_end_of(text, match) : following]):
            break
        found.insert(0, content)
        following = match.start()
    return ", ".join(found)


def _end_of(text: str, box: re.Match[str]) -> int:
    if not box.group().endswith("{"):
        bare = _BARE.match(text, box.end())
        return bare.end() if bare else box.end()
    depth, position = 0, box.end()
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == "{":
            depth += 1
        elif text[position] == "}":
            if depth == 0:
                return position + 1
            depth -= 1
        position += 1
    return -1


def content_of(text: str, box: re.Match[str]) -> str | None:
    """What stands in a box that `BOX` found; None where it does not close."""
    end = _end_of(text, box)
    if end < 0 or end == box.end():
        return None
    return text[box.end() : end - 1].strip() if box.group().endswith("{") else text[box.end() : end]
