"""What each way does to the entropy of a policy whose expectations can be written out."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipe.asymgrpo.entropy_control import WAYS, Controlled, EntropyControlConfig, State, control, mean_entropy
from recipe.asymgrpo.entropy_control import ways as ways_of_control
from recipe.asymgrpo.entropy_control.ways import APPLY, Rows, apply
from recipe.asymgrpo.policy_loss import modulate

POSITIONS, TOKENS, STEP = 3, 4, 1e-4
every_way = pytest.mark.parametrize("way", WAYS)


class Tabular:
    """A softmax over `TOKENS` at each of `POSITIONS`; all responses, their probabilities and advantages r - p.

    Right are the responses with at least two of the three likeliest tokens, as in a training what is likely is right
    more often than not; or, `right_is_likely` being False, those with fewer.
    """

    def __init__(self, seed: int, sharpness: float, right_is_likely: bool = True):
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(POSITIONS, TOKENS, generator=generator, dtype=torch.float64) * 0.3
        self.logits[:, 0] += sharpness
        self.responses = torch.tensor(list(itertools.product(range(TOKENS), repeat=POSITIONS)))
        right = ((self.responses == 0).sum(1) >= 2) == right_is_likely
        self.log_probs = self.logits.log_softmax(-1)
        self.of_tokens = self.log_probs[torch.arange(POSITIONS), self.responses]
        self.probabilities = self.of_tokens.sum(1).exp()
        p = float(self.probabilities[right].sum())
        self.advantages = (right.double() - p)[:, None].expand(-1, POSITIONS).contiguous()
        self.entropies = self.entropy_at_positions(self.logits).expand(len(self.responses), -1)
        self.mask = torch.ones_like(self.responses)

    @staticmethod
    def entropy_at_positions(logits):
        logs = logits.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    def entropy_after(self, advantages) -> float:
        """Mean over the positions, after one step along the expected policy gradient."""
        gradient = torch.zeros_like(self.logits)
        for position in range(POSITIONS):
            weight = self.probabilities * advantages[:, position]
            one_hot = torch.nn.functional.one_hot(self.responses[:, position], TOKENS).double()
            gradient[position] = (weight[:, None] * (one_hot - self.log_probs[position].exp())).sum(0)
        return float(self.entropy_at_positions(self.logits + STEP * gradient).mean())


def policy_of(way: str, seed: int, direction: int = 1) -> Tabular:
    """A policy in the state for which a way was made.

    EntroPIC acts on tokens of a probability above 0.95, so on a sharp policy. Entrocraft leaves out what is wrong where
    the entropy is high: that lowers it where failures are what is likely and is pushed down.
    """
    return Tabular(seed, 5.0 if way == "weights" else 1.0, right_is_likely=way != "filter" or direction > 0)


@every_way
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("direction", [1, -1])
def test_the_entropy_goes_where_it_is_sent(way, seed, exact, direction):
    """Against the same step without control, in exact expectation."""
    policy = policy_of(way, seed, direction)
    # All responses stand once, however probable: the estimate from their log-probabilities is another number.
    entropy = mean_entropy(policy.of_tokens, policy.mask != 0, policy.entropies if exact else None)
    floor, ceiling = (1.5 * entropy, None) if direction > 0 else (None, 0.5 * entropy)
    config = EntropyControlConfig(way=way, floor=floor, ceiling=ceiling, unit="nats")
    found = control(
        config,
        State(),
        0.0,
        policy.advantages,
        policy.of_tokens,
        policy.mask,
        policy.entropies if exact else None,
    )
    assert found.metrics["asymgrpo/control/action"] * direction > 0
    change = policy.entropy_after(found.advantages) - policy.entropy_after(policy.advantages)
    assert change * direction > 0


@every_way
def test_nothing_happens_between(way):
    policy = policy_of(way, 0)
    config = EntropyControlConfig(way=way, floor=0.001, ceiling=2.0, unit="nats")
    found = control(config, State(), 0.0, policy.advantages, policy.of_tokens, policy.mask, policy.entropies)
    assert found.advantages is policy.advantages
    assert found.metrics["asymgrpo/control/action"] == found.metrics["asymgrpo/control/error"] == 0


@pytest.mark.parametrize("way", ["successes", "failures"])
def test_a_channel_leaves_the_other_alone(way):
    policy = policy_of(way, 0)
    config = EntropyControlConfig(way=way, floor=5.0, unit="nats")
    found = control(config, State(), 0.0, policy.advantages, policy.of_tokens, policy.mask).advantages
    changed = (found != policy.advantages).any(1)
    success = policy.advantages[:, 0] > 0
    assert changed[success].any() == (way == "successes")
    assert changed[~success].any() == (way == "failures")


@pytest.mark.parametrize("way", ["successes", "failures", "both"])
@pytest.mark.parametrize("value", [0.05, 3.0, -0.5])
@pytest.mark.parametrize("cap", [0.95, 0.3, 0.0])
def test_a_channel_is_the_modulation_of_the_loss(way, value, cap, monkeypatch):
    """Token by token: signs mixed within a row, padding with advantages, log-probabilities that are not finite."""
    monkeypatch.setattr(ways_of_control, "VALUES_AT_ONCE", 30)
    generator = torch.Generator().manual_seed(7)
    advantages = torch.randn(12, 10, generator=generator)
    advantages[::3] = advantages[::3].abs()
    advantages[1] = 0
    log_probs, mask = -3 * torch.rand(12, 10, generator=generator), torch.rand(12, 10, generator=generator) < 0.7
    log_probs[2, 4] = log_probs[5, 1] = -float("inf")
    log_probs[~mask] = float("nan")
    mask[7] = False
    config = EntropyControlConfig(way=way, floor=5.0, unit="nats", modulation_cap=cap)
    found, share = apply(config, value, Rows(advantages, log_probs, mask))
    of_successes, of_failures = value * (way != "failures"), -value * (way != "successes")
    expected = modulate(advantages, log_probs, mask, of_successes, of_failures, cap)
    torch.testing.assert_close(found, expected)
    batch = Rows(advantages, log_probs, mask)
    assert batch.sums is batch.sums  # taken before, as in `control`
    assert torch.equal(apply(config, value, batch)[0], found)
    in_reach = mask & log_probs.isfinite() & (advantages != 0)
    in_reach &= {"successes": advantages > 0, "failures": advantages < 0, "both": mask}[way]
    allowed = cap * float(advantages[in_reach].abs().sum())
    assert share == pytest.approx(float((expected - advantages).abs().sum()) / allowed if cap else 1, abs=1e-5)
    assert share > 0


def test_a_channel_bears_the_lowest_finite_number():
    """Which some code writes for masked logits: as the loss's modulation does, and never NaN."""
    config = EntropyControlConfig(way="both", floor=5.0, unit="nats")
    advantages, mask = torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool)
    log_probs = torch.full((2, 2), torch.finfo(torch.float32).min)
    log_probs[0, 1] = -1
    found, _ = apply(config, 3.0, Rows(advantages, log_probs, mask))
    torch.testing.assert_close(found, modulate(advantages, log_probs, mask, 3.0, -3.0, config.modulation_cap))


