"""The tables of docs/results.md and README.md, as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence

from benchmarks.study.claims import claims
from benchmarks.study.engines import KS, MODELS
from benchmarks.study.experiments import (
    COEFFICIENTS,
    LARGE_MODEL,
    LARGE_TASK,
    LEARNING_RATES,
    LONG_TASKS,
    SUPERSEDED,
    TASKS,
    VERL_TASK,
    Incomplete,
    Result,
    best_lr,
)
from benchmarks.study.groups import GROUPS
from benchmarks.study.measures import TASK_NAMES, WINDOW, Study, accuracy, at_end, pass_at, welch, whole
from benchmarks.study.methods import HEADLINE, LABELS, LONGER_METHODS, METHODS


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def mean(rows: Collection[Result], measure: Callable[[Result], float], digits: int = 3) -> str:
    """Over the runs."""
    return f"{statistics.fmean(map(measure, rows)):.{digits}f}"


def passes(rows: Collection[Result]) -> str:
    """Mean pass@1 / @8 / @32."""
    return " / ".join(mean(rows, pass_at(k)) for k in KS)


def tasks_table(study: Study) -> str:
    """What the committed base models do before any training, as they were measured when they were made: those of the
    short runs, and others that have runs."""
    rows = []
    names = {model: TASK_NAMES[task] for task, model in LONG_TASKS.items()}
    names[LARGE_MODEL] = f"{TASK_NAMES[LARGE_TASK]}, large"
    trained = {row["model"] for row in study.settled}
    for model, name in names.items():
        if model not in trained and model not in TASKS.values():
            continue
        (file,) = MODELS.glob(f"{model}-*/base_model.json")
        found = json.loads(file.read_text(encoding="utf-8"))
        cells = [f"{found['parameters'] / 1e6:.2f} M", f"{found['accuracy']:.3f}", f"{found['accuracy_greedy']:.3f}"]
        rows.append([name, *cells, f"{100 * found['groups']['0']:.1f} %", str(found["held_out_prompts"])])
    header = ("task", "parameters", "pass@1", "greedy", "prompts that none of 8 rollouts solves", "held-out prompts")
    return table(header, rows)


def claims_table(study: Study) -> str:
    rows = []
    for claim in claims(study):
        title = f"**({claim.letter})** {claim.text}"
        try:
            rows.append([title, "", "", "", "", f"**{claim.verdict}**"])
        except Incomplete as error:
            rows.append([title, "", "", "", "", f"*not complete: {error}*"])
            continue
        for finding, p in zip(claim.findings, claim.p_values, strict=True):
            estimate = finding.estimate.text(finding.digits, sign=True)
            rows.append(
                [finding.what, finding.where, estimate, str(finding.estimate.seeds), f"{p:.3f}", finding.verdict]
            )
    return table(("claim", "task, engine", "mean [95 % interval]", "seeds", "p, Holm", "verdict"), rows)


def methods_table(study: Study, group: str, task: str) -> str:
    """Every method of a group, each at its own step size."""
    found = []
    for method in METHODS if group in ("final", "verl") else LONGER_METHODS:
        runs = study.runs(group, method, task)
        failed = sum((r["group"], r["method"], r["task"]) == (group, method, task) for r in study.failed)
        if not runs:
            if failed:
                found.append((-1.0, [LABELS[method], "", f"0, {failed} failed", "", "", "", "", ""]))
            continue
        one = next(iter(runs.values()))

        def cell(measure: Callable[[Result], float], method: str = method) -> str:
            return study.estimate(group, method, task, measure).text()

        seeds = str(len(runs)) + (f", {failed} failed" if failed else "")
        cells = [LABELS[method], f"{one['lr']:g}", seeds, *(cell(pass_at(k)) for k in (1, 8, 32))]
        found.append(
            (
                statistics.fmean(map(accuracy, runs.values())),
                [*cells, cell(at_end("entropy")), cell(at_end("none_solved"))],
            )
        )
    header = ("method", "lr", "seeds", "pass@1", "pass@8", "pass@32", "entropy *", "none solved *")
    return table(header, [row for _, row in sorted(found, key=lambda item: -item[0])])


def grid_table(study: Study, task: str) -> str:
    """Mean accuracy on the selection prompts by step size; the chosen one is bold."""
    rows = []
    for method in METHODS:
        best = best_lr(study.rows, method, task)
        cells = []
        for lr in LEARNING_RATES:
            values = [
                row["val_acc"] or 0.0
                for row in study.settled
                if (row["group"], row["method"], row["task"], row["lr"]) == ("grid", method, task, lr)
                and tuple(row["overrides"]) == METHODS[method]
            ]
            text = f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"
            cells.append(f"**{text}**" if lr == best else text)
        rows.append([LABELS[method], *cells])
    return table(("method", *(f"lr {lr:g}" for lr in LEARNING_RATES)), rows)


def coefficients_table(study: Study, task: str) -> str:
    """Accuracy and entropy on the selection prompts by the two coefficients of our loss."""
    rows = []
    for informative in COEFFICIENTS:
        cells = [f"{informative:g}"]
        for spurious in COEFFICIENTS:
            runs = study.runs("coefficients", f"modulated({informative:g},{spurious:g})", task).values()
            if len(runs) < 2:
                raise Incomplete("the runs of our loss's coefficients are not there: run.sh --only coefficients")
            values, entropies = [accuracy(row) for row in runs], [at_end("entropy")(row) for row in runs]
            cells.append(
                f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}, H {statistics.fmean(entropies):.3f}"
            )
        rows.append(cells)
    return table(("informative \\ spurious", *(f"{spurious:g}" for spurious in COEFFICIENTS)), rows)


def agreement_table(study: Study) -> str:
    """verl against the light engine, for every method that ran in both at the same step size."""
    rows = []
    for method in HEADLINE:
        verl, light = (study.runs(group, method, VERL_TASK) for group in ("verl", "final"))
        if not verl or not light:
            continue
        measures = {f"pass@{k}": pass_at(k) for k in (1, 8, 32)} | {"entropy at the end": at_end("entropy")}
        for name, measure in measures.items():
            a, b = [measure(row) for row in verl.values()], [measure(row) for row in light.values()]
            cells = [f"{statistics.fmean(values):.3f} ({len(values)})" for values in (a, b)]
            gap = welch(a, b) if min(len(a), len(b)) > 1 else None
            cells += [gap.text(sign=True), "yes" if gap.low <= 0 <= gap.high else "no"] if gap else ["", ""]
            rows.append([LABELS[method], name, *cells])
    return table(("method", "", "verl (seeds)", "light (seeds)", "difference", "0 in it"), rows)


def why_table(study: Study, group: str) -> str:
    """AsymGRPO minus GRPO in what the diagnostics of a group's trainings show."""
    measures: dict[str, Callable[[Result], float]] = {
        "held-out pass@1": accuracy,
        "held-out pass@8": pass_at(8),
        "held-out pass@32": pass_at(32),
        "prompts that no rollout solves, mean of all steps": whole("none_solved"),
        "prompts that all solve, mean of all steps": whole("all_solved"),
        "mean \\|A\\| a token, mean of all steps": whole("mean_abs_adv"),
        "Cov(log pi, A) of groups with p < 0.4": whole("cov_p_low"),
        "entropy at the end": at_end("entropy"),
    }
    rows = []
    for name, measure in measures.items():
        cells = [name]
        for task in TASKS:
            cells.append(study.estimate(group, "grpo", task, measure).text())
            cells.append(study.difference(group, "asymgrpo", "grpo", task, measure).text(sign=True))
        rows.append(cells)
    columns = (cell for task in TASKS for cell in (f"{TASK_NAMES[task]}: GRPO", "AsymGRPO minus GRPO"))
    return table(("", *columns), rows)


