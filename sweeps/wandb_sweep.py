"""A sweep as W&B's own: its server chooses, and its agents run our command unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.structure import ConfigError
from sweeps.file import Sweep, reference
from sweeps.parameters import Parameter, Range


def described(sweep: Sweep, base: Path) -> dict[str, Any]:
    """What `wandb.sweep` takes; `base` is the file with what all runs share, from where agents are started.

    Each parameter keeps its dotted path, so that an agent passes it as `--model.width=32`. Raises ConfigError, a
    line each, for what W&B has no words for: `zip`, `where` and `${…}`.
    """
    lines = [
        f"{word}: W&B's sweeps have none" for word, has in (("where", sweep.where), ("zip", sweep.groups)) if has
    ]
    lines += [
        f"parameters.{p.path}: {value}: W&B's sweeps compute no value from another"
        for p in sweep.parameters
        if p.range is None and not isinstance(p.values, range)
        for value in p.values
        if reference(value) is not None
    ]
    if lines:
        raise ConfigError([*lines, "`scaling sweep` runs this file without W&B's sweeps"])
    parameters = {p.path: _parameter(p) for p in sweep.parameters}
    if sweep.seeds:
        parameters["seed"] = {"values": list(sweep.seeds)}
    return {
        "name": sweep.name,
        "method": sweep.method,
        **({"run_cap": sweep.draws * max(len(sweep.seeds), 1)} if sweep.method == "random" else {}),
        "parameters": parameters,
        "command": ["${env}", "scaling", "run", str(base), "${args}"],
    }


def _parameter(parameter: Parameter) -> Mapping[str, Any]:
    if parameter.range is not None:
        return _drawn(parameter.range)
    values = list(parameter.values)
    return {"value": values[0]} if parameter.fixed else {"values": values}


def _drawn(drawn: Range) -> Mapping[str, Any]:
    number = int if drawn.whole else float
    found = {"min": number(drawn.low), "max": number(drawn.high)}
    if drawn.step == 1 and not drawn.log:
        return {"distribution": "int_uniform", **found}
    name = "log_uniform_values" if drawn.log else "uniform"
    if drawn.step is None:
        return {"distribution": name, **found}
    return {"distribution": f"q_{name}", **found, "q": number(drawn.step)}


def create(description: Mapping[str, Any], project: str) -> str:
    """Create the sweep with the account that `wandb login` knows; its id. Raises ConfigError, one line, where
    there is no account or no way to W&B. WANDB_PROJECT and WANDB_ENTITY count as W&B documents them."""
    import wandb

    try:
        return wandb.sweep(dict(description), project=project)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError([f"W&B: no sweep was created ({type(error).__name__}: {reason})"]) from None
