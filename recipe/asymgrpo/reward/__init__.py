"""Verifiable rewards, in the interface of verl's ``reward.custom_reward_function``.

    reward.custom_reward_function.path=pkg://recipe.asymgrpo.reward reward.custom_reward_function.name=compute_score

Mathematics is judged by math-verify on the last ``\\boxed{}`` of the response (``workers.py``), tasks
of reasoning-gym by its own scorer. The reward is 1.0 where the answer is right, else 0.0.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recipe.asymgrpo.reward.workers import MAX_CHARS, Verifier

logger = logging.getLogger(f"verl.{__name__}")

PREFIX = "reasoning_gym/"
MATH = re.compile(r"math|aime|amc|olympiad|minerva|gsm8k", re.IGNORECASE)
"""Data sources whose answers are mathematics in a box, e.g. ``HuggingFaceH4/MATH-500``."""
# Scorers parse what they are given. The answer stands at the end of a response, and is short.
MAX_RESPONSE_CHARS = 16384
MAX_ANSWER_CHARS = 256
MAX_BOXES = 16  # tried from the end, where a response is cut off in the middle of its last ones

COUNTDOWN = f"{PREFIX}countdown"
# Its scorer evaluates the answer as a program (sympy's parse_expr): only the four operations may reach it, no power and
# no long number.
_EXPRESSION = re.compile(r"(?!.*(?:\*\s*\*|/\s*/|[0-9]{10}))[0-9 +\-*/()]{0,128}")

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_verifier = Verifier()
# Imports are serialised: verl scores responses on a thread pool.
_import_lock = threading.Lock()


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Score one response.

    Args:
        data_source: ``reasoning_gym/<task>``, or the name of a mathematics data set (see `MATH`).
        solution_str: the decoded response; any text is allowed, wrong or hostile.
        ground_truth: the expected answer.
        extra_info: the row's ``extra_info`` as ``recipe.asymgrpo.data`` wrote it (question, metadata, prompt_style).
        kwargs: whatever else verl passes; not used.

    Returns:
        ``score`` and ``acc``, both 1.0 or 0.0; ``pred``, the answer that was judged; ``gave_up``, 1.0 where judging
        it passed the limit of time or memory, which makes it wrong; ``set``, the data source, for verl's dumps, which
        do not name it. verl logs the mean of the numbers in validation.

    Raises:
        ValueError: a data source this file has no scorer for, or no expected answer. verl leaves out a response whose
            score raises, and goes on, so `check_file` finds such rows before a training.
        ModuleNotFoundError: reasoning-gym is not installed.
        recipe.asymgrpo.reward.workers.VerifierError: math-verify is not installed.
    """
    if fault := fault_of(data_source, ground_truth):
        raise ValueError(fault)
    if not data_source.startswith(PREFIX):
        pred = last_boxed(solution_str)
        verdict = _verifier.equal(str(ground_truth), pred)
        equal = float(verdict.equal)
        gave_up = float(verdict.gave_up)
        return {"score": equal, "acc": equal, "pred": pred[:MAX_ANSWER_CHARS], "gave_up": gave_up, "set": data_source}
    scorer = _scorer(data_source.removeprefix(PREFIX))
    info = extra_info or {}
    answer = extract_answer(solution_str, numeric=_NUMBER.fullmatch(str(ground_truth)) is not None)
    if data_source == COUNTDOWN and not _EXPRESSION.fullmatch(answer):
        return {"score": 0.0, "acc": 0.0, "pred": answer, "gave_up": 0.0, "set": data_source}
    metadata = info.get("metadata") or {}
    entry = {
        "question": info.get("question", ""),
        "answer": ground_truth,
        "metadata": json.loads(metadata) if isinstance(metadata, str) else metadata,
    }
    try:
        correct = float(scorer(answer, entry) == 1.0)
    except Exception as error:
        # A scorer that trips over a model's text has not been convinced by it.
        logger.warning("%s: the scorer failed on %r: %r; counted as wrong", data_source, answer[:80], error)
        correct = 0.0
    return {"score": correct, "acc": correct, "pred": answer, "gave_up": 0.0, "set": data_source}


