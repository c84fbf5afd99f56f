"""The study of the entropy control: its groups, and the control in the light engine."""

import itertools
import statistics

import pytest

pytest.importorskip("transformers")

from benchmarks.study import control, control_sections, control_tables, engines, figures, light, methods
from benchmarks.study.experiments import Incomplete, best_lr
from benchmarks.study.groups import GROUPS
from benchmarks.study.measures import Study
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


def finished(experiment, pass_at, **more):
    fields = {name: getattr(experiment, name) for name in experiment.__dataclass_fields__}
    values = dict(zip(("1", "8", "32"), pass_at, strict=True))
    row = {**fields, "config_hash": experiment.config_hash, "val_acc": pass_at[0], "pass_at": values}
    row |= {"last": {"entropy": 0.3, "none_solved": 0.1, "length": 9.0}, "update_kl": 0.01, "curve": [0.5] * 40}
    return row | {"series": {"entropy": [0.3] * 40, "none_solved": [0.1] * 40}} | more


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
    assert control.best_methods(results, 1) == ["asymgrpo_both_0.7", "grpo_successes_0.5"]  # and one of GRPO's
    assert not any(e.selection for e in reported)


def test_a_base_with_none_among_the_best_reports_its_own_best(results):
    """Else the reported could not say whether a floor helps GRPO."""
    better = [
        finished(e, (0.65 if e.method.startswith("asymgrpo") or e.method == "grpo_repo_fall" else 0.5, 0.9, 0.95))
        for e in GROUPS["control_levels"](results)
    ]
    rows = [row for row in results if row["group"] != "control_levels"] + better
    best = control.best_methods(rows, 6)
    assert best[6:] == ["grpo_repo_fall"]
    assert all(method.startswith("asymgrpo") for method in best[:6])
    assert {(e.method, e.task) for e in GROUPS["control"](rows)} >= {(best[-1], task) for task in control.CONTROL_TASKS}


def test_twice_the_length_has_step_sizes_of_its_own(results):
    tried = list(GROUPS["control_800_grid"](results))
    assert {e.steps for e in tried} == {800}
    assert len({e.method for e in tried}) == 5
    assert {"grpo", "asymgrpo", "modulated_0.3"} <= {e.method for e in tried}
    with pytest.raises(Incomplete, match="--only control_800_grid"):
        list(GROUPS["control_800"](results))
    longer = of_group("control_800_grid", results, lambda e: 0.6 if e.lr == 2e-4 else 0.3)
    reported = list(GROUPS["control_800"]([*results, *longer]))
    assert {(e.lr, e.steps) for e in reported} == {(2e-4, 800)}


def test_after_twice_the_length_each_is_compared_with_grpo_and_with_its_base(results):
    assert control_sections.longer(Study([])) == ""
    longer = of_group("control_800_grid", results, lambda e: 0.6 if e.lr == 2e-4 else 0.3)
    page = control_sections.longer(Study([*results, *longer]))
    assert "**0.600 / 0.900 / 0.950 (2)**" in page
    assert "Paired" not in page
    more = {"grpo": 0.0, "asymgrpo": 0.02, "modulated_0.3": 0.03, "grpo_successes_0.5": 0.01, "asymgrpo_both_0.7": 0.05}
    rows = [
        finished(e, (0.6 + e.seed / 1000 + more[e.method], 0.9, 0.95))
        for e in GROUPS["control_800"]([*results, *longer])
    ]
    lines = control_tables.longer_table(Study(rows)).splitlines()[2:]
    found = {tuple(cell.strip() for cell in line.strip("|").split("|"))[:3] for line in lines}
    assert len(lines) == len(found) == 3 * (4 + 2)
    assert ("AsymGRPO + modulated 0.3 minus GRPO", "pass@1", "+0.030 [+0.030, +0.030]") in found
    assert ("AsymGRPO + modulated 0.3 minus AsymGRPO", "pass@1", "+0.010 [+0.010, +0.010]") in found
    assert ("AsymGRPO, both 0.7 minus AsymGRPO", "pass@32", "+0.000 [+0.000, +0.000]") in found
    page = control_sections.longer(Study([*results, *longer, *rows]))
    assert page.startswith("### 800 steps")
    assert page.count("| GRPO |") == 2


