"""The entropy control in verl's own functions, with a trainer that only counts, saves and resumes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo import core_algos, metric_utils, ray_trainer

import verl_ext.plugin  # noqa: F401  (registers, and stands around verl's functions)
from recipe.asymgrpo.config import ConfigError
from recipe.asymgrpo.entropy_control import EntropyControlConfig, State, control
from verl_ext import driver_metrics, early_check, entropy_control, entropy_state

try:
    from verl.trainer.ppo.v1 import utils
except ModuleNotFoundError:  # V1 came with verl 0.9
    utils = None
needs_v1 = pytest.mark.skipif(utils is None, reason="this verl has no V1 trainer")

ROWS, TOKENS = 8, 4
FLOOR = {"way": "successes", "floor": 3.0, "unit": "nats"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(entropy_control, "run", entropy_control.Run())
    monkeypatch.setattr(driver_metrics, "state", driver_metrics.State())


def batch(step: int = 1) -> DataProto:
    """Two groups of four responses, whose log-probabilities depend on the step."""
    generator = torch.Generator().manual_seed(step)
    rewards = torch.zeros(ROWS, TOKENS)
    rewards[:, -1] = torch.tensor([1.0, 0, 0, 1, 1, 1, 0, 1])
    mask = torch.ones(ROWS, TOKENS, dtype=torch.int64)
    mask[0, 2:] = 0
    tensors = {
        "token_level_rewards": rewards,
        "token_level_scores": rewards,
        "response_mask": mask,
        "responses": mask,
        "prompts": mask,
        "attention_mask": torch.ones(ROWS, 2 * TOKENS, dtype=torch.int64),
        "old_log_probs": -torch.rand(ROWS, TOKENS, generator=generator),
        "values": torch.zeros(ROWS, TOKENS),
    }
    uids = np.array(list("aaaabbbb"), dtype=object)
    return DataProto(batch=TensorDict(tensors, batch_size=ROWS), non_tensor_batch={"uid": uids})


class Trainer:
    """What the control needs of verl's trainers, and how they save and resume."""

    def __init__(self, folder=None, knobs=FLOOR, estimator="asym_grpo", steps=10, **settings):
        algorithm = {"adv_estimator": estimator, "gamma": 1.0, "asym_grpo": {"entropy_control": knobs}}
        if knobs is None:
            algorithm.pop("asym_grpo")
        trainer = {"default_local_dir": str(folder), "resume_mode": "auto", **settings}
        self.config = OmegaConf.create({"algorithm": algorithm, "trainer": trainer})
        self.global_steps, self.total_training_steps = 1, steps

    def step(self, data=None, hand_over=True):
        data = data or batch(self.global_steps)
        algorithm = self.config.algorithm
        settings = {"config": algorithm} if hand_over else {}
        return ray_trainer.compute_advantage(data, adv_estimator=algorithm.adv_estimator, num_repeat=4, **settings)

    def _save_checkpoint(self):
        root = Path(self.config.trainer.default_local_dir)
        (root / f"global_step_{self.global_steps}").mkdir(parents=True, exist_ok=True)
        (root / "latest_checkpointed_iteration.txt").write_text(str(self.global_steps))


def logged(data) -> dict[str, float]:
    found = metric_utils.compute_data_metrics(batch=data, use_critic=False)
    return {key: value for key, value in found.items() if key.startswith("asymgrpo/control/")}


def controlled(data, entropies=None):
    """What the floor makes of a first step."""
    tensors = [data.batch[name] for name in ("advantages", "old_log_probs", "response_mask")]
    return control(EntropyControlConfig(**FLOOR), State(), 0.0, *tensors, entropies)


