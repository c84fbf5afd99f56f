"""Runs what `benchmarks/study/groups.py` lists and has not been run yet; one JSON line of results a run.

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
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context, parent_process
from pathlib import Path

from benchmarks.study.engines import base_model, perform
from benchmarks.study.experiments import SUPERSEDED, Experiment, Incomplete, Result
from benchmarks.study.groups import GROUPS
from benchmarks.study.results import RESULTS, ROOT, append, read_results, rounded

TRIES = 2  # of a run that fails


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
            for model in dict.fromkeys(experiment.model for experiment in left):
                if model != "smollm2":  # its script makes it
                    base_model(model, out)  # before the workers race for it
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
        if row["model"] != "smollm2":
            base_model(row["model"], out / f"rerun-{seed}")  # the committed one, for verl as well
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