def test_explosion_is_with_a_ceiling_and_without(results):
    found = {e.method: light.Method.of(e.overrides) for e in GROUPS["control_explosion"](results)}
    ways = {"": None, "_ceiling": "both", "_ceiling_bonus": "bonus"}
    for bonus, held in itertools.product((0.05, 0.1, 0.3), ways):
        method = found[f"grpo_bonus_{bonus:g}{held}"]
        assert method.actor.entropy_coeff == bonus
        config = EntropyControlConfig.from_algorithm(method.algorithm)
        assert config == (EntropyControlConfig(way=ways[held], floor=None, ceiling=1.0) if held else None)


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


# Tables


def test_what_a_way_holds_is_told_by_its_floor():
    """The run without a floor by that of its seed, which is of another run."""
    rows = []
    for e in GROUPS["control_held"]([]):
        floor, plain = 0.4 + e.seed / 1000, e.method == "grpo"
        share = (0.5 if plain else 0.9) + (e.seed - 13) / 100 + (0.01 if e.lr == 1e-3 else 0)
        ends = {"entropy": share * floor} | ({} if plain else {"control/floor": floor})
        rows.append(finished(e, (0.6, 0.9, 1.0), last=ends))
    assert {(row["task"], row["steps"]) for row in rows} == {("chain_sum", 60)}
    header, _, plain, *held = control_tables.held_table(Study(rows)).splitlines()
    assert header.startswith("| way | lr 0.0004: entropy by the floor |")
    assert plain == (
        "| no floor | 0.50 (0.48 to 0.52) | 0.600 / 0.900 / 1.000 | 0.51 (0.49 to 0.53) | 0.600 / 0.900 / 1.000 |"
    )
    assert [line.split(" | ")[0].strip("| ") for line in held] == list(methods.WAYS)
    assert all("| 0.90 (0.88 to 0.92) |" in line and "| 0.91 (0.89 to 0.93) |" in line for line in held)
    assert control_sections.held(Study([])) == ""


def test_five_seeds_are_five_at_each_step_size():
    """Two step sizes of three seeds are no six seeds; and a run without a floor may come before those of its seed."""
    ends = {"entropy": 0.2, "control/floor": 0.4}
    rows = [finished(e, (0.6, 0.9, 1.0), last=ends) for e in GROUPS["control_held"]([])]
    few = Study([row for row in rows if row["seed"] < 14])
    assert control_sections.held(few) == ""
    alone = [row | {"last": {"entropy": 0.2}} for row in rows if row["method"] == "grpo"]
    shown = control_tables.held_table(Study(alone)).splitlines()
    assert shown[2].split("|")[2].strip() == ""


def channel_rows(results, reach, effect):
    """At the same entropy, successes solve more by `effect`; `reach` is the entropy at a floor, by channel."""
    rows = []
    for e in GROUPS["control_channel"](results):
        _, channel, floor = e.method.split("_")
        entropy = reach[channel] * float(floor) + 0.001 * (e.seed % 3)
        score = 0.7 - 0.5 * entropy + effect * (channel == "successes")
        hot = {f"{t:g}": {"1": score - 0.1, "8": 0.9, "32": score + 0.1} for t in control.TEMPERATURES}
        rows.append(finished(e, (score, 0.9, score + 0.2), last={"entropy": entropy}, pass_at_temperature=hot))
    return rows


@pytest.mark.parametrize("effect", [0.0, 0.05])
def test_channels_are_compared_at_equal_entropy(results, effect):
    """Failures and both end at a higher entropy for the same floor, which is no merit of the channel."""
    study = Study(channel_rows(results, {"successes": 0.4, "failures": 0.6, "both": 0.7}, effect))
    # From the largest least entropy, 0.7 * 0.42, to the least largest, 0.4 * 0.75.
    assert control_tables.equal_entropy(study, "grpo") == pytest.approx(0.297, abs=0.002)
    lines = control_tables.channel_table(study).splitlines()[2:]
    assert len(lines) == 2 * 2 * 3 * 2
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert float(cells[5].split()[0]) == pytest.approx(effect, abs=2e-3)
        assert cells[6] == "10"
        assert (float(cells[7]) < 0.02) == (effect > 0)


def test_a_seed_whose_floors_end_close_together_has_its_channels_slope(results):
    """A line of its own through four points that noise has put side by side would point anywhere."""
    rows = channel_rows(results, {"successes": 0.4, "failures": 0.6, "both": 0.7}, 0.0)
    for row in rows:
        if row["seed"] == 11:
            row["last"]["entropy"] = 0.25 + 0.001 * (row["pass_at"]["1"] > 0.55)
    found = control_tables.at_entropy(Study(rows), "grpo", "successes", 0.297, control_tables.pass_at(1))
    assert all(value == pytest.approx(0.7 - 0.5 * 0.297, abs=0.02) for value in found.values())


