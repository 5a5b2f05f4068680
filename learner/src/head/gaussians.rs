//! The Gaussians of all modes of all classes: means and shared covariance, in the coordinates of
//! their span.
//!
//! The covariance is `A = a (w C + (1 - w) G) + (1 - a) t I`: `C` the pooled covariance within the
//! taught modes, `G` the covariance within generic classes ([`Prior`]; without one, `t I`), `t` the
//! mean variance of their mixture.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, Par, Side};

use super::own_shape::OwnRows;
use crate::{ClassStatistics, Matrix, Prior, ScatterFactor};

/// Means of the modes, pooled scatter, and stand-ins for shots.
///
/// Directions in which no mode and no shot differs from the centre add the same to every distance.
/// All computation therefore takes place in the span of means and factor rows if that is much
/// smaller than the feature: with 200 shots in all, the matrices are 200 x 200 instead of 1536 x
/// 1536.
pub(super) struct Gaussians {
    /// Class of each mode.
    pub(super) classes: Vec<usize>,
    /// Shots of each mode.
    pub(super) counts: Vec<f64>,
    /// Mean of the modes' means, in feature coordinates.
    pub(super) centre: Vec<f64>,
    /// The modes' means about the centre: `[m, modes]`.
    pub(super) means: Mat<f64>,
    /// Orthonormal basis of the span, `[d, m]`; `None` where it is the whole space.
    span: Option<Mat<f64>>,
    /// Sum of all scatters: `[m, m]`.
    scatter: Mat<f64>,
    /// Degrees of freedom: the shots beyond the first of each mode, and [`VIEW_DEGREES`] for each
    /// mode with views.
    pub(super) degrees: f64,
    /// Degrees of freedom of the shots alone: those beyond the first of each mode.
    shot_degrees: f64,
    /// Number of deviations behind the taught covariance: the shots beyond the first of each mode,
    /// and the stored rows of views.
    known_degrees: f64,
    shot_scatter: Mat<f64>,
    /// Mean variance over the `d` numbers of a feature.
    mean_variance: f64,
    /// Numbers of a feature.
    d: usize,
    /// Spread and means of generic classes.
    generic: Generic,
    /// Stand-ins for shots.
    pub(super) stand_ins: StandIns,
    /// Leading factor rows of each mode.
    pub(super) own_rows: OwnRows,
}

/// Points that stand for shots, as deviations from the means of their modes.
///
/// Count `n` and factor `V` of a mode give `n` points with exactly its mean and scatter: turn `V`
/// with any orthonormal `n x (n - 1)` matrix with columns that sum to zero, such as the cosines of
/// the DCT. Where `n` is large, only some of the points are taken. For a Gaussian mode the points
/// are distributed as its shots were.
pub(super) struct StandIns {
    /// Mode of each point.
    pub(super) modes: Vec<usize>,
    /// `[m, stand-ins]`
    pub(super) deviations: Mat<f64>,
}

/// The prior in coordinates of the span.
struct Generic {
    /// Directions, each as long as the standard deviation along it: `[m, k]`.
    directions: Mat<f64>,
    /// Variance in every other direction.
    floor: f64,
    /// Means of the generic classes about the centre: `[m, g]`.
    means: Mat<f64>,
    /// The parts of these means outside the span: `[d, g]`; no columns if the span is the whole
    /// space.
    outside: Mat<f64>,
}

/// Shares of the parts of `A`.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Share of the covariance within the taught modes, `a w`.
    taught: f64,
    /// Share of the generic directions, `a (1 - w)`.
    generic: f64,
    /// Variance added in every direction.
    ridge: f64,
}

/// A factorised covariance.
pub(super) struct Factorised<'a> {
    pub(super) gaussians: &'a Gaussians,
    /// Weight of one outer product: the share of the covariance within the taught modes over its
    /// degrees of freedom.
    pub(super) weight: f64,
    /// Share of everything but the covariance within the taught modes.
    pub(super) shrinkage: f64,
    ridge: f64,
    factor: Llt<f64>,
    /// `A^-1 means`: `[m, modes]`.
    pub(super) solved_means: Mat<f64>,
    /// `A^-1` times the generic means: `[m, g]`.
    pub(super) solved_generic: Mat<f64>,
}

