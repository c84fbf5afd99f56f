r"""What stands around an answer, brackets, and the quickest look at whether two texts are the same."""

from __future__ import annotations

import re


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
