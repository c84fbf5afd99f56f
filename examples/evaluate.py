"""Evaluates a finished training of a recipe as the paper does, and prints tables.

    python examples/evaluate.py RUN [--step N] [--data DIR] [-- OVERRIDE...]
    python examples/evaluate.py --table RUN [RUN ...]

Of the checkpoints that RUN still has, the one with the best accuracy on MATH-500 (in the logs) is taken, or that of
--step; 0 is the model it began with. It is merged into a Hugging Face model (verl.model_merger), and verl's own
validation generates with the settings of the run, at temperature 0.4 and top-p 1: 5 responses to each problem of the
larger sets, 10 to each of the smaller (arXiv 2604.04894). A run that was validated on another set than the paper's is
chosen by it and evaluated on it, 5 responses to each problem. Results are in RUN/evaluation; what is there is not
repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout needs no installation

from recipe.asymgrpo.data.files import sha256_of
from recipe.asymgrpo.pass_at_k import Dump, describe, mean_pass_at_k
from recipe.asymgrpo.report.runs import NoRunError, Run, read_run
from verl_ext.hydra_text import quoted

# Sets -> responses to a problem: more where there are few problems.
PASSES = {("math500", "olympiadbench"): 5, ("aime24", "aime25", "amc23"): 10}
COLUMNS = [name for names in PASSES for name in names]
MADE_OF = "made_of.json"
CHOOSE_BY = re.compile(r"val-core/(?P<set>.+)/acc/mean@\d+")


class EvaluationError(Exception):
    """The run cannot be evaluated; the message says why and what to do."""


def kept_steps(run: Path) -> list[int]:
    """Steps whose checkpoint is whole and still there."""
    folders = (run / "checkpoints").glob("global_step_*/actor/fsdp_config.json")
    return sorted(int(path.parents[1].name.removeprefix("global_step_")) for path in folders)


def best_step(run: Run, steps: Sequence[int]) -> int:
    """Of `steps`, the one with the best validation accuracy on MATH-500, or on the set the run has; the last of equals.

    Raises:
        EvaluationError: none of them was validated.
    """
    sets = {key: found["set"] for key in sorted(run.series) if (found := CHOOSE_BY.fullmatch(key))}
    # Several keys of a set: its VAL_SAMPLES was changed.
    keys = [key for key, name in sets.items() if name == "math500" or len(set(sets.values())) == 1]
    accuracy = {step: run[key][step] for key in keys for step in steps if step in run[key]}
    if not accuracy:
        raise EvaluationError(
            "no val-core/math500/acc/mean@N, nor that of one other set, in the log for the checkpoints of steps "
            f"{', '.join(map(str, steps))}; "
            "choose one: --step N"
        )
    return max(accuracy, key=lambda step: (accuracy[step], step))


def settings_of(run: Path) -> list[str]:
    """The Hydra overrides the run was started with.

    Raises:
        EvaluationError: they are not there.
    """
    import yaml

    path = run / "hydra" / ".hydra" / "overrides.yaml"
    if not path.is_file():
        raise EvaluationError(f"{path} is missing: is {run} the folder of a recipe's training, begun at least once?")
    return list(yaml.safe_load(path.read_text()) or [])


def sets_of(run: Path) -> dict[tuple[str, ...], int]:
    """Which sets a run is evaluated on, with the number of responses to each problem."""
    import yaml

    path = run / "hydra" / ".hydra" / "config.yaml"
    files = yaml.safe_load(path.read_text())["data"]["val_files"] if path.is_file() else []
    own = tuple(Path(str(file)).stem for file in ([files] if isinstance(files, str) else files))
    return PASSES if not own or set(own) & set(COLUMNS) else {own: 5}


def merged_model(run: Path, step: int) -> Path:
    """The checkpoint of a step as a Hugging Face model, made once; with LoRA, its adapter beside the base model."""
    target = run / "merged" / f"step_{step}"
    half = target.with_name(f"{target.name}.writing")
    if not (target / "config.json").is_file() or _newer(run, step, target / "config.json"):
        for old in (half, target):
            shutil.rmtree(old, ignore_errors=True)
        command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
        command += ["--local_dir", str(run / "checkpoints" / f"global_step_{step}" / "actor")]
        command += ["--target_dir", str(half)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise EvaluationError(f"the checkpoint of step {step} could not be merged; verl's message is above")
        half.replace(target)
    return target


def _newer(run: Path, step: int, made: Path) -> bool:
    """Whether the checkpoint of a step has been written again since this was made of it."""
    checkpoint = run / "checkpoints" / f"global_step_{step}" / "actor" / "fsdp_config.json"
    return checkpoint.is_file() and checkpoint.stat().st_mtime > made.stat().st_mtime


def finished(results: Path) -> list[Path]:
    """The dumps of the passes that ended well."""
    return sorted(folder / "0.jsonl" for folder in results.glob("*") if has_finished(folder))


def has_finished(folder: Path) -> bool:
    """Whether a pass has ended well; verl writes its dump line by line, so it alone may be cut off."""
    return (folder / "0.jsonl").is_file() and (folder / "done.json").is_file()


def done_with(folder: Path, made_of: dict[str, Any]) -> bool:
    """Whether a pass has ended well with these settings.

    Raises:
        EvaluationError: it has with others.
    """
    if not has_finished(folder):
        return False
    note = folder / MADE_OF
    before = json.loads(note.read_text()) if note.is_file() else made_of
    if changed := [name for name in made_of if before.get(name) != made_of[name]]:
        raise EvaluationError(
            f"{folder} was evaluated with other {' and '.join(changed)}; to do it again, remove that folder"
        )
    return True


def left_out(folder: Path, data: Path, names: Sequence[str]) -> str | None:
    """How many problems verl has not generated for, in words: it drops prompts that are too long."""
    import pyarrow.parquet as pq

    rows = sum(pq.ParquetFile(data / f"{name}.parquet").metadata.num_rows for name in names)
    there = sum(Dump(folder / "0.jsonl").groups.values())
    if there >= rows:
        return None
    return f"{rows - there} of {rows} problems were left out: their prompts are longer than data.max_prompt_length"


def model_overrides(merged: Path) -> list[str]:
    """verl's overrides for a merged model."""
    adapter = merged / "lora_adapter"
    overrides = [f"actor_rollout_ref.model.path={quoted(merged)}"]
    if adapter.is_dir():  # without this verl would begin with a fresh one, and the base model be evaluated
        overrides.append(f"actor_rollout_ref.model.lora_adapter_path={quoted(adapter)}")
    return overrides


