"""Runs our benchmarks and PyTorch's rows in turn on this machine, and prints the ratios.

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy
    python tests/benches/against_pytorch.py --python /tmp/torch/bin/python --rounds 3

Each round measures a row of ours, then the same row of PyTorch's; the table has the medians over the rounds.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TRAINING = "200 pictures, 10 epochs, prefix once"

# PyTorch's row, our benchmark, its group and name, pictures of a call, ratio that is asked for.
FORWARD = [("embedded", 1), ("embedded", 8), ("embedded", 32)]
FORWARD += [("vit_tiny_patch16_224", 8), ("vit_small_patch16_224", 8)]
ROWS = [(f"forward/{n}/{b}", "forward", f"forward/{n}/{b}", b, 1.0) for n, b in FORWARD]
ROWS += [
    ("training/plain", "training", f"training/{TRAINING}", 2000, 3.0),
    ("training/cached", "training", f"training/{TRAINING}", 2000, 1.0),
]


def ours(bench, name):
    """Median seconds of a criterion benchmark."""
    command = ["cargo", "bench", "--locked", "-p", "fmlora-tests", "--bench", bench, "--"]
    quiet = {"check": True, "cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    subprocess.run([*command, "--noplot", "^" + name + "$"], **quiet)
    # criterion makes one folder of a benchmark's name, with its slashes replaced.
    group, rest = name.split("/", 1)
    folder = TARGET / "criterion" / group / rest.replace("/", "_") / "new"
    return json.loads((folder / "estimates.json").read_text())["median"]["point_estimate"] * 1e-9


def pytorch(python, row, threads, compiled):
    command = [python, str(HERE / "pytorch_rows.py"), "--threads", str(threads), row]
    found = subprocess.run(command + ["--compile"] * compiled, check=True, capture_output=True)
    return json.loads(found.stdout)[row]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", required=True, help="a Python that has torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile PyTorch's forward passes")
    parser.add_argument("--rows", default="", help="only rows whose name has this in it")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    print("| work | ours, pictures/s | PyTorch, pictures/s | ratio | bound |\n|---|--:|--:|--:|--:|")
    for row, bench, name, pictures, bound in ROWS:
        if args.rows not in row:
            continue
        found = [
            (ours(bench, name), pytorch(args.python, row, args.threads, args.compile))
            for _ in range(args.rounds)
        ]
        us, them = (statistics.median(column) for column in zip(*found))
        ratio = them / us
        print(f"| {row} | {pictures / us:.1f} | {pictures / them:.1f} | {ratio:.2f} | {bound} |", flush=True)


if __name__ == "__main__":
    main()
