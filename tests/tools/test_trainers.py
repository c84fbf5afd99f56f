"""docs/trainers.md says of verl's trainers what they do when they are tried."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("verl.trainer.ppo.v1", reason="the page is of verl 0.9")


@pytest.fixture(scope="module")
def trainers():
    import sys

    import verl_ext.plugin  # noqa: F401  (registers)

    spec = importlib.util.spec_from_file_location("tools_trainers", ROOT / "tools/trainers.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tools_trainers"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["tools_trainers"]


@pytest.mark.parametrize("number", range(4))
def test_verls_own_trainers(trainers, number):
    cells = trainers.row(trainers.IN_VERL[number])
    assert "| " + " | ".join(cells) + " |" in (ROOT / "docs/trainers.md").read_text()
    assert cells[1:6] == ["yes"] * 5


def test_a_wrong_trainer_is_seen(trainers, tmp_path, monkeypatch):
    """A trainer that loses the groups' ids, and one that gives every rollout the same advantage."""
    (tmp_path / "losing_trainer.py").write_text(
        "from verl.trainer.ppo.metric_utils import compute_data_metrics\n"
        "from verl.trainer.ppo.ray_trainer import compute_advantage\n"
        "def fit(self, batch):\n"
        "    return compute_advantage(batch[:4].repeat(2), 'asym_grpo', config=self.config.algorithm)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    wrong = trainers.Trainer("wrong", "losing_trainer", "losing_trainer")
    cells = trainers.row(wrong)
    assert cells[3].startswith("no: ")
    assert cells[4:] == ["no", "yes", "at the first step"]
