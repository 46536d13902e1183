"""The programs of a run, compiled ahead of time for devices that are not there.

`python -m scaling.aot` is a process of its own, because JAX must be told the number of virtual devices before it
starts: it reads `{"config": YAML, "programs": [names]}` from standard input and writes the bytes that one device
holds, as the compiler counts them, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
from scaling.experiment import Experiment, prepare
from scaling.model import empty_cache
from scaling.sharding import batch_sharding, cache_sharding, place_batch
from scaling.tasks import Task
from scaling.tiers import tiers


class Program(NamedTuple):
    """A jitted function and what it is called with, at the largest shape of a run."""

    name: str
    function: Any
    args: tuple
    options: dict[str, Any]
    cache: int = 0
    """Bytes of keys and values on one device."""
    growing: int = 0
    """Bytes of the narrower cache that is held while this one is made."""


def programs(experiment: Experiment) -> Iterator[Program]:
    """gradient, step, prompts, rollout, evaluation; parameters, optimiser state and cache are abstract."""
    config, task, mesh, graphdef = experiment.config, experiment.task, experiment.mesh, experiment.graphdef
    rl, vocab, state = config.rl, experiment.vocab, learner.abstract_state(experiment)
    params, reference = state["params"], state["params"] if rl.kl else None
    batch = _batch(config, task)
    options = {"mesh": mesh, **learner.objective(config, "rl")}
    sum_ = jax.ShapeDtypeStruct((), jnp.float32, sharding=NamedSharding(mesh, P()))
    sums = dict.fromkeys(learner.METRICS, sum_)
    args = (graphdef, params, reference, (params, sums), place_batch(batch, mesh))
    yield Program("gradient", learner.accumulate, args, options)
    tx = learner.make_optimiser(config, "warm_start")
    yield Program("step", learner.step, (tx, params, state["opt_state"], params, 0.0), {})

    def sampler(prompts: int, group: int, budget: int, temperature: float, chunk: int) -> tuple[Program, Program]:
        """`prefill` and `decode` of the largest batch, the cache at its widest."""
        each, batch = sampling.layout(prompts, group, chunk)
        narrow, wide = ([0, *sampling.spans(budget + 1 + task.answer_tokens)])[-2:]
        rows = _rows(config, vocab, batch, task.prompt_tokens + wide, mesh)
        empty = np.zeros((each, task.prompt_tokens), np.int32), np.zeros(each, np.int32)
        shape = {"group": group, "batch": batch, "span": sampling.spans(1)[0], "mesh": mesh}
        prefill = Program("prompts", sampling.prefill, (graphdef, params, *place_batch(empty, mesh)), shape)
        uniform = place_batch(np.zeros((batch, wide - narrow), np.float32), mesh)
        ends = (np.int32(n) for n in (narrow, wide, budget, 0))
        options = {"answer_tokens": task.answer_tokens, "temperature": temperature, "mesh": mesh}
        options["prompt"] = task.prompt_tokens
        cache = held(rows.cache)
        growing = cache * (task.prompt_tokens + narrow) // (task.prompt_tokens + wide) if narrow else 0
        args = (graphdef, params, rows, uniform, *ends)
        return prefill, Program("decode", sampling.decode, args, options, cache, growing)

    prefill, decode = sampler(rl.problems, rl.samples, max(rl.budgets), rl.temperature, rl.chunk)
    yield prefill
    yield decode._replace(name="rollout")
    evaluation = config.evaluation
    calls = [
        sampler(evaluation.problems, t.samples, t.budgets[-1], evaluation.temperature, evaluation.chunk)
        for t in tiers(config)
    ]
    yield max((decode for _, decode in calls), key=lambda program: program.cache)._replace(name="evaluation")


def _rows(config: Config, vocab: int, batch: int, positions: int, mesh: Mesh) -> sampling.Rows:
    """Shapes, types and places of the rows that are decoded."""

    def array(dtype, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(shape, mesh))

    def part(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cache_sharding(x.shape, mesh))

    cache = jax.tree.map(part, jax.eval_shape(lambda: empty_cache(config.model, batch, positions)))
    int32 = array(jnp.int32, batch)
    fields: list[Any] = [array(jnp.float32, batch, vocab), cache, int32, int32, array(jnp.bool_, batch)]
    return sampling.Rows(*fields)


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
    experiment = prepare(config)
    mesh, state = experiment.mesh, learner.abstract_state(experiment)
    facts: dict[str, Any] = {"mesh": dict(mesh.shape), "programs": {}}
    facts |= {"parameters": held(state["params"]), "optimiser": held(state["opt_state"])}
    for program in programs(experiment):
        if program.name in names:
            say(f"compiling {program.name} for {mesh.size} devices …")
            start = perf_counter()
            compiled = program.function.lower(*program.args, **program.options).compile()
            seconds = perf_counter() - start
            sizes = {"cache": program.cache, "growing": program.growing}
            facts["programs"][program.name] = bytes_of(compiled) | sizes | {"seconds": seconds}
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
        say = partial(print, file=sys.stderr, flush=True)
        print(json.dumps(measure(parse(request["config"]), request["programs"], say)))
    except ValueError as error:
        print(json.dumps({"error": str(error)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
