"""benchmarks/study: the experiments, both engines' runner, and what is made of the results."""

import gzip
import itertools
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("verl")
pytest.importorskip("reasoning_gym")
yaml = pytest.importorskip("yaml")

from benchmarks.study import (  # noqa: E402
    analysis,
    control,
    engines,
    experiments,
    light,
    long_tables,
    measures,
    methods,
    runner,
    scoring,
    sections,
    tables,
)
from benchmarks.study.claims import Claim, Finding  # noqa: E402
from benchmarks.study.experiments import (  # noqa: E402
    LEARNING_RATES,
    SUPERSEDED,
    TASKS,
    Experiment,
    Incomplete,
)
from benchmarks.study.groups import GROUPS  # noqa: E402
from benchmarks.study.measures import Estimate, Study, welch  # noqa: E402
from benchmarks.study.methods import METHODS  # noqa: E402
from benchmarks.study.results import RESULTS, read_results  # noqa: E402
from recipe.asymgrpo.data import procedural_rows  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("study_worker")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model that writes numbers, after a short warm-start."""
    out = tmp_path_factory.mktemp("base")
    command = [sys.executable, ROOT / "examples/quickstart/base_model.py", "--steps", "60", "--val-size", "8"]
    done = subprocess.run([*command, "--out", out], check=True, capture_output=True, text=True)
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def rows():
    return procedural_rows(train_size=64, val_size=16)


def finished(experiment, val_acc=0.5, **more):
    """A line of results."""
    series = {name: [0.5] * experiment.steps for name in ("none_solved", "entropy", "cov", "entropy_change")}
    row = {**vars(experiment), "model": experiment.model, "val_acc": val_acc, "curve": [0.5] * experiment.steps}
    row |= {"config_hash": experiment.config_hash, "seconds": 10.0, "series": series}
    return json.loads(json.dumps(row | more))


def grid(best=4e-4):
    return [finished(e, 0.6 if e.lr == best else 0.3) for e in GROUPS["grid"]([])]


def long_grid(best=4e-4, group="long_grid"):
    more = {"pass_at": {"1": 0.6, "8": 0.9, "32": 1.0}, "last": {"entropy": 0.2, "none_solved": 0.1}, "update_kl": 0.01}
    return [finished(e, 0.6 if e.lr == best else 0.3, **more) for e in GROUPS[group]([])]


def large_grid():
    return long_grid(2e-4, "large_grid")


# Experiments


def test_every_experiment_is_listed_once_and_by_its_settings():
    own = {name: group for name, group in GROUPS.items() if not name.startswith("control")}  # see test_control.py
    every = [e for group in own.values() for e in group([*grid(), *long_grid(), *large_grid()])]
    assert len({e.config_hash for e in every}) == len(every)
    assert every[0].config_hash == Experiment(**vars(every[0])).config_hash
    assert every[0].config_hash != Experiment(**{**vars(every[0]), "seed": 99}).config_hash


def test_committed_runs_keep_their_hashes():
    """A field or an order that changed would have everything run anew."""
    committed = read_results(RESULTS)
    for row in committed:
        if row["group"] in GROUPS:
            fields = {name: row[name] for name in Experiment.__dataclass_fields__}
            experiment = Experiment(**{**fields, "overrides": tuple(fields["overrides"])})
            assert (experiment.config_hash, experiment.model) == (row["config_hash"], row["model"])
    for name in ("grid", "final", "plane", "coefficients", "verl", "long_grid", "smollm2"):
        listed = {experiment.config_hash for experiment in GROUPS[name](committed)}
        for row in committed:
            earlier = tuple(row["overrides"]) != measures.DEFINITIONS.get(row["method"], tuple(row["overrides"]))
            assert row["group"] != name or row["config_hash"] in listed or earlier


def test_the_third_task_comes_after_the_others_in_long_runs_and_nowhere_else():
    results = [*grid(), *long_grid()]
    for name in ("grid", "final", "plane", "coefficients", "verl"):
        assert {e.task for e in GROUPS[name](results)} <= set(TASKS)
    for name, number in (("long_grid", 4 * 3), ("long_final", 10)):
        tasks = [e.task for e in GROUPS[name](results)]
        first = tasks.index("quantum_lock")
        assert set(tasks[first:]) == {"quantum_lock"}
        assert len(tasks) - first == number * len(methods.OTHER_TASK_METHODS)
    without = [row for row in results if row["task"] != "quantum_lock"]
    assert {e.task for e in GROUPS["long_final"](without)} == set(TASKS)  # nobody waits for it
    with pytest.raises(Incomplete, match=r"on quantum_lock.*--only long_grid"):
        experiments.best_lr(without, "grpo", "quantum_lock", "long_grid")


def test_the_larger_model_has_a_grid_and_seeds_of_its_own():
    tried = list(GROUPS["large_grid"]([]))
    assert {e.model for e in tried} == {"countdown_large"}
    assert all(e.selection for e in tried)
    with pytest.raises(Incomplete, match="--only large_grid"):
        list(GROUPS["large"](long_grid()))
    results = large_grid()
    reported = list(GROUPS["large"](results))
    assert {(e.lr, e.model, e.task) for e in reported} == {(2e-4, "countdown_large", "countdown")}
    assert len({e.seed for e in reported} - {e.seed for e in tried}) == 5
    assert not any(e.selection for e in reported)
    assert {e.method for e in reported} == {"grpo", "asymgrpo", "modulated_0.3"}
    assert not set(GROUPS["large_grid"](results)) - set(tried)


def test_headline_methods_run_in_verl_with_five_seeds():
    runs = list(GROUPS["verl"](grid()))
    assert {e.engine for e in runs} == {"verl"}
    for method in (
        "asymgrpo", "grpo", "reinforce", "pos_only", "neg_only", "ent_decrease", "ent_increase", "asymgrpo_clip_higher",
        "grpo_clip_higher",
    ):  # fmt: skip
        assert len({e.seed for e in runs if e.method == method}) >= 5


def test_every_method_gets_the_same_grid_and_is_reported_on_other_seeds_and_prompts():
    cells = {
        (method, task): sorted((e.lr, e.seed) for e in GROUPS["grid"]([]) if (e.method, e.task) == (method, task))
        for method, task in itertools.product(METHODS, TASKS)
    }
    assert len({tuple(cell) for cell in cells.values()}) == 1
    assert len({lr for lr, _ in cells["grpo", "countdown"]}) >= 3
    final = list(GROUPS["final"](grid()))
    assert {e.method for e in final} == set(METHODS)
    assert not {e.seed for e in final} & {seed for _, seed in cells["grpo", "countdown"]}
    assert all(e.selection for e in GROUPS["grid"]([]))
    assert not any(e.selection for e in final)


def test_step_size_is_the_best_by_selection_and_unknown_before_the_grid_is_there():
    assert experiments.best_lr(grid(8e-4), "grpo", "countdown") == 8e-4
    with pytest.raises(Incomplete, match=r"step size of asymgrpo on countdown.*--only grid"):
        experiments.best_lr([], "asymgrpo", "countdown")
    failed = [row | {"val_acc": None, "error": "diverged"} if row["lr"] == 4e-4 else row for row in grid()]
    assert experiments.best_lr(failed, "grpo", "countdown") != 4e-4


def test_the_shipped_loss_has_the_coefficients_that_the_study_chose():
    shipped = yaml.safe_load((ROOT / "recipe/asymgrpo/conf/asymgrpo/modulated.yaml").read_text())
    loss = shipped["actor_rollout_ref"]["actor"]["policy_loss"]
    assert (loss["informative_coef"], loss["spurious_coef"]) == methods.LOSS_CHOSEN


# The light engine


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_what_verl_composes(method):
    found = light.Method.of(METHODS[method])
    assert found.algorithm.adv_estimator == "asym_grpo"
    preset = method.removesuffix("_10").removesuffix("_clip_higher").removesuffix("_entropy_bonus")
    preset = preset.removesuffix("_clip_cov").removesuffix("_kl_cov")
    assert found.algorithm.asym_grpo.preset == ("asymgrpo" if method == "modulated" else preset)
    assert found.actor.clip_ratio_high == (0.28 if "clip_higher" in method else 0.2)
    assert found.actor.entropy_coeff == {"grpo_entropy_bonus": 0.001, "grpo_entropy_bonus_10": 0.01}.get(method, 0)
    loss = {"grpo_clip_cov": "clip_cov", "grpo_kl_cov": "kl_cov"}.get(method, "entropy_modulated")
    assert found.actor.policy_loss.loss_mode == loss
    assert found.loss.__name__.endswith(loss)


def test_same_seed_same_training(base, rows):
    def run(seed, **more):
        _, series = light.train(base, rows["train"], METHODS["asymgrpo"], lr=1e-3, steps=3, seed=seed, **more)
        return series

    first = run(1)
    some = {name: [None, values[1], None] if name in light.OF_UPDATE else values for name, values in first.items()}
    assert run(1, updates_every=2) == some
    assert first == run(1) != run(2)
    assert {len(values) for values in first.values()} == {3}
    assert all(value is None or math.isfinite(value) for values in first.values() for value in values)
    assert all(0 < value < math.log(17) for value in first["entropy"])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(base, rows, method):
    before = light.Policy(base).model.state_dict()
    policy, series = light.train(base, rows["train"], METHODS[method], lr=1e-3, steps=1, seed=0)
    assert any(not torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    assert series["mean_abs_adv"][0] > 0


def test_sampled_tokens_are_those_of_the_policy(base, rows):
    policy = light.Policy(base)
    prompts, each = [light.prompt_of(row) for row in rows["train"][:32]], 64
    rollouts = policy.sample(prompts, each, torch.Generator().manual_seed(0))
    log_probs, entropy = policy.log_probs(rollouts)
    first = rollouts.response_ids[:, 0]
    # Of the first token: how often each was drawn against its probability, over all prompts.
    drawn = torch.bincount(first, minlength=17) / len(first)
    ids, mask = rollouts.prompt_ids, rollouts.prompt_mask
    # A prompt is computed once for its responses; here every row is computed whole, and so are its gradients.
    ids, mask = ids.repeat_interleave(each, 0), mask.repeat_interleave(each, 0)
    ids = torch.cat([ids, rollouts.response_ids], 1)
    mask = torch.cat([mask, rollouts.response_mask.long()], 1)
    logits = policy.model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    direct = logits[:, rollouts.prompt_ids.shape[1] - 1 : -1].log_softmax(-1)
    assert torch.allclose(drawn, direct[:, 0].exp().mean(0), atol=0.05)
    direct = direct.gather(2, rollouts.response_ids[..., None])[..., 0]
    inside = rollouts.response_mask > 0
    assert torch.allclose(log_probs[inside], direct[inside], atol=1e-4)
    assert torch.allclose(rollouts.distributions[inside], policy.distributions(rollouts)[inside], atol=1e-4)
    warm = policy.sample(prompts, 2, torch.Generator().manual_seed(0), temperature=1.3)
    inner = warm.response_mask > 0
    assert torch.allclose(warm.distributions[inner], policy.distributions(warm)[inner], atol=1e-4)
    gradients = [
        torch.autograd.grad(values[inside].sin().mean(), [*policy.model.parameters()]) for values in (log_probs, direct)
    ]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * float(other.abs().max()))
    ends = rollouts.response_ids == policy.tokenizer.eos_token_id
    for row in range(50):
        length = int(rollouts.response_mask[row].sum())
        assert not ends[row, : length - 1].any()
        assert bool(ends[row, length - 1]) or length == light.RESPONSE_LENGTH
    assert (entropy >= 0).all()


def test_plain_sums_are_scored_as_the_scorer_does():
    """Without sympy, on right and wrong sums in many spellings; what is no plain sum goes to the scorer itself."""
    rng = random.Random(0)
    rows = procedural_rows(train_size=60, val_size=4, task="countdown")["train"]
    scorer, plain, right = scoring.Scorer(), 0, 0
    for row in rows:
        numbers = json.loads(row["extra_info"]["metadata"])["numbers"]
        solution = row["reward_model"]["ground_truth"]
        texts = [solution, solution.replace(" ", ""), f" {solution} ", solution + "+0", solution + " ="]
        texts += ["", "1 2", "--1"]
        texts += ["0" + solution, solution.replace("+", "-", 1), f"({solution})", solution + "\n", solution + "-"]
        for _ in range(30):
            drawn = rng.sample(numbers, len(numbers)) if rng.random() < 0.8 else rng.choices(range(10), k=4)
            texts.append("".join(f"{rng.choice('+-')}{' ' * rng.randint(0, 1)}{n}" for n in drawn).lstrip("+-* "))
            texts.append(rng.choice("0123456789+-*/ ()") + texts[-1])
        for text in texts:
            if scoring.is_plain(row, text):
                plain += 1
                assert scoring.plain_sum(row, text) == scoring.scored(row, text), (row, text)
            assert scorer.score(row, text) == scorer.score(row, text) == scoring.scored(row, text)
            right += scorer.score(row, text) == 1
    assert plain > 2000
    assert right > 120
    assert not scoring.is_plain(rows[0] | {"data_source": "reasoning_gym/chain_sum"}, "1+2")


def test_a_long_run_keeps_its_best_checkpoint(base, monkeypatch):
    """By held-out pass@1 on selection prompts; what it does is measured on the others, with the weights it had."""
    experiment = Experiment("long_final", "light", "grpo", METHODS["grpo"], "chain_sum", 1, 1e-3, 150)
    policy, found = light.Policy(base), iter([0.2, 0.5, 0.4])
    weight = next(iter(policy.model.parameters()))
    seen = {}

    def evaluate(policy, rows, samples, ks, temperature=1.0):
        value = next(found, None)
        seen[len(seen)] = float(weight.flatten()[0])
        return {"1": value or 0.9, "8": 0.9, "32": 1.0}

    monkeypatch.setattr(light, "evaluate", evaluate)
    checkpoints = engines.Checkpoints(experiment)
    for step in range(1, 151):
        if step % 50 == 0:
            with torch.no_grad():
                weight += 1
        checkpoints.look(policy, step)
    last = {"1": 0.3, "8": 0.6, "32": 0.7}
    result = checkpoints.found(policy, last)
    assert [(step, values["1"]) for step, values in result["held_out"].items()] == [
        ("50", 0.2),
        ("100", 0.5),
        ("150", 0.4),
    ]
    assert result["best"] == {"step": 100, "pass_at": {"1": 0.9, "8": 0.9, "32": 1.0}}
    assert seen[3] == seen[1]
    checkpoints.held_out["150"]["1"] = 0.6
    assert checkpoints.found(policy, last)["best"] == {"step": 150, "pass_at": last}  # not measured twice
    assert len(seen) == 4


def test_the_grid_of_a_long_run_grows_where_the_best_is_at_its_end():
    def rates(results):
        return list(experiments.long_scores(results, "grpo", "countdown"))

    assert rates([]) == [1e-4, 2e-4, 4e-4, 8e-4]
    assert rates(long_grid(4e-4)) == [1e-4, 2e-4, 4e-4, 8e-4]
    assert rates(long_grid(8e-4)) == [1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3]
    assert rates(long_grid(1e-4)) == [5e-5, 1e-4, 2e-4, 4e-4, 8e-4]
    with pytest.raises(Incomplete, match="--only long_grid"):
        experiments.best_lr(long_grid(1e-4), "grpo", "countdown", "long_grid")
    assert experiments.best_lr(long_grid(4e-4), "grpo", "countdown", "long_grid") == 4e-4
    shown = long_tables.grid_table(Study(long_grid(4e-4)), "countdown").splitlines()
    assert len(shown) == 2 + len(methods.LONG_METHODS)
    assert all(line.count("**") == 2 for line in shown[2:])
    assert "3 seeds, selection prompts" in long_tables.headline_table(Study(long_grid(4e-4)))


def test_a_hopeless_step_size_gets_no_more_seeds():
    """0.1 behind the best so far; and one that has them all keeps them."""
    first = [row for row in long_grid(4e-4) if row["seed"] == 1]
    for row in first:
        row["val_acc"] = {1e-4: 0.29, 2e-4: 0.31, 4e-4: 0.4, 8e-4: 0.2}[row["lr"]]
    left = [e for e in GROUPS["long_grid"](first) if (e.method, e.task, e.seed) == ("grpo", "countdown", 2)]
    assert [e.lr for e in left] == [2e-4, 4e-4]
    with pytest.raises(Incomplete, match="--only long_grid"):
        experiments.best_lr(first, "grpo", "countdown", "long_grid")
    others = [row | {"val_acc": 0.4} for row in long_grid(4e-4) if row["seed"] > 1 and row["lr"] in (2e-4, 4e-4)]
    assert experiments.best_lr(first + others, "grpo", "countdown", "long_grid") == 4e-4
    assert experiments.best_lr(long_grid(4e-4), "grpo", "countdown", "long_grid") == 4e-4
    listed = [e for e in GROUPS["long_grid"](long_grid(4e-4)) if (e.method, e.task) == ("grpo", "countdown")]
    assert len(listed) == 12  # what has been run is counted, hopeless or not


def test_sections_are_there_where_there_are_results():
    assert analysis.fill("<!-- begin quantum-lock -->x<!-- end quantum-lock -->", Study(grid())) == (
        "<!-- begin quantum-lock -->\n<!-- end quantum-lock -->"
    )
    assert sections.large_model(Study(long_grid())) == ""
    results = long_grid()
    section = sections.quantum_lock(Study(results))
    assert section.startswith("### A third task")
    assert section.count("| GRPO |") == 2
    assert len(tables.tasks_table(Study(results)).splitlines()) == len(tables.tasks_table(Study([])).splitlines()) + 1
    results += large_grid()
    assert sections.large_model(Study(results)).count("| GRPO |") == 1
    for name in ("long_final", "large"):
        for e in GROUPS[name](results):
            value = 0.5 + 0.1 * (e.method == "asymgrpo") * (1 + (name == "large"))
            results.append(finished(e, value, pass_at=dict.fromkeys(("1", "8", "32"), value)))
    found = sections.large_model(Study(results))
    assert "| AsymGRPO | pass@1 | +0.200 [+0.200, +0.200] (5) | +0.100 [+0.100, +0.100] (10) |" in found
    assert "Over all three tasks" in sections.quantum_lock(Study(results))
    assert "| quantum lock, light, five times as many steps |" in tables.claims_table(Study(results))


# The runner


@pytest.fixture
def tiny_group(monkeypatch):
    """A group of four runs that take no time; `performed` is what has been run."""
    every = [
        Experiment("tiny", "light", m, METHODS[m], "chain_sum", s, 1e-3, 2) for m in ("grpo", "maxrl") for s in (1, 2)
    ]
    monkeypatch.setitem(GROUPS, "tiny", lambda results: iter(every))
    return every


def test_a_finished_run_is_not_repeated_and_a_cut_line_is(tmp_path, tiny_group):
    assert len(runner.pending(["tiny"], [])) == 4
    for experiment in tiny_group[:2]:
        runner.append(tmp_path, finished(experiment))
    path = tmp_path / "tiny.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])  # as a kill leaves it
    assert runner.pending(["tiny"], runner.read_results(tmp_path)) == tiny_group[1:]
    runner.append(tmp_path, finished(tiny_group[1]))
    assert path.read_bytes() == whole
    runner.append(tmp_path, finished(tiny_group[2]))
    assert runner.pending(["tiny"], runner.read_results(tmp_path)) == tiny_group[3:]
    there = runner.read_results(tmp_path)
    (tmp_path / "tiny.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert runner.read_results(tmp_path) == there


def test_a_broken_line_is_named(tmp_path, tiny_group):
    (tmp_path / "tiny.jsonl").write_text('{"a": 1\n{"b": 2}\n')
    with pytest.raises(ValueError, match=r"tiny\.jsonl:1 is not a line of JSON"):
        runner.read_results(tmp_path)


def test_second_runner_is_refused(tmp_path):
    with runner.only_one(tmp_path), pytest.raises(SystemExit, match="another runner"), runner.only_one(tmp_path):
        pass
    with runner.only_one(tmp_path):
        pass


def test_a_run_that_fails_has_its_cause_in_the_results(tmp_path, monkeypatch, tiny_group):
    monkeypatch.setattr(engines, "in_light", lambda *_: 1 / 0)
    row = runner.perform(tiny_group[0], tmp_path)
    assert row["error"] == "ZeroDivisionError: division by zero"
    assert row["val_acc"] is None
    monkeypatch.setitem(GROUPS, "grid", GROUPS["tiny"])
    failed = row | {"group": "grid", "error": "ZeroDivisionError: division\nby zero"}
    study = Study([failed])
    assert "1 GRPO chain_sum seed 1: ZeroDivisionError: division by zero |" in tables.runs_table(study)
    assert study.failed == [failed]
    good = finished(tiny_group[0]) | {"group": "grid"}
    again = Study([failed, good])
    assert "by zero (run again) |" in tables.runs_table(again)
    assert (again.failed, again.groups["grid"]) == ([], [good])


def test_what_failed_gets_one_more_try(tiny_group):
    failing = [finished(e, None, error="stalled") for e in tiny_group[:2]]
    assert runner.pending(["tiny"], failing) == tiny_group
    assert runner.pending(["tiny"], [*failing, failing[0]]) == tiny_group[1:]
    assert runner.pending(["tiny"], [*failing, finished(tiny_group[1])]) == [tiny_group[0], *tiny_group[2:]]


def test_a_step_size_is_chosen_by_the_last_try():
    failed = [row | {"val_acc": None, "error": "stalled"} for row in grid() if row["lr"] == 4e-4]
    assert experiments.best_lr([*failed, *grid()], "grpo", "countdown") == 4e-4


def test_unknown_group_and_missing_results(tmp_path, capsys):
    with pytest.raises(SystemExit):
        runner.main(["--only", "grids"])
    assert runner.main(["--only", "final", "--results", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "--only grid" in capsys.readouterr().err
    assert runner.main(["--rerun", "1", "--results", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert runner.main(["--list", "--results", str(tmp_path)]) == 0
    assert "grid           0 done, 0 failed, 408 left" in capsys.readouterr().out


@pytest.mark.parametrize(("accuracy", "outside"), [(0.52, 0), (0.6, 1), (None, 1)])
def test_runs_are_repeated_against_their_band_from_the_committed_models(
    tmp_path, monkeypatch, tiny_group, accuracy, outside
):
    """A band of 0.5 ± 2 * 0.0141, and both engines in turn."""
    for number, experiment in enumerate(tiny_group):
        for engine in ("light", "verl"):
            row = finished(Experiment(**{**vars(experiment), "engine": engine}), 0.49 + 0.02 * (number % 2))
            runner.append(tmp_path, row)
    order = []
    monkeypatch.setattr(runner, "base_model", lambda model, out: order.append((model, out)))

    def perform(experiment, out):
        order.append((experiment.engine, out))
        return finished(experiment, accuracy, **({"error": "diverged"} if accuracy is None else {}))

    monkeypatch.setattr(runner, "perform", perform)
    assert runner.rerun(2, 7, tmp_path, tmp_path) == 2 * outside
    assert order == [(what, tmp_path / "rerun-7") for what in ("small", "verl", "small", "light")]
    rows = [row for row in runner.read_results(tmp_path) if row["group"] == "rerun"]
    assert [row["inside"] for row in rows] == [not outside] * 2
    assert [row["band"] for row in rows] == [[0.4717, 0.5283]] * 2


@pytest.mark.slow
def test_killed_it_goes_on(tmp_path):
    """The real thing: run.sh's module is killed, leaves no process, and the next call does what is left."""
    command = [sys.executable, "-m", "benchmarks.study.runner", "--only", "grid", "--workers", "1"]
    command += ["--results", str(tmp_path / "results"), "--out", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert "light asymgrpo chain_sum seed 1" in first.stdout.readline()
    import psutil

    children = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    second = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert "light grpo chain_sum seed 1" in second.stdout.readline()
    second.kill()
    second.wait()
    rows = runner.read_results(tmp_path / "results")
    assert [row["method"] for row in rows] == ["asymgrpo", "grpo"]
    assert all(0 < row["val_acc"] < 1 and len(row["curve"]) == row["steps"] for row in rows)


# What is made of the results


def test_intervals():
    estimate = Estimate.of([0.1, 0.2, 0.3, 0.4, 0.5])
    assert estimate.mean == pytest.approx(0.3)
    half = 2.776 * math.sqrt(0.025) / math.sqrt(5)  # Student's t, four degrees of freedom
    assert (estimate.low, estimate.high) == (pytest.approx(0.3 - half), pytest.approx(0.3 + half))
    # Welch's, of two samples of 15 with much the same spread: 27 or 28 degrees of freedom.
    rng = random.Random(0)
    a, b = [rng.gauss(0.5, 0.1) for _ in range(15)], [rng.gauss(0.4, 0.1) for _ in range(15)]
    gap = welch(a, b)
    error = math.sqrt((statistics.variance(a) + statistics.variance(b)) / 15)
    assert gap.mean == pytest.approx(statistics.fmean(a) - statistics.fmean(b))
    assert (gap.high - gap.low) / 2 / error == pytest.approx(2.05, abs=0.02)
    assert Estimate.of([0.5]) == Estimate(0.5, 0.5, 0.5, 1)
    assert Estimate.of([0.1, 0.2]) == Estimate.of([0.1, 0.2])
    with pytest.raises(Incomplete):
        Estimate.of([])


@pytest.mark.parametrize(
    ("low", "high", "expected", "verdict"),
    [
        (0.1, 0.2, 1, "supported"), (-0.1, 0.2, 1, "unclear"), (-0.2, -0.1, 1, "not supported"),
        (-0.2, -0.1, -1, "supported"), (-0.2, 0.1, -1, "unclear"), (0.1, 0.2, -1, "not supported"),
        (-0.005, 0.1, 0, "supported"), (-0.05, 0.1, 0, "unclear"), (-0.05, -0.02, 0, "not supported"),
    ],
)  # fmt: skip
def test_verdicts(low, high, expected, verdict):
    assert Finding("", "", Estimate((low + high) / 2, low, high, 5), expected).verdict == verdict
    assert Finding("", "", Estimate((low + high) / 2, low, high, 4), expected).verdict == "unclear"


def test_verdict_of_a_claim():
    def claim(*signs):
        return Claim("x", "", lambda: [Finding("", "", Estimate(s, s - 0.1, s + 0.1, 5), 1) for s in signs]).verdict

    assert claim(1, 1) == "supported"
    assert claim(1, 0) == "partly supported"
    assert claim(1, -1) == "mixed"
    assert claim(-1, -1) == "not supported"
    assert claim(0, -1) == "partly not supported"
    assert claim(0, 0) == "unclear"


def test_measures():
    row = {
        "curve": [0.0] * 5 + [1.0] * 5,
        "steps": 10,
        "series": {"cov": [1.0, None, 2.0], "entropy_change": [-1.0, 9.0, -2.0]},
    }
    assert measures.steps_to(0.6)(row) == 8  # three of the last five
    assert measures.steps_to(1.1)(row) == 10
    assert measures.correlation(row) == pytest.approx(-1)
    assert measures.slope({0.0: 1.0, 0.5: 2.0, 1.0: 3.0}) == pytest.approx(2)


def test_a_planted_effect_is_found_with_its_sign_and_a_loser_is_shown():
    results = grid()
    for experiment in GROUPS["final"](results):
        value = {"asymgrpo": 0.6, "grpo": 0.5}.get(experiment.method, 0.4) + experiment.seed / 1000
        pass_at = {str(k): min(1.0, value + k / 100) for k in (1, 8, 32)}
        results.append(finished(experiment, value, pass_at=pass_at))
    study = Study(results)
    difference = study.difference("final", "asymgrpo", "grpo", "countdown", measures.accuracy)
    assert difference.mean == pytest.approx(0.1)
    assert difference.seeds == 10
    shown = tables.methods_table(study, "final", "countdown").splitlines()
    assert shown[2].startswith("| AsymGRPO | 0.0004 | 10 | 0.625")
    assert len(shown) == 2 + len(METHODS)


def test_pages_are_filled_between_their_marks():
    text = "a\n<!-- begin runs -->\nold\n<!-- end runs -->\nb\n"
    once = analysis.fill(text, Study([]))
    assert "old" not in once
    assert once.startswith("a\n")
    assert once.endswith("b\n")
    assert analysis.fill(once, Study([])) == once
    with pytest.raises(ValueError, match="unknown block"):
        analysis.fill("<!-- begin run -->", Study([]))
    with pytest.raises(ValueError, match="has no <!-- end runs -->"):
        analysis.fill("<!-- begin runs -->", Study([]))


def test_a_claim_without_results_does_not_hide_the_others():
    results = grid()
    results += [finished(e, 0.5) for e in GROUPS["final"](results) if e.method in ("asymgrpo", "grpo")]
    lines = tables.claims_table(Study(results)).splitlines()
    (first,) = (line for line in lines if line.startswith("| **(a)**"))
    assert "**not supported**" in first
    (second,) = (line for line in lines if line.startswith("| **(b)**"))
    assert "not complete" in second


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("verl", ", verl "),
        ("long_final", "five times as many steps |"),
    ],
)
def test_other_runs_stand_beside_the_final_ones_as_far_as_they_are_there(group, words):
    results = grid()
    results += [finished(e, 0.5) for e in GROUPS["final"](results) if e.method in ("asymgrpo", "grpo")]
    passes = {"pass_at": {"1": 0.6, "8": 0.9, "32": 1.0}}
    others = [finished(e, 0.6 + e.seed / 1000, **passes) for e in GROUPS[group]([*results, *long_grid()])]
    tasks = {row["task"] for row in others}
    for there, shown in (((), 0), (("asymgrpo",), 0), (("asymgrpo", "grpo"), len(tasks))):
        study = Study([*results, *(row for row in others if row["method"] in there and row["seed"] < 16)])
        lines = [line for line in tables.claims_table(study).splitlines() if line.startswith("| AsymGRPO minus GRPO")]
        assert [words in line for line in lines].count(True) == shown
        assert len(lines) == len(TASKS) + shown


