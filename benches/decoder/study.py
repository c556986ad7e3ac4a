#!/usr/bin/env python3
"""A study of the learned decoder: recall of codes with and without a small residual MLP behind them, at the same all-in bytes.

    python3 benches/decoder/study.py DIR --plan a [--log FILE] [--rows N] [--seconds S]
    python3 benches/decoder/study.py DIR --config kind=pq8,K=256,budget=46.08,h=64,bits=4 ...

DIR holds base.i8.npy, queries-train.i8.npy and queries-test.i8.npy; needs PyTorch and a GPU. Up to the codes this does what the
library does (metric, anchors, rounded transform, allocation with the price of the model, 4-bit chain codes of two lags or
8-bit independent ones), so that sizes compare. Then decoder and codes are refined in turn: the decoder is trained on decoded
rows, the rows are encoded again *by synthesis*, where candidates for a symbol are judged by what the decoder makes of them. (The library has
its exact search aim where the error behind the decoder falls instead, and leaves the tables as they are: src/learned/.)
Recall@10 is of the 1,000 test queries. Columns headed 5000 add the 4,000 training queries, which have been used for the metric's
second moment and, one in eight, for alpha, and nothing else: settings that differ by less than 0.005 are compared there.
Plans: `arch` and `bits` shapes of the decoder behind the same codes, `synth` ways of encoding again, `a` and `c` the same all-in
bytes (3 and 6 % of 4 x 384), `b` codes only, `detail` training settings and rows not trained on.
"""

import argparse
import json
import math
import sys
import time
import traceback

try:
    import numpy as np
    import torch
except ImportError as error:
    sys.exit(f"{error}: pip install torch numpy")

from codes import Code
from mlp import Decoder, synthesize, train
from rows import (
    DEVICE,
    Data,
    allocate,
    kmeans,
    means,
    nearest,
    now,
    pack,
    rounded,
    row_number_bytes,
    spectrum,
    tf32,
)

