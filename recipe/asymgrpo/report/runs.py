"""Reads training runs back from what verl's loggers wrote: JSON lines, TensorBoard event files, offline wandb folders.

Logs are taken as they are found: cut off in the middle of a line, with NaN, written by something else. What cannot be
used is counted in a run's notes; only a path without any training step is an error.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipe.asymgrpo.pass_at_k import Dump, ks_up_to, mean_pass_at_k, step_files

USED = re.compile(
    r"asymgrpo/|actor/(positive|negative)/|val-core/.+/mean@\d+$|actor/(entropy|lr|pg_clipfrac|grad_norm)$"
    r"|critic/score/mean$|response_length/(mean|clip_ratio)$|training/rollout_probs_diff_max$"
)
"""The metrics that are kept; a record of verl has a hundred."""

SEED = re.compile(r"[-_.]?seed[-_=]?(\d+)$", re.IGNORECASE)

# What tells two runs of one method apart, or where they were run: no difference of configuration.
IDENTITY = re.compile(
    r"(^|\.)(seed|data_loader_seed|experiment_name|project_name|default_local_dir|rollout_data_dir|validation_data_dir"
    r"|logger|default_hdfs_dir|resume_mode|resume_from_path|log_dir|save_path|tensorboard_dir)$|^ray_kwargs\.|^hydra\."
)


class NoRunError(ValueError):
    """A path holds no training run; the message says what was found instead."""


@dataclass
class Run:
    """One training."""

    name: str
    path: Path
    series: dict[str, dict[int, float]] = field(default_factory=dict)
    """By metric: value by step."""
    config: dict[str, Any] | None = None
    """verl's composed configuration, dotted; None where it was not found."""
    notes: list[str] = field(default_factory=list)
    """What could not be used, in words."""
    validation: dict[int, Path] = field(default_factory=dict)
    """verl's dumps of validation generations by step."""

    @property
    def method(self) -> str:
        return SEED.sub("", self.name) or self.name

    @property
    def steps(self) -> list[int]:
        """Training steps; validation before the first one is step 0."""
        return sorted({step for key, curve in self.series.items() if not key.startswith("val-") for step in curve})

    def __getitem__(self, key: str) -> dict[int, float]:
        return self.series.get(key, {})


