"""The presets of a slice and of a pod compile for as many devices, and every program lowers for accelerators."""

import json
from dataclasses import replace

import jax
import pytest

from scaling import aot, memory
from scaling import config as configs
from scaling.accelerators import ACCELERATORS
from scaling.config import MeshConfig
from scaling.costs import checkpoint_bytes
from scaling.experiment import prepare
from scaling.flops import total_params
from scaling.tasks import make_task


@pytest.fixture(scope="module")
def problem_file(tmp_path_factory):
    """The path of a small file of problems, with worked solutions, for the preset that reads one."""
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    rows = [
        {"prompt": f"{a} + {b} =", "answer": str(a + b), "solution": f"{b} + {a} = {a + b}", "split": split}
        for split, a in (("train", 1), ("eval", 2))
        for b in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def exported(config) -> dict[str, jax.export.Exported]:
    experiment = prepare(replace(config, mesh=MeshConfig()))
    return {
        program.name: jax.export.export(program.function, platforms=["cuda", "tpu"])(
            *program.args, **program.options
        )
        for program in aot.programs(experiment)
    }


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("tiny", ()),
        ("tiny", ("rl.kl=0.1", "model.remat=true", "model.dtype=bfloat16")),
        ("slice", ("model.layers=1",)),  # its sixteen layers are alike and take a quarter of a minute
    ],
)
def test_training_sampling_and_evaluation_lower_for_gpu_and_tpu(preset, overrides):
    found = exported(configs.load(preset, overrides))
    assert tuple(found) == memory.PROGRAMS
    assert all(program.platforms == ("cuda", "tpu") for program in found.values())


@pytest.mark.slow
def test_a_model_of_a_billion_parameters_compiles_for_eight_devices():
    config = configs.load("slice")
    vocab = len(make_task(config.task).vocab)
    assert 0.9e9 < total_params(config.model, vocab) < 1.1e9
    found = memory.compiled(config, 8, ("gradient", "step"))
    whole = checkpoint_bytes(config, vocab)
    held = found["parameters"] + found["optimiser"]
    assert whole / 8 < held < 1.01 * whole / 8, "norms, and a vocabulary that does not divide, are whole on each"
    assert max(memory.needed(config, found).values()) < memory.USABLE * ACCELERATORS["v5e"].memory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "devices", "mesh"),
    [
        ("slice", 8, {"data": 1, "fsdp": 8, "tensor": 1}),
        ("pod", 256, {"data": 32, "fsdp": 8, "tensor": 1}),
    ],
)
def test_every_program_of_a_preset_compiles_for_its_devices_and_fits(preset, devices, mesh, problem_file):
    """One layer of its sixteen, which are alike, and the ends of its grid of budgets: the rest takes minutes."""
    overrides = ["model.layers=1", *([f"task.path={problem_file}", "evaluation.problems=8"] * (preset == "pod"))]
    budgets = configs.load(preset, overrides).evaluation.budgets
    config = configs.load(preset, [*overrides, f"evaluation.budgets=[0, {budgets[-1]}]"])
    found = memory.account(config, devices, ACCELERATORS["v5e"].memory)
    assert tuple(found["programs"]) == memory.PROGRAMS
    assert found["mesh"] == mesh and found["fits"] and not found["advice"]


@pytest.mark.slow
def test_recomputed_blocks_need_less_memory():
    sizes = []
    for remat in ("false", "true"):
        config = configs.load("tiny", [f"model.remat={remat}", "model.layers=6", "rl.budgets=[60]"])
        sizes.append(memory.compiled(config, 1, ["gradient"])["programs"]["gradient"]["temporary"])
    assert sizes[1] < 0.7 * sizes[0], sizes
