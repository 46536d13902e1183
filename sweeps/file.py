"""A sweep file: YAML in the words of W&B's sweeps, and a few more.

base: tiny                       # a preset, a file, or fields; what all runs share
method: grid                     # or random, with run_cap (or count) and seed
parameters:
  model.width: {values: [16, 32]}
  model.ff: {value: "${4 * model.width}"}
  rl.learning_rate: {distribution: log_uniform_values, min: 1e-4, max: 1e-2, num: 5}
zip: [[model.layers, model.heads]]   # these take their first values together, then their second, ...
where: [model.width <= 32 or rl.recipe == "grpo"]
seeds: 3                         # or a list; each combination with each of them
stop: {by: [rl.recipe], target: 8e12, probability: 0.05}   # off unless it stands there: `sweeps.judge`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from scaling import config as configs
from scaling.config import Config
from scaling.rules import LARGEST_SEED
from scaling.structure import ConfigError, hint, read_text, read_yaml, structure, write_yaml
from sweeps import conditions
from sweeps.conditions import Expression
from sweeps.parameters import Parameter, flat, parameter

SHIPPED = Path(__file__).parent
METHODS = ("grid", "random")
FOREIGN = ("program", "command", "entity", "metric", "description")
"""W&B's, without a meaning here."""
REFERENCE = re.compile(r"\$\{(.*)\}", re.DOTALL)


@dataclass(frozen=True)
class Written:
    """The fields of a file."""

    base: Any = "demo"
    name: str = ""
    method: str = "grid"
    parameters: Any = None
    zip: tuple[tuple[str, ...], ...] = ()
    where: tuple[str, ...] = ()
    seeds: Any = None
    run_cap: int | None = None
    """random: how many combinations are drawn."""
    count: int | None = None
    """The same as run_cap."""
    seed: int = 0
    """random: of the draws."""
    project: str = ""
    """Of W&B: tracking.project of all runs."""
    slurm: Any = None
    """What a run asks of Slurm: the fields of `sweeps.launchers.slurm.Slurm`."""
    ray: Any = None
    """What a run asks of Ray: the fields of `sweeps.launchers.ray.Ray`."""
    stop: Any = None
    """When an arm is ended before its time: the fields of `sweeps.judge.Rule`."""
    program: Any = None
    command: Any = None
    entity: Any = None
    metric: Any = None
    description: Any = None


@dataclass(frozen=True)
class Sweep:
    """A sweep as it is meant: every field known, every path there."""

    name: str
    base: Config
    method: str
    parameters: tuple[Parameter, ...]
    groups: tuple[tuple[str, ...], ...]
    """Paths that take their values together."""
    where: tuple[Expression, ...]
    seeds: Sequence[int]
    draws: int
    seed: int
    engines: Mapping[str, Any]
    """slurm, ray → what a run asks of it, as the file says it."""
    stop: Any
    """The stopping rule, as the file says it."""
    notes: tuple[str, ...]
    """What of the file has no effect."""
    text: str
    """YAML that gives the same sweep wherever it is read, its base spelled out."""


