"""Train the Harbor reference model: a small Llama on the synthetic support corpus.

    python -m demo.train_model                 trains and writes demo/model/ (half a second a step on one free core)
    python -m demo.train_model --data-only     only writes demo/data/

Every draw is seeded, and each half of a batch is computed on one thread, so a run repeats. Once one did not, for a reason that was not
found; demo/model/README.md says what was seen.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.corpus.dialogues import Message, draw_dialogue
from demo.corpus.files import held_out_texts, write_data
from steernode.engine.access.sites import hook_after

MODEL_FOLDER = Path(__file__).parent / "model"
SEED = 20_260_731
VOCABULARY = 2048
CONTEXT_LENGTH = 1024
TOKENS_PER_BATCH = 2048
IGNORED = -100  # the label that the loss skips
# A reply's tone is settled by its first token. Among forty others that token is lost, and the model would
# learn to follow a system message only late; counting it for more makes it learn that early.
OPENING_WEIGHT = 6.0
# In the second phase, how long an offset may be, as a share of the mean residual norm.
LARGEST_OFFSET = 0.6

BOS, EOS, PAD = "<s>", "<|end|>", "<pad>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = [BOS, EOS, PAD, SYSTEM, USER, ASSISTANT]

# The end-of-turn token after a reply is the assistant's too: it has to learn when to stop.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% elif message['role'] in ['system', 'user'] %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% else %}{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def render_dialogue(messages: list[Message]) -> str:
    """What the chat template renders, without the cost of a template engine for every training dialogue."""
    return BOS + "".join(f"<|{message['role']}|>{message['content']}{EOS}" for message in messages)


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer under the class name that both transformers 4 and 5 can load."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["backend"]
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model. The padding token is its own, so that it is never mistaken for an end of turn."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    # Eager attention trains twice as fast as the fused kernels on a CPU at these sizes. The choice is not saved.
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config)


def label_assistant_tokens(ids: list[int], assistant: int, eos: int) -> list[int]:
    """The ids, with every token outside the assistant's turns ignored."""
    labels, is_reply = [], False
    for token in ids:
        labels.append(token if is_reply else IGNORED)
        if token == assistant:
            is_reply = True
        elif token == eos:
            is_reply = False
    return labels


def draw_batches(rows: list[list[int]], rng: random.Random) -> Iterator[list[list[int]]]:
    """Batches of rows of similar length and about TOKENS_PER_BATCH tokens, in random order, for ever."""
    rows = sorted((row for row in rows if len(row) <= CONTEXT_LENGTH), key=len)
    batches: list[list[list[int]]] = [[]]
    for row in rows:
        if len(row) * (len(batches[-1]) + 1) > TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append(row)
    while True:
        rng.shuffle(batches)
        yield from batches


def pad_batch(batch: list[list[int]], tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels, (rows, longest row). Padding is on the right, where causal attention never sees it."""
    assistant, width = tokenizer.convert_tokens_to_ids(ASSISTANT), max(map(len, batch))
    inputs = torch.full((len(batch), width), tokenizer.pad_token_id)
    labels = torch.full((len(batch), width), IGNORED)
    for index, row in enumerate(batch):
        inputs[index, : len(row)] = torch.tensor(row)
        labels[index, : len(row)] = torch.tensor(label_assistant_tokens(row, assistant, tokenizer.eos_token_id))
    return inputs, labels


def weigh_targets(labels: torch.Tensor) -> torch.Tensor:
    """What each label counts, (rows, longest row - 1): nothing where it is ignored, more where a reply opens."""
    is_target = labels[:, 1:] != IGNORED
    is_opening = is_target & (labels[:, :-1] == IGNORED)
    return is_target + (OPENING_WEIGHT - 1.0) * is_opening


def measure_loss(model: LlamaForCausalLM, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum of the cross-entropy of the assistant's tokens, in nats; no logits are computed for the others."""
    is_target = weights > 0
    # The cache of cast weights is the process's, and two threads are in here at once.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][is_target])
    losses = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][is_target], reduction="none")
    return (losses * weights[is_target]).sum()


def differentiate(
    model: LlamaForCausalLM, lanes: ThreadPoolExecutor, inputs: torch.Tensor, labels: torch.Tensor, offsets: Offsets | None
) -> float:
    """Add the gradient of the mean loss of a batch to the parameters. Returns that loss, in nats per token.

    Each half of the rows has a thread of its own, and the halves are added in their order: two cores nearly halve the time,
    and no sum depends on which thread was faster.
    """
    weights = weigh_targets(labels)
    total, parameters, middle = weights.sum(), list(model.parameters()), (len(inputs) + 1) // 2

    def differentiate_half(half: slice) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        with offsets.applied(model, half) if offsets else nullcontext():
            loss = measure_loss(model, inputs[half], labels[half], weights[half]) / total
            return loss.detach(), torch.autograd.grad(loss, parameters)

    halves = [half for half in (slice(0, middle), slice(middle, len(inputs))) if len(inputs[half])]
    losses, gradients = zip(*lanes.map(differentiate_half, halves), strict=True)
    for parameter, *parts in zip(parameters, *gradients, strict=True):
        parameter.grad = sum(parts[1:], start=parts[0])
    return float(sum(losses))


