"""One training of the study, by the light engine or by verl, to one line of results."""

from __future__ import annotations

import functools
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.study.control import AT_LENGTH, AT_TEMPERATURES, IN_SHORT, TEMPERATURES
from benchmarks.study.experiments import LONG_FINALS, LONG_GRIDS, Experiment, Result
from benchmarks.study.results import DIGITS, ROOT, rounded, versions

MODELS = Path(__file__).resolve().parent / "models"  # made once: a warm-start magnifies how machines round
TRAIN_SIZE, HELD_OUT, SELECTION = 2048, 1200, 400  # of the held-out prompts, the first 400 choose step sizes
SELECTION_SAMPLES, TEST_SAMPLES = 8, 32
KS = (1, 8, 32)
BRIEF = (*LONG_GRIDS, *IN_SHORT)  # groups of hundreds of runs: what a table shows of them
IN_MEANS = (*LONG_FINALS, *AT_LENGTH)  # groups of long runs
LAST = 20  # steps that "last" is the mean of, in the long grid
EVERY = 10  # steps that a number of a long run's series is the mean of
UPDATES_EVERY = 5  # steps of a long run of which one is compared with the policy after it, a sixth of a step's time
LOOK_EVERY, LOOK_PROMPTS = 50, 100  # a long run's held-out curve


@functools.cache
def base_model(name: str, out: Path) -> Path:
    """The folder of a MODEL of the quickstart: the committed one, or where its settings have changed a new one."""
    for model in MODELS.iterdir():
        if not (out / "base" / model.name).exists():
            shutil.copytree(model, out / "base" / model.name)
    command = [sys.executable, str(ROOT / "examples/quickstart/base_model.py"), "--model", name]
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
        base_model(experiment.model, out),
        prompts(experiment.task)["train"],
        experiment.overrides,
        lr=experiment.lr,
        steps=experiment.steps,
        seed=experiment.seed,
        after_step=checkpoints.look if experiment.group in LONG_FINALS else None,
        updates_every=UPDATES_EVERY if experiment.group in BRIEF + IN_MEANS else 1,
    )
    found = {**_evaluated(policy, experiment), **_curves(series, experiment)}
    if experiment.group in AT_TEMPERATURES:
        at = {f"{t:g}": _evaluated(policy, experiment, t)["pass_at"] for t in TEMPERATURES}
        found["pass_at_temperature"] = at
    return {**found, **checkpoints.found(policy, found["pass_at"])} if checkpoints.held_out else found


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

    def found(self, policy: Any, last: dict[str, float]) -> Result:
        """The curve, and what the best checkpoint does on the prompts of the comparison, as `last` is of the last."""
        step, pass_at = int(self.best), last
        if step != self.experiment.steps:
            policy.model.load_state_dict(self._weights[self.best])
            pass_at = _evaluated(policy, self.experiment)["pass_at"]
        return {"held_out": self.held_out, "best": {"step": step, "pass_at": pass_at}}


def _curves(series: dict[str, list[float]], experiment: Experiment) -> Result:
    if experiment.group in BRIEF:
        names = ["entropy", "none_solved", "length", *(name for name in series if name.startswith("control/"))]
        *last, kl = rounded([*(statistics.fmean(series[name][-LAST:]) for name in names), mean_of(series["update_kl"])])
        return {"last": dict(zip(names, last, strict=True)), "update_kl": kl}
    if experiment.group in IN_MEANS:
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


def _evaluated(policy: Any, experiment: Experiment, temperature: float = 1.0) -> Result:
    from benchmarks.study import light

    split, samples = ("selection", SELECTION_SAMPLES) if experiment.selection else ("test", TEST_SAMPLES)
    if experiment.group in (*LONG_GRIDS, "control_levels"):
        samples = TEST_SAMPLES
    ks = [k for k in KS if k <= samples]
    found = light.evaluate(policy, prompts(experiment.task)[split], samples, ks, temperature=temperature)
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