def test_engines_are_compared_where_both_have_run():
    results, passes = grid(), {"1": 0.611, "8": 0.9, "32": 1.0}
    light = [e for e in GROUPS["final"](results) if e.method in ("asymgrpo", "grpo")]
    results += [finished(e, 0.5, pass_at={"1": 0.5 + e.seed / 1000, "8": 0.9, "32": 1.0}) for e in light]
    verl = [finished(e, 0.6 + e.seed / 1000, pass_at=passes) for e in GROUPS["verl"](results)]
    one = Study([*results, *(row for row in verl if row["seed"] == 11)])
    assert tables.agreement_table(one).splitlines()[2].endswith("| 0.611 (1) | 0.516 (10) |  |  |")
    both = Study([*results, *(row | {"pass_at": {**passes, "1": 0.6 + row["seed"] / 1000}} for row in verl)])
    first, second = tables.agreement_table(both).splitlines()[2:4]
    assert first.endswith("| 0.613 (5) | 0.516 (10) | +0.097 [+0.095, +0.100] | no |")
    assert second.endswith("| 0.900 (5) | 0.900 (10) | +0.000 [+0.000, +0.000] | yes |")


@pytest.mark.parametrize(("name", "tables"), [("docs/results.md", 20), ("docs/entropy.md", 4), ("README.md", 1)])
def test_the_committed_pages_are_what_the_committed_results_give(name, tables):
    page = (ROOT / name).read_text()
    assert page.count("<!-- begin ") >= tables
    assert analysis.fill(page, Study(runner.read_results(runner.RESULTS))) == page


