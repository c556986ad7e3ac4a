"""Chain codes and independent codes: tables, encoding, decoding."""

import numpy as np
import torch
import torch.nn.functional as F

from rows import DEVICE


class Code:
    """A code whose decoded rows are sums of table entries: direction j of subspace t adds table[j, E l + c[t-l]] over the lags l."""

    def __init__(self, kind, lags, widths):
        self.kind, self.lags, self.widths = kind, (lags if kind == "chain" else 0), widths
        self.E, self.T, self.a = (16 if kind == "chain" else 256), len(widths), sum(widths)
        self.off = [0] + np.cumsum(widths).tolist()
        of = torch.repeat_interleave(torch.arange(self.T), torch.tensor(widths))
        lag = torch.arange(self.lags + 1)
        symbol = of[:, None] - lag  # a x lags: whose symbol counts
        self.live = (symbol >= 0).float().to(DEVICE)
        self.symbol = symbol.clamp_min(0).to(DEVICE)
        self.base = (torch.arange(self.a)[:, None] * self.E * (self.lags + 1) + lag * self.E).to(DEVICE)
        self.table = None

    def lookup(self, codes, table=None):
        table = self.table if table is None else table
        index = codes[:, self.symbol.flatten()].view(len(codes), self.a, -1) + self.base
        return (table.flatten().index_select(0, index.flatten()).view(index.shape) * self.live).sum(2)

    def part(self, t, table):
        """What symbol t adds: the directions it reaches and its entries there, E x directions."""
        lo, hi = self.off[t], self.off[min(t + self.lags + 1, self.T)]
        blocks = []
        for l in range(self.lags + 1):
            if t + l < self.T:
                blocks.append(table[self.off[t + l] : self.off[t + l + 1], self.E * l : self.E * (l + 1)].T)
        return lo, hi, torch.cat(blocks, 1)

    def round_tables(self):
        step = self.table.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        self.table = (self.table / step).round() * step

    # -- independent

    def padded(self, y):
        wide = max(self.widths)
        out = torch.zeros(self.T, len(y), wide, device=DEVICE)
        for t, w in enumerate(self.widths):
            out[t, :, :w] = y[:, self.off[t] : self.off[t + 1]]
        return out

    def train_pq(self, y, seed, iterations=25):
        x = self.padded(y)
        g = torch.Generator(device=DEVICE).manual_seed(seed)
        c = x[:, torch.randperm(len(y), generator=g, device=DEVICE)[:256]].clone()
        cell = torch.arange(self.T, device=DEVICE)[:, None] * 256
        for _ in range(iterations):
            label = (torch.baddbmm((c * c).sum(2)[:, None], x, c.mT, alpha=-2).argmin(2) + cell).flatten()
            count = torch.bincount(label, minlength=self.T * 256)
            total = torch.zeros(self.T * 256, x.shape[2], device=DEVICE).index_add_(0, label, x.flatten(0, 1))
            new = (total / count.clamp_min(1)[:, None]).view_as(c)
            c = torch.where((count > 0).view(self.T, 256, 1), new, c)
        self.table = torch.cat([c[t, :, :w].T for t, w in enumerate(self.widths)])

    def encode_pq(self, y):
        out = []
        for b in y.split(16384):
            cols = []
            for t in range(self.T):
                lo, hi, v = self.part(t, self.table)
                cols.append(torch.addmm((v * v).sum(1), b[:, lo:hi], v.T, alpha=-2).argmin(1))
            out.append(torch.stack(cols, 1))
        return torch.cat(out)

    # -- chain: exact search over the 256 pairs of neighbouring symbols

    def encode_chain(self, y):
        steps = []
        for t in range(self.T):
            tab = self.table[self.off[t] : self.off[t + 1]].view(-1, self.lags + 1, 16)
            parts = [tab[:, l] if l <= min(t, self.lags) else torch.zeros_like(tab[:, 0]) for l in range(3) if l <= self.lags]
            parts += [torch.zeros_like(tab[:, 0])] * (3 - len(parts))
            word = (parts[2][:, :, None, None] + parts[1][:, None, :, None] + parts[0][:, None, None, :]).flatten(1)
            steps.append((word, (word * word).sum(0)))
        return torch.cat([self.viterbi(b, steps) for b in y.split(12800)])

    def viterbi(self, y, steps):
        n = len(y)
        cost = torch.full((n, 16, 16), 1e30, device=DEVICE)
        cost[:, 0, 0] = 0
        back = torch.empty(self.T, n, 256, dtype=torch.uint8, device=DEVICE)
        for t, (word, square) in enumerate(steps):
            m = torch.addmm(square, y[:, self.off[t] : self.off[t + 1]], word, alpha=-2).view(n, 16, 16, 16)
            m += cost[..., None]
            cost, arg = m.min(1)
            back[t] = arg.view(n, 256)
        state = cost.view(n, 256).argmin(1, keepdim=True)
        out = torch.empty(n, self.T, dtype=torch.long, device=DEVICE)
        for t in reversed(range(self.T)):
            out[:, t] = state[:, 0] % 16
            state = back[t].gather(1, state).long() * 16 + state // 16
        return out

    def least_squares(self, y, codes):
        m, e = len(y), 16 * (self.lags + 1)
        hot = torch.zeros(self.T, m, e, device=DEVICE)
        for l in range(self.lags + 1):
            hot[l:, :, 16 * l : 16 * (l + 1)] = F.one_hot(codes[:, : self.T - l].T, 16).float()
        gram = torch.bmm(hot.mT, hot).double() + 0.1 * torch.eye(e, device=DEVICE).double()
        fit = torch.linalg.solve(gram, torch.bmm(hot.mT, self.padded(y)).double()).float()
        return torch.cat([fit[t, :, :w].T for t, w in enumerate(self.widths)])

    def train_chain(self, y, seed):
        g = torch.Generator(device=DEVICE).manual_seed(seed)
        start = torch.tensor([0.7, 0.5, 0.35, 0.25][: self.lags + 1], device=DEVICE).repeat_interleave(16)
        self.table = torch.randn(self.a, len(start), generator=g, device=DEVICE) * start * y.std(0)[:, None]
        last, first, done = self.table, 0, 0
        for rounds, count, momentum in ((20, 2048, 0.8), (8, 4096, 0.8), (4, 8192, 0.8), (2, 16384, 0.0)):
            count = min(count, len(y))
            for _ in range(rounds):
                first = 0 if first + count > len(y) else first
                b = y[first : first + count]
                first += count
                fit = self.least_squares(b, self.encode_chain(b))
                self.table = fit + (momentum if done else 0.0) * (fit - last)
                last, done = fit, done + 1

    def train(self, y, seed):
        self.train_chain(y, seed) if self.kind == "chain" else self.train_pq(y, seed)
        self.round_tables()

    def encode(self, y):
        return self.encode_chain(y) if self.kind == "chain" else self.encode_pq(y)