class _Log:
    """Collects the values of one run, and what was wrong with the rest."""

    def __init__(self) -> None:
        self.series: dict[str, dict[int, float]] = defaultdict(dict)
        self.not_finite: Counter[str] = Counter()
        self.bad_lines: Counter[str] = Counter()
        self.name = ""

    def add(self, step: int, data: Iterable[tuple[str, Any]]) -> None:
        for key, value in data:
            if not USED.match(key):
                continue
            if isinstance(value, bool) or not (value is None or isinstance(value, (int, float))):
                continue
            try:
                number = math.nan if value is None else float(value)  # verl's file logger writes NaN as null
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                self.series[key][step] = number
            else:
                self.not_finite[key] += 1

    def notes(self) -> list[str]:
        found = [f"{number} {kind} skipped" for kind, number in self.bad_lines.items()]
        if self.not_finite:
            keys = ", ".join(f"{key} at {n} step{'s' * (n > 1)}" for key, n in sorted(self.not_finite.items())[:5])
            more = f" and {len(self.not_finite) - 5} more" if len(self.not_finite) > 5 else ""
            found.append(f"not finite and left out: {keys}{more}")
        return found


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read every run at the given paths.

    Args:
        paths: a run folder, a log file, or a folder of either.

    Returns:
        The runs, and a message for each path that has none.
    """
    runs: list[Run] = []
    problems: list[str] = []
    for path in paths:
        places = list(_places(path))
        if not places:
            problems.append(_nothing_at(path))
        found = []
        for place in places:
            try:
                found.append(read_run(place))
            except NoRunError as error:
                problems.append(str(error))
        runs += found
    seen: Counter[str] = Counter()
    for run in runs:
        seen[run.name] += 1
        if seen[run.name] > 1:
            run.name = SEED.sub("", run.name) + f" ({seen[run.name]})" + (m[0] if (m := SEED.search(run.name)) else "")
    return runs, problems


def _places(path: Path) -> Iterator[Path]:
    """Every run at a path: itself, or what lies directly below it."""
    if path.is_file() or _is_run_folder(path):
        yield path
    elif path.is_dir():
        yield from _wandb_files(path)
        below = sorted(path.iterdir())
        yield from (p for p in below if p.suffix == ".jsonl" or (p.is_dir() and _is_run_folder(p)))


def _is_run_folder(path: Path) -> bool:
    """Several ids of wandb are several runs; several files with one id are one run that was resumed."""
    one_run = len({file.stem for file in _wandb_files(path)}) == 1
    return any(path.glob("metrics-*.jsonl")) or any(_event_files(path)) or one_run


def _event_files(path: Path) -> list[Path]:
    return sorted(path.glob("events.out.tfevents.*")) + sorted(path.glob("tensorboard*/**/events.out.tfevents.*"))


def _wandb_files(path: Path) -> list[Path]:
    return [
        file for form in ("run-*.wandb", "*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb") for file in path.glob(form)
    ]


def _nothing_at(path: Path) -> str:
    if not path.exists():
        return f"{path}: does not exist."
    return (
        f"{path}: no run in it. A run is a folder with metrics-*.jsonl (the quickstart), a .jsonl file of verl's "
        "logger `file`, TensorBoard event files, or an offline folder of wandb."
    )


def read_run(path: Path) -> Run:
    """Read one run; of several logs of it, the first kind that has steps counts.

    Raises:
        NoRunError: there is no training or validation step in it.
    """
    log = _Log()
    config = None
    if path.is_dir():
        for reader, files in (
            (_read_json_lines, sorted(path.glob("metrics-*.jsonl"))),
            (_read_events, _event_files(path)),
            (_read_wandb, sorted(_wandb_files(path))),
        ):
            log.name = ""
            for file in files:  # one file a start; where a resumed run repeated a step, the later start counts
                config = reader(file, log) or config
            if log.series:
                break
        config = _hydra_config(path) or config
    elif "tfevents" in path.name:
        _read_events(path, log)
    elif path.suffix == ".wandb":
        config = _read_wandb(path, log)
    else:
        _read_json_lines(path, log)
    if not log.series:
        why = "; ".join(log.notes()) or "it is empty"
        raise NoRunError(f"{path}: no training step of verl in it ({why}).")

    run = Run(log.name or (path.name if path.is_dir() else path.stem), path, dict(log.series), config, log.notes())
    folder = path if path.is_dir() else path.parent
    given = (config or {}).get("trainer.validation_data_dir"), (config or {}).get("trainer.rollout_data_dir")
    run.validation, rollouts = (
        # The folder may have moved since, but not within the run's own.
        step_files(folder / name)
        if path.is_dir() and (folder / name).is_dir()
        else step_files(Path(value or "/nowhere"))
        for name, value in zip(("validation", "rollouts"), given, strict=True)
    )
    if "asymgrpo/none_solved" not in run.series and rollouts:
        _from_rollouts(run, rollouts)
    return run


def _read_json_lines(path: Path, log: _Log) -> None:
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


def _read_events(path: Path, log: _Log) -> None:
    """verl's logger `tensorboard`."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
        from tensorboard.util import tensor_util
    except ImportError:
        raise NoRunError(f"{path}: reading it needs TensorBoard: pip install tensorboard.") from None
    try:
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                if kind in ("simple_value", "tensor"):
                    number = value.simple_value if kind == "simple_value" else tensor_util.make_ndarray(value.tensor)
                    log.add(event.step, [(value.tag, float(number))])
    except Exception as error:  # TensorBoard raises what its record reader happens to raise
        log.bad_lines[f"rest of {path.name} ({type(error).__name__})"] += 1


def _read_wandb(path: Path, log: _Log) -> dict[str, Any] | None:
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


def _hydra_config(folder: Path) -> dict[str, Any] | None:
    """The composed configuration that Hydra saved below a run folder."""
    for place in (folder, folder / "hydra"):
        file = place / ".hydra" / "config.yaml"
        if file.is_file():
            try:
                import yaml

                loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
                config = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
            except (ImportError, OSError, ValueError, yaml.YAMLError):
                return None
            return flatten(config) if isinstance(config, dict) else None
    return None


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _from_rollouts(run: Run, files: dict[int, Path]) -> None:
    """Group metrics of a run without our estimator, from the rollouts that verl dumped."""
    failed = 0
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for step, file in files.items():
        try:
            groups = Dump(file).groups
        except (OSError, ValueError):
            failed += 1
            continue
        total = sum(groups.values())
        figures = {
            "groups": float(total),
            "none_solved": sum(number for (_, c), number in groups.items() if c == 0) / total,
            "all_solved": sum(number for (n, c), number in groups.items() if c == n) / total,
            "group_accuracy": sum(number * c / n for (n, c), number in groups.items()) / total,
        }
        for i, name in enumerate(("0_20", "20_40", "40_60", "60_80", "80_100")):
            figures[f"p_hist/{name}"] = sum(k for (n, c), k in groups.items() if min(5 * c // n, 4) == i) / total
        for k in ks_up_to(max(n for n, _ in groups)):
            figures[f"pass_at/{k}"] = mean_pass_at_k(groups, k) or 0.0
        for name, value in figures.items():
            curves[f"asymgrpo/{name}"][step] = value
    run.series |= curves
    run.notes.append("group figures are counted from verl's rollout dumps (score above 0.5)")
    if failed:
        run.notes.append(f"{failed} rollout dumps could not be read")