def evaluate(run: Path, step: int | None, data: Path, extra: Sequence[str]) -> Path:
    """Evaluate one checkpoint; returns the folder of the dumps.

    Raises:
        EvaluationError: see its message.
    """
    run, data = run.resolve(), data.resolve()  # a cluster's processes were started in some other folder
    settings = settings_of(run)
    steps = kept_steps(run)
    if step is None:
        if not steps:
            raise EvaluationError(f"{run} has no checkpoint; --step 0 evaluates the model it began with")
        step = best_step(read_run(run), steps)
    elif step and step not in steps:
        raise EvaluationError(f"{run} has no checkpoint of step {step}; it has {', '.join(map(str, steps)) or 'none'}")
    results = run / "evaluation" / f"step_{step}"
    wanted = sets_of(run)
    passes = {tuple(name for name in names if (data / f"{name}.parquet").is_file()): n for names, n in wanted.items()}
    passes.pop((), None)
    absent = [name for group in wanted for name in group if not (data / f"{name}.parquet").is_file()]
    if absent and passes:
        print(f"not evaluated, for {data} does not have them: {', '.join(absent)}", flush=True)
    if not passes:
        missing = ", ".join(name for group in wanted for name in group)
        raise EvaluationError(f"{data} has none of {missing}.parquet; --data names another folder")
    model = model_overrides(merged_model(run, step)) if step else []
    for names, n in passes.items():
        folder = results / "+".join(names)
        sums = {name: sha256_of(data / f"{name}.parquet") for name in names}
        made_of = {"responses to a problem": n, "overrides": list(extra), "problems": sums}
        stale = has_finished(folder) and _newer(run, step, folder / "done.json")
        if not stale and done_with(folder, made_of):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for old in (folder / "done.json", folder / "0.jsonl"):
            old.unlink(missing_ok=True)
        (folder / MADE_OF).write_text(json.dumps(made_of) + "\n")
        print(f"step {step}, {', '.join(names)}: {n} responses to each problem", flush=True)
        files = ",".join(quoted(data / f"{name}.parquet") for name in names)
        command = [sys.executable, "-m", "verl_ext.watch", "--end-with-parent", "--run", str(folder), "--steps", "1"]
        command += ["--stall", os.environ.get("STALL", "7200"), "--max-probs-diff", "2", "--"]
        command += [sys.executable, "-m", "verl.trainer.main_ppo", *settings, *model]
        command += [
            f"data.val_files=[{files}]",
            f"actor_rollout_ref.rollout.val_kwargs.n={n}",
            "actor_rollout_ref.rollout.val_kwargs.do_sample=True",
            "actor_rollout_ref.rollout.val_kwargs.temperature=0.4",
            "actor_rollout_ref.rollout.val_kwargs.top_p=1.0",
            "trainer.val_only=True",
            "trainer.val_before_train=True",
            "trainer.resume_mode=disable",
            f"trainer.default_local_dir={quoted(folder / 'checkpoints')}",
            f"trainer.validation_data_dir={quoted(folder)}",
            f"hydra.run.dir={quoted(folder / 'hydra')}",
            'trainer.logger=["console","file"]',
            *extra,
        ]
        if code := subprocess.run(command, check=False).returncode:
            raise EvaluationError(f"verl ended with {code}; its log: {folder / 'train.log'}")
        if not (folder / "0.jsonl").is_file():
            raise EvaluationError(f"verl wrote no generations to {folder}; its log: {folder / 'train.log'}")
        if words := left_out(folder, data, names):
            print(words, flush=True)
    return results


