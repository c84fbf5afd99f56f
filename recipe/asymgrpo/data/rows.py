"""Raw rows of a mathematics set to rows for verl: question, answer, and why a row is neither."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipe.asymgrpo.data.files import Row
from recipe.asymgrpo.data.sources import SETS, Source
from recipe.asymgrpo.reward import last_boxed

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
"""What Qwen's model cards ask for in the prompt; the chat template is the tokenizer's and is applied by verl."""
_QUESTION, _ANSWER = ("problem", "question"), ("answer", "final_answer", "expected_answer")
_LEVEL, _SUBJECT = ("level", "difficulty"), ("subject", "type", "subfield", "problem_type")
_OTHER_INSTRUCTION = re.compile(r"the last line of your response|on its own line after", re.IGNORECASE)


@dataclass
class Rejected:
    """A raw row that became no prompt."""

    set: str
    row: int
    reason: str
    text: str
    times: int = 1  # how often this very row stands in the file, after what was taken of it


def _missing(value: Any) -> bool:
    """Nothing, an empty text, NaN, or a list with one of these in it."""
    if isinstance(value, (list, tuple)):
        return not value or any(map(_missing, value))
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _at(raw: Mapping[str, Any], name: str) -> Any:
    """The value of a column; a dot in its name leads into it."""
    if name in raw:
        return raw[name]
    outer, dot, inner = name.partition(".")
    column = raw.get(outer)
    return _at(column, inner) if dot and isinstance(column, Mapping) else None


def _first(raw: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value for name in names if not _missing(value := _at(raw, name))), None)


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")


def columns_of(source: Source) -> str:
    """What a row of a set needs, in words."""
    questions = dict.fromkeys((source.question, *_QUESTION))
    answers = dict.fromkeys((source.answer, *_ANSWER))
    answers.pop("solution", None)
    return f"{' or '.join(questions)}, and {' or '.join(answers)} or a solution with \\boxed{{}}"


def question_of(raw: Mapping[str, Any], source: Source) -> str:
    """The problem of a raw row without an instruction around it that its set is known for; "" where there is none."""
    question = _first(raw, (source.question, *_QUESTION))
    if isinstance(question, (list, tuple)) and len(question) == 1 and isinstance(question[0], Mapping):
        question = question[0].get("content")  # a conversation of one message
    text = question.strip() if isinstance(question, str) else ""
    wrapped = source.wrapped.fullmatch(text) if source.wrapped else None
    return wrapped["problem"] if wrapped else text


def answer_of(raw: Mapping[str, Any], column: str = "answer") -> str:
    """The expected answer of a raw row: its answer, several joined by commas, else the last box of its solution.

    "" where there is none. Some sets have a worked solution in the column of the answer: then it is what follows
    ``####`` (GSM8K), or the box.
    """
    answer = _first(raw, [name for name in (column, *_ANSWER) if name != "solution"])
    if isinstance(answer, (list, tuple)):
        answer = ", ".join(str(part).strip().strip("$") for part in answer)
    if isinstance(answer, str) and "####" in answer:
        answer = answer.rpartition("####")[2]
    elif isinstance(answer, str) and "\\boxed" in answer:
        answer = last_boxed(answer)
    elif isinstance(answer, str) and "\n" in answer.strip():
        return ""  # a text, in which nothing says what the answer is
    if answer is None:
        answer = last_boxed(raw.get("solution"))
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    return str(answer).strip().strip("$").strip()


def question_key(question: str) -> str:
    """What makes two questions the same: their text, but for what cannot change its meaning.

    That is the encoding of letters, dollars, spaces beside signs, the case of words, and the ends of sentences; not the
    case of a name of one letter or two or of a macro, a point in a number, or a space between numbers.
    """
    text = unicodedata.normalize("NFC", question).replace("$", "")
    text = re.sub(r"(?<![\\\w])[^\W\d_]{3,}|(?<![\\\w])[A-Z][a-z]\b", lambda word: word[0].casefold(), text)
    text = re.sub(r"[.,](?=\s|$)", "", text)
    return re.sub(r" ?([^\w\s]) ?", r"\1", " ".join(text.split()))


_SPACING = re.compile(r"\\(?:left|right|q?quad|displaystyle|text|mathrm|[dl]?dots|cdots)(?![a-z])|\\[,;:! \[\]()]")


def loose_key(question: str) -> str:
    """What two copies of a question have in common: its letters, digits and operators. For leaving evaluation questions
    out of a training set, where one too many costs nothing."""
    text = re.sub(r"\\[dtc]frac", r"\\frac", unicodedata.normalize("NFKC", question))
    return "~" + re.sub(r"[^\w+*/^=<>|\\-]|_", "", _SPACING.sub("", text)).casefold()


def math_rows(name: str, raw_rows: Iterable[Mapping[str, Any]], taken: set[str]) -> tuple[list[Row], list[Rejected]]:
    """Raw rows of a set in verl's layout, in their order.

    Args:
        name: the set, a key of `SETS`; it becomes ``data_source``, unless the set says otherwise, so verl logs
            ``val-core/<name>/acc/mean@N`` (the training set's is ``math``).
        raw_rows: with the columns of the set, or with ``problem`` or ``question``, and ``answer``, ``final_answer`` or
            a ``solution`` with a box.
        taken: keys (`question_key`, `loose_key`) of questions that must not occur in this set.

    Returns:
        The rows, and what was rejected: no question, no answer, an instruction that is not known, the same question
        twice, or one that is taken. Equal rows are rejected once, with their number.
    """
    source = SETS[name]
    data_source = source.data_source or name
    rows: list[Row] = []
    rejected: list[Rejected] = []
    answers: dict[str, str] = {}
    equal: dict[tuple[str, str], Rejected] = {}
    for number, raw in enumerate(raw_rows):
        text, answer = question_of(raw, source), answer_of(raw, source.answer)
        if (text, answer) in equal:
            equal[text, answer].times += 1
            continue
        key = question_key(text)
        reason = None
        if not text:
            reason = "no question"
        elif source.wrapped and _OTHER_INSTRUCTION.search(text):
            reason = "an instruction that is not known"
        elif not answer:
            reason = "no answer"
        elif key in answers:
            reason = "the same question twice" if answers[key] == answer else "the same question with another answer"
        elif key in taken or (taken and loose_key(text) in taken):
            reason = "in an evaluation set"
        if reason is not None:
            rejected.append(Rejected(name, number, reason, text[:200]))
            if text:
                equal[text, answer] = rejected[-1]
            continue
        answers[key] = answer
        rows.append(
            {
                "data_source": data_source,
                "prompt": [{"role": "user", "content": f"{text}\n{INSTRUCTION}"}],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": answer},
                "extra_info": {
                    "index": len(rows),
                    "split": "train" if source.training else "test",
                    # From the text alone, so that it survives another order or another copy of the set.
                    "id": f"{data_source}-{hashlib.sha256(key.encode()).hexdigest()[:12]}",
                    "question": text,
                    "level": _words(_first(raw, _LEVEL)),
                    "subject": _words(_first(raw, _SUBJECT)),
                },
            }
        )
    return rows, rejected
