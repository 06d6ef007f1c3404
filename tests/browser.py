"""A page in a real browser: headless Chromium on its own command line, without a driver and off the network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
    "--enable-logging=stderr",
)
# Of every chart how much is drawn of its data, and whether it lies in it; what is wider than the page; what was loaded.
MEASURE: Final = """<script>
Object.assign(document.body.style, {width: "WIDTHpx", margin: 0});
addEventListener("load", () => {
  const box = each => each.getBoundingClientRect();
  const charts = [...document.querySelectorAll("svg")].map(svg => {
    const frame = box(svg), shapes = [...svg.querySelectorAll("polyline, circle, rect, line, path, text")].map(box);
    const outside = shapes.filter(each => each.left < frame.left - 4 || each.right > frame.right + 4 ||
      each.top < frame.top - 4 || each.bottom > frame.bottom + 4).length;
    const data = [...svg.querySelectorAll("polyline, circle, rect")].map(box).filter(each => each.width && each.height);
    return {title: svg.querySelector("title").textContent, data: data.length, outside};
  });
  const wide = [...document.body.querySelectorAll("section, svg, p, h1, .wide, .tile")].map(box);
  const beyond = wide.filter(each => each.right > WIDTH + 1).length;
  const loaded = performance.getEntriesByType("resource").map(each => each.name);
  document.body.textContent = "MEASURED" + JSON.stringify({charts, beyond, loaded}) + "MEASURED";
});
</script>"""


def console(page: Path, folder: Path) -> list[str]:
    """What the console says when the page is opened: errors, and what the page's own policy forbids it to load."""
    return [line for line in _run(page, folder).stderr.splitlines() if "CONSOLE" in line]


def measured(page: Path, folder: Path, width: int) -> dict[str, Any]:
    """The page as the browser lays it out in some width, by a script in a copy that is free to load what it names."""
    copy = folder / "measured.html"
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    copy.write_text(text.replace("</body>", MEASURE.replace("WIDTH", str(width)) + "</body>"), encoding="utf-8")
    found: dict[str, Any] = json.loads(_run(copy, folder).stdout.split("MEASURED")[1])
    return found


def _run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None  # the test is skipped without
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
