"""Statistics over tasks and seeds: closed forms, and that planted effects are found and none are made up."""

import itertools
import math
import statistics

import numpy as np
import pytest

from benchmarks.study import aggregates, claims, control, experiments, figures, long_tables, measures
from benchmarks.study.experiments import TASKS, Incomplete
from benchmarks.study.measures import Estimate, Study
from benchmarks.study.methods import LONG_METHODS
from recipe.asymgrpo.report.comparison import STUDENT


def scores(*by_task):
    return {task: dict(enumerate(values)) for task, values in zip(TASKS, by_task, strict=True)}


def test_interquartile_mean():
    assert aggregates.iqm(np.arange(1.0, 9.0)) == 4.5
    assert aggregates.iqm(np.array([[0.0, 1.0, 2.0, 100.0]])).tolist() == [1.5]
    found = aggregates.interquartile_mean(scores([0.1] * 4, [0.3] * 4))
    assert (found.mean, found.low, found.high, found.seeds) == pytest.approx((0.2, 0.2, 0.2, 4))


def test_probability_of_improvement():
    def chance(a, b):
        return aggregates.probability_of_improvement(a, b)

    a = scores([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert chance(a, a).mean == 0.5
    assert chance(scores([4.0, 5.0], [4.0, 5.0]), a).mean == chance(scores([4.0, 5.0], [4.0, 5.0]), a).low == 1
    # Better on one task and worse on the other: nothing in all.
    assert chance(scores([4.0, 5.0], [0.0, 0.5]), a).mean == 0.5
    # 6 of 9 pairs.
    assert chance(scores([2.5, 2.5, 2.5], [2.5, 2.5, 2.5]), a).mean == pytest.approx(2 / 3)


def test_permutation():
    everywhere = [np.full(4, 0.1), np.full(4, 0.2)]
    # Only all signs alike are as far off: 2 of 2 ** 8.
    assert aggregates.permutation_p(everywhere) == pytest.approx(2 / 2**8, abs=0.003)
    assert aggregates.permutation_p([np.array([0.1, -0.1])] * 2) == 1
    rng = np.random.default_rng(1)
    chances = [aggregates.permutation_p([rng.normal(size=10), rng.normal(size=10)]) for _ in range(200)]
    assert 0.01 <= np.mean(np.array(chances) < 0.05) <= 0.1


def test_holm():
    assert aggregates.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert aggregates.holm({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_detectable_difference():
    """One task: 2.8 standard errors; and four of five such studies do find it."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=10)
    shift = aggregates.detectable([values])
    assert shift == pytest.approx(2.8016 * values.std(ddof=1) / math.sqrt(10), rel=1e-4)
    spread = values.std(ddof=1)
    found = [aggregates.permutation_p([rng.normal(shift, spread, size=10)]) < 0.05 for _ in range(200)]
    assert 0.65 <= np.mean(found) <= 0.9


def finished(method, task, seed, value):
    row = {"group": "long_final", "method": method, "task": task, "seed": seed, "lr": 4e-4, "steps": 400}
    row |= {"overrides": list(LONG_METHODS[method]), "config_hash": f"{method} {task} {seed}", "val_acc": value}
    row |= {"pass_at": dict.fromkeys(("1", "8", "32"), value), "best": {"step": 50 * (seed % 3 + 1)}}
    row["best"]["pass_at"] = dict.fromkeys(("1", "8", "32"), value + 0.1)
    row |= {"held_out": {"50": row["pass_at"], "100": row["pass_at"]}}
    row |= {"curve": [value] * 40, "series": {"entropy": [value] * 40, "none_solved": [0.1] * 40}}
    return row


def planted(methods, seeds=range(11, 21)):
    rng = np.random.default_rng(3)
    noise = {(task, seed): rng.normal(0, 0.02) for task in TASKS for seed in seeds}
    return Study(
        finished(method, task, seed, base + noise[task, seed] + rng.normal(0, 0.005))
        for method, base in methods.items()
        for task in TASKS
        for seed in seeds
    )


def test_the_table_finds_what_was_planted():
    study = planted({"grpo": 0.5, "maxrl": 0.53, "pos_only": 0.5, "asymgrpo": 0.4})
    lines = aggregates.aggregate_table(study).splitlines()
    order = [line.split(" | ")[0].strip("| ") for line in lines[2:]]
    assert (order[0], order[-1], len(order)) == ("MaxRL", "AsymGRPO", 4)
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines[2:]}
    assert float(cells["MaxRL"][4]) < 0.01
    assert float(cells["AsymGRPO"][4]) < 0.01
    assert float(cells["Pos-only"][4]) > 0.05
    assert float(cells["AsymGRPO"][3].split()[0]) < 0.05
    assert 0.001 < float(cells["MaxRL"][5]) < 0.03
    assert cells["GRPO"][3:6] == ["", "", ""]


def test_what_is_missing_is_said():
    with pytest.raises(Incomplete, match="no finished run of GRPO"):
        aggregates.aggregate_table(planted({"maxrl": 0.5}))
    with pytest.raises(Incomplete, match="no method has two seeds"):
        aggregates.aggregate_table(planted({"grpo": 0.5}))


def test_runs_that_come_in_seed_by_seed_are_compared_from_five_on():
    values = {"grpo": 0.5, "maxrl": 0.6}
    few, enough = planted(values, seeds=range(11, 15)), planted(values, seeds=range(11, 16))
    assert len(few.settled) == 2 * len(TASKS) * 4
    with pytest.raises(Incomplete, match="no finished run of GRPO"):
        aggregates.aggregate_table(few)
    assert "| MaxRL | 5 |" in aggregates.aggregate_table(enough)


def test_what_is_not_there_is_not_shown():
    with pytest.raises(Incomplete, match="long_final"):
        long_tables.best_checkpoint_table(Study([]))


def test_the_best_checkpoint_stands_beside_the_last():
    lines = long_tables.best_checkpoint_table(planted({"grpo": 0.5})).splitlines()
    assert len(lines) == 2 + len(TASKS)
    assert lines[2].startswith("| countdown | GRPO | 10 | 0.")
    last, best = (float(cell.split(" / ")[0]) for cell in lines[2].split(" | ")[3:5])
    assert best == pytest.approx(last + 0.1, abs=0.002)
    assert lines[2].endswith("| 100 (50 to 150) |")


def test_curves_are_drawn(tmp_path):
    study = planted({"grpo": 0.5, "asymgrpo": 0.6})
    assert [path.name for path in figures.draw(study, tmp_path)] == ["long_curves.png"]
    assert (tmp_path / "long_curves.png").stat().st_size > 20_000


def test_synergy_is_against_the_better_of_the_two():
    study = planted({"asymgrpo": 0.5, "grpo_clip_higher": 0.6, "asymgrpo_clip_higher": 0.55})
    for finding in claims.synergy(study, "asymgrpo_clip_higher", "grpo_clip_higher", 1):
        assert finding.what.startswith("AsymGRPO + clip-higher minus GRPO + clip-higher")
        assert finding.estimate.mean == pytest.approx(-0.05, abs=0.01)
        assert finding.verdict == "not supported"


def test_p_of_an_estimate_is_that_of_its_interval():
    for freedom, quantile in enumerate(STUDENT, 1):
        assert measures.student_p(quantile, freedom) == pytest.approx(0.05, abs=1e-4)
        assert measures.student_p(0.0, freedom) == 1
    assert measures.student_p(1.0, 1) == pytest.approx(0.5)  # Cauchy
    assert measures.student_p(2.0, 4) == pytest.approx(0.11612, abs=1e-5)  # R: 2 * pt(-2, 4)
    assert measures.student_p(3.0, 9) == pytest.approx(0.01496, abs=1e-5)
    values = [0.01, 0.02, 0.03, 0.035, 0.012]
    estimate = Estimate.of(values)
    statistic = statistics.fmean(values) / (statistics.stdev(values) / math.sqrt(5))
    assert estimate.p() == pytest.approx(measures.student_p(statistic, 4), rel=1e-3)
    assert estimate.p(estimate.low) == pytest.approx(0.05, abs=1e-4)
    assert Estimate.of([0.1, 0.1]).p() == 0
    assert Estimate.of([0.0, 0.0]).p() == 1
    assert Estimate.of([0.1]).p() == 1


def test_a_claims_findings_are_corrected_for_their_number():
    def finding(mean: float, expected: int) -> claims.Finding:
        return claims.Finding("", "", Estimate(mean, mean - 0.02, mean + 0.02, 10), expected)

    one = claims.Claim("x", "", lambda: [finding(0.02, 1)])
    assert one.p_values == [pytest.approx(0.05, abs=1e-3)]
    three = claims.Claim("x", "", lambda: [finding(0.02, 1), finding(0.04, -1), finding(0.0, 1)])
    assert three.p_values == [pytest.approx(0.1, abs=1e-3), pytest.approx(3 * finding(0.04, 1).p), 1]
    assert finding(0.01, 0).p == pytest.approx(finding(0.02, 1).p)  # "does not hurt": against a loss of 0.01


def test_readmes_table_says_what_asymgrpo_adds():
    others = {"pos_only": 0.48, "grpo_clip_higher": 0.47}
    planted_rows = [
        finished(method, task, seed, value + seed / 1000)
        for method, value in {"grpo": 0.5, "asymgrpo": 0.54, "modulated_0.3": 0.52, "maxrl": 0.51, **others}.items()
        for task in TASKS
        for seed in range(11, 17 if task == "countdown" else 16)
    ]
    best = experiments.LONG_LEARNING_RATES[2]
    grid = [
        row
        | {"group": "long_grid", "lr": lr, "seed": seed, "config_hash": f"{row['method']} {lr} {seed} grid"}
        | ({} if lr == best else {"val_acc": 0.1, "pass_at": {"1": 0.1, "8": 0.1, "32": 0.1}})
        for row in planted_rows
        if row["method"] in others and row["task"] == "countdown"
        for seed, lr in itertools.product((1, 2, 3), experiments.LONG_LEARNING_RATES)
    ]
    last_column = long_tables.headline_table(Study([*planted_rows, *grid])).splitlines()[2:5]
    assert last_column[0].endswith("| MaxRL, lr 0.0004 | Pos-only, lr 0.0004 |")
    assert last_column[2].endswith("| 0.523 | 0.493 |")
    shown = long_tables.headline_table(Study(planted_rows))
    assert "6 seeds, test prompts" in shown
    gain = " | ".join(["+0.040 [+0.040, +0.040]"] * 3)
    assert [line for line in shown.splitlines() if gain in line] == [
        f"| countdown | 0.0004 | 6 | {gain} |",
        f"| sums | 0.0004 | 5 | {gain} |",
    ]
    robust = [
        finished(method, "countdown", seed, value + seed / 1000)
        | {"group": "control_robust", "lr": lr, "config_hash": f"{method} {seed} {lr}"}
        for method, value in {"grpo": 0.5, "asymgrpo": 0.51}.items()
        for lr in control.STEP_SIZES
        for seed in range(11, 16)
    ]
    both = long_tables.headline_table(Study([*planted_rows, *robust])).splitlines()
    (first, second) = (line for line in both if line.endswith("+0.010 [+0.010, +0.010] |"))
    assert first.startswith("| countdown | 0.0002 | 5 |")
    assert second.startswith("| countdown | 0.0004 | 5 |")
    found = claims.at_the_same_step_size(Study(robust))
    assert [finding.estimate.mean for finding in found] == [pytest.approx(0.01)] * 4
    assert claims.at_the_same_step_size(Study(planted_rows)) == []
