"""What a plan of a training needs to know of its model, without a hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


class PlanError(Exception):
    """The training could not work; the message says why and what to change."""


@dataclass(frozen=True)
class Model:
    """What a plan needs of a decoder's ``config.json``."""

    context: int
    vocabulary: int
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool

    @property
    def parameters(self) -> int:
        """Weights of embeddings, attention and gated MLP; norms and biases, a thousandth, are left out."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        block = attention + 3 * self.hidden * self.intermediate
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.layers * block


# From the models' published config.json, so that a plan needs no hub.
KNOWN = {
    "Qwen/Qwen2.5-0.5B-Instruct": Model(32768, 151936, 896, 24, 4864, 14, 2, 64, True),
    "Qwen/Qwen2.5-1.5B": Model(131072, 151936, 1536, 28, 8960, 12, 2, 128, True),
    "Qwen/Qwen2.5-1.5B-Instruct": Model(32768, 151936, 1536, 28, 8960, 12, 2, 128, True),
    "Qwen/Qwen2.5-3B": Model(32768, 151936, 2048, 36, 11008, 16, 2, 128, True),
    "Qwen/Qwen2.5-3B-Instruct": Model(32768, 151936, 2048, 36, 11008, 16, 2, 128, True),
    "Qwen/Qwen2.5-7B": Model(131072, 152064, 3584, 28, 18944, 28, 4, 128, False),
    "Qwen/Qwen2.5-7B-Instruct": Model(32768, 152064, 3584, 28, 18944, 28, 4, 128, False),
    "Qwen/Qwen2.5-Math-1.5B": Model(4096, 151936, 1536, 28, 8960, 12, 2, 128, True),
    "Qwen/Qwen2.5-Math-7B": Model(4096, 152064, 3584, 28, 18944, 28, 4, 128, False),
    "Qwen/Qwen3-1.7B": Model(40960, 151936, 2048, 28, 6144, 16, 8, 128, True),
    "Qwen/Qwen3-4B": Model(40960, 151936, 2560, 36, 9728, 32, 8, 128, True),
    "Qwen/Qwen3-8B": Model(40960, 151936, 4096, 36, 12288, 32, 8, 128, False),
}


def vocabulary(path: str) -> int | None:
    """How many tokens a model has, at a local path or with a known name; None where that is not known here."""
    if path in KNOWN:
        return KNOWN[path].vocabulary
    file = config_of(path)
    return json.loads(file.read_text(encoding="utf-8")).get("vocab_size") if file.is_file() else None


def config_of(path: str) -> Path:
    """``config.json`` of a model's folder, or of a hub's name in the cache on this disk; it need not be there."""
    if is_hub_name(path):
        try:
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(path, "config.json")
        except (ImportError, ValueError):
            cached = None
        if isinstance(cached, str):
            return Path(cached)
    return Path(path).expanduser() / "config.json"


def is_hub_name(path: str) -> bool:
    """owner/name is a hub's; anything else was meant to be a folder."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~")) and not Path(path).exists()


def describe_model(path: str) -> Model | None:
    """The model at a local path or with a known name; None for another name of a hub.

    Raises:
        PlanError: a path that is not a model's folder.
    """
    if path in KNOWN:
        return KNOWN[path]
    file = config_of(path)
    if not file.is_file():
        if is_hub_name(path):
            return None
        raise PlanError(f"actor_rollout_ref.model.path={path}: there is no {file}; give a model's folder or hub name")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        heads = config["num_attention_heads"]
        return Model(
            context=config["max_position_embeddings"],
            vocabulary=config["vocab_size"],
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            tied=bool(config.get("tie_word_embeddings")),
        )
    except (ValueError, KeyError) as error:
        raise PlanError(f"{file} cannot be read as a decoder's configuration: {error!r}") from error
