import dataclasses
import subprocess
import sys
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import config as configs
from scaling.config import Config, ConfigError, StageConfig
from scaling.structure import field_docs

FAST = settings(max_examples=50, deadline=None)


def numbers(**bounds):
    return st.floats(allow_nan=False, allow_infinity=False, **bounds)


def rising(least):
    return st.sets(st.integers(least, 10**6), min_size=1).map(lambda s: tuple(sorted(s)))


@st.composite
def valid_configs(draw):
    """Configs that pass `check`, with awkward floats and texts."""
    base = Config()
    positive = numbers(min_value=1e-30, max_value=1e30)
    stage = st.builds(
        StageConfig,
        demo=st.text(min_size=1),
        steps=st.integers(1, 10**6),
        batch=st.integers(1, 10**6),
        budget=st.integers(0, 10**6),
        learning_rate=positive,
    )
    path = draw(st.text())
    kv_heads = draw(st.integers(1, 16))
    return dataclasses.replace(
        base,
        seed=draw(st.integers(0, 2**31 - 1)),
        task=dataclasses.replace(base.task, name="problem_file" if path else "recurrence", path=path),
        model=dataclasses.replace(
            base.model, heads=kv_heads * draw(st.integers(1, 8)), kv_heads=kv_heads, remat=draw(st.booleans())
        ),
        warm_start=dataclasses.replace(base.warm_start, stages=tuple(draw(st.lists(stage, max_size=3)))),
        rl=dataclasses.replace(
            base.rl, flops=draw(numbers(min_value=0)), budgets=draw(rising(0)), learning_rate=draw(positive)
        ),
        evaluation=dataclasses.replace(base.evaluation, budgets=draw(rising(0)), samples=draw(rising(1))),
    )


@FAST
@given(valid_configs())
def test_what_is_dumped_loads_back_equal_with_the_same_hash(config):
    again = configs.parse(configs.dump(config))
    assert again == config
    assert configs.config_hash(again) == configs.config_hash(config)


@pytest.mark.parametrize("name", ["tiny", "demo", "hour", "slice", "pod"])
def test_presets_load_and_say_what_they_ask_and_cost(name):
    configs.load(name)
    head = (configs.PRESETS / f"{name}.yaml").read_text()
    for word in ("# Asks:", "# Papers:", "# Costs:", "# Outcome:", f"# Command: scaling run {name}"):
        assert word in head


def test_hour_is_the_demo_with_more_rl():
    demo, hour = configs.load("demo"), configs.load("hour")
    assert hour.rl.flops == 10 * demo.rl.flops
    assert dataclasses.replace(hour, rl=demo.rl) == demo


@pytest.mark.parametrize(
    ("text", "value"), [("3e-4", 3e-4), ("1e13", 1e13), ("'2.5'", 2.5), ("7", 7.0), ("1_000", 1000.0)]
)
def test_floats_are_read_as_people_write_them(text, value):
    assert configs.load("tiny", [f"rl.flops={text}"]).rl.flops == value


@pytest.mark.parametrize("text", ["1e3", "1000", "1000.0", "'1000'"])
def test_whole_numbers_may_be_written_as_floats(text):
    batch = configs.load("tiny", [f"warm_start.stages.0.batch={text}"]).warm_start.stages[0].batch
    assert batch == 1000 and type(batch) is int


def test_overrides_reach_lists_and_items_of_lists():
    config = configs.load("demo", ["rl.budgets=[16,32]", "warm_start.stages.1.steps=5", "rl.budgets.0=8"])
    assert config.rl.budgets == (8, 32)
    before = [stage.steps for stage in configs.load("demo").warm_start.stages]
    assert [stage.steps for stage in config.warm_start.stages] == [before[0], 5, *before[2:]]


def test_every_unknown_or_wrong_field_is_reported_at_once(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        "base: demo\nrl: {flpos: 3, samples: 2.5, budgets: 3, flops: .inf}\nmodel: 4\n"
        "warm_start: {stages: [{steps: x}]}\nrl2: 1\ntracking: {wandb: off}\n"
    )
    with pytest.raises(ConfigError) as error:
        configs.load(str(file), ["rl.lerning_rate=1", "warm_start.stages.7.steps=1", "seed", "model.remat=3"])
    lines = error.value.lines
    for expected in (
        "rl.flpos = 3: unknown field; did you mean 'flops'?",
        "rl.samples = 2.5: must be a whole number",
        "rl.budgets = 3: must be a list, such as [16, 32]",
        "rl.flops = inf: must be a finite number, such as 3e-4",
        "model = 4: must be a section with fields width, ",
        "warm_start.stages.0.steps = 'x': must be a whole number",
        "rl2 = 1: unknown field; did you mean 'rl'?",
        "tracking.wandb = False: must be text (in quotes)",
        "rl.lerning_rate = 1: unknown field 'lerning_rate'; did you mean 'learning_rate'?",
        "warm_start.stages.7.steps = 1: '7' is not a position in the list of 1, counted from 0",
        "seed: must read path=value, such as rl.flops=1e11",
        "model.remat = 3: 'remat' stands below a single value",
    ):
        assert sum(line.startswith(expected) for line in lines) == 1, (expected, lines)
    assert len(lines) == 12