def test_the_bonus_is_the_gradient_of_the_entropy():
    """In expectation, where the tokens' entropies are known: with A = 0 the step is along the gradient of H."""
    policy = Tabular(3, 1.0)
    config = EntropyControlConfig(way="bonus", floor=5.0, unit="nats")
    shaped = APPLY["bonus"](
        config,
        0.2,
        Rows(torch.zeros_like(policy.advantages), policy.of_tokens, policy.mask != 0, policy.entropies),
    )
    logits = policy.logits.clone().requires_grad_()
    (0.2 * policy.entropy_at_positions(logits)).sum().backward()
    gradient = torch.zeros_like(policy.logits)
    for position in range(POSITIONS):
        weight = policy.probabilities * shaped[:, position]
        one_hot = torch.nn.functional.one_hot(policy.responses[:, position], TOKENS).double()
        gradient[position] = (weight[:, None] * (one_hot - policy.log_probs[position].exp())).sum(0)
    torch.testing.assert_close(gradient, logits.grad)


def test_repo_by_hand():
    config = EntropyControlConfig(way="repo", floor=5.0, unit="nats")
    advantages = torch.tensor([[2.0, 2.0], [-1.0, -1.0]])
    log_probs = torch.tensor([[-0.5, -0.1], [-0.25, -3.0]])
    found = APPLY["repo"](config, 1.0, Rows(advantages, log_probs, torch.ones(2, 2, dtype=torch.bool)))
    torch.testing.assert_close(found, torch.tensor([[3.0, 2.2], [-0.75, 0.0]]))


def test_weights_by_hand():
    config = EntropyControlConfig(way="weights", floor=5.0, unit="nats")
    advantages = torch.tensor([[2.0, 2.0], [-1.0, -1.0]])
    log_probs = torch.tensor([[0.99, 0.5], [0.99, 0.5]]).log()
    found = apply(config, 0.5, Rows(advantages, log_probs, torch.ones(2, 2, dtype=torch.bool)))[0]
    torch.testing.assert_close(found, torch.tensor([[0.0, 2.0], [-2.0, -1.0]]))  # half of the tokens are likely


def test_the_filter_by_hand():
    config = EntropyControlConfig(way="filter", floor=5.0, unit="nats")
    advantages = torch.tensor([[2.0, 2.0], [-1.0, -1.0]])
    for value, expected in ((1.0, [[0.0, 0], [-1, -1]]), (-1.0, [[2.0, 2], [0, 0]])):
        found = APPLY["filter"](config, value, Rows(advantages, advantages, advantages != 0))
        torch.testing.assert_close(found, torch.tensor(expected))


