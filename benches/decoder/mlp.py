"""The decoder, its training, and encoding by synthesis."""

import math

import torch
import torch.nn.functional as F

from rows import DEVICE, tf32

ACTS = {
    "gelu": (lambda v: F.gelu(v, approximate="tanh")),
    "relu": F.relu,
    "silu": F.silu,
}


class Decoder:
    """y_hat + W3 act(W2 act(W1 y_hat + Wa anchor + b1) + b2) + b3. Inputs are divided by their deviations."""

    def __init__(self, c, yh, anchors, label, order, k):
        h, a = c["h"], yh.shape[1]
        self.c, self.h, self.a, self.act = c, h, a, ACTS[c["act"]]
        self.bits = 16
        seen = (yh + anchors[label]) if c["anchor"] in ("sum", "both") else yh
        self.anchors = anchors
        self.scale_y = 1 / seen.std(0).clamp_min(1e-3)
        at = anchors[label]
        self.shift, self.scale_a = at.mean(0), 1 / at.std(0).clamp_min(1e-3)
        g = torch.Generator(device=DEVICE).manual_seed(c["seed"] + 77)
        leads = lambda m: (order < m).float() if m else torch.ones(a, device=DEVICE)
        self.see, self.mend = leads(c["my"]), leads(c["mo"])
        ins = int(self.see.sum())

        def weight(rows, cols, gain):
            return (torch.randn(rows, cols, generator=g, device=DEVICE) * gain).requires_grad_()

        self.w = {"in": weight(h, a, 1 / math.sqrt(ins))}
        if c["anchor"] == "coords":
            self.w["anchor"] = weight(h, a, 1 / math.sqrt(ins))
        elif c["anchor"] in ("embed", "both"):
            self.w["anchor"] = weight(k, h, 0.5)  # a row for each anchor
        for l in range(1, c["layers"]):
            self.w[f"mid{l}"] = weight(h, h, 1.4 / math.sqrt(h))
        if not c["tied"]:
            self.w["out"] = weight(a, h, 1e-3)
        self.b = {n: torch.zeros(h, device=DEVICE).requires_grad_() for n in ["in"] + [f"mid{l}" for l in range(1, c["layers"])]}
        self.b["out"] = torch.zeros(a, device=DEVICE).requires_grad_()
        if c["tied"]:
            self.b["gain"] = torch.full((a,), 1e-3, device=DEVICE).requires_grad_()
        self.step = {}

    def quantize(self, bits):
        """From here on weights are on steps, a step per row, trained through the rounding."""
        self.bits = bits
        for name, w in self.w.items():
            best, step = None, None
            for share in (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.33, 0.27):
                s = (w.detach().abs().amax(1, keepdim=True) * share / (2 ** (bits - 1) - 0.5)).clamp_min(1e-8)
                error = ((self.on_steps(w.detach(), s) - w.detach()) ** 2).sum(1, keepdim=True)
                if best is None:
                    best, step = error, s
                step, best = torch.where(error < best, s, step), torch.minimum(error, best)
            self.step[name] = step.log().requires_grad_()

    def on_steps(self, w, s):
        top = 2 ** (self.bits - 1) - 0.5
        v = (w / s).clamp(-top, top)
        return (v + ((v - 0.5).round() + 0.5 - v).detach()).clamp(-top, top) * s

    def weights(self):
        if self.bits >= 16:
            return dict(self.w)
        return {n: self.on_steps(w, self.step[n].exp()) for n, w in self.w.items()}

    def effective(self):
        """Weights with scales and masks folded in: in (h x a), out (a x h), the anchors' part of the first layer (K x h)."""
        w, c = self.weights(), self.c
        into = w["in"] * (self.scale_y * self.see)
        first = self.b["in"].expand(len(self.anchors), -1)
        if c["anchor"] == "coords":
            first = first + ((self.anchors - self.shift) * (self.scale_a * self.see)) @ w["anchor"].T
        if c["anchor"] in ("embed", "both"):
            first = first + w["anchor"]
        if c["anchor"] in ("sum", "both"):
            first = first + self.anchors @ into.T
        out = (w["in"] * self.b["gain"]).T if c["tied"] else w["out"]
        mids = [(w[f"mid{l}"], self.b[f"mid{l}"]) for l in range(1, c["layers"])]
        return into, first, mids, out * self.mend[:, None], self.b["out"] * self.mend

    def top(self, z, mids):
        g = self.act(z)
        for w, b in mids:
            g = self.act(F.linear(g, w, b))
        return g

    def __call__(self, yh, label, parts=None):
        into, first, mids, out, bias = parts or self.effective()
        return F.linear(self.top(F.linear(yh, into) + first.index_select(0, label), mids), out, bias)

    def decode(self, yh, label):
        with torch.no_grad():
            parts = self.effective()
            return torch.cat([b + self(b, l, parts) for b, l in zip(yh.split(32768), label.split(32768))])