WRONG = {
    "microbatch=0": "microbatch = 0: must be at least 1",
    "seed=-1": "seed = -1: must be from 0 to",
    "task.name=root_serch": "task.name = 'root_serch': must be a known name; did you mean 'root_search'?",
    "task.difficulty_min=9": "task.difficulty_max = 3: must be at least task.difficulty_min = 9",
    "task.path=x": "task.path = 'x': must be empty",
    "model.kv_heads=3": "model.kv_heads = 3: must be a divisor of model.heads = 2",
    "model.head_size=5": "model.head_size = 5: must be even",
    "model.feedforward=relu": "model.feedforward = 'relu': must be a known name; did you mean 'relu2'?",
    "model.dtype=int8": "model.dtype = 'int8': must be a known name; known: bfloat16, float32",
    "rl.recipe=ppo": "rl.recipe = 'ppo': must be a known name; known: cispo,",
    "rl.samples=1": "rl.samples = 1: must be at least 2",
    "rl.updates=3": "rl.updates = 3: must be a divisor of rl.problems = ",
    "rl.budgets=[]": "rl.budgets = (): must be at least one budget",
    "rl.temperature=0": "rl.temperature = 0.0: must be above 0",
    "rl.b2=1": "rl.b2 = 1.0: must be at least 0 and below 1",
    "rl.step_discount=0": "rl.step_discount = 0.0: must be above 0 and at most 1",
    "rl.slip_penalty=-0.5": "rl.slip_penalty = -0.5: must be at least 0",
    "schedule.train_points_per_decade=0": "schedule.train_points_per_decade = 0: must be at least 1",
    "rl.flops=-1": "rl.flops = -1.0: must be at least 0",
    "evaluation.budgets=[4, 2]": "evaluation.budgets = (4, 2): must be rising",
    "evaluation.samples=[0, 2]": "evaluation.samples = (0, 2): must be rising, from 1 or more",
    "mesh.data=0": "mesh.data = 0: must be at least 1, or -1",
    "mesh.fsdp=-1": "mesh = MeshConfig(data=-1, fsdp=-1, tensor=1, cpu_devices=1): must be of at most one -1",
    "warm_start.stages.1.batch=0": "warm_start.stages.1.batch = 0: must be at least 1",
    "tracking.wandb=nowhere": "tracking.wandb = 'nowhere': must be a known name",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_cannot_work_is_named_with_what_would(override):
    with pytest.raises(ConfigError) as error:
        configs.load("tiny", [override])
    (line,) = error.value.lines
    assert line.startswith(WRONG[override])


def test_what_cannot_work_is_reported_all_at_once():
    with pytest.raises(ConfigError) as error:
        configs.load("tiny", ["rl.samples=1", "model.head_size=5", "evaluation.tokens=0"])
    assert len(error.value.lines) == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- 1\n", "must hold fields"),
        ("rl: [1\n", "not YAML"),
        ("rl: {flops: 1, flops: 2}\n", "flops is set twice"),
        ("base: dem\n", "base = 'dem': must be a preset; did you mean 'demo'?"),
        ("when: 2001-99-99\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(tmp_path, text, line):
    file = tmp_path / "file.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        configs.load(str(file))
    assert line in str(error.value) and len(error.value.lines) == 1 and "\n" not in str(error.value)


def test_neither_preset_nor_file():
    with pytest.raises(ConfigError, match=r"demoo: neither a preset \(demo, hour, pod, slice, tiny\) nor a file"):
        configs.load("demoo")


def test_a_runs_directory_is_no_config_and_the_line_says_what_goes_on_with_it(tmp_path):
    with pytest.raises(ConfigError, match=rf"{tmp_path}: is a directory.*`scaling run --dir {tmp_path}`"):
        configs.load(str(tmp_path))


def test_hash_changes_with_every_field_that_can_change_a_result_and_no_other():
    base = configs.load("tiny")
    other = {
        int: lambda v: v + 1,
        float: lambda v: v / 2 + 0.1,
        bool: lambda v: not v,
        str: lambda v: v + "x",
    }

    def changed(value, prefix=""):
        """(path, config part with one leaf changed) for every leaf."""
        for f in dataclasses.fields(value):
            old = getattr(value, f.name)
            if dataclasses.is_dataclass(old):
                parts = changed(old, f"{prefix}{f.name}.")
            elif isinstance(old, tuple):
                parts = [(prefix + f.name, old + old[-1:])]
            else:
                parts = [(prefix + f.name, other[type(old)](old))]
            for path, part in parts:
                yield path, dataclasses.replace(value, **{f.name: part})

    unchanged = {
        path for path, config in changed(base) if configs.config_hash(config) == configs.config_hash(base)
    }
    assert unchanged == {
        *("tracking.wandb", "tracking.project", "tracking.group", "schedule.resume_seconds"),
        *("mesh.data", "mesh.fsdp", "mesh.tensor", "mesh.cpu_devices"),
    }


def test_hash_does_not_depend_on_how_a_number_was_written():
    flops = [
        configs.config_hash(dataclasses.replace(Config(), rl=configs.RLConfig(flops=f))) for f in (10**9, 1e9)
    ]
    assert flops[0] == flops[1] and len(flops[0]) == 16


def test_every_field_is_documented_and_settable():
    docs = list(field_docs(Config))
    assert all(doc.doc for doc in docs)
    classes = [c for c in vars(configs).values() if dataclasses.is_dataclass(c) and isinstance(c, type)]
    sections = set(typing.get_type_hints(Config).values())
    leaves = sum(len(dataclasses.fields(c)) for c in classes) - sum(c in sections for c in classes)
    assert len(docs) == leaves
    data = dataclasses.asdict(configs.load("demo"))
    for doc in docs:
        value = data
        for name in doc.path.split("."):
            value = value[int(name)] if name.isdecimal() else value[name]


def test_reading_a_config_does_not_start_jax_or_numpy():
    code = "import sys, scaling.config as c; c.load('demo'); print({'jax', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