def fault_of(data_source: Any, ground_truth: Any) -> str | None:
    """Why no response can be scored for such a row, in words; None where it can."""
    if not isinstance(data_source, str) or not (data_source.startswith(PREFIX) or MATH.search(data_source)):
        return (
            f"no scorer for data_source {data_source!r}: known are '{PREFIX}<task>' of reasoning-gym, and mathematics "
            "in \\boxed{} under any name with math, aime, amc, olympiad, minerva or gsm8k in it"
        )
    if ground_truth is None or not str(ground_truth).strip():
        return f"reward_model.ground_truth is {ground_truth!r}: a row without an answer cannot be scored"
    return None


def check_file(path: str | Path) -> None:
    """Look for rows of a parquet file of prompts, in verl's layout, that this file could not score.

    Raises:
        ValueError: there are some; it names the first of them, counted from 0, and why.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        wanted = {"data_source", "reward_model"} & set(file.schema_arrow.names)
        rows = file.read(columns=sorted(wanted)).to_pylist()
    faults = {}
    for number, row in enumerate(rows):
        if fault := fault_of(row.get("data_source"), (row.get("reward_model") or {}).get("ground_truth")):
            faults[number] = fault
    if faults:
        first, fault = next(iter(faults.items()))
        others = f" ({len(faults) - 1} more rows of {len(rows)} have such a fault)" if len(faults) > 1 else ""
        raise ValueError(f"{path}, row {first}: {fault}{others}. Mend the rows or leave them out.")


def last_boxed(text: Any) -> str:
    r"""What stands in the last complete ``\boxed{...}`` (or ``\fbox{...}``) of a response; "" where there is none.

    Braces inside are balanced; escaped ones (``\{``) count as text. At most `MAX_CHARS` + 1 characters are returned, so
    that a longer answer can be told from one that is short enough to be judged.
    """
    if not isinstance(text, str):
        return ""
    text = text[-MAX_RESPONSE_CHARS:].encode("utf-8", "replace").decode()
    end = len(text)
    for _ in range(MAX_BOXES):
        start = max(text.rfind("\\boxed{", 0, end), text.rfind("\\fbox{", 0, end))
        if start < 0:
            return ""
        depth, begin = 0, text.index("{", start) + 1
        position = begin
        while position < len(text):
            character = text[position]
            if character == "\\":
                position += 1
            elif character == "{":
                depth += 1
            elif character == "}":
                if depth == 0:
                    return text[begin:position].strip()[: MAX_CHARS + 1]
                depth -= 1
            position += 1
        end = start
    return ""


def extract_answer(text: Any, *, numeric: bool = True) -> str:
    """The part of a response that is its answer, at most `MAX_ANSWER_CHARS` characters, valid unicode.

    A model may think aloud before it answers: the last ``<answer>``, else the last ``\\boxed{}``, else the whole text
    is looked at, and of that the last number where a number is wanted.
    """
    if not isinstance(text, str):
        return ""
    # Lone surrogates cannot be written to a log or sent to another process.
    text = text[-MAX_RESPONSE_CHARS:].encode("utf-8", "replace").decode()
    for pattern in (_TAGGED, _BOXED):
        if found := pattern.findall(text):
            text = found[-1].strip()
            break
    numbers = _NUMBER.findall(text) if numeric else []
    return (numbers[-1].rstrip(",") if numbers else text.strip())[:MAX_ANSWER_CHARS]


@cache
def _scorer(task: str) -> Callable[[str, dict[str, Any]], float]:
    """reasoning-gym's scorer of a task; imported on first use, for its import takes two seconds."""
    with _import_lock:
        try:
            from reasoning_gym import get_score_answer_fn
            from reasoning_gym.factory import DATASETS
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"scoring {PREFIX}{task} needs reasoning-gym, and {error.name} is missing: "
                'pip install "verl-asymgrpo[cpu]"',
                name=error.name,
            ) from error
    if task not in DATASETS:
        from difflib import get_close_matches

        near = get_close_matches(task, DATASETS, n=3) or sorted(DATASETS)[:3]
        raise ValueError(
            f"no scorer for data_source '{PREFIX}{task}': reasoning-gym knows {len(DATASETS)} tasks, "
            f"the nearest are {', '.join(PREFIX + name for name in near)}"
        )
    return get_score_answer_fn(task)
