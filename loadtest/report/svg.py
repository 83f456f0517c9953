"""Draws small pictures as SVG: panels of one width, which fit on a phone and side by side."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 340.0
GAP = 14.0
COLORS = """
svg{--ink:#1c2330;--soft:#5d6776;--rule:#dfe3e9;--s1:#2f6fde;--s2:#e8912d;--s3:#8fa3bf;--s4:#1d9a6c;--s5:#a14fbf;
--bad:#cf3f4b;--paper:#ffffff}
@media (prefers-color-scheme:dark){svg{--ink:#e8ecf2;--soft:#9ba7b8;--rule:#2f3845;--s1:#6d9ff5;--s2:#f0a95a;
--s3:#61748f;--s4:#45c795;--s5:#c78be0;--bad:#ef7680;--paper:#151a21}}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--soft)}
svg .title{font-size:13px;font-weight:600;fill:var(--ink)} svg .value{fill:var(--ink)} svg .small{font-size:10px}
svg .rule{stroke:var(--rule)} svg .axis{stroke:var(--soft)} svg .paper{fill:var(--paper)}
svg .s1{fill:var(--s1)} svg .s2{fill:var(--s2)} svg .s3{fill:var(--s3)} svg .s4{fill:var(--s4)} svg .s5{fill:var(--s5)}
svg .bad{fill:var(--bad)} svg path{fill:none;stroke-width:2;stroke-linejoin:round}
svg path.s1{fill:none;stroke:var(--s1)} svg path.s2{fill:none;stroke:var(--s2)} svg path.s3{fill:none;stroke:var(--s3)}
svg path.s4{fill:none;stroke:var(--s4)} svg path.s5{fill:none;stroke:var(--s5)} svg .dashed{stroke-dasharray:4 3}
svg .mark{stroke:var(--ink);stroke-width:1.5}
""".replace("\n", "")
"""What the classes mean, in the light and in the dark; a page and a picture that stands alone both hold it."""


@dataclass(slots=True)
class Panel:
    """Holds a picture while it is drawn. `said` describes it for those who do not see it."""

    title: str
    height: float
    said: str = ""
    elements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.text(0, 14, self.title, "title")

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        self.elements.append(
            f'<text x="{x:.1f}" y="{y:.1f}"{_class(style)}{_anchor(anchor)}>{escape(text, quote=False)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, style: str, tip: str = "") -> None:
        """Draw a rectangle; `tip` is shown where a pointer rests on it."""
        shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.1f}" height="{max(height, 0.0):.1f}"'
        self.elements.append(f"{shape}{_class(style)}>{_tip(tip)}</rect>")

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        self.elements.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{_class(style)}/>')

    def path(self, points: Iterable[tuple[float, float]], style: str) -> None:
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.elements.append(f'<path d="M{way}"{_class(style)}/>')

    def dot(self, x: float, y: float, style: str, tip: str = "") -> None:
        self.elements.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"{_class(style)}>{_tip(tip)}</circle>')

    def legend(self, entries: Sequence[tuple[str, str]], y: float = 31) -> None:
        """Name the colours below the title: (style, text)."""
        x = 0.0
        for style, text in entries:
            width = 14 + 6.1 * len(text) + 10
            if x + width > WIDTH + 10 and x:
                x, y = 0.0, y + 15
            self.box(x, y - 8, 9, 9, style)
            self.text(x + 13, y, text)
            x += width

    def svg(self) -> str:
        label = escape(f"{self.title}. {self.said}".strip())
        head = f'<svg viewBox="0 0 {WIDTH:g} {self.height:.0f}" width="{WIDTH:g}" role="img" aria-label="{label}">'
        return f"{head}{''.join(self.elements)}</svg>"


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values onto a stretch of the picture, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        if self.is_log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return log_ticks(self.low, self.high) if self.is_log else even_ticks(self.high)


def even_ticks(high: float, most: int = 5) -> list[float]:
    """List round values from 0 to `high`."""
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if high / (power * factor) <= most)
    return [step * number for number in range(int(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """List 1, 2 and 5 times the powers of ten within the bounds; the powers alone, where that would be many."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    factors = (1,) if len(powers) > 4 else (1, 2, 5)
    ticks = [power * factor for power in powers for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def log_bounds(values: Sequence[float]) -> tuple[float, float]:
    """Widen the range of values a little, so that no point lies on the edge."""
    return min(values) / 1.15, max(values) * 1.15


def short(value: float) -> str:
    """Write a number in three digits at most, a thousand as 1.2k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.0f}k"
    if abs(value) >= 1000:
        return f"{value / 1000:.1f}k".replace(".0k", "k")
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.2g}"


def montage(panels: Sequence[Panel], columns: int) -> str:
    """Put panels side by side into one picture that stands alone."""
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    columns = min(columns, len(panels))
    parts, y = list[str](), GAP
    for row in rows:
        for column, panel in enumerate(row):
            x = GAP + column * (WIDTH + 2 * GAP)
            parts.append(panel.svg().replace("<svg ", f'<svg x="{x:g}" y="{y:g}" height="{panel.height:.0f}" ', 1))
        y += max(panel.height for panel in row) + 2 * GAP
    width = columns * (WIDTH + 2 * GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y:g}" width="{width:g}" height="{y:g}">'
    return f'{head}<style>{COLORS}</style><rect class="paper" width="100%" height="100%"/>{"".join(parts)}</svg>\n'


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _anchor(anchor: str) -> str:
    return "" if anchor == "start" else f' text-anchor="{anchor}"'


def _tip(tip: str) -> str:
    return f"<title>{escape(tip, quote=False)}</title>" if tip else ""
