from __future__ import annotations

import functools
import importlib.util
import sys

import pytest
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

from recipe.asymgrpo import advantage
from verl_ext.registry import RegistrationError, register


def ours():
    return "ours"


def stranger():
    return "stranger"


def from_another_path(module, name):
    """The module's file imported once more, under another name."""
    spec = importlib.util.spec_from_file_location(name, module.__file__)
    twin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(twin)
    return twin


@pytest.fixture(params=[ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY], ids=["advantages", "losses"])
def table(request, monkeypatch):
    """verl's own tables, put back afterwards."""
    for name in ("ours", "asym_grpo"):
        monkeypatch.setitem(request.param, name, None)
        del request.param[name]
    return request.param


def test_registers(table):
    register(table, "ours", ours, setting="a.b")
    assert table["ours"] is ours


def test_twice_is_harmless(table):
    register(table, "ours", ours, setting="a.b")
    register(table, "ours", ours, setting="a.b")
    assert table["ours"] is ours


def test_the_same_file_under_two_paths_is_harmless(table, monkeypatch):
    twin = from_another_path(advantage, "elsewhere.advantage")
    assert twin.compute_asym_grpo_advantage is not advantage.compute_asym_grpo_advantage
    register(table, "asym_grpo", advantage.compute_asym_grpo_advantage, setting="a.b")
    register(table, "asym_grpo", twin.compute_asym_grpo_advantage, setting="a.b")
    assert table["asym_grpo"] is advantage.compute_asym_grpo_advantage


def test_a_link_to_the_same_file_is_harmless(table, tmp_path):
    link = tmp_path / "linked.py"
    link.symlink_to(advantage.__file__)
    spec = importlib.util.spec_from_file_location("linked", link)
    twin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(twin)
    register(table, "asym_grpo", advantage.compute_asym_grpo_advantage, setting="a.b")
    register(table, "asym_grpo", twin.compute_asym_grpo_advantage, setting="a.b")


def test_a_stranger_is_kept_and_named(table):
    table["ours"] = stranger
    with pytest.raises(RegistrationError) as error:
        register(table, "ours", ours, setting="algorithm.adv_estimator")
    message = str(error.value)
    assert message.startswith("algorithm.adv_estimator=ours: the name is taken by ")
    assert f"{__name__}.stranger ({__file__})" in message
    assert f"{__name__}.ours" in message
    assert table["ours"] is stranger


def test_a_strangers_wrapper_and_callable_object_are_named(table):
    @functools.wraps(stranger)
    def wrapped():
        return stranger()

    table["ours"] = wrapped
    with pytest.raises(RegistrationError, match=r"\.stranger \("):
        register(table, "ours", ours, setting="a.b")

    table["ours"] = functools.partial(stranger)
    with pytest.raises(RegistrationError, match=r"functools\.partial"):
        register(table, "ours", ours, setting="a.b")


def test_verl_itself_refuses_whoever_comes_after_us():
    from verl.trainer.ppo.core_algos import register_adv_est

    import verl_ext.plugin

    assert "verl_ext.plugin" in sys.modules
    verl_ext.plugin.register_all()  # again
    with pytest.raises(ValueError, match="compute_asym_grpo_advantage"):
        register_adv_est("asym_grpo")(stranger)
    assert ADV_ESTIMATOR_REGISTRY["asym_grpo"].__name__ == "compute_asym_grpo_advantage"
