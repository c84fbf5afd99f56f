"""Reading raw files, and writing ours whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""A prompt in verl's layout."""


class DataError(Exception):
    """The data cannot be prepared; the message says why and what to do."""


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


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.writing")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
