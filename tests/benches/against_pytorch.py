"""Runs our benchmarks and PyTorch's rows in turn on this machine, and prints the ratios.

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy
    python tests/benches/against_pytorch.py --python /tmp/torch/bin/python --rounds 3

Each round measures a row of ours, then the same row of PyTorch's; the table has the medians over the rounds.
Rows of training take minutes, because criterion measures ten times.
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

# PyTorch's row, our benchmark, its group and name, pictures of a call (of gemm: 10^9 operations), ratio that is asked for.
FORWARD = [("embedded", 1), ("embedded", 8), ("embedded", 32)]
FORWARD += [("vit_tiny_patch16_224", 8), ("vit_small_patch16_224", 8)]
ROWS = [(f"forward/{n}/{b}", "forward", f"forward/{n}/{b}", b, 1.0) for n, b in FORWARD]
ROWS += [
    ("training/plain", "training", f"training/{TRAINING}", 2000, 3.0),
    ("training/cached", "training", f"training/{TRAINING}", 2000, 1.0),
    ("gemm/1024", "gemm", "gemm/1024", 2 * 1.024**3, None),
]


def ours(bench, name):
    """Median seconds of a criterion benchmark."""
    command = ["cargo", "bench", "--locked", "--workspace", "--bench", bench, "--"]
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
    rows = [row for row in ROWS if args.rows in row[0]]
    found = {row[0]: [] for row in rows}
    for _ in range(args.rounds):
        measured = {}
        for row, bench, name, *_ in rows:
            if name not in measured:
                measured[name] = ours(bench, name)
            them = pytorch(args.python, row, args.threads, args.compile)
            found[row].append((measured[name], them))
    print("| work | ours, pictures/s | PyTorch, pictures/s | ratio | least and largest | asked for |")
    print("|---|--:|--:|--:|--:|--:|")
    for row, _, _, pictures, bound in rows:
        us, them = (statistics.median(column) for column in zip(*found[row]))
        ratios = sorted(them / us for us, them in found[row])
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        ratio = statistics.median(ratios)
        print(f"| {row} | {pictures / us:.1f} | {pictures / them:.1f} | {ratio:.2f} | {spread} | {bound or ''} |")


if __name__ == "__main__":
    main()