DEFAULTS = dict(
    kind="pq8", K=256, budget=0.0, bytes=0, symbols=0, lags=2,  # the code; `budget` is all-in, `bytes` is of symbols only
    factor=1,  # whether each row has a nibble for the score's factor
    h=0, layers=2, anchor="coords", tied=0, my=0, mo=0, act="gelu",  # the decoder; anchor: coords | sum | embed | both | none
    bits=8, scale_bytes=4,  # bits of its weights (16: kept in float), bytes of scale and bias of a row of them
    epochs=20, again=10, batch=1024, lr=4e-3, decay=0.01, rounds=3, polish=1, joint=1, stay=0.1, train_rows=0,
    cand=8, passes=1, span=1, rank="grad", ptq=0, seed=1,  # span: symbols changed together; rank: how candidates are picked
)
ALPHAS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def levels(values):
    """Values on 16 levels, by Lloyd's method."""
    level = torch.quantile(values[:: max(1, len(values) // 50000)], (torch.arange(16, device=DEVICE) + 0.5) / 16)
    for _ in range(30):
        at = torch.bucketize(values, (level[1:] + level[:-1]) / 2)
        level = means(values[:, None], at, 16)[:, 0].clamp_min(float(values.min()))
        level = level.sort().values
    return level[torch.bucketize(values, (level[1:] + level[:-1]) / 2)]


def hits(scores, truth):
    return (scores.topk(10).indices[:, :, None] == truth[:, None]).any(2).float().mean(1)


def space(data, c):
    """Anchors and the spectrum of the residual: k-means as the rows are, then in coordinates divided by their deviations."""
    k, (per, entries) = c["K"], symbol(c)
    bits = 8 * (c["budget"] - 3 if c["budget"] else c["bytes"] or c["symbols"] * per)
    key = k, c["seed"], round(bits / 64)
    if key not in data.spaces:
        cells = kmeans(data.z[:32768], k, 10, c["seed"])
        label = nearest(data.z, cells)[:, 0]
        _, v, var, anc = spectrum(data.z, label, k)
        level = allocate(var, anc, bits, data.n, data.d, k, entries)[1]
        weighted = data.z @ (v.float() / torch.tensor(np.sqrt(np.maximum(var, level)), device=DEVICE).float())
        found = kmeans(weighted, k, 15, c["seed"], means(weighted, label, k))
        label = nearest(weighted, found)[:, 0]
        data.spaces[key] = (*spectrum(data.z, label, k), row_number_bytes(label, k, data.n))
    return data.spaces[key]


def symbol(c):
    """Bytes of a symbol, entries of a direction's table."""
    return (0.5, 16 * (c["lags"] + 1)) if c["kind"] == "chain" else (1.0, 256)


def decoder_size(c, a):
    """Weights of a decoder over `a` directions, and the bytes it takes in the file."""
    if not c["h"]:
        return 0, 0
    see, mend, h = min(c["my"] or a, a), min(c["mo"] or a, a), c["h"]
    weights, rows = h * see + (c["layers"] - 1) * h * h, c["layers"] * h + mend
    weights += {"coords": h * see, "embed": h * c["K"], "both": h * c["K"]}.get(c["anchor"], 0) + (0 if c["tied"] else h * mend)
    rows += {"coords": h, "embed": c["K"], "both": c["K"]}.get(c["anchor"], 0)
    return weights, weights * c["bits"] / 8 + rows * c["scale_bytes"]


def fit(data, c):
    """How many symbols fit, and the bytes of a row all in."""
    *_, var, anc, numbers = space(data, c)
    per, entries = symbol(c)
    symbols = c["symbols"] or int((c["bytes"] or c["budget"]) / per)
    while True:
        rates, _, size, *_ = allocate(var, anc, symbols * per * 8, data.n, data.d, c["K"], entries)
        shared = size + numbers + 4096 + decoder_size(c, int((rates > 0).sum()))[1]
        all_in = symbols * per + 0.5 * c["factor"] + shared / data.n
        if c["symbols"] or c["bytes"] or all_in <= c["budget"]:
            return symbols, all_in
        symbols -= 1


class Base:
    """Anchors, transform and codes of one setting."""

    def __init__(self, data, c, symbols):
        t0 = now()
        self.data, k, n, d = data, c["K"], data.n, data.d
        cells, v, var, anc, _ = space(data, c)
        per, entries = symbol(c)
        rates, level, _, column, anchor = allocate(var, anc, symbols * per * 8, n, d, k, entries)
        self.code_bytes = symbols * per
        groups = pack(rates, symbols, c["seed"])
        order = sum(groups, [])
        self.order = torch.tensor(np.argsort(np.argsort(order)), device=DEVICE)  # rank of each direction by variance
        unit = math.sqrt(level)  # of all coordinates: about the deviation of the error
        columns = rounded((data.back @ v[:, order]).T * unit, column[order], True)
        inside = columns @ data.root
        forward = torch.linalg.solve(inside @ inside.T, inside)
        y = (data.z.double() @ forward.T).float()
        self.columns = columns.float()
        self.anchors = rounded((cells.double() @ forward.T).T, anchor[order], False).T.float()
        two = nearest(y, self.anchors, 2)
        sample = torch.randperm(n, generator=torch.Generator(device=DEVICE).manual_seed(c["seed"]), device=DEVICE)[:32768]
        self.code = Code(c["kind"], c["lags"], [len(g) for g in groups])
        self.code.train((y - self.anchors[two[:, 0]])[sample], c["seed"])
        self.train_seconds = now() - t0
        best = None
        for i in range(2):
            r = y - self.anchors[two[:, i]]
            codes = self.code.encode(r)
            error = ((r - self.code.lookup(codes)) ** 2).sum(1)
            if best is None:
                best, self.y, self.codes, self.label = error, r, codes, two[:, i].clone()
            better = error < best
            self.y, self.codes = torch.where(better[:, None], r, self.y), torch.where(better[:, None], codes, self.codes)
            self.label, best = torch.where(better, two[:, i], self.label), torch.minimum(best, error)
        self.seconds = now() - t0

    def rows(self, y):
        return self.data.mean.float() + (self.anchors[self.label] + y) @ self.columns

    def measure(self, linear, decoded, keep=None):
        """Distortions, and recall of the scan, of shortlists scored again, and of all rows decoded."""
        data, x = self.data, self.rows(decoded)
        e = data.x - x
        w = (e @ data.root.float()).square().sum(1)
        out = dict(wD=float(w.mean()), relD=float(e.square().sum(1).mean()) / data.spread)
        if keep is not None:
            other = torch.ones(data.n, dtype=torch.bool, device=DEVICE)
            other[keep] = False
            out.update(wD_seen=float(w[keep].mean()), wD_unseen=float(w[other].mean()))
        length = x.norm(dim=1).clamp_min(1e-6)
        exact, scan = data.q @ x.T, data.q @ self.rows(linear).T
        held = data.held
        found = [float(hits(exact[held] * length**-a, data.truth[held]).mean()) for a in ALPHAS]
        smooth = [found[max(i - 1, 0)] + 2 * found[i] + found[min(i + 1, len(found) - 1)] for i in range(len(found))]
        alpha = ALPHAS[int(np.argmax(smooth))]

        def shortlist(scan, exact, s):
            at = scan.topk(s).indices
            top = at.gather(1, exact.gather(1, at).topk(10).indices)
            return (top[:, :, None] == data.truth[:, None]).any(2).float().mean(1)

        both = {}
        if decoded is not linear:  # no factor in the file: a longer list from plain products, lengths of decoded rows
            free = exact * length**-alpha
            for s in (50, 100, 200):
                both[f"free{s}"] = shortlist(scan, free, s)
            del free
        factor = levels(length**-alpha)
        exact *= factor
        scan *= factor
        both.update(scan=hits(scan, data.truth), all=hits(exact, data.truth))
        for s in (20, 50):
            both[f"s{s}"] = shortlist(scan, exact, s)
        for name, h in both.items():
            out[name], out[name + "_5000"] = float(h[: data.test].mean()), float(h.mean())
        out["alpha"] = alpha
        return out


def study(data, c, bases, say):
    symbols, all_in = fit(data, c)
    key = (c["kind"], c["K"], c["lags"], c["seed"], symbols)
    if key not in bases:
        while len(bases) > 3:
            bases.pop(next(iter(bases)))
        bases[key] = Base(data, c, symbols)
    base = bases[key]
    code, y, label = base.code, base.y, base.label
    codes, table = base.codes, code.table
    yh = code.lookup(codes)
    plain = base.measure(yh, yh)
    row = dict(c, all_in=round(all_in, 3), code_bytes=base.code_bytes, active=code.a, plain=plain, base_s=round(base.seconds, 2))
    try:
        if c["h"]:
            t0 = now()
            dec = Decoder(c, yh, base.anchors, label, base.order, c["K"])
            row["parameters"], row["decoder_bytes"] = decoder_size(c, code.a)
            g = torch.Generator(device=DEVICE).manual_seed(c["seed"] + 5)
            rows = torch.randperm(data.n, generator=g, device=DEVICE)[: c["train_rows"] or None]
            mse = lambda: round(float((y - dec.decode(code.lookup(codes), label)).square().sum(1).mean()), 3)
            trace, spent = [round(float((y - yh).square().sum(1).mean()), 3)], dict(train=0.0, synth=0.0)
            for r in range(c["rounds"]):
                t1 = now()
                if r and c["bits"] < 16 and not dec.step:
                    dec.quantize(c["bits"])
                train(dec, code, y, codes, label, rows, c["again"] if r else c["epochs"], c["lr"] / (2 if r else 1), c, r)
                t2 = now()
                trace.append(mse())
                t3 = now()
                codes = synthesize(dec, code, y, codes, label, c, c["passes"])
                spent["synth"] += now() - t3
                spent["train"] += t2 - t1
                trace.append(mse())
            if c["polish"]:
                if c["bits"] < 16 and not dec.step:
                    dec.quantize(c["bits"])
                train(dec, code, y, codes, label, rows, c["again"], c["lr"] / 4, c, 9)
                trace.append(mse())
            row.update(trace=trace, decoder_s=round(now() - t0, 2), **{k + "_s": round(v, 2) for k, v in spent.items()})
            yh = code.lookup(codes)
            keep = rows if c["train_rows"] else None
            row["decoded"] = base.measure(yh, dec.decode(yh, label), keep)
            if c["ptq"]:
                for bits in (8, 6, 4):
                    dec.quantize(bits)
                    row[f"ptq{bits}"] = base.measure(yh, dec.decode(yh, label))
    finally:
        code.table = table
    say(row)


HEAD = f"{'setting':64} {'all-in':>7} {'code':>5} {'act':>4} {'dec B':>7} | {'relD':>6} {'wD e-4':>6} {'recall':>6} {'5000':>6} | {'relD':>6} {'wD e-4':>6} {'scan':>6} {'s20':>6} {'s50':>6} {'all':>6} {'s50 5000':>8} {'alpha':>5} | {'base':>5} {'train':>5} {'synth':>5} s"


def line(row):
    name = ",".join(f"{k}={row[k]}" for k in DEFAULTS if row[k] != DEFAULTS[k])
    p, d = row["plain"], row.get("decoded")
    text = f"{name:64} {row['all_in']:7.3f} {row['code_bytes']:5.1f} {row['active']:4d} {row.get('decoder_bytes', 0):7.0f} | {p['relD']:6.4f} {1e4 * p['wD']:6.3f} {p['all']:6.4f} {p['all_5000']:6.4f} | "
    if d:
        text += f"{d['relD']:6.4f} {1e4 * d['wD']:6.3f} {d['scan']:6.4f} {d['s20']:6.4f} {d['s50']:6.4f} {d['all']:6.4f} {d['s50_5000']:8.4f} {d['alpha']:5.2f} | {row['base_s']:5.1f} {row['train_s']:5.1f} {row['synth_s']:5.1f}"
        text += f"\n      error before, after each training and each synthesis: {row['trace']}"
        text += "\n      without a factor in the file, shortlist 50 / 100 / 200: " + " / ".join(f"{d[f'free{s}_5000']:.4f}" for s in (50, 100, 200))
        if "wD_seen" in d:
            text += f"\n      wD e-4 of rows trained on {1e4 * d['wD_seen']:.3f}, of others {1e4 * d['wD_unseen']:.3f}"
        for bits in (8, 6, 4):
            if f"ptq{bits}" in row:
                q = row[f"ptq{bits}"]
                text += f"\n      rounded afterwards to {bits} bits: relD {q['relD']:.4f} wD {1e4 * q['wD']:.3f} s50 {q['s50']:.4f} all {q['all']:.4f}"
    return text


CHAIN = "kind=chain,K=256,symbols=85,span=2,cand=16,"
SUM = CHAIN + "rounds=1,bits=16,h=128,anchor=sum"
PLANS = {
    "smoke": [
        "kind=pq8,K=32,symbols=12,h=16,epochs=2,again=1,rounds=2,bits=4,ptq=1,train_rows=4000",
        "kind=chain,K=32,symbols=24,h=16,epochs=2,again=1,rounds=2,span=3,cand=16,anchor=both",
        "kind=pq8,K=32,symbols=12,h=16,epochs=2,again=1,rounds=2,anchor=sum,tied=1,layers=3,my=40,mo=40,act=relu,rank=plain,joint=0",
    ],
    "arch": [
        SUM,
        *(SUM.replace("sum", x) for x in ("coords", "embed", "both", "none")),
        *(SUM + x for x in (",tied=1", ",layers=1", ",layers=3", ",act=relu", ",act=silu", ",my=128", ",mo=128", ",mo=200")),
        *(SUM.replace("128", x) for x in ("32", "64", "256")),
        SUM.replace("128", "256") + ",tied=1",
        SUM.replace("128", "64").replace("sum", "coords"),
        SUM.replace("128", "64").replace("sum", "both"),
        *(SUM + x for x in (",epochs=60,again=30", ",lr=8e-3", ",lr=2e-3", ",batch=512", ",stay=0", ",stay=1", ",joint=0", ",decay=0")),
    ],
    "bits": [
        *(CHAIN + f"h=128,anchor=sum,bits={b}" for b in (16, 8, 4, 3, 2)),
        *(CHAIN + f"h=256,anchor=sum,bits={b}" for b in (4, 3, 2)),
    ],
    "synth": [
        *((CHAIN + "h=128,anchor=sum,bits=4").replace("span=2", x) for x in ("span=1", "span=3")),
        *(CHAIN + "h=128,anchor=sum,bits=4," + x for x in ("cand=8", "cand=4", "cand=32", "rank=plain", "passes=2", "rounds=2", "rounds=5")),
        (CHAIN + "h=128,anchor=sum,bits=4,cand=32").replace("span=2", "span=3"),
    ],
    "a": [
        f"kind={kind},budget=46.08,{x}"
        for kind, x in (
            ("chain", "K=256"),
            ("chain", "K=256,seed=2"),
            ("chain", "K=64"),
            ("pq8", "K=256"),
            ("chain", "K=64,h=512,layers=1,anchor=sum,bits=2,cand=8,span=3"),
            ("chain", "K=64,h=512,layers=1,anchor=sum,bits=2,cand=8,span=3,factor=0"),
            ("chain", "K=64,h=512,layers=1,anchor=sum,bits=2,cand=8,span=3,factor=0,seed=2"),
            ("chain", "K=64,h=768,layers=1,anchor=sum,bits=2,cand=8,span=3,factor=0"),
            ("chain", "K=64,h=1024,layers=1,anchor=sum,bits=1,cand=8,span=3,factor=0"),
            ("chain", "K=64,h=384,anchor=sum,bits=2,cand=8,span=3"),
            ("chain", "K=64,h=256,anchor=sum,bits=3,cand=8,span=3"),
            ("chain", "K=64,h=256,anchor=sum,bits=3,cand=8,span=3,factor=0"),
            ("chain", "K=256,h=256,anchor=sum,bits=2,cand=8,span=3"),
            ("chain", "K=256,h=256,anchor=sum,bits=3,cand=8,span=3,factor=0"),
            ("chain", "K=256,h=128,anchor=sum,bits=4,cand=16,span=3"),
            ("chain", "K=256,h=64,cand=16,span=2"),
            ("pq8", "K=64,h=192,anchor=sum,bits=4,cand=16"),
            ("pq8", "K=256,h=64"),
        )
    ],
    "b": [
        f"kind={kind},K=1024,bytes=46,h={h}{x}"
        for h in (64, 256, 1024)
        for kind, x in (("pq8", ""), ("chain", ",cand=8,span=3"))
    ],
    "c": [
        f"budget=92.16,{x}"
        for x in (
            "kind=chain",
            "kind=chain,K=64",
            "kind=pq8",
            "kind=chain,h=128,anchor=sum,bits=4,cand=16,span=3",
            "kind=chain,h=256,anchor=sum,bits=4,cand=16,span=3",
            "kind=chain,K=64,h=512,layers=1,anchor=sum,bits=2,cand=8,span=3,factor=0",
            "kind=pq8,h=128,anchor=sum,bits=4,cand=16",
            "kind=pq8,h=256,anchor=sum,bits=4,cand=16",
        )
    ],
    "detail": [
        CHAIN + "h=128,anchor=sum,bits=16,ptq=1",
        CHAIN + "h=256,anchor=sum,bits=4,train_rows=32768",
        *(f"kind=pq8,K=1024,bytes=46,h=256,{x}" for x in ("train_rows=32768", "train_rows=50000", "cand=4", "cand=16", "rank=plain")),
        *(f"kind=pq8,K=1024,bytes=46,h=256,{x}" for x in ("joint=0", "passes=2", "epochs=60,again=30", "rounds=2", "lr=2e-3", "lr=8e-3")),
    ],
}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("dir")
    p.add_argument("--plan", choices=PLANS, action="append", default=[])
    p.add_argument("--config", nargs="*", default=[], help="settings as name=value,...; see DEFAULTS")
    p.add_argument("--rows", type=int, default=0, help="the first rows only")
    p.add_argument("--log", help="JSON lines are appended to it")
    p.add_argument("--seconds", type=float, default=1e9, help="start no further setting after so long")
    args = p.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device")
    start = time.perf_counter()
    tf32(False)
    data = Data(args.dir, args.rows)
    print(f"{torch.cuda.get_device_name()}, {data.n} x {data.d}, read in {now() - start:.1f} s\n{HEAD}", flush=True)
    bases = {}

    def say(row):
        print(line(row), flush=True)
        if args.log:
            with open(args.log, "a") as out:
                out.write(json.dumps(row) + "\n")

    for text in [t for plan in args.plan for t in PLANS[plan]] + args.config:
        if time.perf_counter() - start > args.seconds:
            print("out of time:", text)
            continue
        c = dict(DEFAULTS)
        for pair in text.split(","):
            name, value = pair.split("=")
            c[name] = type(DEFAULTS[name])(value)
        try:
            study(data, c, bases, say)
        except Exception:
            print("FAILED", text, flush=True)
            traceback.print_exc(limit=4)
            sys.stderr.flush()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
