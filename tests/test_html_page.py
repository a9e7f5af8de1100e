"""Pages: whatever the texts are, the HTML is well formed, holds them, and leads nowhere."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pages import Page

from src.html_page import Span, Table, escaped, line_chart, marked, number, page, paragraph, table

HOSTILE = '</p><script src="http://x">alert(1)</script> & \x00 \ud800 "\' <b'


def test_hostile_texts_stay_texts():
    content = page(HOSTILE, [paragraph(HOSTILE), table(Table(HOSTILE, (HOSTILE,), [(HOSTILE, HOSTILE)])),
                             f"<p>{marked(HOSTILE, [Span(0, 4, HOSTILE, kind='wrong')])}</p>"])
    content.encode()
    shown = Page(content).text
    expected = HOSTILE.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert shown.count(expected) == 8  # the title is a heading too, and marks have labels


def test_marks_are_where_the_spans_are():
    text = "Angela Merkel met Obama in Berlin"
    html = f"<p>{marked(text, [Span(18, 23, 'PER', kind='wrong'), Span(0, 13, 'PER')])}</p>"
    assert Page(html).marks == [("", "Angela Merkel"), ("wrong", "Obama")]
    assert Page(html).text == "Angela MerkelPER met ObamaPER in Berlin"


@pytest.mark.parametrize("spans", [[Span(3, 3)], [Span(5, 2)], [Span(-2, 3)], [Span(8, 12)], [Span(0, 4), Span(2, 6)]])
def test_spans_that_cannot_be_marked_leave_the_text_whole(spans):
    assert Page(f"<p>{marked('0123456789', spans)}</p>").text == "0123456789"


def test_shares_of_a_row_are_shaded():
    tags = Page(table(Table("Confusion", ("", "a", "b"), [("a", 3, 1), ("b", 0, 0)], shaded=True))).tags
    assert [attributes.get("style") for tag, attributes in tags if tag == "td"] == [
        None, "--share:0.375", "--share:0.125", None, None, None]


@pytest.mark.parametrize(("value", "shown"), [(0.12345, "0.1235"), (87.256, "87.26"), (3, "3"), ("a", "a"),
                                              (1.0, "1.0000")])
def test_numbers(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize("line", [[(1, 2.0)], [(1, 2.0), (2, 2.0)], [(step, 1e-9 * step) for step in range(5)],
                                  [(step, 1e6 / (step + 1)) for step in range(10001)]])
def test_charts_stay_within_their_frame(line):
    drawn = Page(line_chart("loss", line, pale=line, limits=None)).tags
    points = [point.split(",") for tag, attributes in drawn if tag == "polyline"
              for point in attributes["points"].split()]
    assert 0 < len(points) <= 2 * 402
    assert all(0 <= float(x) <= 720 and 0 <= float(y) <= 220 for x, y in points)
    assert float(points[-1][0]) == (720 if len(line) > 1 else 56)  # the last step is shown


def test_losses_beyond_the_scale_are_at_its_edge():
    drawn = Page(line_chart("loss", [(1, 100.0), (2, 1.0), (3, 0.5)], limits=(0.0, 2.0))).tags
    [line] = [attributes["points"].split()[:3] for tag, attributes in drawn if tag == "polyline"]
    assert [float(point.split(",")[1]) for point in line] == [0.0, 98.0, 147.0]


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def test_a_browser_shows_it(tmp_path: Path):
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    (tmp_path / "page.html").write_text(page("Title", [
        paragraph("a text"), line_chart("loss", [(1, 2.0), (2, 1.0)]), f"<p>{marked('0123', [Span(1, 3)])}</p>"]))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    document = (tmp_path / "page.html").as_uri()
    done = subprocess.run([browser, *options, "--dump-dom", document], capture_output=True, text=True, timeout=120)
    assert '<mark style="--hue:210">12</mark>' in done.stdout and "</svg>" in done.stdout, done.stderr
    picture = tmp_path / "page.png"
    subprocess.run([browser, *options, f"--screenshot={picture}", document], capture_output=True, timeout=120,
                   check=True)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_escaping_is_for_attributes_too():
    assert escaped("\"<'&") == "&quot;&lt;&#x27;&amp;"
