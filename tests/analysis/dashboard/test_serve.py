"""The dashboard's server: bad input is a line, other machines need a token, the address is printed alone."""

import runpy
import socket
import sys
import tomllib
from pathlib import Path

import pytest

from analysis.dashboard import serve as serving
from analysis.dashboard.serve import serve
from scaling.structure import ConfigError

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra dashboard: pip install 'scaling[dashboard]'")


@pytest.fixture
def started(monkeypatch):
    """marimo's words, its page and its sockets, in place of marimo."""
    seen = {}

    def run_module(name, run_name):
        seen["words"] = sys.argv
        seen["sockets"] = uvicorn.Server.__dict__["run"].keywords["sockets"]
        seen["page"] = Path(next(word for word in sys.argv if word.endswith("app.py"))).read_text()

    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setattr(uvicorn.Server, "run", uvicorn.Server.run)  # what `serve` puts there goes with the test
    monkeypatch.setattr(sys, "argv", ["scaling"])
    monkeypatch.setattr(serving, "find_spec", lambda name: object())
    return seen


def test_on_this_machine_there_is_no_token(started, tmp_path, capsys):
    serve(tmp_path)
    words = started["words"]
    assert "--no-token" in words and "--headless" in words and f"--dir={tmp_path.resolve()}" in words
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path}: http://127.0.0.1:") and "token" not in out


def test_other_machines_need_the_token_that_is_printed(started, tmp_path, capsys):
    serve(tmp_path, "0.0.0.0")
    words = started["words"]
    token = words[words.index("--token-password") + 1]
    assert "--token" in words and len(token) > 20
    assert capsys.readouterr().out.endswith(f"?access_token={token}\n")
    serve(tmp_path, "0.0.0.0")
    assert token not in started["words"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_carries_its_theme(started, tmp_path, theme):
    serve(tmp_path, theme=theme)
    head = [line[2:] for line in started["page"].splitlines()[1:3]]
    assert tomllib.loads("\n".join(head)) == {"tool": {"marimo": {"display": {"theme": theme}}}}


def test_a_port_that_is_taken_is_said_and_passed_over_where_none_was_asked_for(started, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port = {port}: cannot be listened on"):
            serve(tmp_path, port=port)
        monkeypatch.setattr(serving, "FIRST_PORT", port)
        serve(tmp_path)
        assert started["words"][started["words"].index("--port") + 1] != str(port)


def test_the_port_is_held_from_before_it_is_printed(started, tmp_path, monkeypatch):
    """Of two dashboards that start in the same second each has its own."""
    ports = []
    for _ in range(2):
        serve(tmp_path)
        (listener,) = started["sockets"]
        port = int(started["words"][started["words"].index("--port") + 1])
        socket.create_connection(("127.0.0.1", port)).close()
        assert listener.getsockname()[1] == port
        ports.append(listener)
    assert len({listener.getsockname() for listener in ports}) == 2


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_is_none_is_a_line(started, tmp_path, port):
    with pytest.raises(ConfigError, match="--port"):
        serve(tmp_path, port=port)


def test_what_is_missing_is_said_with_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="must be an existing folder"):
        serve(tmp_path / "none")
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'scaling\[dashboard\]'"):
        serve(tmp_path)