NUMBER = r"(?<![\w.])\d*\.\d+(?![\w.])|(?<![\w.])\d+(?= %)"
BLOCK = r"<!-- begin (\S+) -->(.*?)<!-- end \1 -->"


def test_numbers_in_prose_are_those_of_the_results():
    """Every share and every number with decimals stands in a generated table, or is worked out here; so are counts."""
    study = Study(runner.read_results(runner.RESULTS))
    starts = [row["held_out"]["0"] for row in study.groups["smollm2"]]
    ends = [row["val_acc"] for row in study.groups["smollm2"]]
    rate = statistics.fmean(ends)
    worked_out = {f"{statistics.fmean(starts):.2f}", f"{math.sqrt(rate * (1 - rate) / 96):.2f}", "5"}  # a test at 5 %
    pages = {name: (ROOT / name).read_text() for name in ("README.md", "docs/results.md", "docs/entropy.md")}
    numbers = {
        name: {n for _, block in re.findall(BLOCK, page, re.DOTALL) for n in re.findall(NUMBER, block)}
        for name, page in pages.items()
    }
    shown = numbers["README.md"] | numbers["docs/results.md"]
    everywhere = shown | numbers["docs/entropy.md"]  # README and docs/loss.md link to its tables
    readme, results, entropy = (re.sub(BLOCK, "", page, flags=re.DOTALL) for page in pages.values())
    loss = (ROOT / "docs/loss.md").read_text().partition("In the study")[2].partition("It logs")[0]
    assert set(re.findall(NUMBER, loss)) <= everywhere | {"0.1"}  # and a coefficient
    section = readme.partition("## Does it do what the paper says?")[2].partition("\n## ")[0]
    for prose, known in ((section, everywhere), (results, shown)):
        prose = re.sub(r"arXiv [\d.]+|```.*?```", "", prose, flags=re.DOTALL)
        assert set(re.findall(NUMBER, prose)) <= known | worked_out
    found = re.findall(r"[+-]\d\.\d+ \[[^\]]+\]", entropy)
    tables_of_page = "".join(block for _, block in re.findall(BLOCK, pages["docs/entropy.md"], re.DOTALL))
    assert len(found) >= 5
    assert [estimate for estimate in found if estimate not in tables_of_page] == []
    assert f"{len(METHODS)} methods" in section
    assert f"{len(methods.LONG_METHODS)} methods, each with step sizes of its own" in results


