"""What the dashboard's server answers to requests that no page of its own makes."""

import http.client
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).parents[3]
SECRET = "not for everybody"
PATIENCE = 240
"""Seconds until the server has to answer: a test asks whether, and never how fast."""

pytest.importorskip("marimo", reason="needs the extra dashboard: pip install 'scaling[dashboard]'")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(port, token, folder) of a dashboard that others could reach; interrupted, it ends without a word."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text(SECRET)
    (folder / "runs" / "run").mkdir(parents=True)
    (folder / "runs" / "run" / "train.jsonl").write_text(SECRET)
    (folder / "runs" / "link").symlink_to(folder / "secret")
    command = [sys.executable, "-m", "scaling", "dashboard", str(folder / "runs"), "--host", "0.0.0.0"]
    with (
        (folder / "said").open("w+") as said,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        address = urlsplit(process.stdout.readline().split()[-1])
        try:
            deadline = time.monotonic() + PATIENCE
            while not listening(address.port):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            yield address.port, parse_qs(address.query)["access_token"][0], folder
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait()
            said.seek(0)
        assert (code, said.read()) == (0, "")


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def get(port, path, **headers):
    """(status, body) of a path that is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


def test_nothing_is_shown_or_done_without_the_token(server):
    port, token, _ = server
    for path in ("/", "/?access_token=", "/?access_token=wrong", f"/?access_token={token[:-1]}", "/api/status"):
        status, body = get(port, path)
        assert status in (303, 401) and "session" not in body, (path, status, body)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    status, _ = get(port, "/ws?session_id=a", **upgrade, **{"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="})
    assert status in (401, 403)
    assert get(port, f"/?access_token={token}")[0] in (200, 303)


def test_no_path_leads_to_a_file(server):
    port, token, folder = server
    heads = ("", "/", "/assets/", "/public/", "/@file/", "/files/", "/api/")
    ups = ("", "/..", "/%2e%2e", "/..%2f", "/%252e%252e", "/..%5c")
    files = (folder / "secret", folder / "runs" / "run" / "train.jsonl")
    ways = [f"{head}{9 * up}{file}" for head in heads for up in ups for file in files]
    ways += [f"/{name}" for name in ("link", "run/train.jsonl", "public/../link", "assets/..%00/link")]
    for way in ways:
        assert SECRET not in get(port, f"{way}?access_token={token}")[1], way


def test_many_requests_at_once_are_all_answered_and_the_server_goes_on(server):
    port, token, _ = server
    with ThreadPoolExecutor(24) as threads:
        asked = [threads.submit(get, port, f"/?n={n}&access_token={token * (n % 2)}") for n in range(240)]
        found = [one.result()[0] for one in asked]
    assert all(status < 500 for status in found)
    assert get(port, f"/?access_token={token}")[0] in (200, 303)
