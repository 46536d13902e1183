"""Pieces of a page that needs nothing else: escaped text, tables, figures, and one style for screen and paper."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import vl_convert

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, Helvetica, Arial, sans-serif; color: #222; background: #fff;
       margin: 0 auto; max-width: 1180px; padding: 2em 1.2em 3em; }
h1 { font-size: 1.7em; line-height: 1.2; margin: 0 0 .3em; overflow-wrap: anywhere; }
h2 { font-size: 1.25em; margin: 2.4em 0 .5em; } h3 { font-size: 1em; margin: 1.6em 0 .4em; }
p, ul { max-width: 50em; margin: .5em 0; } ul { padding-left: 1.2em; } li { margin: .3em 0; }
.answer { background: #f2f6fa; border-left: 4px solid #0072B2; padding: .7em 1.1em; margin: 1em 0; }
.answer p:first-child { font-size: 1.2em; font-weight: 600; line-height: 1.4; }
.warning { background: #fdf3ec; border-left: 4px solid #D55E00; padding: .5em 1.1em; overflow-wrap: anywhere; }
.note, figcaption { color: #555; font-size: .92em; max-width: 54em; }
figure { margin: 1em 0; } figcaption { margin-top: .3em; }
.charts { display: flex; flex-wrap: wrap; gap: .5em 1em; }
.charts > * { min-width: 0; max-width: 100%; }
.chart, .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9em; font-variant-numeric: tabular-nums; margin: .6em 0; }
th, td { padding: .28em .8em; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th { font-weight: 600; vertical-align: bottom; } td:first-child, th:first-child { text-align: left; }
td:first-child { padding-left: 0; } th:first-child { padding-left: 0; }
table.text td, table.text th { text-align: left; }
table.text td { overflow-wrap: anywhere; min-width: 6em; }
pre { background: #f5f5f5; padding: .7em 1em; font-size: .88em; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  body { padding: 1.2em .9em 2em; } h1 { font-size: 1.35em; }
  .answer p:first-child { font-size: 1.08em; }
  th, td { padding: .28em .5em; }
}
@page { size: A4; margin: 14mm; }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; margin-top: 1.4em; }
  figure, tr, pre, .answer { break-inside: avoid; } thead { display: table-header-group; }
  .chart, .wide { overflow: visible; }
  .chart svg { height: auto; max-width: 100%; } .two .chart { width: 48.5%; }
  table { font-size: 8pt; } th, td { padding: .2em .45em; } .answer { border: 1px solid #888; }
}
"""


def safe(value: Any) -> str:
    """A value as escaped text."""
    return html.escape(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], kind: str = "") -> str:
    """An HTML table in a box that scrolls; every cell is escaped here. kind: "text" for columns of words."""
    top = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    header = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table class="{kind}">{header}<tbody>{body}</tbody></table></div>'


def listed(lines: Iterable[Any]) -> str:
    """An HTML list, an item a line, escaped."""
    return f"<ul>{''.join(f'<li>{safe(line)}</li>' for line in lines)}</ul>"


def apart(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The charts of a grid, each a spec of its own, so that they wrap as the page has room; others as they are."""
    if "concat" not in spec:
        return [dict(spec)]
    shared = {k: v for k, v in spec.items() if k not in ("concat", "spacing", "columns")}
    return [shared | part for part in spec["concat"]]


def figure(name: str, spec: Mapping[str, Any], alt: str, caption: str = "") -> str:
    """Places for the charts of a spec, which `drawing` fills. alt: what is seen, for who does not see it."""
    count = len(apart(spec))
    places = "".join(f'<div class="chart" id="{name}-{i}"></div>' for i in range(count))
    below = f"<figcaption>{safe(caption)}</figcaption>" if caption else ""
    two = " two" if count > 1 else ""
    return f'<figure><div class="charts{two}" role="img" aria-label="{safe(alt)}">{places}</div>{below}</figure>'


def drawing(specs: Mapping[str, Mapping[str, Any]]) -> str:
    """The scripts that draw every spec (Vega-Lite) into its figure, and what they need."""
    lines = "".join(
        f"vegaEmbed('#{name}-{i}', {_script(part)}, {{renderer: 'svg', actions: false}});\n"
        for name, spec in specs.items()
        for i, part in enumerate(apart(spec))
    )
    return (
        f"<script>{vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;')}</script>\n"
        f"<script>\n{lines}</script>"
    )


def _script(spec: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(spec, allow_nan=False).replace("<", "\\u003c")
