"""What README and docs tell a person to type exists, and verl composes it; tables made from the code are current."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from recipe.asymgrpo.config import AsymGRPOConfig
from recipe.asymgrpo.curves import PRESETS
from recipe.asymgrpo.curves.draw import markdown
from recipe.asymgrpo.entropy_control import EntropyControlConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
METHODS = {path.stem for path in (ROOT / "recipe/asymgrpo/conf/asymgrpo").glob("*.yaml")}


def commands(page: str) -> list[str]:
    """Lines of bash blocks, and inline code that begins as a command does; continued lines are one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:[A-Z_]+=\S+ )*(?:bash|python) [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in lines) if line]


TYPED = [(page, command) for page in PAGES for command in commands(page)]


def words_of(command: str) -> list[str]:
    """What stands in brackets may be typed; but for a list inside quotes, which is one word."""
    return shlex.split(re.sub(r"('[^']*')|[\[\]]", r"\1", command))


@pytest.mark.parametrize(("page", "command"), TYPED)
def test_what_a_page_says_to_type_exists(page, command):
    words = words_of(command)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, value = words.pop(0).split("=", 1)
        if name == "METHOD":
            assert set(value.split(",")) <= METHODS
    for script in (word for word in words if word.endswith((".sh", ".py")) and "*" not in word and "/" in word):
        assert (ROOT / script).is_file(), script
    for before, module in itertools.pairwise(words):
        if before == "-m" and words[0].startswith("python"):
            assert importlib.util.find_spec(module), module
    for word in words:
        if word.startswith("+asymgrpo="):
            assert set(word.removeprefix("+asymgrpo=").strip("[]").split(",")) <= METHODS | {"NAME", "METHOD"}


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page):
    rooms = "tests|examples|recipe|verl_ext|benchmarks|docs|tools|hydra_plugins|requirements"
    named = re.findall(rf"(?<![\w/.-])((?:{rooms})/[\w./-]*\w)", (ROOT / page).read_text(encoding="utf-8"))
    assert not [path for path in named if not (ROOT / path).exists()]


def verl_commands() -> list[tuple[str, list[str]]]:
    found = []
    for page, command in TYPED:
        words = words_of(command)
        if "verl.trainer.main_ppo" in words and words[0] == "python" and words[2] == "verl.trainer.main_ppo":
            overrides = [word for word in words[3:] if "=" in word and not word.isupper() and "DIR" not in word]
            found.append((page, overrides))
    return found


def test_verls_commands_compose():
    """With the settings that every training needs and a page leaves out."""
    pytest.importorskip("verl")
    from hydra import compose, initialize_config_module

    assert len(verl_commands()) >= 3
    with initialize_config_module("verl.trainer.config", version_base=None):
        for page, overrides in verl_commands():
            config = compose("ppo_trainer", overrides=overrides)
            if any("asym" in word for word in overrides):
                EntropyControlConfig.from_algorithm(config.algorithm)
            if any("asym" in word for word in overrides) and "+asymgrpo=entropy_floor" not in overrides:
                assert config.algorithm.adv_estimator == "asym_grpo", (page, overrides)
                AsymGRPOConfig.from_algorithm(config.algorithm)


def test_the_table_of_presets_is_the_codes():
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- begin presets -->\n\n(.*?)\n\n<!-- end presets -->", page, re.DOTALL)
    assert found is not None
    assert found[1] == markdown()


def test_every_knob_is_described_with_its_default():
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    rows = {name: line for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    defaults = {knob: value for preset in PRESETS.values() for knob, value in preset.knobs.items()}
    for field in fields(AsymGRPOConfig):
        assert field.name in rows, field.name
        if field.name in defaults and not field.name.startswith("beta"):
            cell = page.split(f"`{field.name}`", 1)[1].splitlines()[0]
            assert f"{defaults[field.name]:g}" in cell


def test_readme_is_one_screen_or_two():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_each_page_begins_with_what_its_reader_can_do_after_it():
    for page in PAGES:
        if page.startswith("docs/"):
            assert "After this page" in "\n".join((ROOT / page).read_text(encoding="utf-8").splitlines()[:4]), page


def test_no_page_names_a_machine():
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(?:work|root|home)/", (ROOT / page).read_text(encoding="utf-8")), page
