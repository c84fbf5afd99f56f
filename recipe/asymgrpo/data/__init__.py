"""Prompts with verifiable answers, as the parquet files verl reads.

    python -m recipe.asymgrpo.data procedural --out DIR --task chain_sum --train-size 2048 --val-size 1024 --seed 0

writes ``DIR/train.parquet`` and ``DIR/val.parquet``. The problems come from reasoning-gym, whose own scorer judges
the answers (``recipe/asymgrpo/reward/``): `chain_sum`, sums with one answer, or `countdown`, numbers to be added and
subtracted until they make a target, mostly in several ways. Needs ``reasoning-gym`` and ``pyarrow``
(``verl-asymgrpo[cpu]``).

    python -m recipe.asymgrpo.data prepare --out DIR                                      # from the Hugging Face hub
    python -m recipe.asymgrpo.data prepare --out DIR --local train=FILE --local math500=FILE         # without a hub

writes the paper's data (arXiv 2604.04894): the training problems of MATH and five evaluation sets, each as
``DIR/<set>.parquet``, and ``DIR/manifest.json`` with their sources, licences, row counts and sha256. A set that is
there already, as the manifest has it, is not fetched again. Needs ``pyarrow``, and ``datasets`` for the hub (verl
brings both).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipe.asymgrpo.reward import last_boxed

PROMPT_STYLES = ("short", "chat")
CHAT_INSTRUCTION = "Answer with the number only."


@dataclass(frozen=True)
class Level:
    """One difficulty: how many numbers are added or subtracted, and how many digits each has."""

    terms: int
    digits: int

    def __post_init__(self) -> None:
        if self.terms < 2 or self.digits < 1:
            raise ValueError(f"level {self}: needs at least 2 terms and 1 digit")

    def __str__(self) -> str:
        return f"{self.terms}x{self.digits}"

    @property
    def distinct(self) -> int:
        """How many different problems of `chain_sum` exist: every operand, every operator."""
        operands = 10 if self.digits == 1 else 9 * 10 ** (self.digits - 1)
        return operands**self.terms * 2 ** (self.terms - 1)


# Level -> its weight in the mix. Errors add up over the terms, so success rates spread over the whole range 0 to 1. Of
# two-term sums only 200 exist, which bounds their share.
DEFAULT_LEVELS: dict[Level, float] = {Level(2, 1): 1, Level(3, 1): 9, Level(4, 1): 10}
COUNTDOWN_LEVELS: dict[Level, float] = {Level(5, 1): 1}


def parse_levels(text: str) -> dict[Level, float]:
    """Read ``TERMSxDIGITS[:WEIGHT]`` items separated by commas, e.g. ``2x1:1,2x2:3``.

    Raises:
        ValueError: an item that cannot be read, a weight that is not positive and finite, or a level named twice.
    """
    levels: dict[Level, float] = {}
    for item in text.split(","):
        shape, _, weight_text = item.strip().partition(":")
        try:
            terms, digits = (int(part) for part in shape.split("x"))
            level, weight = Level(terms, digits), float(weight_text or 1)
        except ValueError as error:
            raise ValueError(f"levels: cannot read {item!r}, expected TERMSxDIGITS[:WEIGHT] such as 2x1:3") from error
        if not 0 < weight < float("inf"):
            raise ValueError(f"levels: the weight of {shape} is {weight_text}, must be positive")
        if level in levels:
            raise ValueError(f"levels: {shape} is named twice")
        levels[level] = weight
    return levels


def split_evenly(total: int, weights: Sequence[float]) -> list[int]:
    """`total` cut into whole parts proportional to `weights` (largest remainders get what rounding leaves)."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [int(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def chain_sum_entries(level: Level, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` reasoning-gym entries of one level, all different in their question text.

    Raises:
        ValueError: fewer than `count` different problems exist at this level.
    """
    if count > level.distinct:
        raise ValueError(
            f"level {level} has only {level.distinct} different problems but {count} were asked for: lower the sizes, "
            f"or its weight in --levels"
        )
    config = {
        "min_terms": level.terms,
        "max_terms": level.terms,
        "min_digits": level.digits,
        "max_digits": level.digits,
    }
    entries = _distinct_entries("chain_sum", level, seed, config, key=lambda entry: entry["question"])
    return list(itertools.islice(entries, count))


def countdown_entries(level: Level, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` reasoning-gym entries of one level of `countdown` with + and -, all different in numbers and target.

    Raises:
        ValueError: so many different problems do not turn up in a hundred times as many draws.
    """
    low = 1 if level.digits == 1 else 10 ** (level.digits - 1)
    config = {
        "min_numbers": level.terms,
        "max_numbers": level.terms,
        "min_value": low,
        "max_value": 10**level.digits - 1,
        "min_target": 1,
        "max_target": level.terms * 10**level.digits,
        "operators": ("+", "-"),
    }
    entries = _distinct_entries("countdown", level, seed, config, key=_countdown_key)
    found = list(itertools.islice(entries, count))
    if len(found) < count:
        raise ValueError(
            f"level {level} has about {len(found)} different problems but {count} were asked for: lower the sizes, or "
            f"its weight in --levels"
        )
    return found


