"""What stays the same from the first step of an experiment to the last."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jax.sharding import Mesh

from scaling.config import Config
from scaling.model import abstract
from scaling.sharding import make_mesh
from scaling.tasks import Task, make_task


@dataclass(frozen=True)
class Experiment:
    """All but parameters and optimiser state: training, evaluation and planning are functions of both."""

    config: Config
    task: Task
    mesh: Mesh
    graphdef: nnx.GraphDef
    """The model without its parameters, hashable: what jitted functions are compiled for."""

    @property
    def vocab(self) -> int:
        return len(self.task.vocab)


def prepare(config: Config) -> Experiment:
    """The experiment on the devices that JAX has here. Raises ConfigError for a task or mesh that cannot be."""
    task = make_task(config.task)
    return Experiment(config, task, make_mesh(config.mesh), abstract(config.model, len(task.vocab))[0])
