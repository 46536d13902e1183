"""A sweep is a pure function from a file to runs: a value more adds runs and changes no other."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import config_hash
from scaling.structure import ConfigError, read_yaml
from sweeps.expand import expand
from sweeps.file import METHODS, parse, read, shipped
from sweeps.parameters import Range

VALUES = {
    "model.width": [16, 24, 32, 48],
    "model.layers": [1, 2, 3],
    "rl.recipe": ["rloo", "grpo", "dapo"],
    "rl.learning_rate": [1e-4, "3e-4", 1e-3],
    "evaluation.budgets": [[0, 4], [0, 4, 8]],
}


def runs(data, **more):
    return expand(parse({"base": "tiny", **data, **more}, "test"))


def names(data, **more):
    return [planned.name for planned in runs(data, **more)]


@st.composite
def grids(draw):
    """Parameters, some of them with values, of which none is given twice."""
    paths = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, min_size=1, max_size=3))
    chosen = {path: draw(st.integers(1, len(VALUES[path]))) for path in paths}
    return {path: {"values": VALUES[path][:count]} for path, count in chosen.items()}


@settings(max_examples=30, deadline=None)
@given(grids(), st.integers(1, 3), st.data())
def test_a_value_more_adds_runs_and_changes_no_other(parameters, seeds, data):
    before = names({"parameters": parameters, "seeds": seeds})
    assert len(before) == len(set(before)) == seeds * math.prod(len(p["values"]) for p in parameters.values())
    assert names({"parameters": parameters, "seeds": seeds}) == before
    path = data.draw(st.sampled_from(sorted(parameters)))
    wider = parameters | {path: {"values": VALUES[path]}}
    assert set(before) <= set(names({"parameters": wider, "seeds": seeds + 1}))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(0, 3))
def test_a_draw_more_adds_runs_and_changes_no_other(draws, seed):
    parameters = {
        "rl.learning_rate": {"distribution": "log_uniform_values", "min": "1e-4", "max": 1e-2},
        "model.ff": {"min": 16, "max": 64},
        "rl.recipe": {"values": ["rloo", "grpo"]},
    }
    random = {"method": "random", "parameters": parameters, "seed": seed}
    few, more = (runs(random, run_cap=count) for count in (draws, draws + 3))
    assert more[:draws] == few and len(more) == draws + 3
    for planned in more:
        assert 1e-4 <= planned.config.rl.learning_rate <= 1e-2
        assert 16 <= planned.config.model.ff <= 64 and isinstance(planned.config.model.ff, int)


def test_a_run_is_named_by_what_varies_and_by_the_hash_that_its_config_has():
    (planned,) = runs({"parameters": {"rl.recipe": {"values": ["grpo"]}, "rl.kl": {"value": 0.1}}})
    assert planned.name == f"grpo-s0-{config_hash(planned.config)[:8]}" and planned.config.rl.kl == 0.1


def test_parameters_may_be_nested_as_in_wandb_or_dotted():
    dotted = {"model.width": {"values": [16, 32]}, "rl.kl": {"value": 0.5}}
    for nested in (
        {"model": {"parameters": {"width": {"values": [16, 32]}}}, "rl": {"parameters": {"kl": {"value": 0.5}}}},
        {"model": {"width": {"values": [16, 32]}}, "rl": {"kl": {"value": 0.5}}},
    ):
        assert names({"parameters": nested}) == names({"parameters": dotted})


def test_points_between_min_and_max_are_spaced_evenly_or_by_a_factor():
    spaced = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2, "num": 3}
    found = [p.config.rl.learning_rate for p in runs({"parameters": {"rl.learning_rate": spaced}})]
    assert found == [1e-4, 1e-3, 1e-2]
    found = runs({"parameters": {"model.width": spaced | {"min": 16, "max": 64}}})
    assert [p.config.model.width for p in found] == [16, 32, 64]
    assert [p.config.rl.kl for p in runs({"parameters": {"rl.kl": {"min": 0, "max": 1, "num": 3}}})] == [0, 0.5, 1]
    assert [p.config.model.layers for p in runs({"parameters": {"model.layers": {"min": 1, "max": 3}}})] == [
        1,
        2,
        3,
    ]


def test_parameters_that_are_zipped_take_their_values_together():
    parameters = {
        "model.width": {"values": [16, 32]},
        "rl.kl": {"values": [0, 1]},
        "model.ff": {"values": [48, 96]},
    }
    found = runs({"parameters": parameters, "zip": [["model.width", "model.ff"]]})
    assert {(p.config.model.width, p.config.model.ff, p.config.rl.kl) for p in found} == {
        *((16, 48, 0.0), (16, 48, 1.0), (32, 96, 0.0), (32, 96, 1.0))
    }


def test_values_may_refer_to_fields_and_to_values_that_refer():
    parameters = {
        "model.ff": {"value": "${2 * model.head_size * model.heads}"},
        "model.head_size": {"value": "${model.width / 2}"},
        "model.width": {"values": [16, 32]},
    }
    found = [(p.config.model.head_size, p.config.model.ff) for p in runs({"parameters": parameters})]
    assert found == [(8, 32), (16, 64)]


def test_conditions_leave_out_what_they_do_not_allow_before_it_is_judged():
    heads = {"model.heads": {"values": [2, 3, 4]}, "model.kv_heads": {"values": [1, 2]}}
    found = runs({"parameters": heads}, where="model.heads % model.kv_heads == 0")
    assert [(p.config.model.heads, p.config.model.kv_heads) for p in found] == [
        (2, 1),
        (2, 2),
        (3, 1),
        (4, 1),
        (4, 2),
    ]


def test_the_sweep_that_is_kept_gives_the_same_runs(tmp_path):
    sweep = read("tiny", ["rl.flops=1e8"])
    (tmp_path / "sweep.yaml").write_text(sweep.text)
    assert expand(read(tmp_path / "sweep.yaml")) == expand(sweep)
    assert {planned.config.rl.flops for planned in expand(sweep)} == {1e8}


@pytest.mark.parametrize("name", shipped())
def test_the_sweeps_of_the_package_expand(name):
    assert read(name).method in METHODS and len(expand(read(name))) >= 6


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("- 3", ["a sweep file must hold fields"]),
        ("parametesr: {}", ["parametesr = {}: unknown field; did you mean 'parameters'?"]),
        ("base: tniy", ["tniy: neither a preset"]),
        ("base: 3\nzip: 4", ["zip = 4: must be a list", "base = 3: must be a preset"]),
        ("method: bayes", ["method = 'bayes': must be grid or random; bayes waits"]),
        ("method: random", ["run_cap: missing"]),
        ("early_terminate: {type: hyperband}", ["early_terminate = "]),
        ("parameters: {rl.flpos: {value: 1}}", ["rl.flpos: unknown field; did you mean 'flops'?"]),
        ("parameters: {rl.kl: {values: []}}", ["parameters.rl.kl.values = []: must be a list of at least one"]),
        ("parameters: {rl.kl: {values: [1, 1]}}", ["parameters.rl.kl.values: has 1 twice"]),
        ("parameters: {rl.kl: 3}", ["parameters.rl.kl = 3: must have value"]),
        (
            "parameters: {rl.kl: {value: 1, values: [1]}}",
            ["parameters.rl.kl: must have one of value, values"],
        ),
        (
            "parameters: {rl.kl: {num: 3}}",
            ["parameters.rl.kl: must have one of value, values, and min"],
        ),
        ("parameters: {rl.kl: {value: 1, num: 3}}", ["parameters.rl.kl: value goes with no num"]),
        (
            "parameters: {rl.kl: {min: 1, max: 0, num: 2}}",
            ["parameters.rl.kl: needs min and max, min at most"],
        ),
        (
            "parameters: {rl.kl: {min: 0, max: 1, num: 1, q: 0.5, distribution: unifrm}}",
            [
                "parameters.rl.kl.distribution = 'unifrm': must be a known name; did you mean 'uniform'?",
                "parameters.rl.kl.q = 0.5: must be above 0 for a distribution q_",
                "parameters.rl.kl.num = 1: must be from 2 to 10,000",
            ],
        ),
        (
            "parameters: {rl.kl: {min: 0, max: 1, num: 2, distribution: log_uniform_values}}",
            ["parameters.rl.kl.min = 0: must be above 0 for log_uniform_values"],
        ),
        (
            "parameters: {model.width: {min: 16, max: 64, q: 0.5, distribution: q_uniform, num: 2}}",
            ["parameters.model.width: min, max and q must be whole numbers, as the field is"],
        ),
        ("method: random\nrun_cap: 5\nparameters: {rl.kl: {values: [0, 1]}}", ["run_cap = 5: "]),
        ("parameters: {warm_start.stages.9.steps: {value: 1}}", ["warm_start.stages.9"]),
        ("parameters: {rl.kl: {value: '${rl.b2 / 0}'}}", ["parameters.rl.kl: 'rl.b2 / 0': "]),
        ("parameters: {rl.kl: {min: 0, max: 1}}", ["parameters.rl.kl: a grid needs values, or num"]),
        (
            "parameters: {rl.kl: {min: x, max: 1, nmu: 3}}",
            ["parameters.rl.kl.min = 'x'", "parameters.rl.kl.nmu = 3"],
        ),
        (
            "parameters: {model.width: {values: [x, 16]}, rl.samples: {value: 1}}",
            ["model.width = 'x'", "rl.samples = 1"],
        ),
        ("parameters: {model.kv_heads: {values: [3, 1]}}", ["model.kv_heads = 3: must be a divisor"]),
        (
            "parameters: {model: {value: {width: 8}}, model.width: {value: 4}}",
            ["parameters: model.width is set twice"],
        ),
        ("parameters: {seed: {values: [1, 2]}}\nseeds: 2", ["parameters: seed is set twice"]),
        ("parameters: {seed: {min: 0, max: 1000000000}}", ["parameters: 1,000,000,001 runs; at most 10,000"]),
        ("seeds: 1000000000", ["parameters: 1,000,000,000 runs; at most 10,000"]),
        ("seeds: [0, 0]", ["seeds = [0, 0]: must be a list of different"]),
        ("where: seed > 3", ["where: leaves none of 1 runs"]),
        ("where: [sed > 3, 'seed +']", ["where: 'sed > 3': sed: unknown field", "where: 'seed +': is not an exp"]),
        ("where: seed + 1", ["where: 'seed + 1': takes 1 for true or false"]),
        ("zip: [[rl.kl, rl.flops]]", ["zip: rl.kl: no parameter", "zip: rl.flops: no parameter"]),
        (
            "parameters: {rl.kl: {values: [0, 1]}, rl.flops: {values: [1e9]}}\nzip: [[rl.kl, rl.flops]]",
            ["zip: needs as many values of each; it has rl.kl 2, rl.flops 1"],
        ),
        (
            "parameters: {rl.kl: {value: '${rl.b2 + 1}'}, rl.b2: {value: '${rl.kl - 1}'}}",
            ["parameters: rl.kl → rl.b2 → rl.kl: refer to each other in a circle"],
        ),
        ("parameters: {rl.kl: {value: '${rl.kk}'}}", ["parameters.rl.kl: 'rl.kk': rl.kk: unknown field"]),
        ("parameters: {rl.kl: {values: ['${seed}', 0]}}", ["parameters: kl0-s0-"]),
        (
            "parameters: {warm_start.stages.0.demo: {values: [trace, dril]}}",
            ["warm_start.stages.0.demo = 'dril': not a"],
        ),
        ("name: a/b", ["name = 'a/b': must be at most 100 letters"]),
    ],
)
def test_a_bad_file_is_a_line_for_each_problem(text, lines):
    with pytest.raises(ConfigError) as refused:
        data = read_yaml(text)
        expand(parse({"base": "tiny", **data} if isinstance(data, dict) else data, "test"))
    assert len(refused.value.lines) == len(lines), refused.value.lines
    for line, start in zip(refused.value.lines, lines, strict=True):
        assert line.startswith(start) and "\n" not in line


@given(
    low=st.integers(1, 50),
    width=st.integers(0, 200),
    q=st.none() | st.integers(1, 9),
    log=st.booleans(),
    whole=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_is_drawn_lies_in_its_range_and_keeps_to_its_steps(low, width, q, log, whole, seed):
    drawn = Range(low, low + width, log, whole, q)
    value = drawn.draw(random.Random(seed))
    assert low <= value <= low + width
    assert isinstance(value, int) or not whole
    assert q is None or value % q == 0 or value in (low, low + width), "the ends are values too"
