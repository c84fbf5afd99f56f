"""From entropy to action: levels, bounds, memory."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.asymgrpo.entropy_control import WAYS, EntropyControlConfig, State
from recipe.asymgrpo.entropy_control.rules import KI_OF_KP, MOST_BONUS, MOST_ZETA, Levels, act, levels

BOUND = {"bonus": MOST_BONUS, "repo": MOST_ZETA, "weights": 1.0, "filter": 1.0}
LAGGING = ("weights", "repo")  # what they remember may still point the other way
every_way = pytest.mark.parametrize("way", WAYS)
nats = st.floats(0, 20)


def run(config, entropies, target, state=None):
    actions, state = [], state or State()
    for entropy in entropies:
        action, state = act(config, entropy, target, state)
        actions.append(action)
    return actions, state


def test_levels_are_shares_of_the_first_step_or_nats():
    share = EntropyControlConfig(floor=0.5, ceiling=2.0)
    assert levels(share, 0.8, 0.3) == Levels(0.4, 1.6)
    assert levels(EntropyControlConfig(floor=0.5, unit="nats"), 0.8, 0.3) == Levels(0.5, None)


def test_levels_fall_in_a_straight_line():
    config = EntropyControlConfig(floor=1.0, final_floor=0.4, ceiling=2.0, final_ceiling=1.0, unit="nats")
    for progress, expected in ((0, (1.0, 2.0)), (0.5, (0.7, 1.5)), (1, (0.4, 1.0))):
        assert levels(config, 5.0, progress) == pytest.approx(expected)


@every_way
@given(below=nats, between=st.floats(0, 1), steps=st.integers(1, 5))
def test_nothing_is_done_between_floor_and_ceiling(way, below, between, steps):
    """Whatever had to be done before."""
    config = EntropyControlConfig(way=way, floor=0.5, ceiling=1.5, unit="nats")
    target = Levels(0.5, 1.5)
    _, state = run(config, [below] * steps, target)
    actions, _ = run(config, [0.5 + between] * 3, target, state)
    assert [action.value for action in actions] == [0.0] * 3


@every_way
@given(history=st.lists(nats, min_size=1, max_size=60), gain=st.floats(1, 100, exclude_min=True) | st.none())
def test_the_action_is_bounded_and_has_the_sign_of_the_error(way, history, gain):
    own = gain if WAYS[way].gain is not None else None
    config = EntropyControlConfig(way=way, floor=0.5, ceiling=1.5, unit="nats", gain=own)
    actions, state = run(config, history, Levels(0.5, 1.5))
    bound = BOUND.get(way, config.own_gain)
    for entropy, action in zip(history, actions, strict=True):
        assert abs(action.value) <= bound
        if way not in LAGGING:
            assert (action.value > 0) == (entropy < 0.5)
            assert (action.value < 0) == (entropy > 1.5)
        assert math.isfinite(action.value)
    assert math.isfinite(state.memory)


@every_way
@given(low=st.lists(st.floats(0, 0.4), min_size=1, max_size=500))
def test_nothing_winds_up(way, low):
    """However long the entropy was under the floor: being over the ceiling is soon answered in the other direction."""
    config = EntropyControlConfig(way=way, floor=0.5, ceiling=1.5, unit="nats")
    target = Levels(0.5, 1.5)
    _, state = run(config, low, target)
    actions, _ = run(config, [2.5] * 12, target, state)
    assert actions[-1].value < 0


@pytest.mark.parametrize("way", ["successes", "failures", "both"])
def test_a_modulations_coefficient_is_the_error_as_a_share_of_the_level(way):
    config = EntropyControlConfig(way=way, floor=0.5, ceiling=1.0, unit="nats", gain=2.0)
    found, state = run(config, [0.5, 0.4, 0.25, 0.0, 1.25, 3.0], Levels(0.5, 1.0))
    assert [action.value for action in found] == pytest.approx([0, 0.4, 1.0, 2.0, -0.5, -2.0])
    assert [action.saturated for action in found] == [False, False, False, True, False, True]
    assert state == State()


def test_the_bonus_moves_by_its_gain_and_is_given_only_under_the_floor():
    """As Skywork-OR1's EntController: down by the same where the entropy is enough, never below 0."""
    config = EntropyControlConfig(way="bonus", floor=0.5, gain=0.1, unit="nats")
    found, state = run(config, [0.4, 0.4, 0.6, 0.4, 0.6, 0.6, 0.6, 0.4], Levels(0.5, None))
    assert [action.value for action in found] == pytest.approx([0.1, 0.2, 0, 0.2, 0, 0, 0, 0.1])
    assert state.memory == pytest.approx(0.1)


