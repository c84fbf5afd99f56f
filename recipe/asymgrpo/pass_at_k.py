"""Unbiased pass@k from the generations that verl dumps.

    python -m recipe.asymgrpo.pass_at_k outputs/quickstart/small/asymgrpo-seed1/validation/40.jsonl [--k 1 2 4]

A file is one step of verl's `trainer.validation_data_dir` (or `trainer.rollout_data_dir`); a folder means all of them.
Of n samples of a problem, c solved, pass@k is estimated by 1 - C(n-c, k) / C(n, k) (arXiv 2107.03374): the chance that
k of them, drawn without replacement, contain a solution. verl's own best@N draws with replacement and is lower.

A problem is what the `uid` says. The legacy trainer's dumps have none: there it is the text of the prompt and the
ground truth, and one that stands twice in the data has twice the samples. It is said where problems do.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

Problem = tuple[str, ...]
"""The `uid` of a problem; without one its text and its ground truth, since one text may want two answers."""


@lru_cache(maxsize=65536)
def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n-c, k) / C(n, k).

    Raises:
        ValueError: not 1 <= k <= n, or not 0 <= c <= n.
    """
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n and 0 <= c <= n; got n={n}, c={c}, k={k}.")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def ks_up_to(n: int) -> list[int]:
    """1, 2, 4, ... up to n, and n itself."""
    return sorted({1 << i for i in range(n.bit_length())} | {n}) if n else []


def mean_pass_at_k(groups: Counter[tuple[int, int]], k: int) -> float | None:
    """Mean over problems of pass@k; None where no problem has k samples.

    Args:
        groups: how many problems have (n samples, c solved).
    """
    enough = {pair: number for pair, number in groups.items() if pair[0] >= k}
    total = sum(enough.values())
    return sum(number * pass_at_k(*pair, k) for pair, number in enough.items()) / total if total else None


PADDING = re.compile(r"pad[0-9a-f]{32}_\d+_\d+")
"""`uid` of the rows with which V1 fills a batch up; it dumps them with the others."""


class Dump:
    """One file of verl's generation dumps: JSON lines of `input`, `output`, `gts`, `score`, `step` and, from V1, `uid`
    (``{problem}_{sample}_{turn}``).

    Args:
        path: the file.
        threshold: solved means `acc` (the reward function's, where there is one) or else `score` above this.

    Raises:
        ValueError: the file has no line of this form.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, threshold: float = 0.5):
        self.path, self.skipped = path, 0
        samples: dict[tuple[str, Problem], dict[str, bool]] = defaultdict(dict)
        texts: dict[tuple[str, Problem], Problem] = {}
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file):
                try:
                    row = json.loads(line)
                    if isinstance(row, dict) and PADDING.fullmatch(str(row.get("uid"))):
                        continue
                    problem, sample, solved = _sample(row, number, threshold)
                    text = _text(row) if row.get("input") else None
                except (ValueError, KeyError, TypeError, RecursionError):
                    self.skipped += bool(line.strip())
                    continue
                key = str(row.get("set", "")), problem
                samples[key][sample] = solved
                if text:
                    texts.setdefault(key, text)  # of a conversation, the first turn's
        if not samples:
            raise ValueError(f"{path}: no generation in it; expected verl's JSON lines with `input` and `score`.")
        self.sets: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
        """Data set -> how many problems have (n samples, c solved); "" where the reward function names no `set`."""
        for (name, _), verdicts in samples.items():
            self.sets[name][len(verdicts), sum(verdicts.values())] += 1
        self.groups: Counter[tuple[int, int]] = sum(self.sets.values(), Counter())
        """The same over all sets."""
        self.twice: Counter[str] = Counter()
        """Data set -> how many problems stand in it more than once: one text and ground truth with several `uid`, or,
        without `uid`, twice the samples that most problems have."""
        for (name, _), number in Counter((key[0], text) for key, text in texts.items()).items():
            self.twice[name] += number > 1
        counts = {name: [n for n, _ in groups.elements()] for name, groups in self.sets.items()}
        usual = {name: min(statistics.multimode(numbers)) for name, numbers in counts.items()}
        for (name, problem), verdicts in samples.items():
            self.twice[name] += len(problem) > 1 and len(verdicts) >= 2 * usual[name]

    @property
    def samples(self) -> int:
        """The smallest number of samples that a problem has: pass@k covers all problems up to this k."""
        return min(n for n, _ in self.groups)


def _text(row: dict[str, Any]) -> Problem:
    return str(row["input"]), json.dumps(row.get("gts"), sort_keys=True)


def _sample(row: Any, number: int, threshold: float) -> tuple[Problem, str, bool]:
    """Problem, sample, solved. Of a conversation with several rows a sample, the last row counts."""
    if not isinstance(row, dict):
        raise ValueError
    score = row["acc"] if "acc" in row else row["score"]
    if not isinstance(score, (int, float)) or not math.isfinite(score):
        raise ValueError
    parts = str(row["uid"]).rsplit("_", 2) if "uid" in row else []
    if len(parts) == 3:
        return (parts[0],), parts[1], score > threshold
    return _text(row), str(number), score > threshold


def step_files(folder: Path) -> dict[int, Path]:
    """The dumps of a folder by step."""
    return {int(path.stem): path for path in sorted(folder.glob("*.jsonl")) if path.stem.isdigit()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.asymgrpo.pass_at_k", description="Unbiased pass@k from verl's generation dumps."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="DUMP", help="STEP.jsonl, or a folder of them")
    parser.add_argument("--k", nargs="+", type=int, help="default: 1, 2, 4, ... up to the samples of a problem")
    parser.add_argument("--threshold", type=float, default=0.5, help="solved means a score above this (default 0.5)")
    options = parser.parse_args(arguments)
    if options.k and min(options.k) < 1:
        parser.error("--k: 1 or more")

    status = 0
    for path in options.paths:
        files = list(dict(sorted(step_files(path).items())).values()) if path.is_dir() else [path]
        if not files:
            print(f"{path}: no STEP.jsonl in it; is it verl's trainer.validation_data_dir?", file=sys.stderr)
            status = 1
        for file in files:
            try:
                print("\n".join(describe(Dump(file, options.threshold), options.k)))
            except (OSError, ValueError) as error:
                print(error, file=sys.stderr)
                status = 1
    return status


def describe(dump: Dump, ks: Sequence[int] | None = None) -> list[str]:
    """A line of text for each data set of a dump: pass@k, ± the standard error over problems."""
    lines = []
    for name, groups in sorted(dump.sets.items()):
        remarks = [f"{dump.skipped} lines skipped"] if dump.skipped else []
        if twice := dump.twice[name]:
            remarks.append(f"{twice} more than once in the data")
        remark = f" ({', '.join(remarks)})" if remarks else ""
        cells = []
        for k in sorted(set(ks)) if ks else ks_up_to(min(n for n, _ in groups)):
            values = [pass_at_k(n, c, k) for (n, c), number in groups.items() if n >= k for _ in range(number)]
            if not values:
                cells.append(f"pass@{k} needs {k} samples a problem")
                continue
            error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
            cells.append(f"pass@{k} {statistics.fmean(values):.3f}{error}")
        label = f"{dump.path} {name}".rstrip()
        lines.append(f"{label}: {sum(groups.values())} problems{remark}  " + "  ".join(cells))
    return lines


if __name__ == "__main__":
    sys.exit(main())
