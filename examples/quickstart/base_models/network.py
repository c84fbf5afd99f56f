"""What is trained: a Qwen3 of some hundred thousand parameters that reads and writes single characters."""

from __future__ import annotations

from typing import Any

from examples.quickstart.base_models.chain_sum import Settings

PAD, END, UNKNOWN = "<|endoftext|>", "<|im_end|>", "<|unk|>"
CHARACTERS = Settings.characters
# A chat template that adds nothing: the prompt of the message `12-70=` is `12-70=`.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|im_end|>{% endif %}{% endfor %}"
)
MAX_PROMPT_TOKENS = 16
MAX_RESPONSE_TOKENS = 16


def tokenizer(characters: str = CHARACTERS, max_length: int = MAX_PROMPT_TOKENS + MAX_RESPONSE_TOKENS) -> Any:
    """A fast tokenizer with one token per character and three special ones; 17 tokens in all by default."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate([PAD, END, UNKNOWN, *characters])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    fast.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def make_model(settings: Settings, vocabulary: int, pad: int, end: int, positions: int = 64) -> Any:
    """A freshly initialised Qwen3 in float32."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(settings.seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=settings.hidden,
            intermediate_size=settings.intermediate,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            head_dim=32,  # the smallest that vLLM's CPU attention has
            max_position_embeddings=positions,
            tie_word_embeddings=True,
            pad_token_id=pad,
            eos_token_id=end,
            bos_token_id=None,
            initializer_range=settings.spread,  # the default 0.02 costs a narrow model many steps
            dtype="float32",
        )
    )
    model.generation_config = GenerationConfig(pad_token_id=pad, eos_token_id=end, do_sample=True, temperature=1.0)
    return model.float()
