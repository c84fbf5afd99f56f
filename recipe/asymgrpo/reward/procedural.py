"""Tasks of reasoning-gym, judged by its own scorers."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from recipe.asymgrpo.reward.boxed import NUMBER, extract_answer

logger = logging.getLogger(f"verl.{__name__}")

PREFIX = "reasoning_gym/"
COUNTDOWN = f"{PREFIX}countdown"
TASKS = ("chain_sum", "countdown", "quantum_lock")
"""Those of `recipe.asymgrpo.data`. Scorers of others run a response as a program, take hours for a power of powers, or
are satisfied with the question written back."""
# Its scorer evaluates the answer as a program (sympy's parse_expr): only the four operations may reach it, no power and
# no long number; and of them, where the prompt in words allows two, only these.
_EXPRESSION = re.compile(r"(?!.*(?:\*\s*\*|/\s*/|[0-9]{10}))[0-9 +\-*/()]{0,128}")
# Imports are serialised: verl scores responses on a thread pool.
_import_lock = threading.Lock()


def score(data_source: str, response: Any, ground_truth: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """`compute_score` for a data source ``reasoning_gym/<task>``; partial credit of a scorer is none.

    Raises:
        ValueError: the task is none of `TASKS`.
        ModuleNotFoundError: reasoning-gym is not installed.
    """
    if fault := fault_of(data_source):
        raise ValueError(fault)
    scorer = _scorer(data_source.removeprefix(PREFIX))
    answer = extract_answer(response, numeric=NUMBER.fullmatch(str(ground_truth)) is not None)
    correct, why = 0.0, "not arithmetic"
    not_allowed = set("*/") if info.get("prompt_style") == "chat" else set()
    if data_source != COUNTDOWN or (_EXPRESSION.fullmatch(answer) and not not_allowed & set(answer)):
        metadata = info.get("metadata") or {}
        entry = {
            "question": info.get("question", ""),
            "answer": ground_truth,
            "metadata": json.loads(metadata) if isinstance(metadata, str) else metadata,
        }
        try:
            correct, why = float(scorer(answer, entry) == 1.0), "the task's scorer"
        except Exception as error:
            # A scorer that trips over a model's text has not been convinced by it.
            logger.warning("%s: the scorer failed on %r: %r; counted as wrong", data_source, answer[:80], error)
            why = "the scorer failed"
    return {"score": correct, "acc": correct, "pred": answer, "gave_up": 0.0, "why": why, "set": data_source}


def fault_of(data_source: str) -> str | None:
    """Why a task of reasoning-gym is not scored here, in words; None where it is."""
    task = data_source.removeprefix(PREFIX)
    if task in TASKS:
        return None
    return (
        f"no scorer for data_source '{PREFIX}{task}': scored are {', '.join(PREFIX + name for name in TASKS)}; other "
        "scorers of reasoning-gym may run a response as a program or accept the question as its answer"
    )


@cache
def _scorer(task: str) -> Callable[[str, dict[str, Any]], float]:
    """reasoning-gym's scorer of a task; imported on first use, for its import takes two seconds."""
    with _import_lock:
        try:
            from reasoning_gym import get_score_answer_fn
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"scoring {PREFIX}{task} needs reasoning-gym, and {error.name} is missing: "
                'pip install "verl-asymgrpo[cpu]"',
                name=error.name,
            ) from error
    return get_score_answer_fn(task)