def test_the_engines_agree_in_the_committed_results():
    study = Study(runner.read_results(runner.RESULTS))
    for method in ("asymgrpo", "grpo"):
        rows = [
            line
            for line in tables.agreement_table(study).splitlines()
            if line.startswith(f"| {methods.LABELS[method]} | pass@1")
        ]
        if not rows:
            pytest.skip("verl's runs are not there yet")
        assert rows[0].endswith("| yes |")


def test_committed_results_are_whole():
    rows = runner.read_results(runner.RESULTS)
    good = [(row["group"], row["config_hash"], row.get("of")) for row in rows if not row.get("error")]
    assert len(set(good)) == len(good)
    for row in rows:
        assert {"engine", "method", "task", "model", "seed", "lr", "steps", "val_acc", "curve"} <= row.keys()
        assert row["engine"] in ("verl", "light")
        if not row.get("error"):
            assert 0 <= row["val_acc"] <= 1
            short = dict.fromkeys((*experiments.LONG_FINALS, *control.AT_LENGTH, *SUPERSEDED), engines.EVERY)
            none = dict.fromkeys((*experiments.LONG_GRIDS, *control.IN_SHORT), 0)
            every = {**none, **short}.get(row["group"], 1)
            assert row["group"] not in SUPERSEDED or "series" not in row
            assert len(row["curve"]) == (row["steps"] // every if every else 0)
            assert row["lr"] in (*LEARNING_RATES, 5e-6) or row["group"].startswith(("long_", "large", "control"))
