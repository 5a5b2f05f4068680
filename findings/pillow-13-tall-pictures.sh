#!/usr/bin/env bash
# Pillow 13.0.0 resizes a picture that is more than twice as tall as wide in another order than Pillow 12 and before: first
# the columns, then the rows, also where both sides shrink by the same factor. Each pass rounds and clips to 0..255, so the
# same call gives other pixels: up to tens of levels on busy pictures. Up to twice as tall as wide nothing changes.
# Preprocessing with a plain `resize` (timm, torchvision on PIL pictures) therefore gives a network other numbers after the
# update.
#
# Needs python3 with venv, and PyPI. Fails if the behaviour changes.
# Output seen (2026-11-27):
#   300 x 600 to 150 x 300: Pillow 12.0.0 and 13.0.0 differ by 0 levels at most
#   300 x 610 to 150 x 305: Pillow 12.0.0 and 13.0.0 differ by 19 levels at most
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > resize.py <<'PY'
"""Writes the resized pictures of one version of Pillow, named by their height."""
import sys
from PIL import Image

def noise(count):
    state = 1
    for _ in range(count):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield 255 if (state >> 16) & 1 else 0

for height in (600, 610):
    picture = Image.frombytes("RGB", (300, height), bytes(noise(300 * height * 3)))
    small = picture.resize((150, height // 2), Image.Resampling.BICUBIC)
    open(f"{sys.argv[1]}-{height}.rgb", "wb").write(small.tobytes())
PY
for version in 12.0.0 13.0.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet "pillow==$version"
    "venv-$version/bin/python" resize.py "$version"
done
cat > compare.py <<'PY'
apart = {}
for height in (600, 610):
    old, new = (open(f"{version}-{height}.rgb", "rb").read() for version in ("12.0.0", "13.0.0"))
    apart[height] = max(abs(a - b) for a, b in zip(old, new))
    print(f"300 x {height} to 150 x {height // 2}: Pillow 12.0.0 and 13.0.0 differ by {apart[height]} levels at most")
assert apart[600] == 0 and apart[610] > 8
PY
python3 compare.py
