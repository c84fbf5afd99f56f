"""The paper's data (arXiv 2604.04894): the training problems of MATH and five evaluation sets, as rows for verl."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipe.asymgrpo.data.files import DataError, Row, read_local, sha256_of, write_parquet, write_text
from recipe.asymgrpo.reward import last_boxed


@dataclass(frozen=True)
class Source:
    """A data set on the Hugging Face hub."""

    repo: str
    split: str
    rows: int  # as its authors state
    licence: str  # as its card or its authors state
    config: str | None = None


# Where each set comes from. MATH's own repository has been taken down; this is the copy that verl's examples use.
SETS: dict[str, Source] = {
    "train": Source("DigitalLearningGmbH/MATH-lighteval", "train", 7500, "MIT (MATH, arXiv 2103.03874)"),
    "math500": Source("HuggingFaceH4/MATH-500", "test", 500, "MIT (MATH; subset of PRM800K, arXiv 2305.20050)"),
    "aime24": Source("HuggingFaceH4/aime_2024", "train", 30, "none stated; problems by the MAA"),
    "aime25": Source("math-ai/aime25", "test", 30, "none stated; problems by the MAA"),
    "amc23": Source("math-ai/amc23", "test", 40, "none stated; problems by the MAA"),
    "olympiadbench": Source(
        "Hothan/OlympiadBench", "train", 674, "Apache-2.0 (arXiv 2402.14008)", config="OE_TO_maths_en_COMP"
    ),
}
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
"""What Qwen's model cards ask for in the prompt; the chat template is the tokenizer's and is applied by verl."""
MANIFEST = "manifest.json"
REJECTED = "rejected.jsonl"
_QUESTION, _ANSWER = ("problem", "question"), ("answer", "final_answer", "expected_answer")
_LEVEL, _SUBJECT = ("level", "difficulty"), ("subject", "type", "subfield")


@dataclass
class Rejected:
    """A raw row that became no prompt."""

    set: str
    row: int
    reason: str
    text: str


def _missing(value: Any) -> bool:
    """Nothing, an empty text, NaN, or a list with one of these in it."""
    if isinstance(value, (list, tuple)):
        return not value or any(map(_missing, value))
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _first(raw: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((raw[name] for name in names if not _missing(raw.get(name))), None)


def answer_of(raw: Mapping[str, Any]) -> str:
    """The expected answer of a raw row: its answer, several joined by commas, else the last box of its solution.

    "" where there is none. Some sets have a worked solution in the column of the answer: then it is what follows
    ``####`` (GSM8K), or the box.
    """
    answer = _first(raw, _ANSWER)
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


def math_rows(name: str, raw_rows: Iterable[Mapping[str, Any]], taken: set[str]) -> tuple[list[Row], list[Rejected]]:
    """Raw rows of a set in verl's layout, in their order.

    Args:
        name: the set, a key of `SETS`; it becomes ``data_source``, so verl logs ``val-core/<name>/acc/mean@N`` (the
            training set's is ``math``).
        raw_rows: with ``problem`` or ``question``, and ``answer``, ``final_answer`` or a ``solution`` with a box.
        taken: keys (`question_key`) of questions that must not occur in this set.

    Returns:
        The rows, and what was rejected: no question, no answer, the same question twice, or one that is taken.
    """
    rows: list[Row] = []
    rejected: list[Rejected] = []
    seen: set[str] = set()
    for number, raw in enumerate(raw_rows):
        question = _first(raw, _QUESTION)
        text = question.strip() if isinstance(question, str) else ""
        key, answer = question_key(text), answer_of(raw)
        reason = None
        if not text:
            reason = "no question"
        elif not answer:
            reason = "no answer"
        elif key in seen:
            reason = "the same question twice"
        elif key in taken:
            reason = "in an evaluation set"
        if reason is not None:
            rejected.append(Rejected(name, number, reason, text[:200]))
            continue
        seen.add(key)
        source = "math" if name == "train" else name
        rows.append(
            {
                "data_source": source,
                "prompt": [{"role": "user", "content": f"{text}\n{INSTRUCTION}"}],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": answer},
                "extra_info": {
                    "index": len(rows),
                    "split": "train" if name == "train" else "test",
                    # From the text alone, so that it survives another order or another copy of the set.
                    "id": f"{source}-{hashlib.sha256(key.encode()).hexdigest()[:12]}",
                    "question": text,
                    "level": str(_first(raw, _LEVEL) or ""),
                    "subject": str(_first(raw, _SUBJECT) or ""),
                },
            }
        )
    return rows, rejected


def fetch(source: Source) -> tuple[list[dict[str, Any]], str]:
    """Rows and revision (commit) of a set on the hub, which keeps what it has downloaded in its own cache.

    Raises:
        DataError: it cannot be reached or read.
    """
    try:
        from datasets import load_dataset
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        raise DataError(f"{error.name} is missing: pip install datasets, or use --local") from error
    try:
        revision = None if Path(source.repo).is_dir() else HfApi().dataset_info(source.repo).sha
        table = load_dataset(source.repo, source.config, split=source.split, revision=revision)
    except Exception as error:
        cause = str(error).strip().splitlines() or [""]
        raise DataError(
            f"cannot get {source.repo} from the hub ({type(error).__name__}: {cause[0][:160]}). Run the same command "
            "again to go on, set HF_ENDPOINT for a mirror, or give files with --local NAME=FILE"
        ) from error
    return list(table), revision or "local"


def prepare(out: Path, local: Mapping[str, Path] | None = None, force: bool = False) -> dict[str, Any]:
    """Write sets as parquet with a manifest; sets that are there already, as the manifest has them, stay.

    The training set is written without the questions of the evaluation sets in `out`, so it comes last, and again
    where one of them has changed.

    Args:
        out: the folder.
        local: set -> file; then these sets only, and nothing from the hub.
        force: make every set anew.

    Returns:
        The manifest.

    Raises:
        DataError: a set cannot be had, or has no row that can be used.
        OSError: `out` cannot be written to.
    """
    import pyarrow.parquet as pq
    from tqdm import tqdm

    out.mkdir(parents=True, exist_ok=True)
    path = out / MANIFEST
    manifest: dict[str, Any] = {"sets": {}}
    if path.is_file():
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            manifest["sets"].items()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} cannot be read ({error}); remove it to start anew") from error
    sets = manifest["sets"]
    names = sorted(local or SETS, key=lambda name: (name == "train", list(SETS).index(name)))
    progress = tqdm(names, unit="set", disable=not sys.stderr.isatty())
    for name in progress:
        progress.set_description(name)
        if local:
            origin = {"source": local[name].name, "source_sha256": sha256_of(_existing(local[name]))}
        else:
            origin = {"source": SETS[name].repo, "licence": SETS[name].licence}
        taken: set[str] = set()
        if name == "train":
            evaluation = {other: entry["sha256"] for other, entry in sorted(sets.items()) if other != "train"}
            origin["without"] = evaluation  # type: ignore[assignment]
            for other in evaluation:
                info = pq.read_table(out / f"{other}.parquet", columns=["extra_info"]).to_pylist()
                taken |= {question_key(row["extra_info"]["question"]) for row in info}
        file = out / f"{name}.parquet"
        entry = sets.get(name, {})
        same = all(entry.get(key) == value for key, value in origin.items())
        if not force and same and file.is_file() and sha256_of(file) == entry.get("sha256"):
            continue
        if local:
            raw = read_local(local[name])
        else:
            raw, origin["revision"] = fetch(SETS[name])
        rows, rejected = math_rows(name, raw, taken)
        if not rows:
            raise DataError(
                f"{name}: none of {len(raw)} rows can be used ({'; '.join(sorted({r.reason for r in rejected}))}). "
                f"A row needs {' or '.join(_QUESTION)}, and {' or '.join(_ANSWER)} or a solution with \\boxed{{}}"
            )
        write_parquet({name: rows}, out)
        sets[name] = {
            "file": file.name,
            "rows": len(rows),
            "sha256": sha256_of(file),
            **origin,
            "raw_rows": len(raw),
            "rejected": dict(Counter(row.reason for row in rejected)),
        }
        expected = None if local else SETS[name].rows
        if expected is not None and len(raw) != expected:
            print(f"warning: {name} has {len(raw)} rows on the hub, {expected} were expected", file=sys.stderr)
        _replace_rejected(out / REJECTED, name, rejected)
        # After each set, so that an interrupted call goes on where it was.
        write_text(path, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return manifest


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"--local {path}: there is no such file")
    return path


def _replace_rejected(path: Path, name: str, rejected: Sequence[Rejected]) -> None:
    """Put the rejected rows of one set into the file, in place of those it had of that set."""
    # Not splitlines: a text may have U+2028 in it.
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    lines = [line for line in lines if line and json.loads(line)["set"] != name]
    lines += [json.dumps(asdict(row), ensure_ascii=False) for row in rejected]
    write_text(path, "".join(line + "\n" for line in lines))
