"""The page: what wants attention at the top, then the figures, then each subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from halflife.chart import number
from halflife.report import changed, examples, fading, html, quality, ran
from halflife.report.facts import Facts, Manifest, seconds_of
from halflife.report.runs import Run
from halflife.report.style import CSS


def page(facts: Facts, failed: Sequence[Run]) -> str:
    """The report of a night as one HTML file that needs nothing else."""
    remembered = examples.read(facts)
    body = [
        Markup("<h1>Interest tonight: {}</h1>").format(facts.as_of),
        Markup('<p class="lead">{}</p>').format(_lead(facts)),
        _alarms(facts, failed),
        html.tiles(_tiles(facts)),
        changed.section(facts, remembered),
        quality.section(facts),
        fading.section(facts, remembered),
        ran.section(facts),
        ran.quality_section(facts),
    ]
    shape = Markup(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        "<title>halflife {}</title>\n<style>{}</style>\n</head>\n<body>\n{}\n</body>\n</html>\n"
    )
    return str(shape.format(facts.as_of, Markup(CSS), html.joined(part for part in body if part)))


def _lead(facts: Facts) -> str:
    figures = facts.score["metrics"]
    return (
        f"How interested every user is in every item as of {facts.as_of} 00:00 UTC: {figures['pairs']:,} pairs, by "
        f"model {figures['model']} ({figures['model_kind']}). Run {facts.score['run_id']}, code {facts.score['code']}."
    )


def _alarms(facts: Facts, failed: Sequence[Run]) -> Markup:
    """Figures out of their bounds, and runs that failed since."""
    rows = [(run["job"], *_alarm(alarm)) for run in facts.manifests for alarm in alarms_of(run)]
    parts = []
    if rows:
        parts.append(html.table(("job", "figure", "value", "allowed", "action"), rows, "Figures out of their bounds"))
    if failed:
        lines = [
            (run.job, run.night, (run.began or "")[:16].replace("T", " "), run.state, run.message) for run in failed
        ]
        parts.append(
            html.table(("job", "night", "began (UTC)", "state", "why"), lines, "Runs that have not made it since")
        )
    if not parts:
        return html.paragraph("No alarm: every figure lies within its bounds, and no run has failed since.")
    return Markup('<div class="alarms" role="alert"><h2>Look at this first</h2>{}</div>').format(html.joined(parts))


def alarms_of(manifest: Manifest) -> list[dict[str, Any]]:
    """The alarms of a run: each names a figure, its value, the bounds `low` and `high` (either may be None) and the
    action that was taken."""
    found: list[dict[str, Any]] = manifest["metrics"].get("alarms", [])
    return found


def _alarm(alarm: dict[str, Any]) -> tuple[html.Cell, ...]:
    value, low, high = (None if alarm[name] is None else number(alarm[name]) for name in ("value", "low", "high"))
    bounds = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
    return alarm["figure"], value or "no number", bounds, alarm["action"]


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """The figures that are read first."""
    scored, cleaned = facts.score["metrics"], facts.sessionize["metrics"]
    shown = [("pairs scored", f"{scored['pairs']:,}", f"{facts.score['tables']['scores']['bytes'] / 1e6:,.0f} MB")]
    if "encoded" in scored:
        shown.append(("users encoded", f"{scored['encoded']:,}", f"{scored['skipped']:,} carried over"))
    if "rows_read" in cleaned:
        rejected = f"{cleaned['quarantined']:,} quarantined, {cleaned['duplicates']:,} duplicates"
        shown.append(("events accepted", f"{cleaned['accepted']:,}", rejected))
    if seconds := seconds_of(facts.score):
        shown.append(("seconds of scoring", f"{sum(seconds.values()):,.0f}", "all stages"))
    if judged := quality.headline(facts):
        shown.append(("NDCG@10, next basket", *judged))
    return shown
