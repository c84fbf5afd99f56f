"""docs/papers.md has every published method, with a command that verl's configuration takes."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from recipe.asymgrpo.curves import PRESETS
from recipe.asymgrpo.entropy_control import WAYS
from verl_ext import early_check

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("tools_papers", ROOT / "tools/papers.py")
papers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(papers)


def test_the_page_is_the_codes():
    page = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- begin papers -->\n\n(.*?)\n\n<!-- end papers -->", page, re.DOTALL)
    assert found is not None
    assert found[1] == papers.markdown()


# A preset alone is composed in tests/hydra_plugins/test_search_path.py.
@pytest.mark.parametrize(
    "command", [row[2] for row in papers.rows() if row[2].removeprefix("+asymgrpo=") not in PRESETS]
)
def test_every_command_composes(command):
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=[*shlex.split(command), "actor_rollout_ref.rollout.n=8"])
    early_check.check(config)
    assert config.algorithm.adv_estimator == "asym_grpo"


def test_nothing_is_missing_and_no_remark_is_about_nothing():
    commands = {row[2] for row in papers.rows()}
    assert {f"+asymgrpo={name}" for name in PRESETS} <= commands
    assert sum("entropy_control.way=" in command for command in commands) == sum(bool(w.arxiv) for w in WAYS.values())
    assert set(papers.DIFFERS) <= set(PRESETS) | set(WAYS) | {name for _, name, _ in papers.WORDS}
    assert set(papers.TITLES) == {row[0] for row in papers.rows()}
