#!/usr/bin/env python3
"""vlc beside FAISS (and RaBitQ-Library, `pip install rabitqlib`): the same vectors and queries, all bytes counted, on this machine.

    python3 -m venv venv && venv/bin/pip install faiss-cpu numpy
    cargo build --release --bin vlc
    venv/bin/python benches/compare_faiss.py [DIR] [--only OPQ40_200,PQ40 PQ48] [--ratio 0.03]

DIR holds base.i8.npy, queries-train.i8.npy and queries-test.i8.npy or queries.i8.npy (default: the 5,000 vectors in the
repository; there the codebooks of FAISS are larger than the codes). Rows are normalised. Bytes are those of the file
or the serialised index, per vector. Recall@10 is the share of the 10 exact neighbours among 10 found, no re-ranking. Speeds
are of exhaustive search on one thread, of a batch and of one query at a time. Training and encoding use all cores.

Exit code 1 when an index of FAISS that is not larger finds more than vlc.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Not named faiss.py: a script's own directory is searched for modules first.
try:
    import faiss
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: pip install faiss-cpu numpy")

ROOT = Path(__file__).resolve().parent.parent
INDEXES = ["PQ48", "OPQ40_200,PQ40", "OPQ48_192,PQ48", "OPQ96,PQ96x4fs"]
K = 10


def unit_rows(path):
    rows = np.load(path).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def recall(found, truth):
    return np.mean([len(np.intersect1d(f, t)) / len(t) for f, t in zip(found, truth)])


def run_faiss(key, base, queries, truth, args):
    faiss.omp_set_num_threads(args.threads)
    index = faiss.index_factory(base.shape[1], key, faiss.METRIC_L2)
    start = time.perf_counter()
    index.train(base)
    train = time.perf_counter() - start
    start = time.perf_counter()
    index.add(base)
    add = time.perf_counter() - start
    # Whatever lists there are, all are searched.
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.nprobe = ivf.nlist

    faiss.omp_set_num_threads(1)
    start = time.perf_counter()
    found = index.search(queries, K)[1]
    batch = len(queries) / (time.perf_counter() - start)
    count = min(args.single, len(queries))
    start = time.perf_counter()
    for query in queries[:count]:
        index.search(query[None], K)
    single = count / (time.perf_counter() - start)
    size = len(faiss.serialize_index(index)) / len(base)
    return {
        "name": f"FAISS {key}",
        "bytes": size,
        "recall": recall(found, truth),
        "seconds": train + add,
        "batch": batch,
        "single": single,
    }


def run_rabitq(key, base, queries, truth, args):
    """`rabitq:CLUSTERS,BITS`: RaBitQ-Library over the clusters of FAISS, all of them probed."""
    import rabitqlib

    clusters, bits = map(int, key.removeprefix("rabitq:").split(","))
    faiss.omp_set_num_threads(args.threads)
    start = time.perf_counter()
    kmeans = faiss.Kmeans(base.shape[1], clusters, niter=20, seed=1)
    kmeans.train(base)
    labels = kmeans.index.search(base, 1)[1].ravel().astype(np.uint32)
    index = rabitqlib.IvfIndex(base.shape[1], len(base), clusters, bits, metric="l2")
    index.build(base, kmeans.centroids, labels, num_threads=args.threads)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    found = np.asarray(index.search(queries, K, clusters)[0])
    batch = len(queries) / (time.perf_counter() - start)
    count = min(args.single, len(queries))
    start = time.perf_counter()
    for query in queries[:count]:
        index.search(query[None], K, clusters)
    single = count / (time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "index"
        index.save(str(path))
        size = path.stat().st_size / len(base)
    if found.dtype.kind == "f":
        sys.exit("rabitqlib gives distances before ids; this script expects ids")
    return {
        "name": f"RaBitQ-Library IVF{clusters}, {bits} bit",
        "bytes": size,
        "recall": recall(found, truth),
        "seconds": seconds,
        "batch": batch,
        "single": single,
    }


def run_vlc(ratio, test, args):
    def call(*arguments):
        done = subprocess.run([args.vlc, *map(str, arguments), "--json", "--quiet"], stdout=subprocess.PIPE)
        if done.returncode:
            sys.exit(f"{args.vlc} {arguments[0]} ended with {done.returncode}")
        return json.loads(done.stdout)

    base, sample = args.dir / "base.i8.npy", args.dir / "queries-train.i8.npy"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "base.vlc"
        arguments = ["compress", base, "-o", out, "--ratio", ratio, "--backend", "cpu", "--threads", args.threads]
        made = call(*arguments, "--queries", sample)
        size = out.stat().st_size / made["n"]
        alone = ["-k", K, "--backend", "cpu", "--threads", 1]
        measured = call("eval", out, "--base", base, "--queries", test, *alone)
        asked = call("query", out, test, "-o", Path(scratch) / "ids.npy", "--batch", 1, *alone)
    return {
        "name": f"vlc --ratio {ratio}",
        "bytes": size,
        "recall": measured["recall_at_k"],
        "seconds": made["seconds"],
        "batch": measured["queries_per_second"],
        "single": asked["queries_per_second"],
    }


def line(row, ours, dim):
    """One row of the table: each figure with what it is times that of vlc."""

    def cell(value, reference, digits):
        if value is None:
            return "-"
        times = "" if row is ours else f" ({value / reference:.2f}x)"
        return f"{value:,.{digits}f}{times}"

    cells = [
        row["name"],
        cell(row["bytes"], ours["bytes"], 1),
        f"{100 * row['bytes'] / (4 * dim):.2f} %",
        cell(row["recall"], ours["recall"], 3),
        cell(row["seconds"], ours["seconds"], 1),
        cell(row["batch"], ours["batch"], 0),
        cell(row["single"], ours["single"], 0),
    ]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", nargs="?", type=Path, default=ROOT / "examples/data/docs-minilm-384-5k")
    parser.add_argument("--only", nargs="+", default=INDEXES, metavar="KEY", help="keys of faiss.index_factory, rabitq:CLUSTERS,BITS")
    parser.add_argument("--vlc", default=str(ROOT / "target/release/vlc"), help="the binary")
    parser.add_argument("--ratio", nargs="+", default=["0.03"], help="the first is what the others are compared with")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for training and encoding, on both sides")
    parser.add_argument("--single", type=int, default=200, help="queries asked one at a time")
    args = parser.parse_args()

    test = next((p for p in (args.dir / "queries-test.i8.npy", args.dir / "queries.i8.npy") if p.exists()), None)
    if test is None:
        sys.exit(f"{args.dir} holds neither queries-test.i8.npy nor queries.i8.npy")
    ours = [run_vlc(ratio, test, args) for ratio in args.ratio]

    base, queries = unit_rows(args.dir / "base.i8.npy"), unit_rows(test)
    exact = faiss.IndexFlatIP(base.shape[1])
    exact.add(base)
    truth = exact.search(queries, K)[1]
    print(f"{len(base):,} rows x {base.shape[1]}, {len(queries):,} queries, FAISS {faiss.__version__}, {args.threads} threads\n")
    print("| index | bytes/vector | ratio | recall@10 | train + encode, s | queries/s, batch | one at a time |")
    print("|---|---|---|---|---|---|---|")
    for row in ours:
        print(line(row, ours[0], base.shape[1]), flush=True)
    theirs = []
    for key in args.only:
        run = run_rabitq if key.startswith("rabitq:") else run_faiss
        theirs.append(run(key, base, queries, truth, args))
        print(line(theirs[-1], ours[0], base.shape[1]), flush=True)

    print()
    failed = False
    for row in ours:
        rivals = [t for t in theirs if t["bytes"] <= row["bytes"]]
        better = [t["name"] for t in rivals if t["recall"] > row["recall"]]
        failed |= bool(better)
        verdict = f"FAILED: {', '.join(better)} finds more" if better else "ok"
        print(f"check: {row['name']} finds no less than the {len(rivals)} FAISS indexes not larger than it: {verdict}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
