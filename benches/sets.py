#!/usr/bin/env python3
"""vlc on every set, losses too, beside product quantization of FAISS at the bytes of the whole file.

    python benches/sets.py --vlc target/release/vlc SET... [--ratio 0.02 0.03 0.06] [--no-queries] [--faiss] [--decoder off]

SET is a folder with base, queries-test (or test) and, if there is one, queries-train (or train), each .npy; `:l2` or `:dot` behind
its name is the metric, cosine without. Prints a line for each set and ratio: bytes per vector all in, what the plan expected, recall@10
measured, that of the best hit, the similarity ratio, seconds. With --faiss, if it is installed: PQ with as many bytes of codes as fit, in l2
and by inner product, and OPQ of full width, the better of each; codebooks and rotation are counted. Needs numpy.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("sets", nargs="+")
parser.add_argument("--vlc", default="target/release/vlc")
parser.add_argument("--ratio", nargs="+", type=float, default=[0.03])
parser.add_argument("--no-queries", action="store_true", help="train without sample queries")
parser.add_argument("--decoder", default="auto")
parser.add_argument("--seed", default="1")
parser.add_argument("--faiss", action="store_true")
args = parser.parse_args()


def find(folder, *names):
    for name in names:
        for path in sorted(folder.glob(f"{name}*.npy")):
            return path
    return None


def vlc(*command):
    done = subprocess.run([args.vlc, *map(str, command), "--json", "-q"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return json.loads(done.stdout)


def run_vlc(base, test, train, metric, ratio, work):
    out = pathlib.Path(work) / "a.vlc"
    command = ["compress", base, "-o", out, "--force", "--metric", metric, "--ratio", ratio, "--decoder", args.decoder]
    command += ["--seed", args.seed] + (["--queries", train] if train and not args.no_queries else [])
    plan = vlc(*command, "--dry-run")
    start = time.time()
    made = vlc(*command)
    seconds = time.time() - start
    found = vlc("eval", out, "--base", base, "--queries", test)
    expected = plan.get("plan", plan).get("expected_recall")
    held = (made.get("recall") or {}).get("recall")
    return found, expected, held, seconds


def prepared(path, metric):
    x = np.load(path).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x


def run_faiss(base, test, metric, ratio):
    import faiss

    x, q = prepared(base, metric), prepared(test, metric)
    n, d = x.shape
    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    exact = faiss.IndexFlat(d, kind)
    exact.add(x)
    truth = exact.search(q, 10)[1]
    best = {}
    for name, fixed in (("PQ", 4 * 256 * d), ("OPQ", 4 * 256 * d + 4 * d * d)):
        room = ratio * 4 * d - fixed / n
        fits = [m for m in range(1, d + 1) if d % m == 0 and m <= room]
        if not fits:
            continue
        m = max(fits)
        for measure in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT) if metric != "l2" else (faiss.METRIC_L2,):
            index = faiss.index_factory(d, f"OPQ{m},PQ{m}" if name == "OPQ" else f"PQ{m}", measure)
            index.train(x[:: max(1, n // 65536)])
            index.add(x)
            found = index.search(q, 10)[1]
            recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found)])
            if recall > best.get(name, (0,))[0]:
                best[name] = (recall, m + fixed / n)
    return ", ".join(f"{name} {recall:.3f} at {size:.1f} B" for name, (recall, size) in best.items())


print(f"{'set':24} {'ratio':>5} {'bytes':>7} {'expect':>6} {'held':>6} {'recall':>6} {'best':>6} {'similar':>7} {'worst':>6} {'s':>6}")
for given in args.sets:
    folder, _, metric = given.partition(":")
    folder, metric = pathlib.Path(folder), metric or "cosine"
    base, test, train = find(folder, "base"), find(folder, "queries-test", "test"), find(folder, "queries-train", "train")
    for ratio in args.ratio:
        with tempfile.TemporaryDirectory() as work:
            e, expected, held, seconds = run_vlc(base, test, train, metric, ratio, work)
        number = lambda v: f"{v:6.3f}" if v is not None else "     -"
        print(
            f"{folder.name + ' ' + metric:24} {ratio:5} {e['bytes_per_vector']:7.2f} {number(expected)} {number(held)} {e['recall_at_k']:6.3f} "
            f"{e['recall_best']:6.3f} {e['similarity_ratio']:7.4f} {e['similarity_ratio_worst']:6.3f} {seconds:6.1f}"
            + ("  " + run_faiss(base, test, metric, ratio) if args.faiss else ""),
            flush=True,
        )