/// Largest share of the feature's length at which the span is used instead of the whole space.
const WORTH_COMPRESSING: f64 = 0.6;

/// Degrees of freedom that the views of a mode's shots add to the sum of all scatters. The value is
/// that of two views beside one shot, where the shot is the mean.
const VIEW_DEGREES: f64 = 2.0 / 3.0;

/// Number of stand-ins of all modes together; at least two for each mode.
const STAND_INS: usize = 1024;

/// Number of leading generic directions that [`Gaussians::diversity`] skips.
const STRONGEST: usize = 16;

/// Known deviations at which taught and generic covariance have the same weight. Ours, chosen on
/// CIFAR-100, PACS and the training pictures of grocery-160.
const EVEN_DEGREES: f64 = 80.0;

/// `a` with few shots: the differences between occasions have less shape than those between shots
/// of one occasion.
const SHAPED: f64 = 0.6;

/// Shots beyond the first of each mode at which `1 - a` has fallen to half.
const MANY_DEGREES: f64 = 4000.0;

/// `w` if most of the known spread comes from outlines made elsewhere, which have no noise in most
/// directions. With two outlines of ten classes of CIFAR-100 (100 shots) a share of .1 reaches
/// .782, the choice by leaving out .630, the nearest mean .740 (docs/method.md).
const OUTLINED: f64 = 0.1;

impl Gaussians {
    /// Builds the Gaussians from modes, each with the index of its class.
    pub(super) fn new(
        modes: &[(usize, &ClassStatistics)],
        d: usize,
        prior: Option<&Prior>,
    ) -> Self {
        let (classes, modes): (Vec<usize>, Vec<&ClassStatistics>) = modes.iter().copied().unzip();
        let means: Vec<Vec<f32>> = modes.iter().map(|mode| mode.mean()).collect();
        let mut centre = vec![0.0; d];
        for mean in &means {
            let share = 1.0 / means.len() as f64;
            centre.iter_mut().zip(mean).for_each(|(c, &m)| *c += f64::from(m) * share);
        }
        let means = Mat::from_fn(d, means.len(), |i, c| f64::from(means[c][i]) - centre[i]);
        let counts: Vec<f64> = modes.iter().map(|mode| f64::from(mode.count())).collect();
        let shot_degrees = counts.iter().sum::<f64>() - counts.len() as f64;
        let of_views: usize = modes.iter().map(|mode| mode.views().rank()).sum();
        let viewed = modes.iter().filter(|mode| mode.views().rank() > 0).count();
        let degrees = shot_degrees + VIEW_DEGREES * viewed as f64;
        let span = span_of(&modes, &means, prior);
        let mut gaussians = Self {
            classes,
            counts,
            centre,
            means: Mat::new(),
            span,
            degrees,
            shot_degrees,
            known_degrees: shot_degrees + of_views as f64,
            ..Self::empty(d)
        };
        gaussians.means = gaussians.in_span(means);
        gaussians.add_scatters(&modes);
        gaussians.generic = gaussians.generic(prior);
        gaussians.own_rows = OwnRows::new(&modes, |rows| gaussians.in_span(rows));
        gaussians
    }

    fn empty(d: usize) -> Self {
        Self {
            d,
            generic: Generic::none(0),
            classes: Vec::new(),
            counts: Vec::new(),
            centre: Vec::new(),
            means: Mat::new(),
            span: None,
            scatter: Mat::new(),
            degrees: 0.0,
            shot_degrees: 0.0,
            known_degrees: 0.0,
            shot_scatter: Mat::new(),
            // Single shots tell nothing about the spread; 1 is the variance of a normalised
            // feature.
            mean_variance: 1.0,
            stand_ins: StandIns { modes: Vec::new(), deviations: Mat::new() },
            own_rows: OwnRows::empty(),
        }
    }