def test_a_training_that_failed_solves_nothing(results):
    """It neither ends the choice of methods nor is left out of it."""
    rows = [
        {**row, "pass_at": None, "error": "RuntimeError: x"} if row["method"] == "grpo_successes_0.4" else row
        for row in results
    ]
    assert "grpo_successes_0.4" not in control.best_methods(rows, len(methods.CONTROL_METHODS) - 1)


def test_channels_that_share_no_entropy_are_not_compared(results):
    study = Study(channel_rows(results, {"successes": 0.2, "failures": 0.9, "both": 0.9}, 0.1))
    with pytest.raises(Incomplete, match=r"no entropy that all channels reach \(successes 0.09 to 0.15"):
        control_tables.channel_table(study)
    assert "*Not comparable: GRPO: no entropy" in control_sections.channels(study)
    assert control_sections.channels(Study([])) == ""


def reported(results, gain):
    """Under control pass@32 is what the base has at temperature 1.3, and `gain` more; pass@1 as the base's."""
    rows = []
    for e in GROUPS["control"](results):
        plus, noise = (0.0 if e.method in methods.BASES else gain), e.seed / 1000
        at = {"0.6": {"1": 0.6 + noise, "8": 0.8, "32": 0.8 + plus}, "1.3": {"1": 0.4, "8": 0.9, "32": 0.95 + plus}}
        own = 0.9 if e.method in methods.BASES else 0.94 + plus
        rows.append(finished(e, (0.5 + noise, 0.9, own), pass_at_temperature=at))
    return rows


@pytest.mark.parametrize("gain", [0.0, 0.03])
def test_a_floor_has_to_give_more_than_a_temperature(results, gain):
    study = Study(reported(results, gain))
    lines = control_tables.more_than_a_temperature_table(study).splitlines()[2:]
    assert len(lines) == 2 * 6 * 2
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert float(cells[4].split()[0]) == (gain if cells[2] == "pass@32" else 0)
        assert cells[3] == ("0.6 and 0.6" if cells[2] == "pass@1" else "1.3 and 1.3")
    page = control_sections.fresh(study)
    assert page.count("against GRPO:") == page.count("against AsymGRPO:") == 1
    assert "800 steps" not in page
    assert control_sections.fresh(Study([])) == ""


def test_tables_show_what_is_there(results):
    assert control_sections.ways(Study([])) == control_sections.careless(Study([])) == ""
    page = control_sections.ways(Study(results))
    assert page.count("\n| GRPO, successes |") == page.count("\n| AsymGRPO, filter |") == 2
    assert "0.700 / 0.900 / 0.950, H 0.30 (2)" in page
    rows = of_group("control_explosion", results)
    for e in GROUPS["control_robust"](results):
        score = {"grpo": {8e-4: 0.5, 1.6e-3: 0.2}}.get(e.method, {}).get(e.lr, 0.6)
        rows.append(finished(e, (score, 0.9, 0.95)))
    page = control_sections.careless(Study([*results, *rows]))
    assert "| GRPO + entropy bonus 0.1, ceiling 1 by `both` | 3 |" in page
    (line,) = (line for line in page.splitlines() if line.startswith("| GRPO | 0.6"))
    assert line.endswith("0.200 / 0.900 / 0.950 (10) | 0.400 |")
    # 0.1 and 0.4 at two of the five step sizes.
    assert "\n| AsymGRPO minus GRPO | pass@1 | +0.100 [+0.100, +0.100] | 10 | 0.0" in page
    assert "\n| AsymGRPO, successes 0.5 minus GRPO, successes 0.5 | pass@1 | +0.000 [+0.000, +0.000] | 10 | 1.0" in page
    assert page.count(" | pass@32 | +0.000 [+0.000, +0.000] | 10 | 1.0") == 6
    halved = [row for row in rows if row["lr"] < 1.6e-3 or row["method"] != "grpo"]  # not at every step size
    assert "minus GRPO |" not in control_tables.untuned_table(Study(halved))


def test_figures_are_drawn_where_there_are_runs(results, tmp_path):
    robust = [finished(e, (0.6 + e.seed / 1000, 0.9, 0.95)) for e in GROUPS["control_robust"](results)]
    study = Study([*reported(results, 0.03), *robust])
    assert {path.name for path in figures.draw(study, tmp_path)} == {"control_frontier.png", "control_robust.png"}
    for name, page in (("frontier", control_sections.fresh(study)), ("robust", control_sections.careless(study))):
        assert (tmp_path / f"control_{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"](results/control_{name}.png)" in page
