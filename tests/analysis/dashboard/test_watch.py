"""A folder of runs is seen as it is while it is written; damage is a word at its run; nothing is read twice."""

import json
import os
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import replay, saturated, write_run

from analysis.dashboard import watch as watching
from analysis.dashboard.watch import ENDING, STALLED_SECONDS, Watch, ending
from scaling.files import append
from scaling.records import Run
from scaling.status import STALE_SECONDS

NOW = time.time()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small complete run that no test writes to."""
    grid = {"rl": (1e10, 1e11), "problems": 12, "budgets": (0, 8), "samples": (1, 2), "tokens": 16}
    return write_run(tmp_path_factory.mktemp("whole") / "run", saturated, **grid)


@pytest.fixture
def run(whole, tmp_path):
    return Run(shutil.copytree(whole.path, tmp_path / "runs" / "run"))


def look(run, now=None):
    (found,) = Watch(run.path.parent).look(now).runs
    return found


def test_a_sound_run_is_seen_whole(run, whole):
    found = look(run)
    assert (found.name, found.state, found.stage, found.damage) == ("run", "running", "report", ())
    assert found.rows == tuple(whole.train_rows())
    assert found.checkpoints == found.evaluations == len(whole.manifest_names())
    assert found.fields["evaluation.budgets"] == [0, 8]


def empty(run):
    shutil.rmtree(run.path)
    run.path.mkdir()


def tear(run):
    with open(run.train_file, "ab") as file:
        file.write(b'{"step": 99')


def garbage(run):
    with open(run.train_file, "ab") as file:
        file.write(b"\xff{]\n")


def status(**changes):
    def change(run):
        row = {**(run.read_status() or {}), **changes}
        run.status_file.write_text(json.dumps({key: value for key, value in row.items() if value is not None}))

    return change


def odd_answer(run):
    (run.path / "answer.json").write_text('{"answers": []}')


def unevaluated(run):
    shutil.rmtree(run.evals)


def link(name, target):
    def change(run):
        place = run.path / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.symlink_to(run.path.parent.parent / target)

    return change


DAMAGE = [
    (empty, "unreadable", "an empty folder"),
    (lambda run: run.config_file.unlink(), "unreadable", "config.yaml: not there"),
    (lambda run: run.config_file.write_text("# hash: 0\n[1, 2"), "unreadable", "config.yaml: "),
    (lambda run: run.config_file.write_text("# hash: 0\njust words"), "unreadable", "config.yaml: "),
    (lambda run: run.config_file.write_bytes(b"\xff\xfe"), "unreadable", "config.yaml: "),
    (tear, "running", None),
    (garbage, "running", "train.jsonl, line "),
    (lambda run: append(run.train_file, [{"loss": 1}]), "running", None),
    (lambda run: run.status_file.write_text("{"), "waiting", "status.json: not JSON"),
    (status(pid=None), "waiting", "status.json: lacks pid"),
    (status(heartbeat="noon"), "unreadable", "status.json: "),
    (lambda run: run.status_file.unlink(), "waiting", None),
    (odd_answer, "running", "answer.json: of another format"),
    (unevaluated, "running", None),
    (link("evals", "elsewhere"), "unreadable", "evals: a link out of the folder, not followed"),
    (link("train.jsonl", "secret"), "unreadable", "train.jsonl: a link out of the folder, not followed"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "state", "said"), DAMAGE)
def test_damage_is_a_word_at_its_run_and_the_others_are_seen(run, damage, state, said):
    shutil.copytree(run.path, run.path.with_name("sound"))
    (run.path.parent.parent / "secret").write_text('{"step": 1, "metrics": {"secret": 1}}\n')
    damage(run)
    watch = Watch(run.path.parent)
    found = {one.name: one for one in watch.look().runs}
    assert found["sound"].state == "running" and found["sound"].damage == ()
    assert found["run"].state == state
    assert [said in line and str(run.path) not in line for line in found["run"].damage] == [True] * bool(said)
    if "link" in str(said):
        assert found["run"].rows == () and "run" not in watch.look().readable
    else:
        watch.train_rows("run"), watch.shown("run"), watch.evaluated("run")


def test_a_directory_that_goes_is_gone_and_what_was_picked_of_it_is_nothing(run):
    watch = Watch(run.path.parent)
    assert watch.look().readable == ("run",) and watch.train_rows("run")[0]
    shutil.rmtree(run.path)
    assert watch.look().runs == () and watch.look().note
    assert watch.train_rows("run") == ([], "") and watch.shown("run") == ({}, []) and watch.evaluated("run") == ()
    shutil.rmtree(run.path.parent)
    assert "no such folder" in watch.look().note


@pytest.mark.parametrize("name", ["<script>alert(1)<script>", "a..&amp;", "a b'\"", "-rf", "{{x}}"])
def test_any_name_that_a_folder_can_have_is_a_name(run, name):
    run.path.rename(run.path.with_name(name))
    watch = Watch(run.path.parent)
    assert watch.look().readable == (name,) and watch.train_rows(name)[0]


def test_links_to_folders_are_not_entered(run, tmp_path):
    shutil.move(run.path, tmp_path / "outside")
    (tmp_path / "runs" / "in").symlink_to(tmp_path / "outside")
    assert Watch(tmp_path / "runs").look().runs == ()
    with pytest.raises(ValueError, match="below"):
        Watch(tmp_path / "runs").train_rows("../outside")


@pytest.mark.parametrize(
    ("age", "host", "state"),
    [
        (1, None, "running"),
        (STALLED_SECONDS + 1, None, "stalled"),
        (STALE_SECONDS + 1, None, "dead"),
        (STALLED_SECONDS + 1, "another", "stalled"),
    ],
)
def test_a_silent_run_is_stalled_and_then_dead(run, age, host, state):
    heartbeat = run.read_status()["heartbeat"]
    status(**({"host": host} if host else {}))(run)
    found = look(run, heartbeat + age)
    assert found.state == state and bool(found.why) == (state != "running")


def test_runs_of_a_sweep_are_seen_before_they_begin_and_after_they_were_ended(run):
    sweep = run.path.parent
    (sweep / "sweep.yaml").write_text("base: tiny\n")
    for folder in ("configs", "logs"):
        (sweep / folder).mkdir()
    for name in ("run", "later"):
        (sweep / "configs" / f"{name}.yaml").write_text("seed: 0\n")
    scene = Watch(sweep.parent).look()
    assert {one.name: (one.state, one.sweep) for one in scene.runs} == {
        "runs/run": ("running", "runs"),
        "runs/later": ("waiting", "runs"),
    }
    append(sweep / "ended.jsonl", [{"run": "run", "time": NOW, "reason": "will not be the best"}])
    found = {one.name: one for one in Watch(sweep.parent).look().runs}
    assert (found["runs/run"].state, found["runs/run"].why) == ("ended", "will not be the best")


def test_a_run_that_is_written_is_seen_as_it_grows_and_no_line_is_read_twice(whole, tmp_path, monkeypatch):
    read = []
    lines = watching.lines

    def counted(path, offset=0):
        for place, line, row in lines(path, offset):
            read.append((path, offset, line))
            yield place, line, row

    monkeypatch.setattr(watching, "lines", counted)
    watch, names = Watch(tmp_path), []
    for name in replay(whole, tmp_path / "run"):
        names.append(name)
        (found,) = watch.look().runs
        assert found.checkpoints == len(names) and found.rows[-1]["step"] == int(name)
        for _ in range(2):
            assert [row["step"] for row in watch.train_rows("run")[0]] == [int(n) for n in names]
            assert list(watch.shown("run")[0]) == names == [n for n, _ in watch.evaluated("run")]
    paths = [path for path, _, _ in read]
    assert len(read) == sum(path.read_bytes().count(b"\n") for path in set(paths))


def test_an_evaluation_that_lacks_cells_is_not_fitted_yet(run):
    *_, last = run.evaluation_names()
    file = run.evaluation_file(last)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert last not in dict(Watch(run.path.parent).evaluated("run"))


def test_a_file_that_was_cut_is_read_from_its_beginning(run):
    watch = Watch(run.path.parent)
    assert len(watch.train_rows("run")[0]) > 3
    run.cut_train(20)
    run.append_train([{"step": step, "metrics": {}} for step in range(21, 400)])
    assert [row["step"] for row in watch.train_rows("run")[0]] == [10, 20, *range(21, 400)]


def test_a_look_reads_the_end_of_a_long_file_only(run, monkeypatch):
    run.append_train([{"step": step, "metrics": {"pad": "x" * 200}} for step in range(100, 1000)])
    taken = []
    ending = watching.ending
    monkeypatch.setattr(watching, "ending", lambda path, size: taken.append(size) or ending(path, size))
    found = look(run)
    assert found.rows[-1]["step"] == 999 and len(found.rows) < 100 and taken == [ENDING]


def test_nothing_is_written(run):
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*")}
    watch = Watch(run.path.parent)
    watch.look(), watch.train_rows("run"), watch.shown("run"), watch.evaluated("run")
    assert {file: file.stat().st_mtime_ns for file in run.path.rglob("*")} == before
    assert os.listdir(run.path.parent) == ["run"]


@given(st.lists(st.text(max_size=20), max_size=8), st.integers(0, 400), st.binary(max_size=5))
def test_a_look_at_the_end_is_of_whole_rows_that_are_the_last(tmp_path_factory, texts, size, torn):
    path = tmp_path_factory.mktemp("ending") / "rows.jsonl"
    rows = [{"n": n, "text": text} for n, text in enumerate(texts)]
    path.touch()
    append(path, rows)
    path.write_bytes(path.read_bytes() + torn.replace(b"\n", b""))
    found = ending(path, size)
    assert found == rows[len(rows) - len(found) :]
    if size >= path.stat().st_size:
        assert found == rows
