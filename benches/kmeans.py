#!/usr/bin/env python3
"""Energy of vlc's anchors beside that of FAISS `Kmeans`: same rows, same number of anchors and iterations, several seeds.

    python3 -m venv venv && venv/bin/pip install faiss-cpu numpy
    venv/bin/python benches/kmeans.py [DIR] [--anchors 256 1024] [--seeds 1 2 3] [-- --temperature 0]

DIR holds base.i8.npy (default: the 5,000 vectors in the repository). Rows are normalised and given to both in float32. FAISS
uses all rows (max_points_per_centroid is lifted); both energies are measured here, from the anchors, in float64. What
follows `--` goes to `examples/anchors.rs`. Exit code 1 when an energy of vlc is above that of FAISS with the same seed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import faiss
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: pip install faiss-cpu numpy")

ROOT = Path(__file__).resolve().parent.parent
OURS = ["cargo", "run", "--release", "--quiet", "--example", "anchors", "--"]


def unit_rows(path):
    rows = np.load(path).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def energy(rows, anchors):
    """Mean squared distance to the nearest anchor, and how many anchors are nearest to no row."""
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(anchors)
    total, used = 0.0, np.zeros(len(anchors), bool)
    for start in range(0, len(rows), 10_000):
        chunk = rows[start : start + 10_000]
        nearest = index.search(chunk, 1)[1][:, 0]
        used[nearest] = True
        total += ((chunk.astype(np.float64) - anchors[nearest]) ** 2).sum()
    return total / len(rows), int((~used).sum())


def run_faiss(rows, count, iterations, seed):
    kmeans = faiss.Kmeans(
        rows.shape[1], count, niter=iterations, seed=seed, max_points_per_centroid=len(rows), min_points_per_centroid=1
    )
    start = time.perf_counter()
    kmeans.train(rows)
    return kmeans.centroids.reshape(count, -1), time.perf_counter() - start


def run_vlc(path, count, iterations, seed, extra, out):
    arguments = [path, "--anchors", count, "--iterations", iterations, "--seed", seed, "--output", out, *extra]
    done = subprocess.run(OURS + [str(a) for a in arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return np.load(out), json.loads(done.stdout)["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", nargs="?", type=Path, default=ROOT / "examples/data/docs-minilm-384-5k")
    parser.add_argument("--anchors", type=int, nargs="+", default=[256])
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    own, extra = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, extra = own[:at], own[at + 1 :]
    args = parser.parse_args(own)

    rows = unit_rows(args.dir / "base.i8.npy")
    print(f"{len(rows):,} rows x {rows.shape[1]}, {args.iterations} iterations, FAISS {faiss.__version__}\n")
    print("| anchors | seed | FAISS energy | s | vlc energy | s | vlc / FAISS | empty |")
    print("|---|---|---|---|---|---|---|---|")
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.npy"
        np.save(path, rows)
        # Compiles, if need be, before anything is timed.
        run_vlc(path, 1, 1, 1, [], Path(scratch) / "anchors.npy")
        for count in args.anchors:
            for seed in args.seeds:
                theirs, their_seconds = run_faiss(rows, count, args.iterations, seed)
                ours, our_seconds = run_vlc(path, count, args.iterations, seed, extra, Path(scratch) / "anchors.npy")
                assert ours.shape == theirs.shape == (count, rows.shape[1])
                (their_energy, their_empty), (our_energy, our_empty) = energy(rows, theirs), energy(rows, ours)
                failed |= our_energy > their_energy
                print(
                    f"| {count} | {seed} | {their_energy:.6f} | {their_seconds:.1f} | {our_energy:.6f} | {our_seconds:.1f} "
                    f"| {our_energy / their_energy:.5f} | {their_empty}, {our_empty} |",
                    flush=True,
                )
    print("\nvlc at or below FAISS for every seed:", "NO" if failed else "yes")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