ESTIMATORS = ["asym_grpo", "grpo", "rloo", "gae", "reinforce_plus_plus", "remax"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_acts_on_every_estimator_and_leaves_returns(estimator):
    data, plain = batch(), batch()
    for one in (data, plain):
        one.batch["reward_baselines"] = torch.full((ROWS,), 0.5)  # of remax
    trainer = Trainer(estimator=estimator)
    without = Trainer(estimator=estimator, knobs=None).step(plain)
    found = trainer.step(data)
    expected = controlled(without)
    torch.testing.assert_close(found.batch["advantages"], expected.advantages, rtol=0, atol=0)
    assert not torch.equal(found.batch["advantages"], without.batch["advantages"])
    assert torch.equal(found.batch["returns"], without.batch["returns"])
    assert logged(found) == expected.metrics


@pytest.mark.parametrize("preset", ["grpo", "asymgrpo", "maxrl", None])
def test_off_changes_no_bit(preset):
    """Bit by bit. None: verl's own grpo."""
    trainer = Trainer(knobs=None, estimator="asym_grpo" if preset else "grpo")
    if preset:
        trainer.config.algorithm.asym_grpo = {"preset": preset}
    found = trainer.step()
    assert entropy_control.run == entropy_control.Run()
    assert not logged(found)
    data = batch()
    if preset:
        own = core_algos.get_adv_estimator_fn("asym_grpo")
        expected, _ = own(
            token_level_rewards=data.batch["token_level_rewards"],
            response_mask=data.batch["response_mask"],
            index=data.non_tensor_batch["uid"],
            config=trainer.config.algorithm,
        )
    else:
        expected, _ = core_algos.compute_grpo_outcome_advantage(
            token_level_rewards=data.batch["token_level_rewards"],
            response_mask=data.batch["response_mask"],
            index=data.non_tensor_batch["uid"],
        )
    assert torch.equal(found.batch["advantages"], expected)


def test_between_the_levels_nothing_changes():
    knobs = {"floor": 0.1, "ceiling": 2.0, "unit": "nats"}
    data = batch()
    found = Trainer(knobs=knobs).step(data)
    assert torch.equal(found.batch["advantages"], Trainer(knobs=None).step(batch()).batch["advantages"])
    assert logged(found)["asymgrpo/control/action"] == 0


@pytest.mark.parametrize("hand_over", [True, False])
def test_a_trainer_that_keeps_its_configuration_is_asked(hand_over):
    found = Trainer(estimator="grpo").step(hand_over=hand_over)
    assert logged(found)["asymgrpo/control/action"] > 0


def test_figures_are_logged_once():
    trainer = Trainer()
    found = trainer.step()
    assert set(logged(found)) == {
        f"asymgrpo/control/{name}" for name in ("entropy", "floor", "error", "action", "saturated")
    }
    assert not logged(found)


@pytest.mark.parametrize("way", ["successes", "bonus", "repo", "weights"])
def test_a_kill_and_a_resume_change_nothing(way, tmp_path, monkeypatch):
    knobs = {"way": way, "floor": 3.0, "final_floor": 1.0}
    whole = Trainer(tmp_path / "whole", knobs=knobs)
    expected = []
    for number in range(1, 8):
        whole.global_steps = number
        expected.append(
            (whole.step().batch["advantages"].clone(), entropy_control.run.state, entropy_control.run.metrics)
        )

    monkeypatch.setattr(entropy_control, "run", entropy_control.Run())
    first = Trainer(tmp_path / "killed", knobs=knobs)
    for number in range(1, 6):
        first.global_steps = number
        first.step()
        if number == 3:
            first._save_checkpoint()
    state_file = tmp_path / "killed/global_step_3" / entropy_state.STATE_FILE
    assert json.loads(state_file.read_text()) == {"way": way, "exact": False, **expected[2][1].to_dict()}

    monkeypatch.setattr(entropy_control, "run", entropy_control.Run())  # a new process, steps 4 and 5 are lost
    second = Trainer(tmp_path / "killed", knobs=knobs)
    for number in range(4, 8):
        second.global_steps = number
        advantages, state, metrics = expected[number - 1]
        assert torch.equal(second.step().batch["advantages"], advantages)
        assert (entropy_control.run.state, entropy_control.run.metrics) == (state, metrics)


def test_a_named_checkpoint_is_resumed(tmp_path):
    folder = tmp_path / "elsewhere/global_step_4"
    folder.mkdir(parents=True)
    (folder / entropy_state.STATE_FILE).write_text(json.dumps({"reference": 0.25, "memory": 0.5}))
    trainer = Trainer(tmp_path, knobs={"floor": 1.0}, resume_mode="resume_path", resume_from_path=str(folder))
    trainer.global_steps = 5
    assert logged(trainer.step())["asymgrpo/control/floor"] == 0.25


def test_a_run_from_scratch_takes_no_state(tmp_path):
    old = Trainer(tmp_path)
    old.step()
    old._save_checkpoint()
    entropy_control.run.__init__()
    trainer = Trainer(tmp_path, resume_mode="disable")
    trainer.step(batch(5))
    assert entropy_control.run.state.reference == pytest.approx(
        -float(batch(5).batch["old_log_probs"][batch().batch["response_mask"] != 0].mean())
    )


def test_a_resume_without_a_state_says_so(tmp_path, caplog):
    trainer = Trainer(tmp_path)
    (tmp_path / "global_step_3").mkdir()
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("3")
    trainer.global_steps = 4
    trainer.step()
    (message,) = [record.getMessage() for record in caplog.records if "entropy control" in record.getMessage()]
    assert "its control starts anew" in message


def test_levels_fall_over_the_trainers_steps():
    knobs = {"floor": 3.0, "final_floor": 1.0, "unit": "nats"}
    trainer = Trainer(knobs=knobs, steps=11)
    floors = []
    for number in (1, 6, 11, 12):
        trainer.global_steps = number
        floors.append(logged(trainer.step())["asymgrpo/control/floor"])
    assert floors == pytest.approx([3, 2, 1, 1])


def test_levels_fall_over_all_steps_of_fully_async():
    """Its length is in versions of the parameters, its steps are not (verl.experimental.fully_async_policy)."""
    trainer = Trainer(knobs={"floor": 3.0, "final_floor": 1.0, "unit": "nats"})
    trainer.total_training_steps, trainer.total_train_steps, trainer.trigger_parameter_sync_step = None, 25, 4
    floors = []
    for number in (1, 25, 100):
        trainer.global_steps = number
        floors.append(logged(trainer.step())["asymgrpo/control/floor"])
    assert floors == pytest.approx([3, 3 - 2 * 24 / 99, 1])


@pytest.mark.parametrize("estimator", ["asym_grpo", "grpo"])
def test_acts_once_where_another_function_of_the_name_is_around(estimator, monkeypatch):
    """Without functools.wraps, and found by a later call to stand around the trainers' functions."""
    inner = ray_trainer.compute_advantage

    def compute_advantage(*args, **kwargs):
        return inner(*args, **kwargs)

    monkeypatch.setattr(ray_trainer, "compute_advantage", compute_advantage)
    driver_metrics.wrap_trainers()
    trainer = Trainer(knobs={"way": "bonus", "floor": 3.0, "unit": "nats"}, estimator=estimator)
    actions = []
    for number in (1, 2, 3):
        trainer.global_steps = number
        actions.append(logged(trainer.step())["asymgrpo/control/action"])
    assert actions == pytest.approx([0.005, 0.01, 0.015])


@pytest.mark.parametrize("name", ["global_steps", "current_param_version"])
@pytest.mark.parametrize(("way", "once"), [("bonus", 0.005), ("repo", 1e-3), ("weights", None)])
def test_what_is_remembered_moves_once_a_version_of_the_policy(name, way, once):
    """Asynchronous trainers make several batches of what one version has sampled."""
    trainer = Trainer(knobs={"way": way, "floor": 3.0, "unit": "nats"})
    setattr(trainer, name, 7)
    trainer.step(batch(1))
    memory = entropy_control.run.state.memory
    assert memory == pytest.approx(once or memory)
    found = [trainer.step(batch(1)) for _ in range(3)]
    assert entropy_control.run.state.memory == memory
    setattr(trainer, name, 8)
    trainer.step(batch(1))
    assert abs(entropy_control.run.state.memory) > abs(memory)
    assert found[0].batch["advantages"].equal(found[2].batch["advantages"])


def test_the_log_has_the_mean_over_a_versions_batches():
    trainer = Trainer(knobs={"floor": 0.6, "unit": "nats"})
    low, high = batch(1), batch(1)
    low.batch["old_log_probs"] = torch.full((ROWS, TOKENS), -0.4)
    high.batch["old_log_probs"] = torch.full((ROWS, TOKENS), -2.0)
    trainer.step(low)
    found = logged(trainer.step(high))
    assert found["asymgrpo/control/entropy"] == pytest.approx(1.2)
    assert found["asymgrpo/control/error"] == pytest.approx(0.1)
    assert found["asymgrpo/control/action"] > 0


def test_levels_are_not_taken_over_in_another_measure(tmp_path):
    folder = tmp_path / "global_step_4"
    folder.mkdir()
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    state = {"way": "successes", "exact": True, "reference": 0.25, "memory": 0.0}
    (folder / entropy_state.STATE_FILE).write_text(json.dumps(state))
    trainer = Trainer(tmp_path)
    trainer.global_steps = 5
    with pytest.raises(ConfigError, match=r"levels are of V1's per-token entropy.*entropy_control\.json"):
        trainer.step()


def test_two_trainers_of_a_process_save_their_own_states(tmp_path):
    first, second = Trainer(tmp_path / "a"), Trainer(tmp_path / "b")
    first.step(batch(1))
    second.step(batch(2))
    first._save_checkpoint()
    second._save_checkpoint()
    saved = [json.loads((tmp_path / f"{name}/global_step_1/entropy_control.json").read_text()) for name in "ab"]
    assert saved[0]["reference"] != saved[1]["reference"]


def test_a_strangers_function_of_the_name_is_left_alone():
    wrapped = driver_metrics.with_covariance(lambda value: value * 2)
    trainer = Trainer()

    def calling():
        holder = trainer  # noqa: F841  (found among the caller's names)
        return wrapped(torch.ones(2))

    assert calling().tolist() == [2, 2]


def test_what_the_launcher_refuses_is_refused_in_the_first_step_too():
    trainer = Trainer()
    trainer.config.actor_rollout_ref = {
        "actor": {"policy_loss": {"loss_mode": "entropy_modulated", "informative_coef": 0.3}}
    }
    with pytest.raises(ConfigError, match="sets the modulation anew"):
        trainer.step()


def test_nothing_winds_up_while_the_critic_warms_up():
    trainer = Trainer(knobs={"way": "bonus", "floor": 3.0, "unit": "nats"}, critic_warmup=4)
    actions = []
    for number in range(1, 6):
        trainer.global_steps = number
        actions.append(logged(trainer.step())["asymgrpo/control/action"])
    assert actions == pytest.approx([0.005] * 4 + [0.01])


def test_another_way_takes_the_levels_and_not_the_memory(tmp_path, caplog):
    first = Trainer(tmp_path, knobs={"way": "weights", "floor": 3.0})
    for first.global_steps in range(1, 6):
        first.step()
    first._save_checkpoint()
    saved = json.loads((tmp_path / "global_step_5" / entropy_state.STATE_FILE).read_text())
    assert saved["way"] == "weights"
    assert saved["memory"] > 1
    entropy_control.run = entropy_control.Run()
    second = Trainer(tmp_path, knobs={"way": "bonus", "floor": 3.0})
    second.global_steps = 6
    found = logged(second.step())
    assert found["asymgrpo/control/action"] == 0.005
    assert found["asymgrpo/control/floor"] == pytest.approx(3 * saved["reference"])
    assert "is of way=weights" in caplog.text


def test_a_second_run_of_a_process_says_what_it_does(capsys):
    for _ in range(2):
        trainer = Trainer()
        trainer.step()
        trainer.step()
    assert capsys.readouterr().out.count("entropy control, successes") == 2


def test_levels_that_fall_need_the_length_of_the_run():
    trainer = Trainer(knobs={"floor": 3.0, "final_floor": 1.0})
    trainer.total_training_steps = None
    with pytest.raises(ConfigError, match="does not say how many steps"):
        trainer.step()


def test_without_log_probabilities_the_run_ends():
    data = batch()
    data.batch.pop("old_log_probs")
    with pytest.raises(ConfigError, match="needs the batch's old_log_probs"):
        Trainer().step(data)


def test_a_batch_without_entropy_is_said_once(caplog):
    trainer = Trainer()
    for _ in range(3):
        data = batch()
        data.batch["old_log_probs"] = torch.full((ROWS, TOKENS), math.nan)
        found = trainer.step(data)
    assert not logged(found)
    assert len([record for record in caplog.records if "no token of this batch" in record.getMessage()]) == 1


@needs_v1
@pytest.mark.parametrize("estimator", ["asym_grpo", "grpo", "rloo"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_v1_acts_once_a_step_with_its_own_entropy(estimator, outputs, monkeypatch):
    """On all outputs of a session, after the advantage of the last was given to all of them."""
    trainer = Trainer(estimator=estimator)
    keys = [f"{uid}_{row // outputs}_{row % outputs}" for row, uid in enumerate("aaaabbbb")]
    exact = torch.full((ROWS, TOKENS), 0.5)
    asked, acted = [], []
    monkeypatch.setattr(entropy_control, "_entropies", lambda names, shape: asked.append(names) or exact)
    monkeypatch.setattr(entropy_control, "_progress", lambda *_: acted.append(None) or 0.0)

    def fit(self, data):
        return utils.compute_advantage_for_multi_trajectories(
            data,
            batch_keys=keys,
            adv_estimator=self.config.algorithm.adv_estimator,
            num_repeat=4,
            config=self.config.algorithm,
        )

    found = fit(trainer, batch())
    assert asked == [keys]
    assert len(acted) == 1
    metrics = logged(found)
    assert metrics["asymgrpo/control/entropy"] == 0.5
    without = fit(Trainer(estimator=estimator, knobs=None), batch())
    expected = controlled(without, exact).advantages
    torch.testing.assert_close(found.batch["advantages"], expected, rtol=0, atol=0)
    assert not torch.equal(found.batch["advantages"], without.batch["advantages"])


def test_the_measure_does_not_change_within_a_run(monkeypatch):
    """V1's entropies of fewer columns are those of shorter rows; gone in the middle of a run, they are an error."""
    found = torch.full((ROWS, TOKENS - 1), 0.5)

    def queue(keys, field):
        if found is None:
            raise ValueError("not ready")
        return type("Nested", (), {"to_padded_tensor": lambda self: {"entropy": found}})()

    monkeypatch.setattr(entropy_control, "transfer_queue", queue)
    entropies = entropy_control._entropies(list("aaaabbbb"), (ROWS, TOKENS))
    assert entropies.shape == (ROWS, TOKENS)
    assert entropies[:, :-1].eq(0.5).all()
    found = None
    with pytest.raises(ValueError, match="not ready"):
        entropy_control._entropies(list("aaaabbbb"), (ROWS, TOKENS))
    entropy_control.run = entropy_control.Run()  # never there: an estimate, to the end
    assert entropy_control._entropies(list("aaaabbbb"), (ROWS, TOKENS)) is None
    found = torch.full((ROWS, TOKENS), 0.5)
    assert entropy_control._entropies(list("aaaabbbb"), (ROWS, TOKENS)) is None


@needs_v1
def test_in_bypass_mode_the_samplers_log_probabilities_are_the_measure(monkeypatch, capsys):
    monkeypatch.setattr(entropy_control, "_entropies", lambda *_: pytest.fail("V1 has none"))
    trainer = Trainer()
    trainer.config.algorithm.rollout_correction = {"bypass_mode": True}

    def fit(self, data):
        keys = [f"{uid}_{row}_0" for row, uid in enumerate("aaaabbbb")]
        return utils.compute_advantage_for_multi_trajectories(
            data, batch_keys=keys, adv_estimator="asym_grpo", config=self.config.algorithm
        )

    assert logged(fit(trainer, batch()))["asymgrpo/control/entropy"] > 0
    assert "minus the mean log-probability of the sampled tokens" in capsys.readouterr().out


def test_fade_dynamic_answers_to_the_batchs_entropy(tmp_path):
    """And keeps the first step's through a kill."""
    trainer = Trainer(tmp_path, knobs=None)
    trainer.config.algorithm.asym_grpo = {"preset": "fade_dynamic"}
    own = batch().batch["response_mask"] != 0

    def entropy(number):
        return -float(batch(number).batch["old_log_probs"][own].mean())

    def check(number):
        trainer.global_steps = number
        data = batch(number)
        data.batch["old_log_probs"] *= 0.2 if number == 3 else 1.0  # under the target
        found = trainer.step(data).batch["advantages"][:, 0]
        now = entropy(number) * (0.2 if number == 3 else 1.0)
        delta = min(max(1 + now - 0.5 * entropy(1), 0.3), 1.0)
        torch.testing.assert_close(found[[0, 1, 4, 6]], torch.tensor([0.5, -0.5 / delta, 0.25, -0.75 / delta]))
        assert logged(data) == {"asymgrpo/control/entropy": pytest.approx(now)}
        return delta

    assert check(1) == 1
    trainer._save_checkpoint()
    entropy_control.run.__init__()
    trainer = Trainer(tmp_path, knobs=None)
    trainer.config.algorithm.asym_grpo = {"preset": "fade_dynamic"}
    assert check(3) < 1


def test_fade_dynamic_without_a_trainer_says_that_delta_is_1(caplog):
    from recipe.asymgrpo import advantage

    advantage.reset_warnings()
    data = batch().batch
    config = {"asym_grpo": {"preset": "fade_dynamic"}}
    uids = list("aaaabbbb")
    found, _ = advantage.compute_asym_grpo_advantage(data["token_level_rewards"], data["response_mask"], uids, config)
    assert found[1, 0] == -0.5
    assert "takes a delta of 1" in caplog.text


def whole(**changes):
    config = {
        "algorithm": {"adv_estimator": "grpo", "asym_grpo": {"entropy_control": FLOOR}},
        "actor_rollout_ref": {"actor": {"policy_loss": {"loss_mode": "vanilla"}}, "model": {"path": "a/hub"}},
        "trainer": {},
    }
    made = OmegaConf.create(config)
    for path, value in changes.items():
        OmegaConf.update(made, path, value, force_add=True)
    return made


CONTROL = "algorithm.asym_grpo.entropy_control"


@pytest.mark.parametrize("estimator", ["grpo", "asym_grpo"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{CONTROL}.floor": -1}, "entropy_control.floor=-1"),
        (
            {
                "actor_rollout_ref.actor.policy_loss.loss_mode": "entropy_modulated",
                "actor_rollout_ref.actor.policy_loss._target_": (
                    "recipe.asymgrpo.loss_config.EntropyModulatedLossConfig"
                ),
                "actor_rollout_ref.actor.policy_loss.informative_coef": 0.3,
            },
            "sets the modulation anew in every step",
        ),
        ({"algorithm.reward_dpo_coef": 5}, "PRIME's trainer"),
        ({"trainer.spo.enable": True}, "SPO's own advantages"),
    ],
)
def test_bad_settings_end_the_run_at_its_start(estimator, changes, message):
    with pytest.raises(ConfigError, match=message):
        early_check.check(whole(**changes, **{"algorithm.adv_estimator": estimator}))


def test_a_level_above_every_policys_entropy_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 17}')
    path = {"actor_rollout_ref.model.path": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"floor=3 nats is more than .* 17 tokens .* up to 2.833"):
        early_check.check(whole(**path))
    early_check.check(whole(**path, **{f"{CONTROL}.floor": 2.8}))
    early_check.check(whole(**path, **{f"{CONTROL}.unit": "share"}))
    known = {"actor_rollout_ref.model.path": "Qwen/Qwen3-4B"}
    with pytest.raises(ConfigError, match="151936 tokens of Qwen/Qwen3-4B"):
        early_check.check(whole(**known, **{f"{CONTROL}.floor": 12}))


def test_control_with_the_loss_at_neutral_coefficients_is_fine():
    loss = "actor_rollout_ref.actor.policy_loss"
    target = "recipe.asymgrpo.loss_config.EntropyModulatedLossConfig"
    early_check.check(whole(**{f"{loss}.loss_mode": "entropy_modulated", f"{loss}._target_": target}))
