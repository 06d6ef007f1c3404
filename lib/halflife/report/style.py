"""The report's style: one column on a phone, two on a desk, ink on paper; light or dark as the reader's system is."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root { color-scheme: light dark; --page: #fdfdfc; --ink: #1c1e21; --faint: #5c636b; --line: #d9dcdf; --tile: #f3f4f5;
  --alarm: #fbe9e2; --blue: #0072b2; --orange: #c98500; --green: #009e73; --vermillion: #d55e00; --sky: #3a9bd6;
  --purple: #b8598f; --heat: 0, 114, 178; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181b; --ink: #e6e8ea; --faint: #a0a8b0; --line: #353b41; --tile: #1f2429; --alarm: #3a2118;
    --blue: #56b4e9; --orange: #e69f00; --green: #2fc49a; --vermillion: #ff8a3d; --sky: #9fd6f5; --purple: #dd9cc0;
    --heat: 86, 180, 233; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: clamp(1.25rem, 5.6vw, 1.6rem); line-height: 1.2; margin: .2rem 0; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.1rem 0 .3rem; }
p { margin: .4rem 0; max-width: 46rem; }
section { border-top: 1px solid var(--line); margin-top: 1.6rem; padding-top: 1.1rem; }
.source, .lead { color: var(--faint); }
.source { font-size: .8rem; margin-top: 1rem; }
.alarms { background: var(--alarm); border-left: .3rem solid var(--vermillion); padding: .6rem 1rem; margin: 1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tile { background: var(--tile); border-radius: .4rem; padding: .6rem .8rem; }
.tile div, .tile small { color: var(--faint); font-size: .8rem; line-height: 1.3; }
.tile strong { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: .4rem 2rem; }
.grid > div { min-width: 0; }
figure { margin: .6rem 0; }
figcaption, caption { text-align: left; font-size: .87rem; color: var(--faint); padding-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; max-width: 34rem; }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem .22rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; }
td.words { overflow-wrap: anywhere; min-width: 5.4rem; }
td.heat { padding: .22rem .5rem; text-align: right; background: rgba(var(--heat), var(--share)); white-space: nowrap; }
code { font-size: .85em; overflow-wrap: anywhere; }
@media print {
  :root { --page: #fff; --ink: #000; --faint: #444; --line: #bbb; --tile: #f3f3f3; --alarm: #fff; --blue: #0072b2;
    --orange: #c98500; --green: #009e73; --vermillion: #d55e00; --sky: #3a9bd6; --purple: #b8598f;
    --heat: 0, 114, 178; }
  @page { margin: 14mm; }
  body { padding: 0; font-size: 10pt; max-width: none; }
  .grid { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: .2rem 1.4rem; }
  table, figcaption, caption { font-size: 8pt; }
  td.words { min-width: 4.4rem; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(6.5rem, 1fr)); }
  .tile strong { font-size: 1.1rem; }
  figure, tr, .tile, .alarms { break-inside: avoid; }
  h2, h3, caption, figcaption { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
