"""The programs of a run, compiled ahead of time for devices that are not there.

`python -m scaling.aot` is a process of its own, because JAX must be told the number of virtual devices before it
starts: it reads `{"config": YAML, "programs": [names]}` from standard input and writes the bytes that one device
holds, as the compiler counts them, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling import learner, sampling
from scaling.batches import Batch, bucket
from scaling.config import Config, parse
from scaling.evaluate import tiers
from scaling.objectives import RECIPES
from scaling.sharding import AXES, make_mesh, place_batch
from scaling.tasks import Task, make_task


class Program(NamedTuple):
    """A jitted function and what it is called with, at the largest shape of a run."""

    name: str
    function: Any
    args: tuple
    options: dict[str, Any]
    cache: int = 0
    """Bytes of keys and values on one device."""


def programs(config: Config, task: Task, mesh: Mesh) -> Iterator[Program]:
    """gradient, step, rollout, evaluation; parameters and optimiser state are abstract."""
    rl, vocab = config.rl, len(task.vocab)
    graphdef, state = learner.abstract_state(config, vocab, mesh)
    params, reference = state["params"], state["params"] if rl.kl else None
    batch = _batch(config, task)
    options = {"mesh": mesh, "recipe": RECIPES[rl.recipe], "temperature": rl.temperature, "kl": rl.kl}
    alone = Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), AXES)
    plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    _, sums = jax.eval_shape(lambda p: learner.gradient(graphdef, p, None, [batch], alone), plain)
    sums = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P())), sums)
    args = (graphdef, params, reference, (params, sums), place_batch(batch, mesh))
    yield Program("gradient", learner.accumulate, args, options)
    tx = learner.make_optimiser(config, "warm_start")
    yield Program("step", learner.step, (tx, params, state["opt_state"], params, 0.0), {})

    def sample(name: str, prompts: int, group: int, budgets: Sequence[int], temperature: float) -> Program:
        rows = prompts * group
        keys = sampling.row_keys(config.seed, 0, 0, np.arange(rows))
        empty = np.zeros((prompts, task.prompt_tokens), np.int32), np.zeros(prompts, np.int32)
        placed = place_batch((*empty, keys), mesh)
        options = {
            "group": group,
            "budgets": tuple(budgets),
            "answer_tokens": task.answer_tokens,
            "temperature": temperature,
            "mesh": mesh,
        }
        length = task.prompt_tokens + budgets[-1] + 1 + task.answer_tokens
        held = placed[2].addressable_shards[0].data.size  # rows on one device
        model = config.model
        heads = model.kv_heads // (1 if model.kv_heads % mesh.shape["tensor"] else mesh.shape["tensor"])
        cache = 2 * model.layers * held * heads * length * model.head_size * jnp.dtype(model.dtype).itemsize
        return Program(name, sampling.sample, (graphdef, params, *placed), options, cache)

    yield sample("rollout", rl.problems, rl.samples, (max(rl.budgets),), rl.temperature)
    calls = [(t, max(config.evaluation.chunk // (t.last - t.first), 1)) for t in tiers(config)]
    tier, problems = max(calls, key=lambda call: call[1] * (call[0].last - call[0].first) * call[0].budgets[-1])
    yield sample("evaluation", problems, tier.last - tier.first, tier.budgets, config.evaluation.temperature)


def _batch(config: Config, task: Task) -> Batch:
    """A microbatch of the longest sequences, of nothing."""
    budgets = [*config.rl.budgets, *(stage.budget for stage in config.warm_start.stages)]
    size, width = config.microbatch, bucket(max(budgets) + 1 + task.answer_tokens)
    tokens, floats = np.zeros((size, width), np.int32), np.zeros((size, width), np.float32)
    prompts = np.zeros((size, task.prompt_tokens), np.int32)
    return Batch(prompts, np.zeros(size, np.int32), tokens, floats, floats, floats)


def measure(config: Config, names: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Bytes on one device: parameters, optimiser state, and of each named program what it is given, what it
    gives, and what it needs in between (`temporary`)."""
    task, mesh = make_task(config.task), make_mesh(config.mesh)
    _, state = learner.abstract_state(config, len(task.vocab), mesh)
    facts: dict[str, Any] = {"mesh": dict(mesh.shape), "programs": {}}
    facts |= {"parameters": held(state["params"]), "optimiser": held(state["opt_state"])}
    for program in programs(config, task, mesh):
        if program.name in names:
            say(f"compiling {program.name} for {mesh.size} devices …")
            start = perf_counter()
            compiled = program.function.lower(*program.args, **program.options).compile()
            seconds = perf_counter() - start
            facts["programs"][program.name] = bytes_of(compiled) | {"cache": program.cache, "seconds": seconds}
    return facts


def held(tree: Any) -> int:
    """Bytes of a tree of sharded arrays, or of their shapes, on one device."""
    return sum(int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def bytes_of(compiled: Any) -> dict[str, int]:
    """What the compiler says of one device."""
    found = compiled.memory_analysis()
    return {
        "arguments": found.argument_size_in_bytes,
        "results": found.output_size_in_bytes - found.alias_size_in_bytes,
        "temporary": found.temp_size_in_bytes,
    }


def main() -> int:
    request = json.load(sys.stdin)
    try:
        say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
        print(json.dumps(measure(parse(request["config"]), request["programs"], say)))
    except ValueError as error:
        print(json.dumps({"error": str(error)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
