"""Assign on one GPU beside PyTorch and flash-kmeans: python benches/gpu_peers.py base.i8.npy [384 128 1536]

Runs the kernels of cuda/ptx (those of sm_90a) on rows of the set repeated with noise, times each pass by CUDA events (medians of ten),
and counts the rows whose nearest anchor is not that of float64. Needs PyTorch with CUDA, and flash_kmeans for its line.
"""

import ctypes
import sys

import numpy as np
import torch

DEVICE = "cuda"
DRIVER = ctypes.CDLL("libcuda.so.1")
LEFT, RIGHT, PANEL, PARTS = 256, 128, 64, 3
SHARED = 229_376
SHAPES = {384: (1_050_000, 4096), 128: (1_000_000, 1024), 1536: (1_000_000, 4096)}
# struct Pass of cuda/assign.cu
PASS = np.dtype(
    [("left", "u8"), ("right", "u8"), ("n", "u4"), ("list", "u8"), ("count", "u8"), ("split", "i4"), ("panels", "i4"),
     ("tiles", "i4"), ("tiles_each", "i4"), ("stages", "i4"), ("parts", "i4"), ("scales", "u8"), ("lengths", "u8"),
     ("half", "u8"), ("summary", "u8"), ("labels", "u8"), ("again", "u8"), ("again_count", "u8"), ("records", "u8"),
     ("padded", "u4")],
    align=True,
)
i32, u32, u64 = np.int32, np.uint32, np.uint64


class Kernels:
    def __init__(self, path):
        torch.zeros(1, device=DEVICE)
        self.module, self.known, self.stream = ctypes.c_void_p(), {}, torch.cuda.Stream()
        assert DRIVER.cuModuleLoadData(ctypes.byref(self.module), open(path, "rb").read() + b"\0") == 0, path
        self.processors = torch.cuda.get_device_properties(0).multi_processor_count

    def launch(self, name, grid, block, args, shared=0):
        if name not in self.known:
            found = ctypes.c_void_p()
            assert DRIVER.cuModuleGetFunction(ctypes.byref(found), self.module, name.encode()) == 0, name
            self.known[name] = found
        kernel = self.known[name]
        if shared > 48 << 10:
            assert DRIVER.cuFuncSetAttribute(kernel, 8, shared) == 0
        values = [u64(a.data_ptr()) if torch.is_tensor(a) else a for a in args]
        kept = [ctypes.create_string_buffer(v.tobytes(), None) for v in values]
        pointers = (ctypes.c_void_p * len(kept))(*[ctypes.addressof(k) for k in kept])
        grid = (*grid, 1, 1)[:3]
        status = DRIVER.cuLaunchKernel(
            kernel, *grid, block, 1, 1, shared, ctypes.c_void_p(self.stream.cuda_stream), pointers, None
        )
        assert status == 0, (name, status)


