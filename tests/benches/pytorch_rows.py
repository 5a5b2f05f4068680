"""The rows of docs/performance.md in PyTorch, eager, f32, on the CPU.

    python tests/benches/pytorch_rows.py --threads 2 forward/embedded/8

Prints seconds of the named rows as JSON. Needs torch from PyPI and nothing else; the project never does.
"""

import argparse
import json
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

# image size, patch, width, depth, heads
SHAPES = {
    "embedded": (112, 14, 384, 6, 6),
    "vit_tiny_patch16_224": (224, 16, 192, 12, 3),
    "vit_small_patch16_224": (224, 16, 384, 12, 6),
}
PICTURES, CLASSES, EPOCHS, BATCH, RANK = 200, 10, 10, 32, 16


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.lora = None

    def forward(self, x):
        b, n, d = x.shape
        z = self.norm1(x)
        qkv = self.qkv(z)
        if self.lora is not None:
            q, v = self.lora(z)
            qkv = qkv + F.pad(q, (0, 2 * d)) + F.pad(v, (2 * d, 0))
        q, k, v = qkv.view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Lora(nn.Module):
    """Rank 16 on query and value, as `B(A x)`."""

    def __init__(self, d, rank):
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(d, rank, bias=False) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(rank, d, bias=False) for _ in range(2))
        for up in self.up:
            nn.init.zeros_(up.weight)

    def forward(self, z):
        return [up(down(z)) for down, up in zip(self.down, self.up)]


class Vit(nn.Module):
    def __init__(self, size, patch, d, depth, heads):
        super().__init__()
        self.size = size
        self.embed = nn.Conv2d(3, d, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, d) * 0.02)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.split = depth // 2

    def prefix(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks[: self.split]:
            x = block(x)
        return x

    def suffix(self, x):
        """Class and mean token of the last two blocks, normalised."""
        parts = []
        for i, block in enumerate(self.blocks[self.split :], self.split):
            x = block(x)
            if i >= len(self.blocks) - 2:
                z = self.norm(x)
                parts += [z[:, 0], z[:, 1:].mean(1)]
        return torch.cat(parts, 1)

    def forward(self, images):
        return self.suffix(self.prefix(images))


def network(name):
    torch.manual_seed(0)
    return Vit(*SHAPES[name]).eval().requires_grad_(False)


def timed(work, seconds):
    """Median seconds of one call, over as many as fit into the time, after three for warming up."""
    for _ in range(3):
        work()
    found, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(found) < 5:
        before = time.perf_counter()
        work()
        found.append(time.perf_counter() - before)
    return statistics.median(found)


def forward_row(name, batch, compiled, seconds):
    net = network(name)
    images = torch.randn(batch, 3, net.size, net.size)
    call = torch.compile(net) if compiled else net
    with torch.inference_mode():
        return timed(lambda: call(images), seconds)


def gemm_row(side, seconds):
    a, b = torch.randn(side, side), torch.randn(side, side)
    out = torch.empty(side, side)
    return timed(lambda: torch.mm(a, b, out=out), seconds)


def training_row(cached):
    """A LoRA loop; with the cache, the frozen half runs once over each picture."""
    net = network("embedded")
    head = nn.Linear(4 * SHAPES["embedded"][2], CLASSES)
    trained = list(head.parameters())
    for block in net.blocks[net.split :]:
        block.lora = Lora(SHAPES["embedded"][2], RANK)
        trained += list(block.lora.parameters())
    optimiser = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    images = torch.randn(PICTURES, 3, net.size, net.size)
    labels = torch.arange(PICTURES) % CLASSES
    start = time.perf_counter()
    steps, total = 0, EPOCHS * math.ceil(PICTURES / BATCH)
    if cached:
        with torch.no_grad():
            tokens = torch.cat([net.prefix(part) for part in images.split(BATCH)])
    for _ in range(EPOCHS):
        for rows in torch.randperm(PICTURES).split(BATCH):
            for group in optimiser.param_groups:
                group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * steps / total))
            if cached:
                x = tokens[rows]
            else:
                with torch.no_grad():
                    x = net.prefix(images[rows])
            loss = F.cross_entropy(head(net.suffix(x)), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            steps += 1
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="+", help="forward/NETWORK/BATCH, training/cached, training/plain, gemm/SIDE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="spent on each row of forward")
    parser.add_argument("--compile", action="store_true", help="torch.compile the forward passes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = {}
    for row in args.rows:
        kind, *rest = row.split("/")
        if kind == "forward":
            found[row] = forward_row(rest[0], int(rest[1]), args.compile, args.seconds)
        elif kind == "gemm":
            found[row] = gemm_row(int(rest[0]), args.seconds)
        elif row in ("training/cached", "training/plain"):
            found[row] = training_row(rest[0] == "cached")
        else:
            parser.error(f"there is no row {row}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