def shipped() -> list[str]:
    """Names of the sweeps that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a file, or of one that comes with the package by its name; `a.b=c` overrides change its base.

    Raises ConfigError with every problem at once.
    """
    path = SHIPPED / f"{path}.yaml" if str(path) in shipped() else path
    try:
        data = read_yaml(read_text(path))
    except FileNotFoundError:
        raise ConfigError([f"{path}: neither a sweep ({', '.join(shipped())}) nor a file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return parse(data, path.stem, overrides)


def parse(data: Any, name: str, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep that plain data describes; `name` where it has none. Raises ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError([f"a sweep file must hold fields (`method: grid`, `parameters:`, …), not {data!r}"])
    if isinstance(data.get("where"), str):
        data = {**data, "where": [data["where"]]}
    lines: list[str] = []

    def tried(part: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return part()
        except ConfigError as error:
            lines.extend(error.lines)
            return otherwise

    written = tried(lambda: structure(data, Written), None)
    base = tried(lambda: _base(data.get("base", "demo"), data.get("project"), overrides), None)
    if written is None or base is None:
        raise ConfigError(lines)
    if written.method not in METHODS:
        bayes = "; bayes waits for results before it chooses, and runs here are chosen before the first one starts"
        lines.append(f"method = {written.method!r}: must be grid or random{bayes * (written.method == 'bayes')}")
    found: list[Parameter] = []
    for path, given in flat(written.parameters or {}):
        kind = tried(lambda path=path: field(base, path), None)
        whole = isinstance(kind, int) and not isinstance(kind, bool)
        if kind is not None:
            found += tried(lambda p=path, g=given, w=whole: [parameter(p, g, written.method, w)], [])
    paths = [path for path, _ in flat(written.parameters or {})]
    lines += _clashes([*paths, *(["seed"] if written.seeds is not None else [])])
    lines += [f"--set {o}: the parameters set it" for o in overrides if o.partition("=")[0] in paths]
    lines += _group_problems(written.zip, {p.path: p for p in found}, paths)
    where = [tried(lambda t=text: expression(t, "where", base), None) for text in written.where]
    lines += tried(lambda: _circles(found, base), [])
    seeds = tried(lambda: _seeds(written.seeds, base, paths), ())
    draws = written.run_cap or written.count or 0
    if written.method == "random" and draws < 1:
        lines.append("run_cap: missing; how many combinations a random sweep draws, at least 1")
    if lines:
        raise ConfigError(lines)
    title = written.name or name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", title):
        right = "at most 100 letters, digits, dots, dashes: it names a folder"
        raise ConfigError([f"name = {title!r}: must be {right}"])
    tracking = replace(base.tracking, group=base.tracking.group or title)
    base = replace(base, tracking=tracking)
    notes = [f"{k}: has no effect here; every run is `scaling run`" for k in FOREIGN if k in data]
    plain = {**data, "name": title, "base": asdict(base)}
    return Sweep(
        title, base, written.method, tuple(found), written.zip, tuple(where), seeds, draws, written.seed,
        {"slurm": written.slurm or {}, "ray": written.ray or {}}, written.stop, tuple(notes), write_yaml(plain),
    )  # fmt: skip


def _base(given: Any, project: Any, overrides: Sequence[str]) -> Config:
    if not isinstance(given, str | Mapping):
        raise ConfigError([f"base = {given!r}: must be a preset, a file, or fields"])
    named = [f"tracking.project={project}"] if isinstance(project, str) and project else []
    return configs.load(given, [*named, *overrides])


def field(config: Config, path: str) -> Any:
    """The value at a path of a config. Raises ConfigError where there is none."""
    value: Any = config
    for name in path.split("."):
        known = [f.name for f in fields(value)] if is_dataclass(value) else []
        if isinstance(value, tuple) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif name in known:
            value = getattr(value, name)
        else:
            raise ConfigError([f"{path}: unknown field{hint(name, known) if known else ''}"])
    return value


def expression(text: str, place: str, base: Config) -> Expression:
    """Raises ConfigError for what is no expression, or names a field that the config does not have."""
    try:
        found = conditions.parse(text)
        for path in found.fields:
            field(base, path)
    except ValueError as error:
        raise ConfigError([f"{place}: {text!r}: {error}"]) from None
    return found


def reference(value: Any) -> str | None:
    """The expression within `${…}`, where a value is one."""
    match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else None


def references(found: Parameter, base: Config) -> list[Expression]:
    """The expressions among the values of a parameter. Raises ConfigError for bad ones."""
    if isinstance(found.values, range):
        return []
    texts = [text for value in found.values if (text := reference(value)) is not None]
    return [expression(text, f"parameters.{found.path}", base) for text in texts]


def _circles(found: Sequence[Parameter], base: Config) -> list[str]:
    """A line for the first circle of references."""
    needs = {p.path: {name for e in references(p, base) for name in e.fields} for p in found}
    done: set[str] = set()

    def circle(path: str, above: tuple[str, ...]) -> str | None:
        if path in above:
            return " → ".join([*above[above.index(path) :], path])
        if path in done:
            return None
        done.add(path)
        return next((c for name in sorted(needs.get(path, ())) if (c := circle(name, (*above, path)))), None)

    said = next((c for path in needs if (c := circle(path, ()))), None)
    return [f"parameters: {said}: refer to each other in a circle"] if said else []


def _clashes(paths: Sequence[str]) -> list[str]:
    """Lines for paths that are set twice, or that lie within another."""
    lines = []
    for i, path in enumerate(paths):
        for other in paths[:i]:
            outer, inner = sorted((path, other), key=len)
            if inner == outer or inner.startswith(f"{outer}."):
                lines.append(f"parameters: {inner} is set twice" + (f", by {outer} too" * (inner != outer)))
    return lines


def _group_problems(
    groups: Sequence[Sequence[str]], found: Mapping[str, Parameter], paths: Sequence[str]
) -> list[str]:
    lines = []
    members = [path for group in groups for path in group]
    lines += [f"zip: {p} is in it twice" for i, p in enumerate(members) if p in members[:i]]
    for group in groups:
        known = [found[path] for path in group if path in found]
        lines += [f"zip: {p}: no parameter{hint(p, paths)}" for p in group if p not in paths]
        lines += [f"zip: {p.path}: has a range; only values go together" for p in known if p.range]
        if len({len(p.values) for p in known if not p.range}) > 1:
            sizes = ", ".join(f"{p.path} {len(p.values)}" for p in known)
            lines.append(f"zip: needs as many values of each; it has {sizes}")
    return lines


def _seeds(given: Any, base: Config, paths: Sequence[str]) -> Sequence[int]:
    """The seeds of a sweep; none where a parameter sets them."""
    if given is None:
        return () if "seed" in paths else (base.seed,)
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= LARGEST_SEED:
        return range(given)
    seeds = given if isinstance(given, list) else []
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ConfigError([f"seeds = {given!r}: must be a list of different whole numbers, or how many"])
    return tuple(seeds)