    /// Pools the scatters and makes stand-ins, mode by mode: the rows of all modes at once would be
    /// the largest object in memory.
    fn add_scatters(&mut self, modes: &[&ClassStatistics]) {
        let m = self.means.nrows();
        let per_mode = (STAND_INS / modes.len().max(1)).max(2);
        let mut scatter = Mat::<f64>::zeros(m, m);
        let mut view_scatter = Mat::<f64>::zeros(m, m);
        let mut energy = 0.0;
        let mut owners = Vec::new();
        let mut deviations: Vec<Mat<f64>> = Vec::new();
        for (index, mode) in modes.iter().enumerate() {
            let views = self.in_span(factor_rows(mode.views()));
            if views.ncols() > 0 {
                let by = Par::rayon(0);
                matmul(&mut view_scatter, Accum::Add, &views, views.transpose(), 1.0, by);
                energy += views.squared_norm_l2();
            }
            let rows = self.in_span(factor_rows(mode.scatter()));
            let n = mode.count() as usize;
            if rows.ncols() > 0 {
                matmul(&mut scatter, Accum::Add, &rows, rows.transpose(), 1.0, Par::rayon(0));
                energy += rows.squared_norm_l2();
            }
            if n > 1 {
                let taken = n.min(per_mode);
                owners.extend(std::iter::repeat_n(index, taken));
                deviations.push(&rows * turning(rows.ncols(), taken, n));
            }
        }
        let starts: Vec<(usize, usize)> = deviations
            .iter()
            .enumerate()
            .flat_map(|(c, of_mode)| (0..of_mode.ncols()).map(move |p| (c, p)))
            .collect();
        let all = Mat::from_fn(m, starts.len(), |i, p| deviations[starts[p].0][(i, starts[p].1)]);
        self.scatter = &scatter + view_scatter;
        self.shot_scatter = scatter;
        self.stand_ins = StandIns { modes: owners, deviations: all };
        if energy > 0.0 {
            self.mean_variance = energy / self.degrees / self.d as f64;
        }
    }

    /// Maps feature directions `[d, n]` to the coordinates of the span.
    pub(super) fn in_span(&self, directions: Mat<f64>) -> Mat<f64> {
        match &self.span {
            Some(span) => span.transpose() * directions,
            None => directions,
        }
    }

    /// Maps directions of the span `[m, n]` to feature coordinates.
    pub(super) fn out_of_span(&self, directions: &Mat<f64>) -> Mat<f64> {
        match &self.span {
            Some(span) => span * directions,
            None => directions.clone(),
        }
    }

    /// Reduces scores of modes to scores of classes: the score of a class is that of its best mode.
    pub(super) fn by_class(&self, of_modes: impl Iterator<Item = f64>) -> Vec<f64> {
        let n_classes = self.classes.last().map_or(0, |last| last + 1);
        let mut scores = vec![f64::NEG_INFINITY; n_classes];
        for (&class, score) in self.classes.iter().zip(of_modes) {
            scores[class] = scores[class].max(score);
        }
        scores
    }

    /// Returns true if shots of one mode were seen to differ. Without that, only the nearest mean
    /// can be fitted.
    pub(super) fn has_spread(&self) -> bool {
        self.degrees > 0.0 && self.scatter.squared_norm_l2() > 0.0
    }

    /// Degrees of freedom with one shot left out. Used throughout, so that leaving a shot out needs
    /// no factorisation of its own.
    pub(super) fn degrees_left(&self) -> f64 {
        (self.degrees - 1.0).max(1.0)
    }

