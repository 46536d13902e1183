"""What a forward pass, a rollout and a training step cost: model FLOPs of real tokens, in Python integers.

The token at position t (counted from 1) attends to t positions, itself included, and its forward pass costs
2·N + 4·L·d_attn·t: N parameters in matrix products, L layers, d_attn = heads × head size. A multiplication
and an addition count as two. Norms, rotary positions, softmax and padding are left out. Training costs
3 × forward. (Kaplan et al. 2020, arXiv 2001.08361; PaLM, arXiv 2204.02311, appendix B, and Chinchilla,
arXiv 2203.15556, appendix F, count the full T × T attention map instead of its causal half.)

What counts is every token that is *fed* to the model. A completion is fed but for its last token, after which
nothing is predicted; an injected token is fed like any other.

Counts are arbitrary-size integers, because 64 bits overflow at 9.2e18 FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import index
from typing import Any

from scaling.config import ModelConfig

COMPUTE_PHASES = ("warm_start", "rollout", "update", "reference")
"""Phases that spend training FLOPs."""
RL_PHASES = ("rollout", "update", "reference")
PHASES = (*COMPUTE_PHASES, "compile", "verify", "checkpoint", "records", "other")
"""Phases that spend seconds. Evaluation is never train compute; its rows keep their own FLOPs and seconds."""


def d_attn(model: ModelConfig) -> int:
    """Width of all query heads together."""
    return model.heads * model.head_size


def block_params(model: ModelConfig) -> int:
    """Parameters in the matrix products of one block."""
    query_and_output = 2 * model.width * d_attn(model)
    key_and_value = 2 * model.width * model.kv_heads * model.head_size
    matrices = {"relu2": 2, "gated": 3}[model.feedforward]
    return query_and_output + key_and_value + matrices * model.width * model.ff


def matmul_params(model: ModelConfig, vocab: int) -> int:
    """N: parameters in matrix products; the unembedding counts (even tied), an embedding look-up does not."""
    return model.layers * block_params(model) + model.width * index(vocab)


def total_params(model: ModelConfig, vocab: int) -> int:
    """All parameters: matrix products, an untied embedding, and the scales of 2·layers + 1 norms."""
    embedding = 0 if model.tied else index(vocab) * model.width
    return matmul_params(model, vocab) + embedding + (2 * model.layers + 1) * model.width


def token(model: ModelConfig, vocab: int, attended: int) -> int:
    """Forward FLOPs of one token that attends to `attended` positions, its own included."""
    return 2 * matmul_params(model, vocab) + 4 * model.layers * d_attn(model) * index(attended)


def sequence(model: ModelConfig, vocab: int, start: int, stop: int) -> int:
    """Forward FLOPs of the tokens at positions start+1 … stop, those before them being in the cache.

    The closed form of the sum of `token` over these positions. Needs 0 ≤ start ≤ stop.
    """
    start, stop = index(start), index(stop)
    if not 0 <= start <= stop:
        raise ValueError(f"positions: start {start} and stop {stop} must satisfy 0 <= start <= stop")
    products = 2 * matmul_params(model, vocab) * (stop - start)
    attention = 2 * model.layers * d_attn(model) * (stop * (stop + 1) - start * (start + 1))
    return products + attention


def train_sequence(model: ModelConfig, vocab: int, tokens: int) -> int:
    """Forward and backward FLOPs of a sequence of which `tokens` tokens are fed (its length less one)."""
    return 3 * sequence(model, vocab, 0, tokens)


def prefill(model: ModelConfig, vocab: int, prompt: int) -> int:
    """FLOPs of feeding a prompt of `prompt` tokens; completions of one prompt share it."""
    return sequence(model, vocab, 0, prompt)


def decode(model: ModelConfig, vocab: int, prompt: int, generated: int) -> int:
    """FLOPs of a completion of `generated` tokens after its prompt: all of them but the last are fed."""
    return sequence(model, vocab, prompt, index(prompt) + max(index(generated) - 1, 0))


@dataclass(frozen=True)
class Ledger:
    """What has been spent so far, by phase."""

    flops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPUTE_PHASES, 0))
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPUTE_PHASES, 0))
    """Tokens fed to the model."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    def add(self, phase: str, *, flops: int = 0, tokens: int = 0, seconds: float = 0.0) -> Ledger:
        """A new ledger with this spent too. Raises ValueError for an unknown phase or a negative amount."""
        flops, tokens, seconds = index(flops), index(tokens), float(seconds)
        if phase not in PHASES:
            raise ValueError(f"phase: {phase!r} is not a phase of the ledger; known: {', '.join(PHASES)}")
        if phase not in COMPUTE_PHASES and (flops or tokens):
            raise ValueError(f"phase: {phase!r} takes seconds only; FLOPs go to {', '.join(COMPUTE_PHASES)}")
        if not (flops >= 0 and tokens >= 0 and seconds >= 0):
            raise ValueError(f"{phase}: flops {flops}, tokens {tokens}, seconds {seconds} must not be negative")
        return Ledger(
            _plus(self.flops, phase, flops) if phase in COMPUTE_PHASES else self.flops,
            _plus(self.tokens, phase, tokens) if phase in COMPUTE_PHASES else self.tokens,
            _plus(self.seconds, phase, seconds),
        )

    @property
    def train_flops(self) -> int:
        """FLOPs since the first of all: the axis of train compute."""
        return sum(self.flops.values())

    @property
    def rl_flops(self) -> int:
        """FLOPs since RL began: the axis of RL compute."""
        return sum(self.flops[phase] for phase in RL_PHASES)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain data, as it stands in the records."""
        return {"flops": dict(self.flops), "tokens": dict(self.tokens), "seconds": dict(self.seconds)}

    @staticmethod
    def from_dict(data: Mapping[str, Mapping[str, Any]]) -> Ledger:
        """The ledger that `to_dict` wrote; a phase that is absent has spent nothing.

        Raises ValueError for unknown phases, negative amounts and counts that are not integers.
        """
        ledger = Ledger()
        try:
            for phase, flops in data["flops"].items():
                ledger = ledger.add(phase, flops=flops)
            for phase, tokens in data["tokens"].items():
                ledger = ledger.add(phase, tokens=tokens)
            for phase, seconds in data["seconds"].items():
                ledger = ledger.add(phase, seconds=seconds)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"ledger: needs flops, tokens (integers) and seconds by phase; {error}") from error
        return ledger


def _plus(amounts: dict[str, Any], phase: str, amount: Any) -> dict[str, Any]:
    return amounts | {phase: amounts[phase] + amount}