def _countdown_key(entry: dict[str, Any]) -> tuple[int, ...]:
    return (*sorted(entry["metadata"]["numbers"]), entry["metadata"]["target"])


MOST_REPEATS = 2000  # draws in a row without a new problem: there are hardly any more


def _distinct_entries(
    task: str, level: Level, seed: int, config: dict[str, Any], key: Callable[[dict[str, Any]], Any]
) -> Iterator[dict[str, Any]]:
    """Entries of a task with different keys, until hardly any new one turns up."""
    from reasoning_gym import create_dataset

    # reasoning-gym draws entry i from seed + i, so seeds 0 and 1 would share all but one entry: spread them first.
    spread = int.from_bytes(hashlib.sha256(f"{task}/{level}/{seed}".encode()).digest()[:6], "big")
    dataset = create_dataset(task, seed=spread, **config)
    seen = set()
    last = 0
    for i in itertools.count():
        entry = dataset[i]
        if (found := key(entry)) not in seen:
            seen.add(found)
            last = i
            yield entry
        elif i - last > MOST_REPEATS:
            return


@dataclass(frozen=True)
class Task:
    """A procedural task: its difficulties, its entries, and how a prompt of each style is worded."""

    levels: Mapping[Level, float]
    entries: Callable[[Level, int, int], list[dict[str, Any]]]
    short: Callable[[Mapping[str, Any]], str]
    instruction: str


def expression_of(entry: Mapping[str, Any]) -> str:
    """The bare sum of a `chain_sum` entry as the short prompt has it, e.g. ``12-70=``."""
    return entry["metadata"]["expression"].replace(" ", "") + "="


def numbers_and_target_of(entry: Mapping[str, Any]) -> str:
    """The numbers and the target of a `countdown` entry as the short prompt has them, e.g. ``3 7 5=9=``."""
    return f"{' '.join(map(str, entry['metadata']['numbers']))}={entry['metadata']['target']}="


TASKS: dict[str, Task] = {
    "chain_sum": Task(DEFAULT_LEVELS, chain_sum_entries, expression_of, CHAT_INSTRUCTION),
    "countdown": Task(
        COUNTDOWN_LEVELS,
        countdown_entries,
        numbers_and_target_of,
        "Use only + and -, and use every number exactly once. Answer with the expression only.",
    ),
}


def prompt_of(entry: Mapping[str, Any], style: str, task: str = "chain_sum") -> list[dict[str, str]]:
    """The messages for an entry: the bare problem (`short`), or the question after an instruction (`chat`).

    The instruction is the system message: it replaces the template's own, which says nothing and costs tokens.
    """
    if style == "short":
        return [{"role": "user", "content": TASKS[task].short(entry)}]
    return [
        {"role": "system", "content": TASKS[task].instruction},
        {"role": "user", "content": entry["question"]},
    ]


Row = dict[str, Any]