    /// Returns the prior in coordinates of the span.
    fn generic(&self, prior: Option<&Prior>) -> Generic {
        let Some(prior) = prior else { return Generic::none(self.means.nrows()) };
        let means: Vec<Vec<f64>> = prior.means().rows().collect();
        let about_centre = |i: usize, g: usize| means[g][i] - self.centre[i];
        let all = Mat::from_fn(self.d, means.len(), about_centre);
        let means = self.in_span(all.clone());
        let outside = match &self.span {
            Some(span) => all - span * &means,
            None => Mat::new(),
        };
        Generic {
            directions: self.in_span(columns(prior.directions())),
            floor: prior.floor(),
            means,
            outside,
        }
    }

    /// The covariance for pictures of other occasions. `outlined` means that most of the taught
    /// covariance comes from outlines made elsewhere.
    pub(super) fn covariance(&self, outlined: bool) -> Option<Factorised<'_>> {
        let known = self.known_degrees / (self.known_degrees + EVEN_DEGREES);
        let known = if outlined { OUTLINED } else { known };
        let w = if self.has_spread() { known } else { 0.0 };
        let of_generic = self.generic.mean_variance(self.d).unwrap_or(self.mean_variance);
        let floor = if self.generic.is_none() { self.mean_variance } else { self.generic.floor };
        let mean_variance = w * self.mean_variance + (1.0 - w) * of_generic;
        let a = 1.0 - (1.0 - SHAPED) / (1.0 + self.degrees / MANY_DEGREES);
        self.factorised(Shares {
            taught: a * w,
            generic: a * (1.0 - w),
            ridge: a * (1.0 - w) * floor + (1.0 - a) * mean_variance,
        })
    }

    /// The covariance within generic classes alone, with the `a` of few shots. Round without a
    /// prior.
    pub(super) fn generic_covariance(&self) -> Option<Factorised<'_>> {
        let mean_variance = self.generic.mean_variance(self.d).unwrap_or(self.mean_variance);
        let floor = if self.generic.is_none() { mean_variance } else { self.generic.floor };
        let ridge = SHAPED * floor + (1.0 - SHAPED) * mean_variance;
        self.factorised(Shares { taught: 0.0, generic: SHAPED, ridge })
    }

    /// The taught covariance, shrunk towards the identity.
    pub(super) fn shrunk(&self, shrinkage: f64) -> Option<Factorised<'_>> {
        self.factorised(Shares {
            taught: 1.0 - shrinkage,
            generic: 0.0,
            ridge: shrinkage * self.mean_variance,
        })
    }

    /// Factorises `A`. `None` if rounding made it indefinite.
    fn factorised(&self, shares: Shares) -> Option<Factorised<'_>> {
        let m = self.means.nrows();
        let weight = shares.taught / self.degrees_left();
        let mut a = Mat::from_fn(m, m, |i, j| {
            self.scatter[(i, j)] * weight + if i == j { shares.ridge } else { 0.0 }
        });
        if shares.generic > 0.0 && !self.generic.is_none() {
            let leading = self.generic.beyond_floor();
            let by = Par::rayon(0);
            matmul(&mut a, Accum::Add, &leading, leading.transpose(), shares.generic, by);
        }
        let factor = a.llt(Side::Lower).ok()?;
        Some(Factorised {
            gaussians: self,
            weight,
            shrinkage: 1.0 - shares.taught,
            ridge: shares.ridge,
            solved_means: factor.solve(&self.means),
            solved_generic: factor.solve(&self.generic.means),
            factor,
        })
    }

    /// Squared distance of a picture from the mean of its generic class; `None` without a prior.
    pub(super) fn generic_variance(&self) -> Option<f64> {
        self.generic.mean_variance(self.d).map(|mean| mean * self.d as f64)
    }

    /// Number of generic means.
    pub(super) fn n_generic(&self) -> usize {
        self.generic.means.ncols()
    }

    /// Means of the generic classes about the centre, in the span: `[m, g]`.
    pub(super) fn generic_means(&self) -> &Mat<f64> {
        &self.generic.means
    }

    /// The parts of these means outside the span: `[d, g]`. Empty if the span is the whole space or
    /// there is no prior.
    pub(super) fn generic_outside(&self) -> &Mat<f64> {
        &self.generic.outside
    }

    /// Ratio of the variance of shots within a mode to that of pictures within a generic class, in
    /// the directions after the [`STRONGEST`]. `None` without a prior or spread.
    pub(super) fn diversity(&self) -> Option<f64> {
        let directions = &self.generic.directions;
        let rest = STRONGEST.min(directions.ncols())..directions.ncols();
        if rest.is_empty() || self.shot_degrees < 1.0 {
            return None;
        }
        let mut taught = 0.0;
        let mut generic = 0.0;
        let spread = &self.shot_scatter * directions;
        for k in rest {
            let variance = dot(directions, k, directions, k);
            if variance <= 0.0 {
                continue;
            }
            taught += dot(directions, k, &spread, k) / variance / self.shot_degrees;
            generic += variance;
        }
        (generic > 0.0).then(|| taught / generic)
    }
}

