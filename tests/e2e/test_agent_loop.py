"""Rollouts of several outputs and a shaped reward, through verl's V1 trainer, TransferQueue, Ray, FSDP2 and vLLM."""

import json
import os
from collections import defaultdict

import pytest

from trainings import ROOT, expected_advantages, finish, records, start

STEPS = 2

AGENT = '''
import random

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop


class SometimesADraft(SingleTurnAgentLoop):
    """Half of the rollouts answer twice, and the second answer is judged."""

    async def run(self, *args, **kwargs):
        answer = await super().run(*args, **kwargs)
        return answer if random.random() < 0.5 else [answer, await super().run(*args, **kwargs)]
'''

REWARD = '''
from recipe.asymgrpo import reward


def compute_score(*args, **kwargs):
    """A right answer has 0.4, as with a penalty for its length."""
    judged = reward.compute_score(*args, **kwargs)
    return {**judged, "score": 0.4 * judged["score"], "acc": judged["score"] > 0.5}
'''


@pytest.mark.e2e
def test_one_vote_a_rollout_by_the_verifiers_word(tmp_path):
    pytest.importorskip("verl.trainer.ppo.v1")
    (tmp_path / "sometimes_a_draft.py").write_text(AGENT)
    (tmp_path / "shaped.py").write_text(REWARD)
    (tmp_path / "agents.yaml").write_text("- name: draft\n  _target_: sometimes_a_draft.SometimesADraft\n")
    overrides = [
        "algorithm.asym_grpo.success_key=acc",
        "actor_rollout_ref.rollout.agent.default_agent_loop=draft",
        f"actor_rollout_ref.rollout.agent.agent_loop_config_path={tmp_path}/agents.yaml",
        f"reward.custom_reward_function.path={tmp_path}/shaped.py",
        "trainer.test_freq=-1",
        "trainer.val_before_train=False",
        "trainer.save_freq=-1",
    ]
    paths = [str(tmp_path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    knobs = {"OUT": str(tmp_path / "out"), "STEPS": str(STEPS), "PYTHONPATH": os.pathsep.join(paths)}
    output = finish(start("quickstart", *overrides, **knobs))
    (run,) = (tmp_path / "out").glob("*/asymgrpo-*")
    assert sorted(set(records(run)) - {0}) == list(range(1, STEPS + 1)), output
    for step in range(1, STEPS + 1):
        sessions: dict[str, dict[int, dict]] = defaultdict(dict)
        for line in (run / "rollouts" / f"{step}.jsonl").read_text().splitlines():
            row = json.loads(line)
            session, _, output = row["uid"].rpartition("_")
            if not session.startswith("pad"):  # verl fills a batch up to whole mini-batches
                sessions[session][int(output)] = row
        assert {len(outputs) for outputs in sessions.values()} == {1, 2}
        groups: dict[str, list[bool]] = defaultdict(list)
        for session, outputs in sessions.items():
            score = outputs[max(outputs)]["score"]
            assert score == pytest.approx(0.4) or score == 0  # never above the threshold
            groups[session.rpartition("_")[0]].append(score > 0.2)
        advantages = expected_advantages(list(groups.values()))
        data = records(run)[step]
        assert data["asymgrpo/group_accuracy"] == pytest.approx(
            sum(sum(group) / len(group) for group in groups.values()) / len(groups)
        )
        assert max(advantages) > 0
        assert data["critic/advantages/max"] == pytest.approx(max(advantages), rel=1e-5)
        assert data["critic/advantages/min"] == pytest.approx(min(advantages), rel=1e-5)
