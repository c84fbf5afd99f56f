"""The study of the entropy control: its groups, and the control in the light engine."""

import itertools
import statistics

import pytest

pytest.importorskip("transformers")

from benchmarks.study import control, engines, light, methods
from benchmarks.study.experiments import Incomplete, best_lr
from benchmarks.study.groups import GROUPS
from recipe.asymgrpo.data import procedural_rows
from recipe.asymgrpo.entropy_control import WAYS, EntropyControlConfig

pytestmark = pytest.mark.usefixtures("study_worker")


@pytest.fixture(scope="module")
def base():
    (folder,) = engines.MODELS.glob("small-*")
    return folder


@pytest.fixture(scope="module")
def rows():
    return procedural_rows(train_size=128, val_size=64, task="chain_sum")


def finished(experiment, pass_at):
    fields = {name: getattr(experiment, name) for name in experiment.__dataclass_fields__}
    values = dict(zip(("1", "8", "32"), pass_at, strict=True))
    return {**fields, "config_hash": experiment.config_hash, "val_acc": pass_at[0], "pass_at": values}


def of_group(name, results, score=lambda e: 0.6 if e.lr == 4e-4 else 0.3):
    return [finished(e, (score(e), 0.9, 0.95)) for e in GROUPS[name](results)]


@pytest.fixture(scope="module")
def results():
    """All that has to be there before the reported runs; the best way is `both` on AsymGRPO at 0.7."""
    found = of_group("long_grid", [])
    found += of_group("control_grid", found)
    favourite = "asymgrpo_both_0.7"
    return found + of_group("control_levels", found, lambda e: 0.7 if e.method == favourite else 0.5)


def test_every_way_is_there_at_every_floor():
    assert set(methods.WAYS) == set(WAYS)
    assert len(methods.CONTROL_METHODS) == 2 * 7 * 4
    assert not set(methods.CONTROL_METHODS) & set(methods.LONG_METHODS)


@pytest.mark.parametrize(
    "method", ["grpo_successes_0.5", "asymgrpo_failures_0.4", "grpo_filter_0.7", "asymgrpo_bonus_fall"]
)
def test_a_method_is_what_its_name_says(method):
    found = light.Method.of(methods.CONTROL_METHODS[method])
    base, way, floor = method.split("_")
    assert found.algorithm.asym_grpo.preset == base
    config = EntropyControlConfig.from_algorithm(found.algorithm)
    levels = {"floor": 1.0, "final_floor": 0.4} if floor == "fall" else {"floor": float(floor)}
    assert config == EntropyControlConfig(way=way, **levels)


def test_each_group_waits_for_what_it_needs(results):
    with pytest.raises(Incomplete, match="--only control_grid"):
        list(GROUPS["control_levels"]([]))
    grid_only = [row for row in results if row["group"] != "control_levels"]
    with pytest.raises(Incomplete, match="control_grid control_levels"):
        list(GROUPS["control"](grid_only))
    every = [e for name in control.GROUPS if name != "control_800" for e in GROUPS[name](results)]
    assert len({e.config_hash for e in every}) == len(every)


def test_the_grid_is_of_the_first_floor_and_others_take_its_step_size(results):
    tried = {(e.method, e.task) for e in GROUPS["control_grid"](results)}
    assert {method.rsplit("_", 1)[1] for method, _ in tried} == {"0.5"}
    assert len(tried) == 2 * 7 * 2
    for e in GROUPS["control_levels"](results):
        assert e.lr == best_lr(results, control.tuned(e.method), e.task, "control_grid") == 4e-4
        assert e.selection


def test_reported_are_the_best_and_the_bases_on_fresh_seeds(results):
    reported = list(GROUPS["control"](results))
    assert len(reported) == 10 * 2 * (2 + 6)
    assert {"grpo", "asymgrpo", "asymgrpo_both_0.7"} <= {e.method for e in reported}
    assert control.best_methods(results, 1) == ["asymgrpo_both_0.7"]
    assert not any(e.selection for e in reported)


def test_twice_the_length_has_step_sizes_of_its_own(results):
    tried = list(GROUPS["control_800_grid"](results))
    assert {e.steps for e in tried} == {800}
    assert len({e.method for e in tried}) == 4
    with pytest.raises(Incomplete, match="--only control_800_grid"):
        list(GROUPS["control_800"](results))
    longer = of_group("control_800_grid", results, lambda e: 0.6 if e.lr == 2e-4 else 0.3)
    reported = list(GROUPS["control_800"]([*results, *longer]))
    assert {(e.lr, e.steps) for e in reported} == {(2e-4, 800)}


def test_explosion_is_with_a_ceiling_and_without(results):
    found = {e.method: light.Method.of(e.overrides) for e in GROUPS["control_explosion"](results)}
    for bonus, held in itertools.product((0.05, 0.1), (False, True)):
        method = found[f"grpo_bonus_{bonus:g}" + ("_ceiling" if held else "")]
        assert method.actor.entropy_coeff == bonus
        config = EntropyControlConfig.from_algorithm(method.algorithm)
        assert config == (EntropyControlConfig(way="both", floor=None, ceiling=1.0) if held else None)


def test_the_light_engine_holds_what_it_is_told(base, rows):
    """A floor above the first entropy: the run ends above the one without, and logs what was done."""
    floor = "algorithm.asym_grpo.entropy_control.floor=3"
    run = {"lr": 1e-3, "steps": 8, "seed": 1}
    _, plain = light.train(base, rows["train"], methods.METHODS["grpo"], **run)
    _, held = light.train(base, rows["train"], (*methods.control_overrides("grpo", "both", "0.5"), floor), **run)
    assert not [name for name in plain if name.startswith("control/")]
    assert held["entropy"][0] == plain["entropy"][0]
    assert statistics.fmean(held["entropy"][4:]) > statistics.fmean(plain["entropy"][4:]) + 0.02
    assert held["control/entropy"] == pytest.approx(held["entropy"])
    assert all(action > 0 for action in held["control/action"])
    assert held["control/floor"] == pytest.approx([3 * held["entropy"][0]] * 8)
    assert held["cov"][0] == plain["cov"][0]  # of the estimator's advantages


def test_a_temperature_sharpens_what_is_sampled(base, rows):
    policy = light.Policy(base)
    found = [light.evaluate(policy, rows["val"], 8, (1, 8), t) for t in (0.01, 0.6, 1.0, 1.3)]
    assert light.evaluate(policy, rows["val"], 8, (1, 8)) == found[2]
    assert found[0]["1"] == pytest.approx(found[0]["8"], abs=0.03)  # nearly greedy: the same answer each time
    assert found[0]["1"] > found[1]["1"] > found[2]["1"] > found[3]["1"]