def test_repo_doubles_and_halves_zeta_and_changes_its_sign_at_the_least():
    config = EntropyControlConfig(way="repo", floor=0.5, ceiling=0.5, unit="nats")
    found, state = run(config, [0.4] * 7 + [0.6] * 12, Levels(0.5, 0.5))
    up = [1e-3 * 2**i for i in range(6)] + [0.05]
    down = [0.05 / 2**i for i in range(1, 9)] + [-1e-4 * 2**i for i in range(4)]
    assert [action.value for action in found] == pytest.approx(up + down)
    assert [action.saturated for action in found] == [False] * 6 + [True] + [False] * 12
    assert state.memory == pytest.approx(-8e-4)


def test_repo_rests_between_floor_and_ceiling():
    config = EntropyControlConfig(way="repo", floor=0.5, unit="nats")
    found, state = run(config, [0.4, 0.4, 0.6, 0.6, 0.4], Levels(0.5, None))
    assert [action.value for action in found] == pytest.approx([1e-3, 2e-3, 0, 0, 1e-3])
    _, state = run(config, [0.6] * 20, Levels(0.5, None), state)
    assert state.memory == pytest.approx(1e-4)


def test_weights_are_a_pi_controller():
    config = EntropyControlConfig(way="weights", floor=0.5, ceiling=0.5, gain=1.0, unit="nats")
    found, state = run(config, [0.3, 0.4, 0.7], Levels(0.5, 0.5))
    ki = KI_OF_KP
    assert [action.value for action in found] == pytest.approx([0.2, 0.1 + 0.2 * ki, -0.2 + 0.3 * ki], abs=1e-12)
    assert state.memory == pytest.approx(0.1)


def test_the_filter_has_no_strength():
    config = EntropyControlConfig(way="filter", floor=0.5, ceiling=1.0, unit="nats")
    found, _ = run(config, [0.49, 0.5, 1.0, 1.01], Levels(0.5, 1.0))
    assert [action.value for action in found] == [1, 0, 0, -1]


@pytest.mark.parametrize("way", [name for name, way in WAYS.items() if way.gain is not None and name != "repo"])
def test_a_gain_of_0_does_nothing(way):
    """`repo` has one from 1 on."""
    config = EntropyControlConfig(way=way, floor=0.5, ceiling=1.0, unit="nats", gain=0)
    found, _ = run(config, [0.1, 2.0] * 5, Levels(0.5, 1.0))
    assert {action.value for action in found} == {0.0}


@every_way
def test_the_state_goes_through_json(way):
    config = EntropyControlConfig(way=way, floor=0.5, unit="nats")
    _, state = run(config, [0.4, 0.3, 0.6, 0.123456789], Levels(0.5, None), State(reference=0.7))
    assert State(**json.loads(json.dumps(state.to_dict()))) == state
    assert dataclasses.asdict(state)["reference"] == 0.7


def test_an_entropy_of_0_at_the_first_step_is_no_error():
    config = EntropyControlConfig(floor=0.5)
    action, _ = act(config, 0.0, levels(config, 0.0, 0.0), State(reference=0.0))
    assert action.value == 0