def reruns_table(study: Study) -> str:
    rows = [
        [
            row["engine"],
            row["of_group"],
            LABELS.get(row["method"], row["method"]),
            TASK_NAMES[row["task"]],
            str(row["seed"]),
            f"{row['first_val_acc']:.4f}",
            f"{row['val_acc']:.4f}",
            f"{row['band'][0]:.4f} to {row['band'][1]:.4f}",
            "inside" if row["inside"] else "**outside**",
        ]
        for row in study.groups["rerun"]
    ]
    return table(("engine", "group", "method", "task", "seed", "first", "again", "band (± 2 sd)", ""), rows)


def language_model_table(study: Study) -> str:
    rows = []
    for row in sorted(study.groups["smollm2"], key=lambda row: (row["method"], row["seed"])):
        held_out = row["held_out"]
        rows.append(
            [
                LABELS[row["method"]],
                str(row["seed"]),
                *(f"{held_out[str(step)]:.3f}" for step in (0, 10, 20, 30)),
                f"{row['series']['entropy'][0]:.3f} → {at_end('entropy')(row):.3f}",
                f"{statistics.fmean(row['series']['none_solved'][:WINDOW]):.3f} → {at_end('none_solved')(row):.3f}",
            ]
        )
    steps = tuple(f"step {step}" for step in (0, 10, 20, 30))
    return table(("method", "seed", *steps, "entropy *", "none solved *"), rows)


def runs_table(study: Study) -> str:
    """How many runs each group has, of how many, what they cost, and which failed why."""
    rows, whole = [], True
    for group in (*(name for name in GROUPS if name != "smoke"), *SUPERSEDED, "rerun"):
        every = [row for row in study.rows if row["group"] == group]
        last = [row for row in study.settled if row["group"] == group]
        engines = ", ".join(sorted({row["engine"] for row in every}))
        failed = [row for row in every if row.get("error")]
        causes = "; ".join(
            f"{LABELS.get(row['method'], row['method'])} {row['task']} seed {row['seed']}: "
            f"{' '.join(row['error'].split())}{'' if row in last else ' (run again)'}"
            for row in failed
        )
        runs, planned = str(len(last)), ""
        if group in SUPERSEDED:
            planned = f"superseded: {SUPERSEDED[group]}".replace("|", "\\|")
        elif group in GROUPS:
            try:
                hashes = {experiment.config_hash for experiment in GROUPS[group](study.rows)}
            except Incomplete:
                planned, whole = "?", False
            else:
                current = sum(row["config_hash"] in hashes for row in last)
                planned, whole = str(len(hashes)), whole and current == len(hashes)
                # Nothing is dropped: runs of a method that was defined otherwise stay in the results.
                runs = f"{current}" + (
                    f" + {len(last) - current} of an earlier definition" if current < len(last) else ""
                )
        hours = sum(row["seconds"] for row in every) / 3600
        rows.append([group, engines, runs, planned, f"{hours:.1f}", f"{len(failed)} {causes}".strip()])
    shown = table(("group", "engine", "runs", "planned", "hours (sum over runs)", "failed, and why"), rows)
    return (
        shown if whole else f"**Not finished**: a verdict below may change with the runs that are missing.\n\n{shown}"
    )