def train(dec, code, y, codes, label, rows, epochs, lr, c, seed):
    """AdamW with one cycle; the tables go along when `joint`. One step is captured as a graph and replayed."""
    table = code.table.clone().requires_grad_(bool(c["joint"]))
    small = list(dec.b.values()) + list(dec.step.values())
    rate = torch.zeros((), device=DEVICE)
    groups = [dict(params=list(dec.w.values()), weight_decay=c["decay"]), dict(params=small, weight_decay=0.0)]
    if c["joint"]:
        groups.append(dict(params=[table], weight_decay=0.0))
    opt = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True, capturable=True)
    batch = min(c["batch"], len(rows))
    pick = rows[:batch].clone()
    tf32(True)

    def step():
        opt.zero_grad(set_to_none=True)
        yb = y[pick]
        yh = code.lookup(codes[pick], table)
        r = yb - yh
        loss = ((r - dec(yh, label[pick])) ** 2).mean()
        if c["joint"]:
            loss = loss + c["stay"] * (r * r).mean()
        loss.backward()
        opt.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    g = torch.Generator(device=DEVICE).manual_seed(seed)
    per = len(rows) // batch
    total, i = max(1, int(epochs * per)), 0
    while i < total:
        order = rows[torch.randperm(len(rows), generator=g, device=DEVICE)]
        for s in range(min(per, total - i)):
            t = i / total
            rate.fill_(lr * (t / 0.1 if t < 0.1 else 0.5 * (1 + math.cos(math.pi * (t - 0.1) / 0.9))))
            pick.copy_(order[s * batch : (s + 1) * batch])
            graph.replay()
            i += 1
    torch.cuda.synchronize()
    del graph
    for p in [*dec.w.values(), *small]:
        p.grad = None
    if c["joint"]:
        code.table = table.detach().clone()
        code.round_tables()
    tf32(False)


@torch.no_grad()
def synthesize(dec, code, y, codes, label, c, passes):
    """Encodes again: candidates for a symbol (or for two neighbours) are judged by the error behind the decoder.

    The error behind the decoder is |e - v - W3 g|^2, e the error before it, v the change of codewords, g the last hidden layer: with
    p = W3^T (e - v) and R^T R = W3^T W3 all that depends on a candidate has h dimensions.
    """
    into, first, mids, out, bias = dec.effective()
    reduced = out
    if dec.h < dec.a:
        values, vectors = torch.linalg.eigh((out.T @ out).double())
        reduced = ((vectors * values.clamp_min(0).sqrt()).T).float()
    singles = [(lo, hi, v, (t,)) for t in range(code.T) for lo, hi, v in [code.part(t, code.table)]]
    moves = singles
    for _ in range(c["span"] - 1):  # one more neighbour
        longer = []
        for (lo, mid, v, symbols), (lo2, hi, w, last) in zip(moves, singles[len(moves[0][3]) :]):
            both = torch.zeros(len(v), code.E, hi - lo, device=DEVICE)
            both[:, :, : mid - lo] += v[:, None]
            both[:, :, lo2 - lo :] += w[None]
            longer.append((lo, hi, both.flatten(0, 1), symbols + last))
        moves = longer
    moves = [(lo, hi, v, s, v @ into[:, lo:hi].T, v @ out[lo:hi]) for lo, hi, v, s in moves]
    tf32(dec.h >= 256)
    result = []
    chunk = max(4096, int(100_000 * min(1, 8192 / max(dec.h * c["cand"], len(moves[0][2]) * 4))))
    for y, codes, label in zip(y.split(chunk), codes.split(chunk), label.split(chunk)):
        codes = codes.clone()
        for _ in range(passes):
            yh = code.lookup(codes)
            z = F.linear(yh, into) + first[label]
            g = dec.top(z, mids)
            e = y - yh - bias
            p = e @ out
            for lo, hi, v, symbols, u, pv in moves:
                now_at = codes[:, symbols[0]]
                for s in symbols[1:]:
                    now_at = now_at * code.E + codes[:, s]
                here = v[now_at]
                target = here + e[:, lo:hi] - g @ out[lo:hi].T
                if c["rank"] == "grad":  # what the decoder makes of a small change, too
                    target += back(dec, z, p - g @ (reduced.T @ reduced), mids, into[:, lo:hi])
                near = torch.addmm((v * v).sum(1), target, v.T, alpha=-2)
                k = min(c["cand"], len(v))
                near.scatter_(1, now_at[:, None], -math.inf)  # the present one is always among them
                try_ = near.topk(k, largest=False, sorted=False).indices
                dv = v[try_] - here[:, None]
                zc = u[try_]
                zc += (z - u[now_at])[:, None]
                gc = dec.top(zc, mids)
                pc = pv[try_]
                pc -= (p + pv[now_at])[:, None]  # the negative
                cost = F.linear(gc, reduced).square().sum(2) + 2 * (gc * pc).sum(2)
                cost += (dv * (dv - 2 * e[:, None, lo:hi])).sum(2)
                best = cost.argmin(1)
                row = torch.arange(len(y), device=DEVICE)
                chosen = try_[row, best]
                z, g, p = zc[row, best], gc[row, best], -pc[row, best]
                e[:, lo:hi] -= dv[row, best]
                for s in reversed(symbols):
                    codes[:, s] = chosen % code.E
                    chosen = chosen // code.E
        result.append(codes)
    tf32(False)
    return torch.cat(result)


def back(dec, z, up, mids, into):
    """The gradient of <W3^T error, last hidden layer> at the codewords."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        (grad,) = torch.autograd.grad(dec.top(z, [(w.detach(), b.detach()) for w, b in mids]), z, up)
    return grad @ into
