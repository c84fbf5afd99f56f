"""docs/recipes.md says how the recipes differ from verl's own scripts: our side of it, and that the tool sees more."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
TABLE = re.search(r"<!-- begin verls -->\n\n(.*?)\n\n<!-- end verls -->", PAGE, re.DOTALL)[1]


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("verl.trainer.ppo.v1", reason="the page is of verl 0.9")
    spec = importlib.util.spec_from_file_location("tools_verls_scripts", ROOT / "tools/verls_scripts.py")
    module = sys.modules["tools_verls_scripts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["tools_verls_scripts"]


def test_our_side_of_the_table(tool):
    here = {name: tool.composed(tool.ours(recipe)) for recipe, (name, _) in tool.THEIRS.items()}
    rows = [re.split(r" \| ", line.strip("| ")) for line in TABLE.splitlines()[2:]]
    assert len(rows) > 30
    for key, changes, why in rows:
        key = key.strip("`")
        assert why == tool.reason(key)
        for change in changes.split("; "):
            names, _, values = change.rpartition(": ")
            for name in names.split(", ") if names else here:
                assert tool.shown(here[name].get(key)) == values.split(" -> ")[1], (key, name)


def test_a_difference_without_a_reason_is_an_error(tool, tmp_path, capsys):
    for _, script in set(tool.THEIRS.values()):
        file = tmp_path / script
        file.parent.mkdir(parents=True, exist_ok=True)
        command = "python3 -m verl.trainer.main_ppo data.shuffle=False actor_rollout_ref.actor.use_kl_loss=True"
        file.write_text(f"{command} 2>&1\n" if file.suffix == ".rst" else f"{command}\n")
    assert tool.main([str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert "| `data.shuffle` | False -> True | None |" in output.out
    assert "| `actor_rollout_ref.actor.use_kl_loss` | True -> False | the paper trains without KL |" in output.out
    assert "without a reason: " in output.err
    assert "data.shuffle" in output.err
    assert "use_kl_loss" not in output.err


def test_a_script_that_hands_nothing_over_is_an_error(tool, tmp_path):
    (tmp_path / "broken.sh").write_text("exit 3\n")
    with pytest.raises(SystemExit, match="handed nothing to"):
        tool.theirs(tmp_path, "broken.sh")
