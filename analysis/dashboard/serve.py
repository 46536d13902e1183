"""Serves the dashboard: one page of marimo's, on this machine, that reads run directories and asks nobody else."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import logging
import runpy
import secrets
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from scaling.structure import ConfigError

APP = Path(__file__).with_name("app.py")
FIRST_PORT, PORTS = 2718, 100
"""Where a free port is looked for, and how many are tried."""
THEME = '# /// script\n# [tool.marimo.display]\n# theme = "{}"\n# ///\n'
"""Head of an app's file by which marimo knows its theme."""


def serve(
    root: Path, host: str = "127.0.0.1", port: int | None = None, theme: Literal["light", "dark"] = "light"
) -> None:
    """Serve the runs in a folder until interrupted; a browser is opened where a person sits at a terminal.

    On a host that other machines can reach, the page asks for the token in the address that is printed. marimo
    runs in this process, which so ends as one. Raises ConfigError without marimo, for a root that is no folder,
    and for a host or port that cannot be had.
    """
    if find_spec("marimo") is None:
        raise ConfigError(["scaling dashboard needs the package marimo: pip install 'scaling[dashboard]'"])
    if not root.is_dir():
        raise ConfigError([f"DIR = {root}: must be an existing folder of runs; the first run makes it"])
    import uvicorn

    listener = _listener(host, port)
    port = listener.getsockname()[1]
    token = "" if _is_loopback(host) else secrets.token_urlsafe(16)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"{root}: {address}{f'?access_token={token}' if token else ''}", flush=True)
    with tempfile.TemporaryDirectory(prefix="scaling-dashboard-") as folder:
        page = Path(folder, APP.name)
        page.write_text(THEME.format(theme) + APP.read_text())
        words = ["--host", host, "--port", str(port), "--no-sandbox", "--no-check"]
        words += ["--token", "--token-password", token] if token else ["--no-token"]
        words += [] if sys.stdout.isatty() else ["--headless"]
        sys.argv = ["marimo", "--quiet", "run", *words, str(page), "--", f"--dir={root.resolve()}"]
        # marimo opens its port by its number alone, seconds from now, when another may have it.
        logging.getLogger("uvicorn.error").addFilter(_is_no_end)
        uvicorn.Server.run = functools.partialmethod(uvicorn.Server.run, sockets=[listener])  # pyright: ignore
        with contextlib.suppress(SystemExit):
            runpy.run_module("marimo", run_name="__main__")


def _is_no_end(record: logging.LogRecord) -> bool:
    """False of the traceback by which starlette tells that it was interrupted, as it should be."""
    return not record.getMessage().rstrip().endswith("CancelledError")


def _is_loopback(host: str) -> bool:
    """Whether no other machine can reach a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listener(host: str, port: int | None) -> socket.socket:
    """Listens on the port itself, or on the first one that is free. Raises ConfigError where there is none."""
    reason = ""
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]:
        try:
            return socket.create_server((host, candidate), family=_family(host))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    at = f"--host = {host}" if port is None else f"--host = {host}, --port = {port}"
    raise ConfigError([f"{at}: cannot be listened on ({reason}); choose another"])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
