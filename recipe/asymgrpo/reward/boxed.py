r"""The answer in a response: its last box that holds one, for the scorers that want a number or a text."""

from __future__ import annotations

import re
from typing import Any

from recipe.asymgrpo.reward.spelling import last_boxes
from recipe.asymgrpo.reward.workers import MAX_CHARS

# Scorers parse what they are given. The answer stands at the end of a response, and is short.
MAX_RESPONSE_CHARS = 16384
MAX_ANSWER_CHARS = 256
MAX_BOXES = 16  # tried from the end, where a response is cut off in the middle of its last ones

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_SIMPLE_BOX = re.compile(r"\\boxed\{([^{}]*)\}")
# What prompts write where the answer belongs.
_TEMPLATE = re.compile(
    r"(?:\\(?:text|mathrm|textbf)\{)?[\s.:!*$<>()\[\]\"']*(?:(?:insert|put|write|enter|place|fill in)\b.*|"
    r"(?:(?:your|the|my|final|a|an|correct|numerical|numeric)[\s_-]+)*(?:answer|result|solution|number|letter|choice|value)(?:[\s_-]+here)?|"
    r"\?+|_+|\.{2,}|…|\\l?dots|\\_+|\\(?:quad|square|Box|cdots))?[\s.:!*$<>()\[\]\"'}]*",
    re.IGNORECASE | re.DOTALL,
)


def last_boxed(text: Any) -> str:
    r"""What stands in the last complete ``\boxed{...}`` (or ``\fbox{...}``) of a response that holds an answer.

    Braces inside are balanced; escaped ones (``\{``) count as text. ``\boxed {5}`` and ``\boxed 5`` are boxes. An empty
    box, or one with words of a template (``\boxed{your answer}``), is none. Boxes that a comma, "and" or "or" joins are
    one answer with several parts: nobody is paid for the last of a few guesses. At most `MAX_CHARS` + 1 characters are
    returned, so that a longer answer can be told from one that is short enough to be judged; "" where there is no box.
    """
    if not isinstance(text, str):
        return ""
    text = text[-MAX_RESPONSE_CHARS:].encode("utf-8", "replace").decode()
    return last_boxes(text, lambda found: not _is_template(found), MAX_BOXES)[: MAX_CHARS + 1]


def _is_template(answer: str) -> bool:
    return len(answer) <= 80 and _TEMPLATE.fullmatch(answer) is not None and not re.search(r"\d", answer)


def extract_answer(text: Any, *, numeric: bool = True) -> str:
    """The part of a response that is its answer, at most `MAX_ANSWER_CHARS` characters, valid unicode.

    A model may think aloud before it answers: the last ``<answer>``, else the last ``\\boxed{}``, else the whole text
    is looked at, and of that the last number where a number is wanted.
    """
    if not isinstance(text, str):
        return ""
    # Lone surrogates cannot be written to a log or sent to another process.
    text = text[-MAX_RESPONSE_CHARS:].encode("utf-8", "replace").decode()
    for pattern in (_TAGGED, _SIMPLE_BOX):
        if found := pattern.findall(text):
            text = found[-1].strip()
            break
    numbers = NUMBER.findall(text) if numeric else []
    return (numbers[-1].rstrip(",") if numbers else text.strip())[:MAX_ANSWER_CHARS]