class Assign:
    """The passes of src/ops/cuda/assign.rs for one candidate."""

    def __init__(self, kernels, n, d, count):
        self.k, self.n, self.d, self.count = kernels, n, d, count
        self.panels, self.padded, self.columns = -(-d // PANEL), -(-n // LEFT) * LEFT, -(-count // RIGHT) * RIGHT
        self.capacity = (n // 8 // LEFT + 1) * LEFT
        empty = lambda size, kind: torch.empty(int(size), dtype=kind, device=DEVICE)
        u8, f32, i4 = torch.uint8, torch.float32, torch.int32
        row = self.panels * 128
        self.left, self.right = empty(self.padded * row, u8), empty(self.columns * row, u8)
        self.left2, self.right2 = empty(self.capacity * row * PARTS, u8), empty(self.columns * row * PARTS, u8)
        self.scales, self.lengths = empty(self.padded, f32), empty(self.padded * 3, f32)
        self.scales2, self.lengths2 = empty(self.capacity, f32), empty(self.capacity * 3, f32)
        self.half, self.scaled, self.summary = empty(count, f32), empty(self.columns, f32), empty(8, i4)
        self.labels, self.open, self.still, self.counts = empty(n, i4), empty(n, i4), empty(n, i4), empty(2, i4)
        self.keys, self.floors = torch.full((n,), -1, dtype=torch.int64, device=DEVICE), empty(n, torch.int64)
        self.distances, self.records = empty(n, f32), empty(8 * self.capacity * 3, i4)
        self.none = u64(0)

    def pack(self, x):
        kernel = "pack_rows" if self.d <= 384 else "pack_wide_rows"
        args = [x, u32(self.n), i32(self.d), i32(self.panels), self.none, self.none, u32(self.n), self.left, self.scales,
                self.lengths, self.none, self.none]
        self.k.launch(kernel, (min(self.padded // 8, self.k.processors * 512),), 256, args)

    def anchors(self, a):
        with torch.cuda.stream(self.k.stream):
            self.summary.zero_()
            self.counts.zero_()
        self.k.launch("half_lengths", (-(-self.count // 8),), 256, [a, u32(self.count), i32(self.d), self.half])
        self.k.launch("largest", (2 * self.k.processors,), 256, [a, u64(self.count * self.d), self.summary])
        args = [a, u32(self.count), u32(self.columns), i32(self.d), i32(self.panels), self.right, self.right2, self.half,
                self.scaled, self.summary]
        self.k.launch("pack_anchors", (self.columns // 8,), 256, args)

    def tiles(self, panels, splits, padded, **fields):
        resident, tiles = panels * 32768 + 2 * 16384 <= SHARED, self.columns // RIGHT
        stages = min(8, (SHARED - panels * 32768) // 16384) if resident else 4
        each = -(-tiles // splits)
        splits = -(-tiles // each)
        work = np.zeros(1, PASS)
        fields |= dict(panels=panels, tiles=tiles, tiles_each=each, stages=stages, parts=splits, padded=padded,
                       half=self.scaled.data_ptr(), summary=self.summary.data_ptr(), labels=self.labels.data_ptr(),
                       records=self.records.data_ptr() if splits > 1 else 0)
        for name, value in fields.items():
            work[name] = value
        shared = panels * 32768 + stages * 16384 if resident else stages * 49152
        kernel = f"nearest_{'resident' if resident else 'streamed'}_1"
        self.k.launch(kernel, (min(self.k.processors, padded // LEFT * splits),), 384, [work], shared)
        if splits > 1:
            self.k.launch("join_1", (2 * self.k.processors,), 256, [work])

    def fast(self):
        self.tiles(self.panels, 1, self.padded, left=self.left.data_ptr(), right=self.right.data_ptr(), n=self.n,
                   scales=self.scales.data_ptr(), lengths=self.lengths.data_ptr(), again=self.open.data_ptr(),
                   again_count=self.counts.data_ptr())

    def second(self, x):
        still = self.counts.data_ptr() + 4
        args = [x, u32(self.n), i32(self.d), i32(self.panels), self.open, self.counts, u32(self.capacity), self.left2,
                self.scales2, self.lengths2, self.still, u64(still)]
        self.k.launch("pack_rows_split", (8 * self.k.processors,), 256, args)
        self.tiles(PARTS * self.panels, 8, self.capacity, left=self.left2.data_ptr(), right=self.right2.data_ptr(),
                   n=self.capacity, list=self.open.data_ptr(), count=self.counts.data_ptr(), split=1,
                   scales=self.scales2.data_ptr(), lengths=self.lengths2.data_ptr(), again=self.still.data_ptr(),
                   again_count=still)

    def exact(self, x, a):
        still, splits = u64(self.counts.data_ptr() + 4), min(32, self.columns // RIGHT)
        per = -(-self.columns // RIGHT // splits) * RIGHT
        args = [x, i32(self.d), self.still, still, u32(self.n), a, u32(self.count), u32(per), self.half, self.floors, self.keys]
        self.k.launch("exact_first", (64, -(-self.count // per)), 256, args)
        args = [self.still, still, u32(self.n), i32(0), i32(1), self.keys, self.floors, self.labels]
        self.k.launch("settle", (2 * self.k.processors,), 256, args)

    def measure(self, x, a):
        args = [x, u32(self.n), i32(self.d), a, self.labels, i32(1), self.distances]
        self.k.launch("distances", (-(-self.n // 32),), 256, args)

    def run(self, x, a, pack):
        if pack:
            self.pack(x)
        self.anchors(a)
        self.fast()
        self.second(x)
        self.exact(x, a)
        self.measure(x, a)


def median_ms(stream, job, runs=10):
    times = []
    for run in range(runs + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record(stream)
        job()
        end.record(stream)
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times[3:]))


def nearest(x, a, kind, step):
    wide, found = a.to(kind), []
    half = (wide * wide).sum(1) / 2
    for i in range(0, len(x), step):
        found.append((x[i : i + step].to(kind) @ wide.T - half).argmax(1))
    return torch.cat(found)


def data(docs, n, d, count):
    torch.manual_seed(0)
    x = docs.repeat(-(-n // len(docs)), max(1, d // 384))[:n, :d] / max(1, d // 384) ** 0.5
    x = (x + 0.4 / d**0.5 * torch.randn_like(x)).contiguous()
    # Some of the rows, after one step of k-means on a part.
    a = x[torch.randperm(n, device=DEVICE)[:count]].clone()
    part = x[:200_000]
    label = nearest(part, a, torch.float64, 65536)
    size = torch.bincount(label, minlength=count)[:, None]
    means = torch.zeros_like(a).index_add_(0, label, part) / size.clamp(min=1)
    return x, torch.where(size > 0, means, a).contiguous()


def main():
    base = np.load(sys.argv[1])
    docs = torch.tensor(base, device=DEVICE).float()
    docs /= docs.norm(dim=1, keepdim=True)
    kernels = Kernels("cuda/ptx/assign.sm_90a.ptx")
    try:
        from flash_kmeans.assign_euclid_triton import euclid_assign_triton as flash
    except ImportError:
        flash = None
    print(torch.cuda.get_device_name())
    for d in [int(d) for d in sys.argv[2:]] or SHAPES:
        n, count = SHAPES[d]
        x, a = data(docs, n, d, count)
        truth = nearest(x, a, torch.float64, 65536)
        differ = lambda labels: f"{(labels.long() != truth).float().mean().item():.1e}"
        vlc = Assign(kernels, n, d, count)
        torch.cuda.synchronize()
        with torch.cuda.stream(kernels.stream):
            vlc.run(x, a, True)
            torch.cuda.synchronize()
            left = vlc.counts.tolist()
            print(f"{n:,} x {d} x {count}: rows that differ from float64 {differ(vlc.labels)}; left open {left[0]:,}, then {left[1]:,}")
            ms = lambda job, runs=10: median_ms(kernels.stream, job, runs)
            parts = {"pack": lambda: vlc.pack(x), "anchors": lambda: vlc.anchors(a), "fast": vlc.fast,
                     "distances": lambda: vlc.measure(x, a)}
            print("  ms:", {name: round(ms(job), 3) for name, job in parts.items()})
            whole, packed = ms(lambda: vlc.run(x, a, True)), ms(lambda: vlc.run(x, a, False))
            flops = 2 * n * d * count
            print(f"  vlc           {whole:7.2f} ms, {packed:.2f} of rows packed before ({flops / packed / 1e9:.0f} TFLOP/s)")
            for tf32 in (True, False):
                torch.backends.cuda.matmul.allow_tf32 = tf32
                labels, time = nearest(x, a, torch.float32, 131072), ms(lambda: nearest(x, a, torch.float32, 131072), 3)
                print(f"  torch {'tf32' if tf32 else 'fp32'}    {time:7.2f} ms, {differ(labels)} differ")
            torch.backends.cuda.matmul.allow_tf32 = False
            if flash:
                squares = (x * x).sum(1)[None]
                labels, time = flash(x[None], a[None], squares)[0], ms(lambda: flash(x[None], a[None], squares), 5)
                print(f"  flash-kmeans  {time:7.2f} ms, {differ(labels)} differ")
        del x, a, vlc, truth
        torch.cuda.empty_cache()


main()
