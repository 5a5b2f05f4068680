#!/usr/bin/env bash
# Pillow 13.0.0 resizes a picture in another order than Pillow 12 and before if its height shrinks by more than twice as many
# pixels as its width: first the columns, then the rows. Where both sides shrink by the same factor, these are the pictures
# that are more than twice as tall as wide; where they do not, square and wide pictures change too. Each pass rounds and clips
# to 0..255, so the same call gives other pixels: up to tens of levels on busy pictures. Preprocessing with a plain `resize`
# (timm, torchvision on PIL pictures) therefore gives a network other numbers after the update.
#
# Needs python3 with venv, and PyPI. Fails if the behaviour changes.
# Output seen (2026-11-27):
#   300 x 600 to 150 x 300: Pillow 12.0.0 and 13.0.0 differ by 0 levels at most
#   300 x 610 to 150 x 305: Pillow 12.0.0 and 13.0.0 differ by 19 levels at most
#   100 x 100 to 90 x 80: Pillow 12.0.0 and 13.0.0 differ by 0 levels at most
#   100 x 100 to 90 x 79: Pillow 12.0.0 and 13.0.0 differ by 28 levels at most
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > resize.py <<'PY'
"""Writes the resized pictures of one version of Pillow, named by version and sizes."""
import sys
from PIL import Image

def noise(count):
    state = 1
    for _ in range(count):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield 255 if (state >> 16) & 1 else 0

for width, height, new_width, new_height in (
    (300, 600, 150, 300), (300, 610, 150, 305), (100, 100, 90, 80), (100, 100, 90, 79),
):
    picture = Image.frombytes("RGB", (width, height), bytes(noise(width * height * 3)))
    small = picture.resize((new_width, new_height), Image.Resampling.BICUBIC)
    name = f"{sys.argv[1]} {width} x {height} to {new_width} x {new_height}.rgb"
    open(name, "wb").write(small.tobytes())
PY
for version in 12.0.0 13.0.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet "pillow==$version"
    "venv-$version/bin/python" resize.py "$version"
done
cat > compare.py <<'PY'
shapes = {
    "300 x 600 to 150 x 300": False, "300 x 610 to 150 x 305": True,
    "100 x 100 to 90 x 80": False, "100 x 100 to 90 x 79": True,
}
for shape, changed in shapes.items():
    old, new = (open(f"{version} {shape}.rgb", "rb").read() for version in ("12.0.0", "13.0.0"))
    apart = max(abs(a - b) for a, b in zip(old, new))
    print(f"{shape}: Pillow 12.0.0 and 13.0.0 differ by {apart} levels at most")
    assert apart > 8 if changed else apart == 0
PY
python3 compare.py
