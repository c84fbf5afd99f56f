"""Training runs, read back from their logs, the configuration that Hydra saved, and verl's dumps beside them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipe.asymgrpo.pass_at_k import Dump, ks_up_to, mean_pass_at_k, step_files
from recipe.asymgrpo.report.logs import (
    Log,
    NoRunError,
    Series,
    Sources,
    event_files,
    flatten,
    is_validation,
    read_events,
    read_wandb,
    sources,
    wandb_files,
)

__all__ = ["NoRunError", "Run", "find_runs", "read_run"]

SEED = re.compile(r"[-_.]?seed[-_=]?(\d+)$", re.IGNORECASE)

# What tells two runs of one method apart, or where they were run: no difference of configuration.
IDENTITY = re.compile(
    r"(^|\.)(seed|data_loader_seed|experiment_name|project_name|default_local_dir|rollout_data_dir|validation_data_dir"
    r"|logger|default_hdfs_dir|resume_mode|resume_from_path|log_dir|save_path|tensorboard_dir)$|^ray_kwargs\.|^hydra\."
)


@dataclass
class Run:
    """One training."""

    name: str
    path: Path
    series: Series = field(default_factory=dict)
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
        return sorted({step for key, curve in self.series.items() if not is_validation(key) for step in curve})

    @property
    def filtered(self) -> bool:
        """Whether groups were left out before their figures were taken (DAPO)."""
        return any(key.startswith("asymgrpo/kept/") for key in self.series) or bool(
            (self.config or {}).get("algorithm.filter_groups.enable")
        )

    def __getitem__(self, key: str) -> dict[int, float]:
        return self.series.get(key, {})


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
        for place, logs in places:
            try:
                found.append(_read(place, logs))
            except NoRunError as error:
                problems.append(str(error))
        runs += found
    seen: Counter[str] = Counter()
    for run in runs:
        seen[run.name] += 1
        if seen[run.name] > 1:
            run.name = SEED.sub("", run.name) + f" ({seen[run.name]})" + (m[0] if (m := SEED.search(run.name)) else "")
    return runs, problems


def _places(path: Path) -> Iterator[tuple[Path, Sources]]:
    """Every run at a path, with its logs: itself, or what lies directly below it."""
    if path.is_file() or _is_run_folder(path):
        yield path, sources(path)
    elif path.is_dir():
        for folder, files in event_files(path).items():
            yield folder, [(read_events, files)]
        by_id = wandb_files(path)
        for files in by_id.values():
            yield files[-1], [(read_wandb, files)]
        taken = {file.parent for files in by_id.values() for file in files}
        for below in sorted(path.iterdir()):
            if below.suffix == ".jsonl" or (below.is_dir() and below not in taken and _is_run_folder(below)):
                yield below, sources(below)


def _is_run_folder(path: Path) -> bool:
    """Several folders of TensorBoard, or ids of wandb, are several runs; several files of one are a run's starts."""
    return any(path.glob("metrics-*.jsonl")) or len(event_files(path)) == 1 or len(wandb_files(path)) == 1


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
    return _read(path, sources(path))


def _read(path: Path, logs: Sources) -> Run:
    log = Log()
    series: Series = {}
    notes: list[str] = []
    config = None
    for reader, files in logs:
        log.name = ""
        for file in files:
            log.start()
            config = reader(file, log) or config
        series, notes = log.series()
        if series:
            break
    if path.is_dir():
        config = _hydra_config(path) or config
    if not series:
        why = "; ".join(notes) or "it is empty"
        raise NoRunError(f"{path}: no training step of verl in it ({why}).")

    run = Run(log.name or (path.resolve().name if path.is_dir() else path.stem), path, series, config, notes)
    # Dumps beyond the log's last step are of a start that was abandoned, or of a step that is not over.
    last = max(step for curve in series.values() for step in curve)
    run.validation, rollouts = (
        {step: file for step, file in step_files(_dumps(path, name, config)).items() if step <= last}
        for name in ("validation", "rollouts")
    )
    if rollouts and "asymgrpo/none_solved" not in run.series and not run.filtered:
        _from_rollouts(run, rollouts)
    return run


def _dumps(path: Path, name: str, config: dict[str, Any] | None) -> Path:
    """Where verl's dumps are: the folder may have moved since, but not within the run's own."""
    if path.is_dir() and (path / name).is_dir():
        return path / name
    key = {"validation": "trainer.validation_data_dir", "rollouts": "trainer.rollout_data_dir"}[name]
    return Path((config or {}).get(key) or "/nowhere")


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
