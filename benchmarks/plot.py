"""A bar chart of the figures as one SVG file, written here so that a chart needs no library and its diff can be read.

Rates share a linear axis that begins at zero, latency has a logarithmic one, and each axis says so. The picture carries
its values as text and follows the reader's light or dark scheme where the viewer supports it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HAND, BUS = "by hand", "bus"
"""The names of the two sides that are not a peer; they have colours of their own."""

WIDTH, LEFT, RIGHT = 760, 110, 90
BAR, GAP, HEADING, AXIS, TOP = 16, 4, 30, 46, 44

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .work { font-weight: 600 } .axis { fill: #59636e }
.paper { fill: #ffffff } .grid { stroke: #d1d9e0 }
.peer { fill: #8c959f } .hand { fill: #9a6700 } .bus { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .axis { fill: #9198a1 }
  .paper { fill: #0d1117 } .grid { stroke: #3d444d }
  .peer { fill: #6e7681 } .hand { fill: #d29922 } .bus { fill: #4493f8 }
}
"""

Figures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """Where a value lies from 0 to 1, the values that get a line, and how a value is written."""

    label: str
    place: Callable[[float], float]
    ticks: list[float]
    write: Callable[[float], str]


def draw(figures: Figures, path: Path) -> None:
    """Write the chart of work to side to figure: events per second, milliseconds where the work is a latency.

    Bars come in the order given. A side that lacks a piece of work has no bar there; a figure has to be above zero.
    """
    path.write_text(render(figures), encoding="utf-8")


def render(figures: Figures) -> str:
    """The SVG text."""
    latency = {work: sides for work, sides in figures.items() if work.startswith("latency")}
    rates = {work: sides for work, sides in figures.items() if work not in latency}
    body: list[str] = []
    y = TOP
    for panel, axis_of in ((rates, _linear), (latency, _logarithmic)):
        if panel:
            lines, y = _panel(panel, axis_of([value for sides in panel.values() for value in sides.values()]), y)
            body += lines
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">',
        "<title>Speed of the bus beside a loop by hand and other frameworks</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{y}"/>',
        _text(16, 26, "The same work by hand, by the bus, and by its peers", "title"),
    )
    return "\n".join((*head, *body, "</svg>", ""))


def _panel(panel: Figures, axis: Axis, top: int) -> tuple[list[str], int]:
    """The groups of one axis from `top` down, and where the next may begin."""
    rows = sum(HEADING + len(sides) * (BAR + GAP) for sides in panel.values())
    bottom = top + rows + 6
    lines = list(_grid(axis, top, bottom))
    y = top
    for work, sides in panel.items():
        lines.append(_text(16, y + HEADING - 9, work, "work"))
        y += HEADING
        for side, value in sides.items():
            lines += _bar(side, value, axis, y)
            y += BAR + GAP
    return lines, bottom + AXIS


def _bar(side: str, value: float, axis: Axis, y: int) -> Iterator[str]:
    kind = {HAND: "hand", BUS: "bus"}.get(side, "peer")
    length = max(1.0, axis.place(value) * (WIDTH - LEFT - RIGHT))
    yield _text(LEFT - 8, y + 12, side, "side", "end")
    yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
    yield _text(LEFT + length + 6, y + 12, axis.write(value), "value")


def _grid(axis: Axis, top: int, bottom: int) -> Iterator[str]:
    for tick in axis.ticks:
        x = LEFT + axis.place(tick) * (WIDTH - LEFT - RIGHT)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 6}" y2="{bottom}"/>'
        yield _text(x, bottom + 15, axis.write(tick), "axis", "middle")
    yield _text(LEFT, bottom + 33, axis.label, "axis")


def _linear(values: list[float]) -> Axis:
    """From zero, with a line at every 1, 2 or 5 times a power of ten, at most six of them."""
    most = max(values)
    power = 10.0 ** math.floor(math.log10(most))
    step = next(step for step in (power / 5, power / 2, power, power * 2) if most / step <= 6)
    ticks = [step * n for n in range(math.floor(most / step) + 1)]
    return Axis("events per second, linear; longer is better", lambda value: value / most, ticks, "{:,.0f}".format)


def _logarithmic(values: list[float]) -> Axis:
    """Between the powers of ten around the values, with a line at each."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    low = min(low, high - 1)
    ticks = [10.0**power for power in range(low, high + 1)]
    return Axis(
        "milliseconds, logarithmic; shorter is better",
        lambda value: (math.log10(value) - low) / (high - low),
        ticks,
        lambda value: f"{round(value, 2):,g} ms",
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
