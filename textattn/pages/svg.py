"""Charts as inline SVG. Colours and fonts come from the style of the page, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textattn.inference.markup import shown
from textattn.measure.intervals import wilson

Point = tuple[float, float]
PERCENT_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
# Lines with more points than this have no dots.
MOST_DOTS = 40
# Room for half a number.
RIGHT = 20


@dataclass(frozen=True)
class Plot:
    """An area with two linear axes, in units of the view box."""

    x: tuple[float, float]
    """The range of the data."""
    y: tuple[float, float]
    width: int = 420
    height: int = 260
    left: int = 60
    bottom: int = 38

    def at(self, x: float, y: float) -> Point:
        """The place of a point of the data."""
        return self.across(x), self.up(y)

    def across(self, x: float) -> float:
        """Horizontal place."""
        low, high = self.x
        return self.left + (x - low) / ((high - low) or 1) * (self.width - self.left - RIGHT)

    def up(self, y: float) -> float:
        """Vertical place."""
        low, high = self.y
        return self.height - self.bottom - (y - low) / ((high - low) or 1) * (self.height - self.bottom - 12)

    def frame(self, x_name: str, y_name: str, *, x_percent: bool = False, y_percent: bool = False) -> str:
        """Grid lines with their numbers, and the names of the axes."""
        left, right, floor = self.left, self.width - RIGHT, self.height - self.bottom
        parts = []
        for value in ticks(*self.y, percent=y_percent):
            at = self.up(value)
            parts.append(f'<path class="grid" d="M{left} {at:.1f}H{right}"/>')
            parts.append(f'<text class="tick end" x="{left - 6}" y="{at + 3.5:.1f}">{_tick(value, y_percent)}</text>')
        for value in ticks(*self.x, percent=x_percent):
            at = self.across(value)
            parts.append(f'<text class="tick middle" x="{at:.1f}" y="{floor + 15}">{_tick(value, x_percent)}</text>')
        parts.append(f'<path class="axis" d="M{left} {floor}H{right}"/>')
        parts.append(f'<text class="name middle" x="{(left + right) / 2:.1f}" y="{self.height - 6}">{x_name}</text>')
        middle = (12 + floor) / 2
        parts.append(
            f'<text class="name middle" x="11" y="{middle:.1f}" transform="rotate(-90 11 {middle:.1f})">{y_name}</text>'
        )
        return "".join(parts)

    def line(self, points: Iterable[Point], css: str) -> str:
        """A line through points, with a dot at each if they are few."""
        places = [self.at(*point) for point in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dots = "".join(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places)
        return f'<path class="line {css}" d="{path}"/>' + (dots if len(places) <= MOST_DOTS else "")

    def wrap(self, content: str, description: str) -> str:
        """The whole picture."""
        size = f"0 0 {self.width} {self.height}"
        return f'<svg viewBox="{size}" role="img" aria-label="{shown(description)}">{content}</svg>'


def ticks(low: float, high: float, *, percent: bool = False, most: int = 6) -> list[float]:
    """Round numbers between two numbers, at most about `most` of them."""
    span = (high - low) or 1.0
    if percent:
        step = next((step for step in PERCENT_STEPS if span / step <= most), PERCENT_STEPS[-1])
    else:
        power = 10 ** math.floor(math.log10(span / most))
        step = next((factor * power for factor in (1, 2, 5) if span / (factor * power) <= most), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:g}\u00a0%"
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


def reliability(bins: Sequence[Mapping[str, Any]], several: bool) -> str:
    """How often predictions of each probability are right, with 95 % intervals; the area of a dot is their number."""
    plot = Plot((0, 1), (0, 1), height=300)
    largest = max((one["count"] for one in bins), default=1)
    content = [
        plot.frame("probability that the model gives", "share that is right", x_percent=True, y_percent=True),
        f'<path class="ideal" d="M{plot.across(0):.1f} {plot.up(0):.1f}L{plot.across(1):.1f} {plot.up(1):.1f}"/>',
        plot.line([(one["confidence"], one["accuracy"]) for one in bins], "faint") if len(bins) > 1 else "",
    ]
    for one in bins:
        x, y = plot.at(one["confidence"], one["accuracy"])
        low, high = wilson(one["accuracy"], one["count"])
        what = "probabilities" if several else "texts"
        title = f"{one['count']:,} {what}: given {one['confidence']:.1%}, right {one['accuracy']:.1%}"
        content.append(f'<path class="whisker" d="M{x:.1f} {plot.up(low):.1f}V{plot.up(high):.1f}"/>')
        size = 3 + 5 * math.sqrt(one["count"] / largest)
        content.append(
            f'<circle class="model" cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"><title>{title}</title></circle>'
        )
    return plot.wrap("".join(content), "Reliability diagram: share of right answers by the probability given")


def coverage(found: Mapping[str, Any], what: str) -> str:
    """Accuracy over coverage, with a dot for each threshold that was chosen."""
    curve = [(float(x), float(y)) for x, y in found["curve"]]
    split = found["measured_on"] or found["chosen_on"]
    dots = [
        (entry["target"], entry[split])
        for entry in found["thresholds"]
        if entry["threshold"] is not None and entry[split]["answered"]
    ]
    least = min([y for _, y in curve] + [at["accuracy"] for _, at in dots])
    plot = Plot((0, 1), (max(0.0, math.floor(least * 20 - 0.2) / 20), 1), height=300)
    content = [plot.frame(f"share of {what} answered", "right among them", x_percent=True, y_percent=True)]
    for entry in found["thresholds"]:
        if entry["target"] >= plot.y[0]:
            at = plot.up(entry["target"])
            content.append(f'<path class="target" d="M{plot.left} {at:.1f}H{plot.width - RIGHT}"/>')
    content.append(plot.line(curve, "model"))
    for target, measured in dots:
        x, y = plot.at(measured["coverage"], measured["accuracy"])
        low, high = measured["interval_95"]
        title = f"aim {target:.0%}: {measured['accuracy']:.1%} right at {measured['coverage']:.1%} answered"
        low_at = plot.up(max(low, plot.y[0]))
        content.append(f'<path class="whisker" d="M{x:.1f} {low_at:.1f}V{plot.up(high):.1f}"/>')
        content.append(f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{title}</title></circle>')
    return plot.wrap("".join(content), f"Share of right answers by the share of {what} answered")


def curve(points: Sequence[Point], name: str, css: str, best: Point | None = None) -> str:
    """One value over the steps of training, with the selected model."""
    values = [y for _, y in points]
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    plot = Plot((0, max(x for x, _ in points)), (max(0.0, low - room), high + room), height=200)
    content = [plot.frame("step", name), plot.line(points, css)]
    if best is not None:
        x, y = plot.at(*best)
        content.append(f'<circle class="best" cx="{x:.1f}" cy="{y:.1f}" r="6"><title>selected model</title></circle>')
    return plot.wrap("".join(content), f"{name} over the steps of training")


def scatter(points: Sequence[Point], name: str) -> str:
    """Predicted over true numbers, with the line on which both are equal."""
    low, high = (choose(value for point in points for value in point) for choose in (min, max))
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    ends = (low - room, high + room)
    plot = Plot(ends, ends, height=380)
    (x, y), (to_x, to_y) = plot.at(ends[0], ends[0]), plot.at(ends[1], ends[1])
    content = [
        plot.frame(f"true {shown(name)}", f"predicted {shown(name)}"),
        f'<path class="ideal" d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"/>',
    ]
    for point in points:
        x, y = plot.at(*point)
        title = f"true {point[0]:.4g}, predicted {point[1]:.4g}"
        content.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{title}</title></circle>')
    return plot.wrap("".join(content), f"Predicted {name} over the true ones")
