"""Reading raw files, and writing ours whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
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


class ParquetRows(Collection[Row]):
    """The rows of a parquet file, a batch in memory at a time: DAPO's file has 1.8 million."""

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self._path = path
        with pq.ParquetFile(path) as file:
            self._rows = file.metadata.num_rows

    def __len__(self) -> int:
        return self._rows

    def __contains__(self, row: object) -> bool:
        return any(row == other for other in self)

    def __iter__(self) -> Iterator[Row]:
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(batch_size=8192):
                    yield from batch.to_pylist()
        except Exception as error:
            raise DataError(f"--local {self._path}: a damaged parquet file ({error})") from error


def read_local(path: Path) -> Collection[Row]:
    """The rows of a parquet or CSV file, of a JSON array, or of a file with a JSON object on each line.

    Raises:
        DataError: it is missing, or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"--local {path}: there is no such file")
    if path.suffix == ".parquet":
        try:
            return ParquetRows(path)
        except Exception as error:
            raise DataError(f"--local {path}: not a parquet file ({error})") from error
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        remedy = f"iconv -f cp1252 -t utf-8 {path.name}, or whatever its encoding is"
        raise DataError(f"--local {path}: not UTF-8 at byte {error.start}: {remedy}") from error
    if path.suffix == ".csv":
        return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"--local {path}: not a JSON array ({error})") from error
    else:
        rows = list(_json_lines(path, text))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"--local {path}, line {number}: not a JSON object")
    return rows


def _json_lines(path: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a text may have U+2028 in it
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            hint = "; a file of JSON has one object on each line, or is an array" if line.strip() == "{" else ""
            raise DataError(f"--local {path}, line {number}: not JSON ({error}){hint}") from error


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.writing")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
