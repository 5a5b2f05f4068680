//! The things that the synthetic camera shows: outlines and colours.

/// A point in the plane. Things lie within -1..1.
pub(super) type Point = [f32; 2];

/// A thing that the synthetic camera can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// A red ball with a light stripe.
    Ball,
    /// A blue box with a dark band.
    Box,
    /// A green fir.
    Tree,
    /// A yellow star.
    Star,
    /// A white mug with a handle.
    Mug,
    /// An orange ring.
    Ring,
}

impl Thing {
    /// All things.
    pub const ALL: [Self; 6] =
        [Self::Ball, Self::Box, Self::Tree, Self::Star, Self::Mug, Self::Ring];

    /// English name of the thing.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ball => "ball",
            Self::Box => "box",
            Self::Tree => "tree",
            Self::Star => "star",
            Self::Mug => "mug",
            Self::Ring => "ring",
        }
    }

    /// Colour of the thing at a point; `None` outside its outline.
    pub(super) fn colour_at(self, [x, y]: Point) -> Option<[f32; 3]> {
        let radius = x.hypot(y);
        match self {
            Self::Ball if radius < 0.9 => {
                let stripe = (y - 0.3 * x * x).abs() < 0.14;
                Some(if stripe { [235.0, 225.0, 215.0] } else { [200.0, 40.0, 40.0] })
            }
            Self::Box if x.abs() < 0.85 && y.abs() < 0.7 => {
                let band = x.abs() < 0.12 || y.abs() < 0.1;
                Some(if band { [25.0, 30.0, 60.0] } else { [50.0, 90.0, 200.0] })
            }
            Self::Tree if fir(x, y) => Some([30.0, 120.0, 50.0]),
            Self::Tree if x.abs() < 0.12 && (0.7..0.95).contains(&y) => Some([100.0, 65.0, 35.0]),
            Self::Star if radius < star_edge(x, y) => Some([230.0, 200.0, 40.0]),
            Self::Mug if mug(x, y) => {
                Some(if y < -0.55 { [60.0, 40.0, 30.0] } else { [225.0, 225.0, 230.0] })
            }
            Self::Ring if (0.5..0.9).contains(&radius) => Some([235.0, 130.0, 30.0]),
            _ => None,
        }
    }
}

/// Returns true for a point within the crown of the fir: three stacked triangles.
fn fir(x: f32, y: f32) -> bool {
    [(-0.9, -0.2, 0.4), (-0.55, 0.25, 0.55), (-0.2, 0.7, 0.7)].into_iter().any(
        |(top, bottom, width)| {
            (top..bottom).contains(&y) && x.abs() < width * (y - top) / (bottom - top)
        },
    )
}

/// Distance from the middle to the edge of a five-pointed star, in the direction of `(x, y)`.
fn star_edge(x: f32, y: f32) -> f32 {
    let fifth = std::f32::consts::TAU / 5.0;
    let angle = (x.atan2(-y).rem_euclid(fifth) - fifth / 2.0).abs() / (fifth / 2.0);
    0.4 + 0.52 * angle
}

fn mug(x: f32, y: f32) -> bool {
    let body = (-0.6..0.45).contains(&x) && y.abs() < 0.7;
    let handle = (0.18..0.36).contains(&(x - 0.45).hypot(y * 0.9)) && x >= 0.4;
    body || handle
}