impl Generic {
    /// No prior, in a span of `m` numbers.
    fn none(m: usize) -> Self {
        let empty = || Mat::zeros(m, 0);
        Self { directions: empty(), floor: 0.0, means: empty(), outside: empty() }
    }

    fn is_none(&self) -> bool {
        self.directions.ncols() == 0
    }

    /// The directions, shortened by the variance that the floor already contains: `[m, k]`.
    fn beyond_floor(&self) -> Mat<f64> {
        let n = self.directions.ncols();
        let share = |k: usize| {
            let variance = dot(&self.directions, k, &self.directions, k);
            // A direction without variance in generic pictures is rounded to zero.
            if variance > 0.0 { ((variance - self.floor).max(0.0) / variance).sqrt() } else { 0.0 }
        };
        let scales: Vec<f64> = (0..n).map(share).collect();
        Mat::from_fn(self.directions.nrows(), n, |i, k| self.directions[(i, k)] * scales[k])
    }

    /// Mean variance over the numbers of a feature.
    fn mean_variance(&self, d: usize) -> Option<f64> {
        let leading = self.beyond_floor();
        (!self.is_none()).then(|| leading.squared_norm_l2() / d as f64 + self.floor)
    }
}

/// Returns the rows of a matrix as columns.
fn columns(rows: &Matrix) -> Mat<f64> {
    let [n, d] = rows.shape();
    Mat::from_fn(d, n, |i, k| f64::from(rows.at(k, i)))
}

/// Returns the rows of a scatter as columns: `[d, rank]`.
fn factor_rows(scatter: &ScatterFactor) -> Mat<f64> {
    let d = scatter.d_feature();
    let values = scatter.rows();
    Mat::from_fn(d, scatter.rank(), |i, r| f64::from(values[r * d + i]))
}

/// Returns an orthonormal basis of all means, factor rows and generic directions, if it is much
/// smaller than the whole space.
fn span_of(
    modes: &[&ClassStatistics],
    means: &Mat<f64>,
    prior: Option<&Prior>,
) -> Option<Mat<f64>> {
    let d = means.nrows();
    let generic = prior.map_or_else(Mat::new, |prior| columns(prior.directions()));
    let ranks = modes.iter().map(|mode| mode.scatter().rank() + mode.views().rank());
    let n_rows: usize = ranks.sum::<usize>() + means.ncols() + generic.ncols();
    if n_rows as f64 >= WORTH_COMPRESSING * d as f64 {
        return None;
    }
    let scatters = modes.iter().flat_map(|mode| [mode.scatter(), mode.views()]);
    let rows: Vec<Mat<f64>> = scatters.map(factor_rows).collect();
    let parts = rows.iter().chain([means, &generic]);
    let columns: Vec<(&Mat<f64>, usize)> =
        parts.flat_map(|part| (0..part.ncols()).map(move |j| (part, j))).collect();
    let all = Mat::from_fn(d, columns.len(), |i, j| columns[j].0[(i, columns[j].1)]);
    Some(all.qr().compute_thin_Q())
}