def procedural_rows(
    *,
    train_size: int,
    val_size: int,
    seed: int = 0,
    levels: Mapping[Level, float] | None = None,
    prompt_style: str = "short",
    task: str = "chain_sum",
) -> dict[str, list[Row]]:
    """Rows of both splits in verl's layout, a deterministic function of the arguments.

    Both splits hold the levels in the same proportions, and no question occurs twice, within a split or across.

    Returns:
        ``{"train": rows, "val": rows}`` with ``train_size`` and ``val_size`` rows.

    Raises:
        ValueError: sizes that are not positive, more problems than exist, an unknown prompt style or task.
    """
    if train_size < 1 or val_size < 1:
        raise ValueError(f"train and val sizes must be at least 1, got {train_size} and {val_size}")
    if prompt_style not in PROMPT_STYLES:
        raise ValueError(f"unknown prompt style {prompt_style!r}: one of {', '.join(PROMPT_STYLES)}")
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: one of {', '.join(TASKS)}")
    levels = dict(levels or TASKS[task].levels)
    shares = {split: split_evenly(n, list(levels.values())) for split, n in (("train", train_size), ("val", val_size))}
    drawn: dict[str, list[tuple[Level, dict[str, Any]]]] = {"train": [], "val": []}
    for i, level in enumerate(levels):
        n_train, n_val = shares["train"][i], shares["val"][i]
        entries = TASKS[task].entries(level, n_train + n_val, seed)
        drawn["val"] += [(level, entry) for entry in entries[:n_val]]
        drawn["train"] += [(level, entry) for entry in entries[n_val:]]
    rows: dict[str, list[Row]] = {}
    for split, entries_of_split in drawn.items():
        random.Random(f"{seed}/{split}").shuffle(entries_of_split)
        rows[split] = [
            {
                "data_source": f"reasoning_gym/{task}",
                "prompt": prompt_of(entry, prompt_style, task),
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": entry["answer"]},
                "extra_info": {
                    "index": index,
                    "split": split,
                    "task": task,
                    "level": str(level),
                    "prompt_style": prompt_style,
                    # What the scorer needs to have its entry back; JSON, because metadata differs between tasks.
                    "question": entry["question"],
                    "metadata": json.dumps(entry["metadata"], sort_keys=True),
                },
            }
            for index, (level, entry) in enumerate(entries_of_split)
        ]
    shared = {row["extra_info"]["question"] for row in rows["train"]} & {
        row["extra_info"]["question"] for row in rows["val"]
    }
    if shared:
        raise AssertionError(f"{len(shared)} questions are in both splits, e.g. {min(shared)!r}")
    return rows


def write_parquet(splits: Mapping[str, Sequence[Mapping[str, Any]]], out: Path) -> dict[str, Path]:
    """Write each split to ``out/<split>.parquet``; a reader never sees a half-written file.

    Raises:
        OSError: `out` cannot be made or written to.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.mkdir(parents=True, exist_ok=True)
    paths = {split: out / f"{split}.parquet" for split in splits}
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as scratch:
        for split, rows in splits.items():
            pq.write_table(pa.Table.from_pylist(list(rows)), Path(scratch) / split)
        for split, path in paths.items():
            os.replace(Path(scratch) / split, path)
    return paths


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


class DataError(Exception):
    """The data cannot be prepared; the message says why and what to do."""


@dataclass
class Rejected:
    """A raw row that became no prompt."""

    set: str
    row: int
    reason: str
    text: str


def _first(raw: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def answer_of(raw: Mapping[str, Any]) -> str:
    """The expected answer of a raw row: its answer, several joined by commas, else the last box of its solution."""
    answer = _first(raw, _ANSWER)
    if isinstance(answer, (list, tuple)):
        answer = ", ".join(str(part).strip().strip("$") for part in answer)
    if answer is None:
        answer = last_boxed(raw.get("solution"))
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    return str(answer).strip().strip("$").strip()


def question_key(question: str) -> str:
    """What makes two questions the same: their letters, digits and signs, without case, spacing and dollars."""
    return "".join(character for character in question.casefold() if not character.isspace() and character not in "$,.")


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


def read_local(path: Path) -> list[dict[str, Any]]:
    """The rows of a parquet file, or of one with a JSON object on each line.

    Raises:
        DataError: it is missing, or a line cannot be read.
    """
    if not path.is_file():
        raise DataError(f"--local {path}: there is no such file")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            return pq.read_table(path).to_pylist()
        except Exception as error:
            raise DataError(f"--local {path}: not a parquet file ({error})") from error
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"--local {path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"--local {path}, line {number}: not a JSON object")
        rows.append(row)
    return rows


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


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
        _write_text(path, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return manifest


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"--local {path}: there is no such file")
    return path


def _write_text(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.writing")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def _replace_rejected(path: Path, name: str, rejected: Sequence[Rejected]) -> None:
    """Put the rejected rows of one set into the file, in place of those it had of that set."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    lines = [line for line in lines if json.loads(line)["set"] != name]
    lines += [json.dumps(asdict(row), ensure_ascii=False) for row in rejected]
    _write_text(path, "".join(line + "\n" for line in lines))


