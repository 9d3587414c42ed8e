"""Plots, as SVG: one for each shape, a bar for each contender, with its least and greatest."""

from __future__ import annotations

from html import escape
from pathlib import Path

from bench.bulk_rows import BulkRow, bulk_rows, shapes_of
from bench.contenders import TIMESTORE
from bench.results import Report

WIDTH, LABELS, FIGURES = 900, 330, 150
BAR, GAP, TITLE = 16, 8, 40


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Draw the bulk speeds of every shape."""
    paths = []
    for shape in shapes_of(report):
        path = folder / f"bulk-{shape}.svg"
        path.write_text(draw(f"{shape}: MB/s of Arrow data", list(bulk_rows(report, shape))), encoding="utf-8")
        paths.append(path)
    return paths


def draw(title: str, rows: list[BulkRow]) -> str:
    """Draw bars, the fastest on top."""
    rows = sorted(rows, key=lambda row: -row.megabytes_per_s.median)
    greatest = max((row.megabytes_per_s.max for row in rows), default=1.0)
    height = TITLE + len(rows) * (BAR + GAP)
    bars = [
        _bar(row, TITLE + place * (BAR + GAP), (WIDTH - LABELS - FIGURES) / greatest) for place, row in enumerate(rows)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
            'font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="8" y="22" font-size="15">{escape(title)}</text>',
            *bars,
            "</svg>\n",
        ]
    )


def _bar(row: BulkRow, top: float, scale: float) -> str:
    speed, middle = row.megabytes_per_s, top + BAR / 2
    colour = "#2a6f97" if row.case.contender == TIMESTORE else "#a9bcc9"
    name = escape(f"{row.case.contender} {row.case.load}".strip())
    least, greatest = LABELS + speed.min * scale, LABELS + speed.max * scale
    return (
        f'<text x="{LABELS - 8}" y="{middle + 4}" text-anchor="end">{name}</text>'
        f'<rect x="{LABELS}" y="{top}" width="{speed.median * scale:.1f}" height="{BAR}" fill="{colour}"/>'
        f'<path d="M{least:.1f} {middle}H{greatest:.1f}" stroke="black"/>'
        f'<text x="{greatest + 6:.1f}" y="{middle + 4}">{speed.text(0)}</text>'
    )
