#!/usr/bin/env bash
# fast_image_resize 6.1.0 resizes rows and columns of U8 pixels in two passes, the vertical one first, and rounds and clips to
# 0..255 between them. Pillow makes the horizontal pass first. Bicubic weights are partly negative, so on busy pictures the two
# orders clip other pixels: the results differ by tens of levels, although both are "bicubic with antialias". Two calls, one
# per axis, width first, give Pillow's picture within one level.
#
# Needs cargo, python3 with venv, and crates.io and PyPI. Fails if the behaviour changes.
# Output seen on x86-64 (2026-11-27):
#   from Pillow at most: one call 15 levels; width, then height 1; height, then width 15
#   from one call at most: height, then width 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet pillow==12.0.0
cat > reference.py <<'PY'
"""Writes a busy 192 x 160 picture as raw RGB, and Pillow's bicubic resize of it to 84 x 70."""
from PIL import Image

state = 1
def noise():
    global state
    state = (state * 1103515245 + 12345) & 0x7FFFFFFF
    return 255 if (state >> 16) & 1 else 0

pixels = bytes(noise() for _ in range(192 * 160 * 3))
open("picture.rgb", "wb").write(pixels)
small = Image.frombytes("RGB", (192, 160), pixels).resize((84, 70), Image.Resampling.BICUBIC)
open("pillow.rgb", "wb").write(small.tobytes())
PY
venv/bin/python reference.py

cargo init --quiet --name probe .
cargo add --quiet fast_image_resize@=6.1.0
cat > src/main.rs <<'RS'
use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

fn resized(source: &Image, width: u32, height: u32) -> Image<'static> {
    let mut target = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new().resize(source, &mut target, &options).expect("the same kind of pixels");
    target
}

/// The largest difference of two pictures, in levels.
fn apart(a: &[u8], b: &[u8]) -> u8 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

fn main() {
    let pixels = std::fs::read("picture.rgb").expect("the picture");
    let pillow = std::fs::read("pillow.rgb").expect("the reference");
    let source = Image::from_vec_u8(192, 160, pixels, PixelType::U8x3).expect("its size");
    let one_call = resized(&source, 84, 70);
    let width_first = resized(&resized(&source, 84, 160), 84, 70);
    let height_first = resized(&resized(&source, 192, 70), 84, 70);
    let [one, width, height] = [&one_call, &width_first, &height_first].map(|i| apart(i.buffer(), &pillow));
    println!("from Pillow at most: one call {one} levels; width, then height {width}; height, then width {height}");
    let order = apart(height_first.buffer(), one_call.buffer());
    println!("from one call at most: height, then width {order}");
    assert!(one > 8 && width <= 1 && order == 0);
}
RS
cargo run --quiet
