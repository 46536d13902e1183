"""Memory: what the plan says is what the compiler says of the programs that a run calls, and advice that holds."""

import pytest
from small_runs import go, small

from scaling import aot, learner, memory, sampling
from scaling.config import dump, parse
from scaling.structure import ConfigError

LIMIT = 100.0


def test_what_is_held_beside_a_program_is_added_to_it():
    program = {"arguments": 10, "results": 1, "temporary": 5, "growing": 4}
    facts = {"parameters": 100, "optimiser": 200, "programs": dict.fromkeys(memory.PROGRAMS, program)}
    plain = memory.needed(small(), facts)
    assert plain == {"gradient": 216, "step": 16, "prompts": 216, "rollout": 216, "evaluation": 516}
    facts["programs"] = dict.fromkeys(memory.PROGRAMS, program | {"growing": 7})
    assert memory.needed(small(), facts)["rollout"] == 217, "two caches while one grows into the other"
    facts["programs"] = dict.fromkeys(memory.PROGRAMS, program)
    kept = memory.needed(small("rl.kl=0.1"), facts)
    more = {name: kept[name] - plain[name] for name in plain}
    assert more == {
        "gradient": 0,
        "step": 100,
        "prompts": 100,
        "rollout": 100,
        "evaluation": 100,
    }  # gradient is given it


def compiler(config, devices, programs=memory.PROGRAMS):
    """Programs whose temporary memory follows the settings, as a compiler would have it."""
    fsdp, none = config.mesh.fsdp, {"arguments": 0, "results": 0, "growing": 0}
    temporary = {
        "gradient": (1 if config.model.remat else 4) * config.microbatch / devices,
        "step": 0,
        "prompts": 0,
        "rollout": min(config.rl.problems * config.rl.samples, config.rl.chunk) / devices,
        "evaluation": config.evaluation.chunk / devices,
    }
    return {
        "mesh": {"data": devices // fsdp, "fsdp": fsdp, "tensor": 1},
        "parameters": 0,
        "optimiser": 120 / fsdp,
        "programs": {name: none | {"temporary": temporary[name]} for name in programs},
    }


@pytest.fixture
def tried(monkeypatch):
    """What the compiler was asked, in place of the compiler."""
    calls = []

    def compiled(config, devices, programs=memory.PROGRAMS):
        calls.append((config, tuple(programs)))
        return compiler(config, devices, programs)

    monkeypatch.setattr(memory, "compiled", compiled)
    return calls


def alternatives(config, devices):
    return memory.account(config, devices, LIMIT / memory.USABLE)["alternatives"]


def test_what_fits_needs_no_alternative(tried):
    found = memory.account(small("mesh.fsdp=4", "microbatch=16"), 4, LIMIT)
    assert found["fits"] and "alternatives" not in found and len(tried) == 1
    assert memory.account(small("mesh.fsdp=4", "microbatch=16"), 4, None).keys().isdisjoint({"fits", "limit"})


def test_alternatives_go_as_far_as_they_must_and_the_compiler_says_that_they_fit(tried):
    found = alternatives(small("mesh.fsdp=4", "microbatch=256", "evaluation.chunk=16"), 4)
    said = {tuple(other["set"]): other["fits"] for other in found}
    # 256 microbatch + 30 optimiser: remat 64 + 30 fits; halving reaches 64 with 64 + 30, its first that fits.
    assert said == {("model.remat=true",): True, ("microbatch=64",): True}
    for other in found:
        assert max(other["needed"].values()) <= LIMIT


def test_more_fsdp_is_tried_and_the_mesh_let_go_for_it(tried):
    found = alternatives(small("mesh.data=4", "microbatch=16", "evaluation.chunk=16"), 4)
    (best,) = [other for other in found if other["fits"]]
    assert best["set"] == ["mesh.fsdp=4", "mesh.data=-1"]


def test_where_tensor_takes_what_is_left_it_is_named_before_data_does(tried):
    found = alternatives(small("mesh.data=4", "mesh.tensor=-1", "microbatch=16", "evaluation.chunk=16"), 4)
    (best,) = [other for other in found if other["fits"]]
    assert best["set"] == ["mesh.fsdp=4", "mesh.data=-1", "mesh.tensor=1"]


def test_what_no_change_alone_can_do_is_tried_together(tried):
    found = alternatives(small("mesh.fsdp=4", "microbatch=1024", "evaluation.chunk=1024"), 4)
    assert [other["fits"] for other in found] == [False, False, False, True]
    assert {name.partition("=")[0] for name in found[-1]["set"]} == {
        "model.remat",
        "microbatch",
        "evaluation.chunk",
    }


def test_batches_that_the_mesh_cannot_split_are_said(tried):
    found = memory.account(small("microbatch=6", "mesh.fsdp=4", "evaluation.chunk=64"), 4, None)["advice"]
    assert found == ["microbatch = 6 is no multiple of data × fsdp = 4: every device does all of it"]


def test_a_mesh_that_does_not_fit_the_devices_is_one_line():
    with pytest.raises(ConfigError, match=r"^mesh: .*'fsdp': 3.* must multiply to 2 devices$"):
        memory.compiled(small("mesh.fsdp=3"), 2)


@pytest.mark.slow
def test_memory_is_what_the_compiler_says_of_the_programs_a_run_calls(tmp_path, monkeypatch):
    """The largest of each program of a real run, compiled again with the arrays it was called with."""
    config, real = small("warm_start.stages=[]", "rl.budgets=[8]", "rl.flops=3e7"), {}

    def recorded(name, function):
        def call(*args, **options):
            found = aot.bytes_of(function.lower(*args, **options).compile())
            real[name] = max(real.get(name, {"temporary": -1}), found, key=lambda f: f["temporary"])
            return function(*args, **options)

        return call

    monkeypatch.setattr(learner, "accumulate", recorded("gradient", learner.accumulate))
    monkeypatch.setattr(learner, "step", recorded("step", learner.step))
    monkeypatch.setattr(sampling, "prefill", recorded("prompts", sampling.prefill))
    monkeypatch.setattr(sampling, "decode", recorded("rollout", sampling.decode))
    go(tmp_path / "run", config)
    planned = memory.compiled(config, 1, ("gradient", "step", "prompts", "rollout"))["programs"]
    assert planned.keys() == real.keys()
    for name, found in real.items():
        for kind, size in found.items():
            assert planned[name][kind] == pytest.approx(size, rel=0.1, abs=1024), (name, kind)


def test_a_config_reaches_the_compiling_process_whole():
    assert parse(dump(small("mesh.fsdp=2"))) == small("mesh.fsdp=2")
