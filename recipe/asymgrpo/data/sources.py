"""The sets that `prepare` knows: where each lies on the Hugging Face hub, under which licence, and how its rows look.

python -m recipe.asymgrpo.data.sources     prints the table of docs/recipes.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from recipe.asymgrpo.data.files import DataError


@dataclass(frozen=True)
class Source:
    """A split of a data set on the Hugging Face hub."""

    repo: str
    split: str
    rows: int  # as its authors or its card state
    licence: str  # as its card or its authors state
    config: str | None = None
    question: str = "problem"
    answer: str = "answer"  # a dot leads into a column; of `solution` it is the box
    training: bool = False
    data_source: str = ""  # what the rows are called in verl's log; "" is the name of the set
    wrapped: re.Pattern[str] | None = None  # the instruction around a problem, which is its group `problem`


# DAPO's prompts ask for a last line "Answer: ..."; with our own instruction for a box that would be two.
_DAPO_PROMPT = re.compile(
    r"\s*Solve the following math problem step by step\.\s+The last line of your response should be of the form "
    r"Answer:[^\n]{1,60}? where \$Answer is the answer to the problem\.\s+(?P<problem>\S.*?)\s+"
    r"Remember to put your answer on its own line after \"Answer:\"\.\s*",
    re.DOTALL,
)
_MAA = "none stated; problems by the MAA"
_ARENA = "CC BY-NC-SA 4.0 (MathArena, arXiv 2505.23281)"
_GSM8K = "MIT (arXiv 2110.14168)"

# The paper's sets come first. MATH's own repository has been taken down; this is the copy that verl's examples use.
SETS: dict[str, Source] = {
    "train": Source(
        "DigitalLearningGmbH/MATH-lighteval",
        "train",
        7500,
        "MIT (MATH, arXiv 2103.03874)",
        answer="solution",
        training=True,
        data_source="math",
    ),
    "math500": Source("HuggingFaceH4/MATH-500", "test", 500, "MIT (MATH; subset of PRM800K, arXiv 2305.20050)"),
    "aime24": Source("HuggingFaceH4/aime_2024", "train", 30, _MAA),
    "aime25": Source("math-ai/aime25", "test", 30, _MAA),
    "amc23": Source("math-ai/amc23", "test", 40, _MAA, question="question"),
    "olympiadbench": Source(
        "Hothan/OlympiadBench",
        "train",
        674,
        "Apache-2.0 (arXiv 2402.14008)",
        config="OE_TO_maths_en_COMP",
        question="question",
        answer="final_answer",
    ),
    "gsm8k_train": Source(
        "openai/gsm8k", "train", 7473, _GSM8K, config="main", question="question", training=True, data_source="gsm8k"
    ),
    "gsm8k_test": Source("openai/gsm8k", "test", 1319, _GSM8K, config="main", question="question", data_source="gsm8k"),
    # Each of its problems stands in the file a hundred times.
    "dapo_math_17k": Source(
        "BytedTsinghua-SIA/DAPO-Math-17k",
        "train",
        1791700,
        "Apache-2.0 (arXiv 2503.14476)",
        question="prompt",
        answer="reward_model.ground_truth",
        training=True,
        wrapped=_DAPO_PROMPT,
    ),
    "deepscaler": Source("agentica-org/DeepScaleR-Preview-Dataset", "train", 40315, "MIT", training=True),
    "minerva_math": Source(
        "math-ai/minervamath",
        "test",
        272,
        "none stated; problems of MIT OpenCourseWare (Minerva, arXiv 2206.14858)",
        question="question",
    ),
    "hmmt25": Source("MathArena/hmmt_feb_2025", "train", 30, _ARENA),
    "aime26": Source("MathArena/aime_2026", "train", 30, _ARENA),
    "brumo25": Source("MathArena/brumo_2025", "train", 30, _ARENA),
}
PAPER = ("train", "math500", "aime24", "aime25", "amc23", "olympiadbench")
"""The paper's sets (arXiv 2604.04894), which are made where none is named."""
SPLITS: dict[str, tuple[str, ...]] = {"gsm8k": ("gsm8k_train", "gsm8k_test")}
"""A name for several sets: the splits of one repository."""


def names() -> list[str]:
    """All that `--sets` takes."""
    return [*SETS, *SPLITS]


def chosen(wanted: Iterable[str]) -> list[str]:
    """The sets that names stand for, each once.

    Raises:
        DataError: an unknown name.
    """
    found: dict[str, None] = {}
    for name in wanted:
        if name not in SETS and name not in SPLITS:
            raise DataError(f"--sets {name}: unknown set {name!r}; one of {', '.join(names())}")
        found.update(dict.fromkeys(SPLITS.get(name, (name,))))
    return list(found)


def described() -> str:
    """All sets, a line each, for --help."""
    width = max(map(len, names())) + 2
    lines = []
    for name, source in SETS.items():
        use = "training" if source.training else "evaluation"
        default = ", by default" if name in PAPER else ""
        lines.append(f"  {name:<{width}}{source.repo}, {source.rows:,} rows, {use}{default}")
    lines += [f"  {name:<{width}}{' and '.join(splits)}" for name, splits in SPLITS.items()]
    return "sets:\n" + "\n".join(lines)


def markdown() -> str:
    """All sets as the table of docs/recipes.md."""
    lines = [
        "| set | for | source on the hub | split | rows | question, answer | licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, source in SETS.items():
        use = "training" if source.training else "evaluation"
        repo = f"[{source.repo}](https://huggingface.co/datasets/{source.repo})"
        config = f", `{source.config}`" if source.config else ""
        columns = f"`{source.question}`, `{source.answer}`"
        lines.append(
            f"| `{name}` | {use} | {repo}{config} | `{source.split}` | {source.rows:,} | {columns} | {source.licence} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