class Offsets:
    """For each row of a batch a random direction of random length, added from its first assistant token on, after one random block."""

    def __init__(self, model: LlamaForCausalLM, inputs: torch.Tensor, assistant: int, rng: random.Random) -> None:
        self._from_reply_on = (inputs == assistant).cumsum(dim=1).clamp(max=1)[..., None]
        self._directions = torch.nn.functional.normalize(torch.randn(len(inputs), 1, model.config.hidden_size), dim=-1)
        self._lengths = torch.rand(len(inputs), 1, 1) * LARGEST_OFFSET
        self._block = rng.randrange(model.config.num_hidden_layers)

    @contextmanager
    def applied(self, model: LlamaForCausalLM, rows: slice) -> Iterator[None]:
        """To the passes that this thread makes with these rows."""

        def add_offset(stream: torch.Tensor) -> torch.Tensor:
            residual_norm = stream.detach().float().norm(dim=-1).mean()
            shift = self._directions[rows] * self._lengths[rows] * residual_norm * self._from_reply_on[rows]
            return stream + shift.to(stream.dtype)

        handle = hook_after(model.model.layers[self._block], add_offset)
        try:
            yield
        finally:
            handle.remove()


def train_model(folder: Path, *, dialogues: int, steps: int, learning_rate: float) -> None:
    """Draw the corpus, train the tokenizer and the model, and write both to the folder."""
    started = time.monotonic()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    held_out = held_out_texts()
    texts = [render_dialogue(draw_dialogue(rng, held_out)) for _ in range(dialogues)]
    tokenizer = train_tokenizer(texts[:12_000])
    rows = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts)]
    model = build_model(tokenizer)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(rows)} dialogues, {sum(map(len, rows))} tokens, {size} parameters, {time.monotonic() - started:.0f} s", flush=True)

    fit(model, tokenizer, rows, rng, steps=steps, learning_rate=learning_rate, with_offsets=False)
    save_model(model, tokenizer, folder)


def steady_model(folder: Path, *, dialogues: int, steps: int, learning_rate: float) -> None:
    """Go on from the written weights with offsets in the residual stream, and write the folder again.

    A model this small has no slack: without this, the shift that turns a reply warm also costs one fact in twenty.
    """
    torch.set_num_threads(1)
    torch.manual_seed(SEED + 1)
    rng = random.Random(SEED + 1)
    held_out = held_out_texts()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    texts = [render_dialogue(draw_dialogue(rng, held_out)) for _ in range(dialogues)]
    rows = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts)]
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").train()
    fit(model, tokenizer, rows, rng, steps=steps, learning_rate=learning_rate, with_offsets=True)
    save_model(model, tokenizer, folder)


def fit(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[list[int]],
    rng: random.Random,
    *,
    steps: int,
    learning_rate: float,
    with_offsets: bool,
) -> None:
    """Minimise the loss over batches of the rows, with one cycle of the learning rate."""
    started = time.monotonic()
    assistant = tokenizer.convert_tokens_to_ids(ASSISTANT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.08)
    batches = draw_batches(rows, rng)
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as lanes:
        for step in range(steps):
            inputs, labels = pad_batch(next(batches), tokenizer)
            loss = differentiate(model, lanes, inputs, labels, Offsets(model, inputs, assistant, rng) if with_offsets else None)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step % 50 == 0 or step == steps - 1:
                print(f"step {step}: loss {loss:.3f}, {time.monotonic() - started:.0f} s", flush=True)


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the weights in float16, with greedy generation as the default."""
    model.generation_config.do_sample = False
    model.generation_config.max_new_tokens = 64
    model.eval().to(torch.float16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the Harbor reference model and write its data.")
    parser.add_argument("--data-only", action="store_true", help="write demo/data/ and stop")
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER, help="folder of the model")
    parser.add_argument("--dialogues", type=int, default=60_000)
    parser.add_argument("--steps", type=int, default=1_200)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--steady-steps", type=int, default=400, help="steps of the second phase; 0 leaves it out")
    parser.add_argument("--only-steady", action="store_true", help="go on from the weights in the folder: the second phase alone")
    arguments = parser.parse_args()
    if arguments.data_only:
        write_data()
        return
    if not arguments.only_steady:
        train_model(arguments.out, dialogues=arguments.dialogues, steps=arguments.steps, learning_rate=arguments.learning_rate)
    if arguments.steady_steps:
        steady_model(
            arguments.out, dialogues=arguments.dialogues // 3, steps=arguments.steady_steps, learning_rate=arguments.learning_rate / 3
        )


if __name__ == "__main__":
    main()
