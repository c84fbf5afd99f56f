"""verl's engine on a CPU: that it computes what verl's own does."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("verl.plugin.platform", reason="verl has platforms from 0.9 on")
from tensordict import TensorDict  # noqa: E402
from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: E402
from verl.utils import tensordict_utils  # noqa: E402

from verl_ext.cpu.platform import OWN_SOCKET  # noqa: E402

VOCABULARY = 32
PROMPTS, RESPONSES = (5, 3, 9), (4, 6, 1)


def nested(parts):
    return torch.nested.as_nested_tensor(parts, layout=torch.jagged)


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setenv(OWN_SOCKET, "1")  # the import sets it, and other tests are to run without
    from verl_ext.cpu.engine import CPUEngineWithLMHead

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    engine = object.__new__(CPUEngineWithLMHead)
    engine.module = Qwen3ForCausalLM(config)
    engine.engine_config = SimpleNamespace(entropy_checkpointing=False)
    engine.pad_to_length = None
    engine._autocast_dtype = torch.float32
    engine.get_data_parallel_group = lambda: None
    return engine


def batch(temperature=0.7):
    torch.manual_seed(1)
    prompts = [torch.randint(1, VOCABULARY, (length,)) for length in PROMPTS]
    responses = [torch.randint(1, VOCABULARY, (length,)) for length in RESPONSES]
    sequences = [torch.cat(pair) for pair in zip(prompts, responses, strict=True)]
    fields = {
        "prompts": nested(prompts),
        "responses": nested(responses),
        "input_ids": nested(sequences),
        "position_ids": nested([torch.arange(len(sequence)) for sequence in sequences]),
    }
    found = TensorDict(fields, batch_size=len(PROMPTS))
    tensordict_utils.assign_non_tensor(
        found, use_remove_padding=False, calculate_entropy=True, calculate_sum_pi_squared=True
    )
    if isinstance(temperature, torch.Tensor):
        found["temperature"] = temperature
    else:
        tensordict_utils.assign_non_tensor(found, temperature=temperature)
    return found


def computed(engine, data):
    """What a step computes, the gradients of a loss over response tokens, and how many logits the model made."""
    logits = []
    hook = engine.module.lm_head.register_forward_hook(lambda *call: logits.append(call[-1].shape[1]))
    outputs = {}

    def loss(model_output, data, dp_group):
        outputs.update(model_output)
        total = 0.0
        for values in model_output.values():
            for sequence, length in zip(values.unbind(), RESPONSES, strict=True):
                # The last position predicts what comes after the end.
                total = total + (sequence[-length - 1 : -1] ** 2).sum()
        return total, {}

    engine.module.zero_grad()
    total, _ = engine.forward_step(data, loss, forward_only=False)
    total.backward()
    hook.remove()
    return outputs, [parameter.grad.clone() for parameter in engine.module.parameters()], logits


@pytest.mark.parametrize("temperature", [1.0, 0.7, torch.tensor([0.5, 1.0, 2.0])], ids=["1", "0.7", "of each"])
def test_logits_before_the_responses_are_not_computed_and_nothing_else_changes(engine, monkeypatch, temperature):
    data = batch(temperature)
    outputs, gradients, logits = computed(engine, data)
    monkeypatch.setattr(type(engine), "_positions_without_logits", lambda *_: 0)
    expected, expected_gradients, all_logits = computed(engine, data)

    longest = max(p + r for p, r in zip(PROMPTS, RESPONSES, strict=True))
    assert (logits, all_logits) == ([longest - min(PROMPTS) + 1], [longest])
    assert outputs.keys() == expected.keys() == {"log_probs", "entropy", "sum_pi_squared"}
    for name in expected:
        assert torch.equal(outputs[name].offsets(), expected[name].offsets())
        for ours, theirs, length in zip(outputs[name].unbind(), expected[name].unbind(), RESPONSES, strict=True):
            assert len(ours) == len(theirs)
            torch.testing.assert_close(ours[-length - 1 : -1], theirs[-length - 1 : -1])
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_supervised_loss_gets_the_log_probabilities_of_prompts(engine):
    data = batch()
    del data["prompts"]
    outputs, _, logits = computed(engine, data)
    assert logits == [max(p + r for p, r in zip(PROMPTS, RESPONSES, strict=True))]
    assert all((sequence[:-1] < 0).all() for sequence in outputs["log_probs"].unbind())


def test_a_model_that_cannot_skip_logits_computes_all(engine):
    forward = engine.module.forward
    engine.module.forward = lambda input_ids, attention_mask, position_ids, use_cache: forward(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache
    )
    _, _, logits = computed(engine, batch())
    assert logits == [max(p + r for p, r in zip(PROMPTS, RESPONSES, strict=True))]


def test_fsdp1_is_refused_with_the_remedy(engine):
    engine.engine_config = SimpleNamespace(strategy="fsdp", forward_only=False)
    with pytest.raises(ValueError, match="strategy=fsdp2"):
        engine._build_fsdp_module(None)