def accuracies(results: Path) -> dict[str, float]:
    """Set -> mean accuracy of one response, of the dumps in a folder."""
    found: dict[str, float] = {}
    for file in finished(results):
        for name, groups in Dump(file).sets.items():
            value = mean_pass_at_k(groups, 1)
            if value is not None:
                found[name] = value
    return found


def shown_evaluation(run: Path) -> Path | None:
    """What the table shows of a run: of the evaluated checkpoints the best on MATH-500, as `evaluate` chooses; the last
    one evaluated where the log knows none of them."""
    evaluated = sorted((run / "evaluation").glob("step_*"), key=lambda path: path.stat().st_mtime)
    steps = {int(path.name.removeprefix("step_")): path for path in evaluated}
    try:
        return steps[best_step(read_run(run), [step for step in steps if step])]
    except (EvaluationError, NoRunError, OSError):
        return evaluated[-1] if evaluated else None


def table(runs: Sequence[Path]) -> str:
    """A Markdown table: a run a row, a set a column, accuracy in percent; the mean only where no set is missing."""
    lines = ["| run | step | " + " | ".join(COLUMNS) + " | mean |", "|---" * (len(COLUMNS) + 3) + "|"]
    for run in runs:
        shown = shown_evaluation(run)
        values = accuracies(shown) if shown else {}
        step = shown.name.removeprefix("step_") if shown else "not evaluated"
        cells = [f"{100 * values[name]:.2f}" if name in values else "" for name in COLUMNS]
        mean = f"{100 * sum(values[name] for name in COLUMNS) / len(COLUMNS):.2f}" if all(cells) else ""
        lines.append(f"| {run.name} | {step} | " + " | ".join(cells) + f" | {mean} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status (1 and one line on stderr where it could not be done)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description="Evaluate a recipe's training as the paper does.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a recipe's training")
    parser.add_argument("--step", type=int, help="checkpoint; 0: the model it began with; default: best on MATH-500")
    parser.add_argument(
        "--data", type=Path, default=Path("outputs/data"), help="folder of recipe.asymgrpo.data prepare"
    )
    parser.add_argument("--table", action="store_true", help="print what is there; evaluate nothing")
    options = parser.parse_args(arguments[:split])
    if options.table:
        print(table(options.runs))
        return 0
    try:
        for run in options.runs:
            results = evaluate(run, options.step, options.data, arguments[split + 1 :])
            for file in finished(results):
                print("\n".join(describe(Dump(file))))
    except (EvaluationError, NoRunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