def parse_local(items: Sequence[str]) -> dict[str, Path]:
    """Read ``[NAME=]FILE`` items; a file without a name is the training set.

    Raises:
        DataError: an unknown name, or one named twice.
    """
    files: dict[str, Path] = {}
    for item in items:
        name, separator, file = item.partition("=")
        # A file may have a `=` in its path: only a name of a set before it counts.
        if not separator or "/" in name or "." in name:
            name, file = "train", item
        if name not in SETS:
            raise DataError(f"--local {item}: unknown set {name!r}; one of {', '.join(SETS)}")
        if name in files:
            raise DataError(f"--local: {name} is named twice")
        files[name] = Path(file)
    return files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipe.asymgrpo.data", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    procedural = commands.add_parser(
        "procedural",
        help="arithmetic made by reasoning-gym",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    procedural.add_argument("--out", type=Path, required=True, help="folder for train.parquet and val.parquet")
    procedural.add_argument("--task", choices=list(TASKS), default="chain_sum", help="reasoning-gym task")
    procedural.add_argument("--train-size", type=int, default=2048, help="training prompts")
    procedural.add_argument("--val-size", type=int, default=1024, help="held-out prompts")
    procedural.add_argument("--seed", type=int, default=0)
    procedural.add_argument(
        "--levels",
        help="difficulties as TERMSxDIGITS[:WEIGHT], comma-separated (default: "
        + " or ".join(
            ",".join(f"{level}:{weight:g}" for level, weight in task.levels.items()) for task in TASKS.values()
        )
        + ", by task)",
    )
    procedural.add_argument(
        "--prompt-style",
        choices=PROMPT_STYLES,
        default="short",
        help="short: the bare problem, `12-70=` or `3 7 5=9=`; chat: in words and with an instruction",
    )
    math = commands.add_parser("prepare", help="MATH and five evaluation sets, from the hub or from files")
    math.add_argument("--out", type=Path, required=True, help="folder for the parquet files and manifest.json")
    math.add_argument(
        "--local",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help=f"JSON lines or parquet from disk instead of the hub; NAME is one of {', '.join(SETS)} (default train). "
        "Repeat it for several; sets that are not named are not made",
    )
    math.add_argument("--force", action="store_true", help="make sets anew that are there already")
    return parser


def _procedural(args: argparse.Namespace) -> None:
    splits = procedural_rows(
        train_size=args.train_size,
        val_size=args.val_size,
        seed=args.seed,
        levels=parse_levels(args.levels) if args.levels else None,
        prompt_style=args.prompt_style,
        task=args.task,
    )
    for split, path in write_parquet(splits, args.out).items():
        print(f"{path}: {len(splits[split])} prompts, e.g. {splits[split][0]['prompt'][0]['content']!r}")


def _prepare(args: argparse.Namespace) -> None:
    sets = prepare(args.out, parse_local(args.local), args.force)["sets"]
    for entry in sets.values():
        rejected = "".join(f", {count} rejected: {reason}" for reason, count in sorted(entry["rejected"].items()))
        print(f"{args.out / entry['file']}: {entry['rows']} prompts from {entry['source']}{rejected}")
        if licence := entry.get("licence"):
            print(f"    licence: {licence}")
    if any(entry["rejected"] for entry in sets.values()):
        print(f"rejected rows: {args.out / REJECTED}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status (2 and one line on stderr for an error the user can mend)."""
    args = _parser().parse_args(argv)
    try:
        _procedural(args) if args.command == "procedural" else _prepare(args)
    except ModuleNotFoundError as error:
        print(f'error: {error.name} is missing: pip install "verl-asymgrpo[cpu]"', file=sys.stderr)
        return 2
    except (ValueError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write to --out {args.out}: {error}", file=sys.stderr)
        return 2
    return 0