/// Returns `taken` of the `n` columns that turn `rank` factor rows into deviations:
/// `[rank, taken]`.
///
/// Columns are taken in golden-section steps: evenly spaced columns would all agree in the cosines
/// with a period that divides the spacing.
fn turning(rank: usize, taken: usize, n: usize) -> Mat<f64> {
    // A step without a common divisor with n visits every column once.
    let golden = (n as f64 * 0.618) as usize;
    let step = (golden.max(1)..n).find(|&step| common_divisor(step, n) == 1).unwrap_or(1);
    Mat::from_fn(rank, taken, |j, t| {
        let point = (t * step % n) as f64;
        let angle = std::f64::consts::PI * (point + 0.5) * (j + 1) as f64 / n as f64;
        (2.0 / n as f64).sqrt() * angle.cos()
    })
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

impl Factorised<'_> {
    /// Variance added in every direction. It is all of `A` outside the span.
    pub(super) fn ridge(&self) -> f64 {
        self.ridge
    }

    /// `A^-1 x` for each column.
    pub(super) fn solve(&self, directions: &Mat<f64>) -> Mat<f64> {
        self.factor.solve(directions)
    }

    /// `tr(A^-1 G)`; 0 without a prior.
    pub(super) fn generic_noise(&self) -> f64 {
        let gaussians = self.gaussians;
        let generic = &gaussians.generic;
        if generic.is_none() {
            return 0.0;
        }
        let leading = generic.beyond_floor();
        let m = gaussians.means.nrows();
        let solved = self.solve(&leading);
        let along = (0..leading.ncols()).map(|k| dot(&leading, k, &solved, k)).sum::<f64>();
        let inverse = self.solve(&Mat::identity(m, m));
        let inside = (0..m).map(|i| inverse[(i, i)]).sum::<f64>();
        along + generic.floor * (inside + (gaussians.d - m) as f64 / self.ridge)
    }

    /// `tr(A^-1 S)`: `S` the scatter of the shots about their modes' means.
    pub(super) fn scatter_trace(&self) -> f64 {
        let scatter = &self.gaussians.shot_scatter;
        let solved = self.solve(scatter);
        (0..scatter.nrows()).map(|i| solved[(i, i)]).sum()
    }

    /// Mean squared distance of a view from its shot, over all shots; 0 without views.
    pub(super) fn view_noise(&self) -> f64 {
        let views = &self.gaussians.scatter - &self.gaussians.shot_scatter;
        let solved = self.solve(&views);
        let trace = (0..views.nrows()).map(|i| solved[(i, i)]).sum::<f64>();
        trace / self.gaussians.counts.iter().sum::<f64>().max(1.0)
    }

    /// `g . A^-1 g` of each generic mean about the centre.
    pub(super) fn generic_norms(&self) -> Vec<f64> {
        let Generic { means, outside, .. } = &self.gaussians.generic;
        let norm = |g: usize| {
            let beyond = if outside.ncols() > 0 { dot(outside, g, outside, g) } else { 0.0 };
            dot(means, g, &self.solved_generic, g) + beyond / self.ridge
        };
        (0..means.ncols()).map(norm).collect()
    }

    /// `A^-1` times the generic means, in feature coordinates: `[d, g]`.
    pub(super) fn generic_weights(&self) -> Mat<f64> {
        let mut weights = self.gaussians.out_of_span(&self.solved_generic);
        let outside = &self.gaussians.generic.outside;
        if outside.ncols() > 0 {
            weights += outside * faer::Scale(1.0 / self.ridge);
        }
        weights
    }
}

/// Returns the product of column `i` of `a` and column `j` of `b`.
pub(super) fn dot(a: &Mat<f64>, i: usize, b: &Mat<f64>, j: usize) -> f64 {
    (0..a.nrows()).map(|k| a[(k, i)] * b[(k, j)]).sum()
}
