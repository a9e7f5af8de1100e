"""Pages to look at: one HTML file that needs nothing else, readable on light and on dark screens.

Whatever comes from outside goes through `escaped`; what these functions return is HTML.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# What no HTML document may hold, and halves of surrogate pairs, which JSON allows and UTF-8 does not.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 220, 56, 24  # of a chart and of the room for the numbers at its axes
_POINTS = 400  # of a line in a chart: more than its pixels show nothing new

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --soft: #f2f4f7; --line: #d5d9df; --faint: #5d6672;
  --shade: 37 99 235; --right: #12703f; --wrong: #b42318; --tint: 88%; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #16181c; --soft: #22262c; --line: #3b4149;
  --faint: #a3abb6; --shade: 122 167 255; --right: #7bd79b; --wrong: #ff8f80; --tint: 28%; } }
body { font: 16px/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.faint, .faint td { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.shaded th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; padding: .4rem; }
td[style] { background: rgb(var(--shade) / var(--share)); }
article { background: var(--soft); border-radius: .5rem; padding: .6rem 1rem; margin: .8rem 0; }
article p { margin: .2rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { color: inherit; background: hsl(var(--hue, 210) 70% var(--tint)); border-radius: .25rem; padding: .05rem .2rem;
  margin: 0 .1rem; }
mark small { margin-left: .3rem; color: var(--faint); }
mark.wrong { outline: 2px solid var(--wrong); } mark.missed { background: none; outline: 2px dashed var(--wrong); }
.right { color: var(--right); } .wrong { color: var(--wrong); } mark.wrong, mark.missed { color: inherit; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
svg line { stroke: var(--line); } svg polyline { stroke: rgb(var(--shade)); }
"""


class Table(NamedTuple):
    """A table with a heading; the first cell of a row names it, the others are numbers or texts.

    With `shaded`, a number stands out the more, the larger its share of its row is.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    shaded: bool = False


class Span(NamedTuple):
    """Characters `start` to `end - 1` of a text to be marked: by a label behind them, a colour and a class."""

    start: int
    end: int
    label: str = ""
    hue: int = 210  # degrees on the circle of colours
    kind: str = ""  # "wrong" or "missed"


def escaped(text: object) -> str:
    """A value as text between tags or in an attribute."""
    return html.escape(_FORBIDDEN.sub("\ufffd", str(text)))


def page_begin(title: str) -> str:
    """A page up to its contents; nothing outside of it may be loaded, whatever the contents say."""
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">\n'
            f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escaped(title)}</h1>\n")


PAGE_END = "</body>\n</html>\n"


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of some HTML."""
    return page_begin(title) + "\n".join(parts) + "\n" + PAGE_END


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escaped(text)}</h2>"


def paragraph(text: str, css_class: str = "") -> str:
    """A paragraph of text."""
    return f"<p{_class(css_class)}>{escaped(text)}</p>"


def table(content: Table) -> str:
    """A section with a table."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in content.columns)
    rows = "\n".join(f"<tr>{''.join(_cells(row, content.shaded))}</tr>" for row in content.rows)
    shaded = _class("shaded" if content.shaded else "")
    return f'{heading(content.title)}\n<div class="wide"><table{shaded}>\n<tr>{head}</tr>\n{rows}\n</table></div>'


def _cells(row: Sequence[str | float], shaded: bool) -> Iterable[str]:
    total = sum(cell for cell in row[1:] if not isinstance(cell, str)) if shaded else 0
    yield f"<td>{escaped(row[0])}</td>"
    for cell in row[1:]:
        share = f' style="--share:{cell / total / 2:.3f}"' if total and not isinstance(cell, str) and cell else ""
        yield f"<td{share}>{escaped(number(cell))}</td>"


def number(value: str | float) -> str:
    """A number with as many digits as help."""
    return str(value) if not isinstance(value, float) else f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"


def marked(text: str, spans: Iterable[Span]) -> str:
    """A text with marks; of spans that overlap, the one that begins later is left out, as is one beyond the text."""
    pieces, at = [], 0
    for span in sorted(spans):
        if not at <= span.start < span.end <= len(text):
            continue
        label = f"<small>{escaped(span.label)}</small>" if span.label else ""
        pieces += [escaped(text[at:span.start]), f'<mark{_class(span.kind)} style="--hue:{span.hue}">'
                   f"{escaped(text[span.start:span.end])}{label}</mark>"]
        at = span.end
    return "".join([*pieces, escaped(text[at:])])


def line_chart(title: str, line: Sequence[tuple[float, float]], pale: Sequence[tuple[float, float]] = (),
               limits: tuple[float, float] | None = None) -> str:
    """A section with a chart of a line of points (x, y).

    Args:
        title: its heading.
        line: the points.
        pale: those of another line, which is behind it.
        limits: the smallest and the largest y that are shown; without them all are.
    """
    points = [*line, *pale]
    low, high = limits or _around([y for _, y in points])
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    across, up = (_WIDTH - _LEFT) / ((last - first) or 1), (_HEIGHT - _BOTTOM) / (high - low)

    def at(x: float, y: float) -> str:
        return f"{_LEFT + (x - first) * across:.1f},{(high - min(max(y, low), high)) * up:.1f}"

    drawn = [f'<polyline fill="none" stroke="currentColor" stroke-width="{width}" opacity="{opacity}" '
             f'points="{" ".join(at(x, y) for x, y in _thinned(some))}"/>'
             for some, width, opacity in ((pale, 0.8, 0.35), (line, 1.8, 1)) if some]
    grid = [f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{(high - y) * up:.1f}" y2="{(high - y) * up:.1f}"/>'
            f'<text x="0" y="{(high - y) * up + 4:.1f}">{y:.4g}</text>' for y in _levels(low, high)]
    ends = (f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{first:g}</text>'
            f'<text x="{_WIDTH}" y="{_HEIGHT - 6}" text-anchor="end">{last:g}</text>')
    return (f'{heading(title)}\n<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(title)}">\n'
            + "\n".join([*grid, *drawn, ends]) + "\n</svg>")


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _levels(low: float, high: float) -> list[float]:
    """Three to six round numbers between two others."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    stride = math.ceil(len(points) / _POINTS) or 1
    return [*points[::stride], *points[-1:]]


def _class(name: str) -> str:
    return f' class="{escaped(name)}"' if name else ""
