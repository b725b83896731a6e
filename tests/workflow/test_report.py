"""The report and the tables in a real browser."""

import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def dump(path, profile):
    """The page's text after its scripts have run, and what the browser complained of."""
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            # a request to anything but the page itself fails
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=5000",
            "--enable-logging=stderr",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, complaints


@needs_chromium
def test_report_opens_from_disk(finished, tmp_path):
    page, complaints = dump(finished.folder / "results/smoke/report.html", tmp_path)
    assert "Tables" in page and "Figures" in page
    assert not [line for line in complaints if "Uncaught" in line or "ERR_" in line]


@needs_chromium
def test_table_opens_from_disk(finished, tmp_path):
    page, complaints = dump(finished.folder / "results/smoke/tables/table1.html", tmp_path)
    assert "SwAV (long)" in page and "E2MC" in page
    assert not complaints
