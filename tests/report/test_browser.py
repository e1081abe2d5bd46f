"""The page in a real browser, headless: nothing complains, all is seen, nothing overflows."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

MEASURE = """<!DOCTYPE html><html><body style="margin: 0">
<script type="text/plain" id="page">PAGE</script>
<script>
// The page is shown in a frame, since a window cannot be made as narrow as a phone.
const frame = document.createElement("iframe");
frame.style = "border: 0; width: WIDTHpx; height: 800px";
frame.addEventListener("load", () => {
  const inside = frame.contentDocument, view = frame.contentWindow;
  const boxes = [...inside.querySelectorAll("figure img")].map(image => {
    const box = image.getBoundingClientRect();
    return {alt: image.alt, natural: image.naturalWidth, width: box.width, height: box.height,
            visible: image.checkVisibility()};
  });
  const wide = [...inside.querySelectorAll("body *")]
    .filter(e => !e.closest(".scroll") || e.classList.contains("scroll"))
    .filter(e => e.getBoundingClientRect().right > view.innerWidth + 0.5)
    .map(e => e.tagName + "." + e.className);
  const found = {boxes, wide, window: view.innerWidth,
                 scroll: inside.scrollingElement.scrollWidth};
  const out = document.createElement("pre");
  out.id = "measured";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
const bytes = Uint8Array.from(atob(document.getElementById("page").textContent),
                              c => c.charCodeAt(0));
frame.srcdoc = new TextDecoder().decode(bytes);
document.body.append(frame);
</script></body></html>
"""


def browse(page: str, folder: Path, width: int) -> tuple[dict, list[str]]:
    """Show a page in a frame of this width; returns measurements and console messages."""
    wrapper = folder / "wrapper.html"
    encoded = base64.b64encode(page.encode()).decode()
    wrapper.write_text(MEASURE.replace("PAGE", encoded).replace("WIDTH", str(width)))
    result = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--no-first-run", f"--user-data-dir={folder / 'profile'}", "--window-size=1300,900",
            "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom",
            wrapper.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = re.search(r'<pre id="measured">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, "the page did not load"
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), console


@pytest.mark.parametrize("width", [360, 1200])
def test_all_is_seen_and_nothing_overflows(folder, tmp_path, width):
    page = (folder / "report.html").read_text(encoding="utf-8")
    found, console = browse(page, tmp_path, width)
    assert console == []
    assert found["window"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert len(found["boxes"]) == 9
    for box in found["boxes"]:
        assert box["natural"] > 0, box["alt"]
        assert box["visible"]
        assert box["width"] > 250, box["alt"]
        assert box["height"] > 120, box["alt"]


def test_console_errors_and_overflow_would_be_noticed(tmp_path):
    bad = (
        "<!DOCTYPE html><html><body><div style='width:900px'>wide</div>"
        "<figure><img alt='broken' src='data:image/svg+xml,nonsense'></figure>"
        "<script>console.error('seen')</script></body></html>"
    )
    found, console = browse(bad, tmp_path, 360)
    assert found["scroll"] == 908
    assert found["wide"] == ["DIV."]
    assert found["boxes"][0]["natural"] == 0
    assert len(console) == 1
    assert "seen" in console[0]