signs = st.lists(st.sampled_from([-1.0, 0.0, 1.0, 3.0]), min_size=4, max_size=4)
logs = st.lists(st.floats(-30, 0, width=32) | st.just(float("-inf")), min_size=12, max_size=12)


@every_way
@given(signs=signs, logs=logs, tokens=st.integers(0, 3), low=st.booleans())
def test_any_batch_gives_finite_advantages(way, signs, logs, tokens, low):
    """Tokens that the policy could not have sampled, responses without a token, groups without a contrast."""
    advantages = torch.tensor(signs)[:, None].repeat(1, 3)
    log_probs = torch.tensor(logs).view(4, 3)
    mask = torch.zeros(4, 3, dtype=torch.int64)
    mask[:2, :tokens] = 1
    mask[2:] = 1
    advantages = advantages * mask
    floor, ceiling = (40.0, None) if low else (None, 1e-6)
    config = EntropyControlConfig(way=way, floor=floor, ceiling=ceiling, unit="nats")
    found = control(config, State(), 0.0, advantages, log_probs, mask)
    assert found.advantages.isfinite().all()
    assert (found.advantages[mask == 0] == 0).all()
    if WAYS[way].channels:
        assert ((found.advantages - advantages).abs() <= 0.95 * advantages.abs() + 1e-6).all()
        assert (found.advantages.sign() == advantages.sign()).all()


@pytest.mark.parametrize("way", ["successes", "failures", "both"])
def test_without_a_contrast_a_channel_can_do_nothing_and_says_so(way):
    """As where an entropy has exploded and no response succeeds any more."""
    advantages, mask = torch.zeros(2, 2), torch.ones(2, 2)
    config = EntropyControlConfig(way=way, floor=None, ceiling=0.1, unit="nats")
    found = control(config, State(), 0.0, advantages, torch.tensor([[-1.0, -0.5], [-0.2, -3.0]]), mask)
    assert found.metrics["asymgrpo/control/action"] < 0
    assert found.metrics["asymgrpo/control/saturated"] == 1
    assert torch.equal(found.advantages, advantages)


@every_way
def test_a_batch_without_a_signal_keeps_the_state(way):
    config = EntropyControlConfig(way=way)
    state, advantages = State(reference=0.7, memory=0.25), torch.ones(2, 3)
    for log_probs, mask in (
        (torch.full((2, 3), float("nan")), torch.ones(2, 3)),
        (torch.full((2, 3), -float("inf")), torch.ones(2, 3)),
        (torch.zeros(2, 3), torch.zeros(2, 3)),
    ):
        assert control(config, state, 0.0, advantages, log_probs, mask) == Controlled(advantages, state, {})


def test_the_first_step_is_the_reference():
    config = EntropyControlConfig(way="successes", floor=0.5, ceiling=2.0)
    advantages, mask = torch.tensor([[1.0, 1.0]]), torch.ones(1, 2)
    first = control(config, State(), 0.0, advantages, torch.tensor([[-1.0, -0.5]]), mask)
    assert first.state.reference == 0.75
    assert first.metrics["asymgrpo/control/floor"] == 0.375
    assert first.metrics["asymgrpo/control/ceiling"] == 1.5
    second = control(config, first.state, 0.0, advantages, torch.tensor([[-0.2, -0.1]], requires_grad=True), mask)
    assert second.state.reference == 0.75
    assert second.metrics["asymgrpo/control/entropy"] == pytest.approx(0.15)
    assert second.metrics["asymgrpo/control/action"] == pytest.approx(20 * (0.375 - 0.15) / 0.375)
    assert second.advantages[0, 0] > 1 > second.advantages[0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every_way
def test_dtype_and_shape_stay(way, dtype):
    config = EntropyControlConfig(way=way, floor=5.0, unit="nats")
    advantages = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=dtype)
    log_probs = torch.tensor([[-0.01, -2.0], [-0.01, -2.0]], dtype=dtype)
    found = control(config, State(), 0.0, advantages, log_probs, torch.ones(2, 2, dtype=torch.int64)).advantages
    assert found.dtype == dtype
    assert found.shape == (2, 2)
    assert not torch.equal(found, advantages)


@every_way
def test_some_rows_at_a_time_are_all_of_them(way, monkeypatch):
    """Also what looks at the whole batch, the share of likely tokens."""
    policy = policy_of(way, 0)
    config = EntropyControlConfig(way=way, floor=5.0, unit="nats")
    batch = Rows(policy.advantages, policy.of_tokens, policy.mask != 0, policy.entropies)
    at_once, share = apply(config, 0.3, batch)
    monkeypatch.setattr(ways_of_control, "VALUES_AT_ONCE", 7 * POSITIONS)
    in_parts, share_in_parts = apply(config, 0.3, batch)
    assert torch.equal(at_once, in_parts)
    assert share == pytest.approx(share_in_parts, rel=1e-14)  # sums in another order
