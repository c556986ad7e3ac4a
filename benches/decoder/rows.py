"""Rows in the space of the metric, their anchors and transform, and what directions and symbols a size allows."""

import math
import time

import numpy as np
import torch

DEVICE = "cuda"


def now():
    torch.cuda.synchronize()
    return time.perf_counter()


def tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = on


def unit_rows(path):
    rows = torch.from_numpy(np.load(path)).to(DEVICE).float()
    return rows / rows.norm(dim=1, keepdim=True)


class Data:
    """Rows in the space where an error costs its squared length, averaged over sample queries."""

    def __init__(self, folder, limit, blend=0.4):
        self.x = unit_rows(f"{folder}/base.i8.npy")[: limit or None]
        self.n, self.d = self.x.shape
        train, test = unit_rows(f"{folder}/queries-train.i8.npy"), unit_rows(f"{folder}/queries-test.i8.npy")
        held = torch.arange(len(train), device=DEVICE) % 8 == 7
        self.q = torch.cat([test, train[held], train[~held]])
        self.test, self.held, train = len(test), slice(len(test), len(test) + int(held.sum())), train[~held]
        self.truth = torch.cat([(q @ self.x.T).topk(10).indices for q in self.q.split(500)])
        self.mean = self.x.double().mean(0)
        s = (train.double().T @ train.double()) / len(train)
        m = (1 - blend) * torch.eye(self.d, device=DEVICE).double() / self.d + blend * s / s.trace()
        e, u = torch.linalg.eigh(m)
        e = e.clamp_min(1e-3 * e.max()).sqrt()
        self.root, self.back = (u * e) @ u.T, (u / e) @ u.T
        self.z = ((self.x.double() - self.mean) @ self.root).float()
        self.spread = float(((self.x - self.mean.float()) ** 2).sum(1).mean())
        self.spaces = {}


def nearest(x, c, k=1):
    out = [(torch.addmm((c * c).sum(1), b, c.T, alpha=-2)).topk(k, largest=False).indices for b in x.split(65536)]
    return torch.cat(out)


def means(x, label, k):
    count = torch.bincount(label, minlength=k).clamp_min(1)
    return torch.zeros(k, x.shape[1], device=x.device).index_add_(0, label, x) / count[:, None]


def kmeans(x, k, iterations, seed, start=None):
    g = torch.Generator(device=DEVICE).manual_seed(seed)
    c = x[torch.randperm(len(x), generator=g, device=DEVICE)[:k]] if start is None else start
    for _ in range(iterations):
        label = nearest(x, c)[:, 0]
        c = means(x, label, k)
        empty = torch.bincount(label, minlength=k) < 2
        if empty.any():
            far = ((x - c[label]) ** 2).sum(1).topk(int(empty.sum())).indices
            c[empty] = x[far]
    return c


def spectrum(z, label, k):
    """Principal directions of the residual, its variances along them, those of the anchors."""
    cells = means(z, label, k)
    r = (z - cells[label]).double()
    values, v = torch.linalg.eigh(r.T @ r / len(r))
    v, values = v.flip(1), values.flip(0).clamp_min(1e-12 * float(values.max()))
    along = (cells.double() @ v)[label]
    return cells, v, values.cpu().numpy(), along.var(0, unbiased=False).cpu().numpy()


def rounded(values, bits, symmetric):
    """Rows of `values` on uniform steps, a step and a number of bits for each row."""
    top = (2.0 ** torch.tensor(bits, device=DEVICE, dtype=torch.float64) - 1)[:, None]
    v = values.double()
    hi, lo = v.amax(1, keepdim=True), v.amin(1, keepdim=True)
    if symmetric:
        hi = torch.maximum(hi, -lo)
        lo = -hi
    best, out = torch.full_like(hi, math.inf), v.clone()
    for share in (1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.52, 0.44):
        half = 0.5 * (hi - lo) * share
        offset, step = 0.5 * (hi + lo) - half, (2 * half / top).clamp_min(1e-30)
        w = offset + step * torch.minimum(((v - offset) / step).round().clamp_min(0), top)
        error = ((v - w) ** 2).sum(1, keepdim=True)
        out, best = torch.where(error < best, w, out), torch.minimum(best, error)
    return out


def allocate(var, anc, bits, n, d, k, tables):
    """Reverse water-filling where a direction must also pay for its part of the model. Rates, level, bytes, bits of columns and anchors."""
    cost_column, cost_anchor = math.log2(1.5 * n / d), math.log2(max(1.5 * n / k, 1e-9))

    def at(level):
        r, a = var / level, anc / level
        column = np.clip(np.round(0.5 * (np.log2(r + a) + cost_column)), 2, 12)
        anchor = np.clip(np.round(0.5 * (np.log2(anc / np.maximum(var, level)) + cost_anchor)), 1, 12)
        size = np.ceil(d * column / 8) + np.ceil(k * anchor / 8) + tables + 18
        rate = np.maximum(0.5 * np.log2(r), 0)
        pays = r + 0.3 * a - np.minimum(r, 1) > 2 * math.log(2) * (rate + 8 * size / n)
        return rate, pays, size, column, anchor

    lo, hi = math.log(var.max() * 1e-12), math.log(var.max())
    for _ in range(46):
        middle = 0.5 * (lo + hi)
        rate, pays, *_ = at(math.exp(middle))
        lo, hi = (middle, hi) if rate[pays].sum() > bits else (lo, middle)
    level = math.exp(hi)
    rate, pays, size, column, anchor = at(level)
    return np.where(pays, np.maximum(rate, 1e-6), 0), level, size[pays].sum(), column, anchor


def pack(rates, symbols, seed):
    groups, load = [[] for _ in range(symbols)], np.zeros(symbols)
    for j in sorted(np.flatnonzero(rates > 0), key=lambda j: -rates[j]):
        g = int(np.argmin(load))
        groups[g].append(int(j))
        load[g] += rates[j]
    return [groups[g] for g in np.random.default_rng(seed).permutation(symbols)]


def row_number_bytes(label, k, n):
    """Elias-Fano lists of the rows of each cell."""
    total = 0
    for m in torch.bincount(label, minlength=k).tolist():
        if 0 < m < n:
            low = next(l for l in range(64) if (n - 1) >> l <= 2 * m)
            total += (m * low + m + ((n - 1) >> low) + 7) // 8
    return total
