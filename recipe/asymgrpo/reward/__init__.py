"""Verifiable rewards, in the interface of verl's ``reward.custom_reward_function``.

    reward.custom_reward_function.path=pkg://recipe.asymgrpo.reward reward.custom_reward_function.name=compute_score

Mathematics is judged on the last ``\\boxed{}`` of the response (`boxed`) by the reading policy of docs/reward.md
(`equivalence`, around math-verify's parser) in processes that can be killed (`workers`); tasks of reasoning-gym by its
own scorer (`procedural`). The reward is 1.0 where the answer is right, else 0.0.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipe.asymgrpo.reward import procedural
from recipe.asymgrpo.reward.boxed import MAX_ANSWER_CHARS, extract_answer, last_boxed
from recipe.asymgrpo.reward.earned import is_copied
from recipe.asymgrpo.reward.procedural import PREFIX
from recipe.asymgrpo.reward.spelling import normalise
from recipe.asymgrpo.reward.workers import Verifier

__all__ = [
    "MATH",
    "MAX_ANSWER_CHARS",
    "PREFIX",
    "check_file",
    "compute_score",
    "extract_answer",
    "fault_of",
    "last_boxed",
]

MATH = re.compile(r"math|aime|amc|olympiad|minerva|gsm8k|deepscaler|hmmt|brumo", re.IGNORECASE)
"""Data sources whose answers are mathematics in a box, e.g. ``HuggingFaceH4/MATH-500``."""

_verifier = Verifier()


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
        it passed the limit of time or memory, which makes it wrong; ``why``, the reason of the verdict in a few words
        (docs/reward.md has the list), and ``set``, the data source, for verl's dumps, which do not name it. verl logs
        the mean of the numbers in validation.

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
        question = (extra_info or {}).get("question")
        copied = verdict.reason == "equal value" and is_copied(str(ground_truth), pred, question)
        equal = float(verdict.equal and not copied)
        return {
            "score": equal,
            "acc": equal,
            "pred": pred[:MAX_ANSWER_CHARS],
            "gave_up": float(verdict.gave_up),
            "why": "copied from the question" if copied else verdict.reason,
            "set": data_source,
        }
    return procedural.score(data_source, solution_str, ground_truth, extra_info or {})


def fault_of(data_source: Any, ground_truth: Any) -> str | None:
    """Why no response can be scored for such a row, in words; None where it can."""
    if not isinstance(data_source, str) or not (data_source.startswith(PREFIX) or MATH.search(data_source)):
        return (
            f"no scorer for data_source {data_source!r}: known are '{PREFIX}<task>' of reasoning-gym, and mathematics "
            "in \\boxed{} under a name with math, aime, amc, olympiad, minerva, gsm8k, deepscaler, hmmt or brumo in it"
        )
    if data_source.startswith(PREFIX) and (fault := procedural.fault_of(data_source)):
        return fault
    # Of dollar signs, a dot or NaN nothing is left, and as much is left of a box with nothing in it.
    if ground_truth is None or ground_truth != ground_truth or not normalise(str(ground_truth)).strip(".~ "):
        return f"reward_model.ground_truth is {ground_truth!r}: a row without an answer cannot be scored"
    return None


def check_file(path: str | Path) -> None:
    """Look for rows of a parquet file of prompts, in verl's layout, that this file could not score, here.

    Raises:
        ModuleNotFoundError: the package that judges such answers is not installed. verl would leave out each response
            whose score raises, and only right ones of the same text would be left.
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
    for package, module in {needs(row["data_source"]) for row in rows}:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(
                f"{path}: its answers are judged by {package}, which is not here: pip install {package}"
            )


def needs(data_source: str) -> tuple[str, str]:
    """The package that judges the answers of a data source, and the module by which it is found."""
    if data_source.startswith(PREFIX):
        return "reasoning-gym", "reasoning_gym"
    return "math-verify", "latex2sympy2_extended"
