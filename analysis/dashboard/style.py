"""How the dashboard's own HTML looks, on marimo's light and dark pages."""

CSS = """<style>
#App > div { padding-left: 26px; padding-right: 26px; }
.runs { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.35; }
.runs th { text-align: left; font-weight: 600; padding: 6px 10px; border-bottom: 1px solid #8886;
  white-space: nowrap; }
.runs td { padding: 6px 10px; border-bottom: 1px solid #8883; vertical-align: top; overflow-wrap: anywhere; }
.runs td:nth-child(n+4) { font-variant-numeric: tabular-nums; white-space: nowrap; }
.runs td:first-child { min-width: 180px; font-weight: 600; }
.runs small, .card small { opacity: .75; font-size: 12px; }
.runs tr.group td { font-weight: 600; background: #8882; }
.runs tr.dead td:first-child, .runs tr.failed td:first-child { box-shadow: inset 4px 0 #D55E00; }
.runs tr.stalled td:first-child, .runs tr.unreadable td:first-child { box-shadow: inset 4px 0 #E69F00; }
.why, .damage { font-size: 12px; font-weight: 400; opacity: .85; max-width: 420px; white-space: normal; }
.note { opacity: .75; margin: 8px 0; overflow-wrap: anywhere; }
.damaged { border-left: 4px solid #E69F00; padding: 4px 10px; font-size: 14px; overflow-wrap: anywhere; }
.alarm { border-left: 4px solid #D55E00; padding: 4px 10px; font-size: 14px; overflow-wrap: anywhere; }
.coming { opacity: .75; margin: 8px 0; animation: appear 0s .3s both; }
@keyframes appear { from { visibility: hidden; } }
.summary { margin: 4px 0; }
.chip { display: inline-block; border-radius: 9px; padding: 0 9px; font-size: 12px; font-weight: 600;
  line-height: 19px; white-space: nowrap; background: #8883; }
.chip.running { background: #0072B2; color: #fff; }
.chip.done { background: #00735A; color: #fff; }
.chip.dead, .chip.failed { background: #B84A00; color: #fff; }
.chip.stalled, .chip.unreadable { background: #E69F00; color: #000; }
.bar { width: 150px; height: 8px; margin: 5px 0 2px; border-radius: 4px; background: #8883; }
.bar div { height: 8px; border-radius: 4px; background: #0072B2; }
.cards { display: grid; gap: 10px; }
.card { border: 1px solid #8884; border-radius: 6px; padding: 8px 12px; font-size: 14px; }
.card dl { display: grid; grid-template-columns: 80px 1fr; gap: 2px 10px; margin: 6px 0 0; }
.card dt { opacity: .75; font-size: 12px; line-height: 21px; }
.card dd { margin: 0; font-family: ui-monospace, monospace; font-size: 13px; line-height: 21px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
</style>"""


COMING = "Reading and fitting: a run takes seconds when it is looked at for the first time …"


def only(view: str) -> str:
    """One view is seen: what another showed before is hidden at once, and words stand until the view is there."""
    there = f'[data-view="{view}"]'
    return (
        f"<style>.output:has([data-view]):not(:has({there})) {{ display: none; }} "
        f"body:has({there}) .coming {{ display: none; }}</style>"
        f'<p class="coming">{COMING}</p>'
    )
