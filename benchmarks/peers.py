"""The engine's peers: decoders of our shapes in PyTorch, Hugging Face transformers and plain flax.

All have the width, layers, heads and feed-forward that they are asked for, and rows of equal length. PyTorch and
transformers come with the extra `bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from time import process_time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling.config import ModelConfig

Step = Callable[[], object]
"""One optimiser step on a fixed batch, waited for."""


def installed() -> bool:
    """Whether PyTorch and transformers are; if so, PyTorch is put on one thread."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        return False
    _module("torch").set_num_threads(1)
    return True


def _module(name: str) -> Any:
    """A module that may not be installed: the extra `bench`."""
    return import_module(name)


def torch_step(model: ModelConfig, vocab: int, parts: list[np.ndarray], activation: str) -> Step:
    """PyTorch eager: a plain GPT (LayerNorm, learnt positions, scaled_dot_product_attention), AdamW, clipping.

    `parts`: int microbatches of rows of equal length; `activation`: relu2 or gelu.
    """
    torch = _module("torch")
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
            self.norm1, self.norm2 = nn.LayerNorm(model.width), nn.LayerNorm(model.width)
            self.qkv, self.out = nn.Linear(model.width, queries + 2 * keys), nn.Linear(queries, model.width)
            self.up, self.down = nn.Linear(model.width, model.ff), nn.Linear(model.ff, model.width)
            self.sizes = [queries, keys, keys]

        def forward(self, x: Any) -> Any:
            rows, length, _ = x.shape
            parts = self.qkv(self.norm1(x)).split(self.sizes, 2)
            q, k, v = (part.view(rows, length, -1, model.head_size).transpose(1, 2) for part in parts)
            grouped = model.kv_heads < model.heads
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
            x = x + self.out(a.transpose(1, 2).reshape(rows, length, -1))
            h = self.up(self.norm2(x))
            return x + self.down(F.gelu(h) if activation == "gelu" else F.relu(h).square())

    class GPT(nn.Module):
        def __init__(self, length: int) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocab, model.width), nn.Embedding(length, model.width)
            self.blocks = nn.Sequential(*(Block() for _ in range(model.layers)))
            self.norm, self.head = nn.LayerNorm(model.width), nn.Linear(model.width, vocab, bias=False)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.blocks(self.tokens(x) + self.positions(torch.arange(x.shape[1])))))

    gpt = GPT(max(part.shape[1] for part in parts))
    optimiser = torch.optim.AdamW(gpt.parameters(), lr=1e-3)
    batches = [torch.from_numpy(part.astype(np.int64)) for part in parts]

    def step() -> None:
        optimiser.zero_grad()
        for batch in batches:
            logits = gpt(batch[:, :-1])
            loss = F.cross_entropy(logits.reshape(-1, vocab), batch[:, 1:].reshape(-1)) / len(batches)
            loss.backward()
        nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimiser.step()

    return step


def flax_step(model: ModelConfig, vocab: int, parts: list[np.ndarray], activation: str) -> Step:
    """flax.nnx by the book: its own layers, `nnx.Optimizer`, one jitted step for the whole batch."""
    act = nnx.gelu if activation == "gelu" else lambda x: jnp.square(nnx.relu(x))

    class Block(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.norm1, self.norm2 = nnx.LayerNorm(model.width, rngs=rngs), nnx.LayerNorm(model.width, rngs=rngs)
            inside = model.heads * model.head_size
            self.attention = nnx.MultiHeadAttention(model.heads, model.width, inside, decode=False, rngs=rngs)
            self.up = nnx.Linear(model.width, model.ff, rngs=rngs)
            self.down = nnx.Linear(model.ff, model.width, rngs=rngs)

        def __call__(self, x, mask):
            x = x + self.attention(self.norm1(x), mask=mask)
            return x + self.down(act(self.up(self.norm2(x))))

    class GPT(nnx.Module):
        def __init__(self, length: int, rngs: nnx.Rngs):
            self.tokens = nnx.Embed(vocab, model.width, rngs=rngs)
            self.positions = nnx.Embed(length, model.width, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(model.layers)])
            self.norm = nnx.LayerNorm(model.width, rngs=rngs)
            self.head = nnx.Linear(model.width, vocab, use_bias=False, rngs=rngs)

        def __call__(self, tokens):
            x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
            mask = nnx.make_causal_mask(tokens)
            for block in self.blocks:
                x = block(x, mask)
            return self.head(self.norm(x))

    batch = jnp.asarray(np.concatenate([np.pad(p, ((0, 0), (0, _longest(parts) - p.shape[1]))) for p in parts]))
    gpt = GPT(_longest(parts), nnx.Rngs(0))
    optimiser = nnx.Optimizer(gpt, optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), wrt=nnx.Param)

    @nnx.jit
    def update(gpt, optimiser, batch):
        def loss(gpt):
            return optax.softmax_cross_entropy_with_integer_labels(gpt(batch[:, :-1]), batch[:, 1:]).mean()

        value, grads = nnx.value_and_grad(loss)(gpt)
        optimiser.update(gpt, grads)
        return value

    return lambda: update(gpt, optimiser, batch).block_until_ready()


def _longest(parts: list[np.ndarray]) -> int:
    return max(part.shape[1] for part in parts)


def transformers_sampler(
    model: ModelConfig, vocab: int, prompts_BxN: np.ndarray, new: int, activation: str, ends: tuple[int, ...]
) -> Callable[[], int]:
    """`generate` of transformers with its cache; the tokens that it made, none counted after the end of a row.

    Starcoder2 is the decoder of its library with our shape: rotary positions, grouped queries, two matrices in the
    feed-forward layer. `ends`: token ids that end a row.
    """
    torch, transformers = _module("torch"), _module("transformers")
    transformers.logging.set_verbosity_error()
    config = transformers.Starcoder2Config(
        vocab_size=vocab,
        hidden_size=model.width,
        intermediate_size=model.ff,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        hidden_act=activation,
        max_position_embeddings=prompts_BxN.shape[1] + new,
        sliding_window=None,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        use_bias=False,
    )
    decoder = transformers.Starcoder2ForCausalLM(config).eval()
    prompts = torch.from_numpy(prompts_BxN.astype(np.int64))
    options = transformers.GenerationConfig(
        max_new_tokens=new,
        do_sample=True,
        top_k=0,
        eos_token_id=list(ends) or None,
        pad_token_id=0,
        use_cache=True,
    )
    mask = torch.ones_like(prompts)

    def sample() -> int:
        with torch.inference_mode():
            made = decoder.generate(prompts, generation_config=options, attention_mask=mask)
        return int((made[:, prompts.shape[1] :] != 0).sum()) if ends else made[:, prompts.shape[1] :].numel()

    return sample


def jax_peak() -> float:
    """FLOP/s of a float32 product of two 1024×1024 matrices, one thread."""
    a = jnp.ones((1024, 1024))
    product = jax.jit(jnp.matmul)
    return 2 * 1024**3 / _least(lambda: product(a, a).block_until_ready())


def torch_peak() -> float:
    """The same of PyTorch."""
    torch = _module("torch")
    a = torch.ones(1024, 1024)
    return 2 * 1024**3 / _least(lambda: a @ a)


def _least(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(15):
        start = process_time()
        run()
        seconds.append(process_time() - start)
    return min(seconds)
