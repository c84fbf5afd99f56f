"""Prompts with verifiable answers, as the parquet files verl reads.

    python -m recipe.asymgrpo.data procedural --out DIR --task chain_sum --train-size 2048 --val-size 1024 --seed 0

writes ``DIR/train.parquet`` and ``DIR/val.parquet``. The problems come from reasoning-gym, whose own scorer judges
the answers (``recipe/asymgrpo/reward.py``). Needs ``reasoning-gym`` and ``pyarrow`` (``verl-asymgrpo[cpu]``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMPT_STYLES = ("short", "chat")
CHAT_INSTRUCTION = "Answer with the number only."


@dataclass(frozen=True)
class Level:
    """One difficulty of `chain_sum`: how many numbers are added or subtracted, and how many digits each has."""

    terms: int
    digits: int

    def __post_init__(self) -> None:
        if self.terms < 2 or self.digits < 1:
            raise ValueError(f"level {self}: needs at least 2 terms and 1 digit")

    def __str__(self) -> str:
        return f"{self.terms}x{self.digits}"

    @property
    def distinct(self) -> int:
        """How many different problems exist: every operand, every operator."""
        operands = 10 if self.digits == 1 else 9 * 10 ** (self.digits - 1)
        return operands**self.terms * 2 ** (self.terms - 1)


# Level -> its weight in the mix. Errors add up over the terms, so success rates spread over the whole range 0 to 1. Of
# two-term sums only 200 exist, which bounds their share.
DEFAULT_LEVELS: dict[Level, float] = {Level(2, 1): 1, Level(3, 1): 9, Level(4, 1): 10}


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
    if count == 0:
        return []
    from reasoning_gym import create_dataset

    # reasoning-gym draws entry i from seed + i, so seeds 0 and 1 would share all but one entry: spread them first.
    spread = int.from_bytes(hashlib.sha256(f"chain_sum/{level}/{seed}".encode()).digest()[:6], "big")
    dataset = create_dataset(
        "chain_sum",
        min_terms=level.terms,
        max_terms=level.terms,
        min_digits=level.digits,
        max_digits=level.digits,
        seed=spread,
    )
    by_question: dict[str, dict[str, Any]] = {}
    i = 0
    while len(by_question) < count:
        entry = dataset[i]
        by_question.setdefault(entry["question"], entry)
        i += 1
    return list(by_question.values())


def expression_of(entry: Mapping[str, Any]) -> str:
    """The bare sum of a `chain_sum` entry as the short prompt has it, e.g. ``12-70=``."""
    return entry["metadata"]["expression"].replace(" ", "") + "="


def prompt_of(entry: Mapping[str, Any], style: str) -> str:
    """The user message for an entry: the bare sum (`short`) or the question with an instruction (`chat`)."""
    return expression_of(entry) if style == "short" else f"{entry['question']}\n{CHAT_INSTRUCTION}"


Row = dict[str, Any]


def procedural_rows(
    *,
    train_size: int,
    val_size: int,
    seed: int = 0,
    levels: Mapping[Level, float] | None = None,
    prompt_style: str = "short",
) -> dict[str, list[Row]]:
    """Rows of both splits in verl's layout, a deterministic function of the arguments.

    Both splits hold the levels in the same proportions, and no question occurs twice, within a split or across.

    Returns:
        ``{"train": rows, "val": rows}`` with ``train_size`` and ``val_size`` rows.

    Raises:
        ValueError: sizes that are not positive, more problems than exist, or an unknown prompt style.
    """
    if train_size < 1 or val_size < 1:
        raise ValueError(f"train and val sizes must be at least 1, got {train_size} and {val_size}")
    if prompt_style not in PROMPT_STYLES:
        raise ValueError(f"unknown prompt style {prompt_style!r}: one of {', '.join(PROMPT_STYLES)}")
    levels = dict(levels or DEFAULT_LEVELS)
    shares = {split: split_evenly(n, list(levels.values())) for split, n in (("train", train_size), ("val", val_size))}
    drawn: dict[str, list[tuple[Level, dict[str, Any]]]] = {"train": [], "val": []}
    for i, level in enumerate(levels):
        n_train, n_val = shares["train"][i], shares["val"][i]
        entries = chain_sum_entries(level, n_train + n_val, seed)
        drawn["val"] += [(level, entry) for entry in entries[:n_val]]
        drawn["train"] += [(level, entry) for entry in entries[n_val:]]
    rows: dict[str, list[Row]] = {}
    for split, entries_of_split in drawn.items():
        random.Random(f"{seed}/{split}").shuffle(entries_of_split)
        rows[split] = [
            {
                "data_source": "reasoning_gym/chain_sum",
                "prompt": [{"role": "user", "content": prompt_of(entry, prompt_style)}],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": entry["answer"]},
                "extra_info": {
                    "index": index,
                    "split": split,
                    "task": "chain_sum",
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipe.asymgrpo.data", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    procedural = commands.add_parser(
        "procedural",
        help="arithmetic made by reasoning-gym",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    procedural.add_argument("--out", type=Path, required=True, help="folder for train.parquet and val.parquet")
    procedural.add_argument("--task", choices=["chain_sum"], default="chain_sum", help="reasoning-gym task")
    procedural.add_argument("--train-size", type=int, default=2048, help="training prompts")
    procedural.add_argument("--val-size", type=int, default=1024, help="held-out prompts")
    procedural.add_argument("--seed", type=int, default=0)
    procedural.add_argument(
        "--levels",
        default=",".join(f"{level}:{weight:g}" for level, weight in DEFAULT_LEVELS.items()),
        help="difficulties as TERMSxDIGITS[:WEIGHT], comma-separated",
    )
    procedural.add_argument(
        "--prompt-style",
        choices=PROMPT_STYLES,
        default="short",
        help="short: the bare sum `12-70=`; chat: the question in words with an instruction, for a language model",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status (2 and one line on stderr for an error the user can mend)."""
    args = _parser().parse_args(argv)
    try:
        splits = procedural_rows(
            train_size=args.train_size,
            val_size=args.val_size,
            seed=args.seed,
            levels=parse_levels(args.levels),
            prompt_style=args.prompt_style,
        )
        paths = write_parquet(splits, args.out)
    except ModuleNotFoundError as error:
        print(f'error: {error.name} is missing: pip install "verl-asymgrpo[cpu]"', file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write to --out {args.out}: {error}", file=sys.stderr)
        return 2
    for split, path in paths.items():
        print(f"{path}: {len(splits[split])} prompts, e.g. {splits[split][0]['prompt'][0]['content']!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
