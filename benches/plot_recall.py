#!/usr/bin/env python3
"""Draws docs/recall.svg, recall@10 against bytes per vector, from benches/recall.csv. Python's standard library alone.

    python3 benches/plot_recall.py            # writes docs/recall.svg
    python3 benches/plot_recall.py --check    # exit code 1 where that file is not what the CSV gives

Every row of the CSV is a figure of README.md or STATUS.md and says which, and of which build. All rows are of the same vectors and
queries (docs-minilm-384), nothing re-ranked with the originals, all bytes of the index counted.
"""

import csv
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "benches" / "recall.csv"
PICTURE = ROOT / "docs" / "recall.svg"

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 44, 56
BYTES, RECALL = (20, 140), (0.60, 1.00)
# Colour, shape and whether the points of a series are joined; colours that the colour-blind tell apart.
STYLES = [("#0072b2", "circle", True), ("#56b4e9", "circle", False), ("#d55e00", "square", False), ("#009e73", "diamond", False)]
# Where the label of a point goes, from the point; above it unless said.
LABELS = {
    "--ratio 0.03": (-8, -8, "end"),
    "--ratio 0.02": (10, 4, "start"),
    "--decoder off": (10, 4, "start"),
    "OPQ48_192,PQ48": (8, -6, "start"),
    "OPQ96,PQ96x4fs": (9, 4, "start"),
    "PQ48": (-9, 12, "end"),
}


def x_of(size):
    return LEFT + (size - BYTES[0]) / (BYTES[1] - BYTES[0]) * (WIDTH - LEFT - RIGHT)


def y_of(recall):
    return HEIGHT - BOTTOM - (recall - RECALL[0]) / (RECALL[1] - RECALL[0]) * (HEIGHT - TOP - BOTTOM)


def text(x, y, words, anchor="start", size=12, colour="#333", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>'


def mark(shape, x, y, colour):
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == "diamond" else ""
    return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="{colour}"{turn}/>'


def axes():
    yield text(WIDTH / 2, 22, "recall@10 against the bytes of a vector: 100,000 x 384 embeddings, originals not kept", "middle", 14)
    for size in range(BYTES[0], BYTES[1] + 1, 20):
        x = x_of(size)
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>'
        yield text(x, HEIGHT - BOTTOM + 18, str(size), "middle")
    for step in range(9):
        recall = RECALL[0] + 0.05 * step
        y = y_of(recall)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e4e4e4"/>'
        yield text(LEFT - 8, y + 4, f"{recall:.2f}", "end")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, "bytes per vector, the whole index counted (float32: 1,536)", "middle")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield text(18, middle, "recall@10", "middle", more=f' transform="rotate(-90 18 {middle:.1f})"')


def draw(rows):
    series = list(dict.fromkeys(row["series"] for row in rows))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">',
        "<title>recall@10 against bytes per vector: vlc, FAISS, RaBitQ-Library</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *axes(),
    ]
    for number, name in enumerate(series):
        colour, shape, joined = STYLES[number]
        points = [(x_of(float(r["bytes_per_vector"])), y_of(float(r["recall_at_10"])), r["index"]) for r in rows if r["series"] == name]
        if joined:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, label in points:
            dx, dy, anchor = LABELS.get(label, (-8, -8, "end") if joined else (10, 4, "start"))
            out.append(mark(shape, x, y, colour))
            out.append(text(x + dx, y + dy, label, anchor, 11, colour))
        y = HEIGHT - BOTTOM - 20 * (len(series) - number) + 4
        out.append(mark(shape, WIDTH - 210, y, colour))
        out.append(text(WIDTH - 198, y + 4, name))
    return "\n".join([*out, "</svg>", ""])


def main():
    with DATA.open(newline="", encoding="utf-8") as file:
        picture = draw(list(csv.DictReader(file)))
    if sys.argv[1:] == ["--check"]:
        if not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != picture:
            sys.exit(f"{PICTURE}: not what {DATA} gives; run benches/plot_recall.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
