"""Readers of what verl's loggers write: JSON lines, TensorBoard event files, offline wandb folders.

Logs are taken as they are found: cut off in the middle of a line, with NaN, written by something else. What cannot be
used is counted; only a file that cannot be read at all is an error.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Series = dict[str, dict[int, float]]
"""By metric: value by step."""

USED = re.compile(
    r"asymgrpo/|actor/(positive|negative)/|val-core/.+/mean@\d+$|actor/(entropy|lr|pg_clipfrac|grad_norm)$"
    r"|critic/score/mean$|response_length/(mean|clip_ratio)$|training/rollout_probs_diff_max$"
)
"""The metrics that are kept; a record of verl has a hundred."""


class NoRunError(ValueError):
    """A path holds no training run; the message says what was found instead."""


def is_validation(key: str) -> bool:
    """Validation is logged at the step of the policy that it measures, so also before a start's first training step."""
    return key.startswith("val-")


class Log:
    """Collects the records of one run, start by start, and what was wrong with the rest.

    A start that trains from step s on takes the place of all that earlier starts logged from s on, also beyond its own
    last step: those were abandoned, no later step builds on them. (TensorBoard drops them by the same rule.)
    """

    def __init__(self) -> None:
        self.name = ""
        self.bad_lines: Counter[str] = Counter()
        self._starts: list[Series] = []
        self._last = -math.inf

    def start(self) -> None:
        """What is added from here on was logged by a new process."""
        self._starts.append(defaultdict(dict))
        self._last = -math.inf

    def add(self, step: int, data: Iterable[tuple[str, Any]]) -> None:
        """Add a record: all that is logged at once for a step. One that goes back in training begins a new start."""
        record: dict[str, float] = {}
        for key, value in data:
            if not USED.match(key):
                continue
            if isinstance(value, bool) or not (value is None or isinstance(value, (int, float))):
                continue
            try:
                record[key] = math.nan if value is None else float(value)  # verl's file logger writes NaN as null
            except OverflowError:
                record[key] = math.inf
        if not all(map(is_validation, record)):
            if step < self._last or not self._starts:
                self.start()
            self._last = step
        elif record and not self._starts:
            self.start()
        for key, number in record.items():
            self._starts[-1][key][step] = number

    def series(self) -> tuple[Series, list[str]]:
        """What counts, and notes on what does not, in words."""
        merged: Series = defaultdict(dict)
        abandoned: set[int] = set()
        for start in self._starts:
            trained = _training_steps(start)
            if trained:
                lost = {step for step in _training_steps(merged) if step >= min(trained)}
                abandoned |= lost
                for key, curve in merged.items():
                    merged[key] = {step: value for step, value in curve.items() if step < min(trained)}
            for key, curve in start.items():
                merged[key] |= curve
        last = max(_training_steps(merged), default=-math.inf)
        notes = [f"{number} {kind} skipped" for kind, number in self.bad_lines.items()]
        if beyond := sorted(step for step in abandoned if step > last):
            span = f"step {beyond[0]}" if len(beyond) == 1 else f"steps {beyond[0]} to {beyond[-1]}"
            notes.append(f"{span} of an abandoned start left out: the training resumed from an earlier checkpoint")
        finite = {key: {s: v for s, v in curve.items() if math.isfinite(v)} for key, curve in merged.items()}
        missing = {key: n for key, curve in sorted(merged.items()) if (n := len(curve) - len(finite[key]))}
        if missing:
            keys = ", ".join(f"{key} at {n} step{'s' * (n > 1)}" for key, n in list(missing.items())[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            notes.append(f"not finite and left out: {keys}{more}")
        return {key: curve for key, curve in finite.items() if curve}, notes


Sources = list[tuple[Callable[[Path, Log], dict[str, Any] | None], list[Path]]]
"""Readers, which may find the run's configuration too, and the files for them."""


def _training_steps(series: Series) -> set[int]:
    return {step for key, curve in series.items() if not is_validation(key) for step in curve}


def sources(path: Path) -> Sources:
    """The logs of a run folder or a log file by kind, each in the order in which they were written."""
    if path.is_dir():
        return [
            (read_json_lines, sorted(path.glob("metrics-*.jsonl"))),
            (read_events, _only(event_files(path))),
            (read_wandb, _only(wandb_files(path))),
        ]
    if "tfevents" in path.name:
        return [(read_events, [path])]
    return [(read_wandb if path.suffix == ".wandb" else read_json_lines, [path])]


def _only(runs: Mapping[Any, list[Path]]) -> list[Path]:
    """The files of the one run that there is; of several none can be told to be the folder's own."""
    return next(iter(runs.values())) if len(runs) == 1 else []


def event_files(path: Path) -> dict[Path, list[Path]]:
    """TensorBoard's files at a folder by the folder of their run, each in the order of its starts.

    verl writes them to ``tensorboard_log/PROJECT/EXPERIMENT`` or to TENSORBOARD_DIR. A start writes one, named by time.
    """
    found: dict[Path, list[Path]] = defaultdict(list)
    own = list(path.glob("events.out.tfevents.*"))
    for file in sorted(own or path.glob("tensorboard*/**/events.out.tfevents.*")):
        found[file.parent].append(file)
    return found


def wandb_files(path: Path) -> dict[str, list[Path]]:
    """wandb's files at a folder by the id of their run, each in the order of its starts.

    A start writes ``run-TIME-ID/run-ID.wandb``, offline ``offline-run-TIME-ID/run-ID.wandb``.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for form in ("run-*.wandb", "*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb"):
        for file in path.glob(form):
            found[file.stem].append(file)
    return {
        name: sorted(files, key=lambda file: (file.parent.name.partition("run-")[2], file))
        for name, files in sorted(found.items())
    }


def read_json_lines(path: Path, log: Log) -> None:
    """verl's logger `file`: ``{"step": 1, "data": {"actor/entropy": 0.5}}`` a line."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise NoRunError(f"{path}: cannot be read: {error.strerror}.") from None
    for line in text.splitlines(keepends=True):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            # A running training may be in the middle of its last line.
            log.bad_lines["lines that are not JSON" if line.endswith(b"\n") else "incomplete last lines"] += 1
            continue
        step, data = (record.get("step"), record.get("data")) if isinstance(record, dict) else (None, None)
        if type(step) is int and isinstance(data, dict):
            log.add(step, data.items())
        else:
            log.bad_lines["lines that are not a record of verl"] += 1


def read_events(path: Path, log: Log) -> None:
    """verl's logger `tensorboard`."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
        from tensorboard.util import tensor_util
    except ImportError:
        raise NoRunError(f"{path}: reading it needs TensorBoard: pip install tensorboard.") from None
    step, record = 0, dict[str, float]()
    try:
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                if kind not in ("simple_value", "tensor") or not USED.match(value.tag):
                    continue
                if event.step != step:  # one event a metric: those of a step are its record
                    log.add(step, record.items())
                    step, record = event.step, {}
                number = value.simple_value if kind == "simple_value" else tensor_util.make_ndarray(value.tensor)
                record[value.tag] = float(number)
    except Exception as error:  # TensorBoard raises what its record reader happens to raise
        log.bad_lines[f"rest of {path.name} ({type(error).__name__})"] += 1
    log.add(step, record.items())


def read_wandb(path: Path, log: Log) -> dict[str, Any] | None:
    """verl's logger `wandb` in offline mode: the records of a `run-ID.wandb` file.

    Returns the run's configuration if the file has it.
    """
    try:
        from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]
    except ImportError:
        raise NoRunError(f"{path}: reading it needs wandb: pip install wandb.") from None
    config: dict[str, Any] = {}
    try:
        for data in _wandb_records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                log.name = record.run.display_name
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                items = [("/".join(item.nested_key) or item.key, item.value_json) for item in record.history.item]
                values = {key: json.loads(text) for key, text in items if USED.match(key) or key == "_step"}
                log.add(int(values.pop("_step", record.history.step.num)), values.items())
    except Exception as error:  # a file that is still being written, or none of wandb's
        log.bad_lines[f"rest of {path.name} ({error})"] += 1
    return flatten(config) or None


def _wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of wandb's log: LevelDB's format, blocks of 32 KiB, each record in one or more pieces."""
    if data[:4] != b":W&B":
        raise ValueError("not a wandb log")
    block, offset, parts = 32768, 7, b""
    while offset + 7 <= len(data):
        left = block - offset % block
        if left < 7:
            offset += left
            continue
        _, length, piece = struct.unpack_from("<IHB", data, offset)
        if piece == 0:  # the rest of the block is empty
            offset += left
            continue
        parts += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if offset > len(data):
            raise ValueError("cut off")
        if piece in (1, 4):  # a whole record, or the last piece of one
            yield parts
            parts = b""


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
