//! All modes of all classes as Gaussians: means and the covariance they share, in as few coordinates as they span.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, Par, Side};

use super::own_shape::OwnRows;
use crate::ClassStatistics;

/// Means of the modes, pooled scatter, and stand-ins for shots.
///
/// Directions in which no mode and no shot differs from the centre add the same to every distance, so
/// everything happens in the span of means and factor rows whenever that is much smaller than the
/// feature: 200 shots in all cost 200 x 200 matrices instead of 1536 x 1536 ones.
pub(super) struct Gaussians {
    /// The class that each mode belongs to.
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
    /// Shots beyond the first of each mode.
    pub(super) degrees: f64,
    /// Mean variance over the `d` numbers of a feature.
    pub(super) mean_variance: f64,
    /// Stand-ins for shots.
    pub(super) stand_ins: StandIns,
    /// The leading factor rows of each mode.
    pub(super) own_rows: OwnRows,
}

/// Deviations from the means of their modes of points that stand for shots.
///
/// From count `n` and factor `V` one gets `n` points with exactly that mean and scatter (of which some
/// are taken where there are many) by turning `V` with any orthonormal `n x (n - 1)` matrix whose columns sum to zero; the cosines of the DCT are one.
/// For a Gaussian mode the points are distributed as its shots were.
pub(super) struct StandIns {
    /// The mode of each.
    pub(super) modes: Vec<usize>,
    /// `[m, stand-ins]`
    pub(super) deviations: Mat<f64>,
}

/// The covariance at one shrinkage, factorised.
pub(super) struct Shrunk<'a> {
    pub(super) gaussians: &'a Gaussians,
    pub(super) shrinkage: f64,
    factor: Llt<f64>,
    /// `A^-1 means`: `[m, modes]`.
    pub(super) solved_means: Mat<f64>,
}

/// Compressing pays when the span has less than this share of the feature's numbers.
const WORTH_COMPRESSING: f64 = 0.6;

/// Stand-ins that a choice is made on, but at least two a mode.
const STAND_INS: usize = 1024;

impl Gaussians {
    /// Of modes with the class that each belongs to.
    pub(super) fn new(modes: &[(usize, &ClassStatistics)], d: usize) -> Self {
        let (classes, modes): (Vec<usize>, Vec<&ClassStatistics>) = modes.iter().copied().unzip();
        let means: Vec<Vec<f32>> = modes.iter().map(|mode| mode.mean()).collect();
        let mut centre = vec![0.0; d];
        for mean in &means {
            let share = 1.0 / means.len() as f64;
            centre.iter_mut().zip(mean).for_each(|(c, &m)| *c += f64::from(m) * share);
        }
        let means = Mat::from_fn(d, means.len(), |i, c| f64::from(means[c][i]) - centre[i]);
        let counts: Vec<f64> = modes.iter().map(|mode| f64::from(mode.count())).collect();
        let degrees = counts.iter().sum::<f64>() - counts.len() as f64;
        let span = span_of(&modes, &means);
        let mut gaussians =
            Self { classes, counts, centre, means: Mat::new(), span, degrees, ..Self::empty() };
        gaussians.means = gaussians.in_span(means);
        gaussians.add_scatters(&modes, d);
        gaussians.own_rows = OwnRows::new(&modes, |rows| gaussians.in_span(rows));
        gaussians
    }

    fn empty() -> Self {
        Self {
            classes: Vec::new(),
            counts: Vec::new(),
            centre: Vec::new(),
            means: Mat::new(),
            span: None,
            scatter: Mat::new(),
            degrees: 0.0,
            // A single shot a class says nothing of the spread; 1 is that of a normalised feature.
            mean_variance: 1.0,
            stand_ins: StandIns { modes: Vec::new(), deviations: Mat::new() },
            own_rows: OwnRows::empty(),
        }
    }

    /// Pools the scatters and makes stand-ins, mode by mode: the rows of all modes together would
    /// be the largest thing in memory.
    fn add_scatters(&mut self, modes: &[&ClassStatistics], d: usize) {
        let m = self.means.nrows();
        let per_mode = (STAND_INS / modes.len().max(1)).max(2);
        let mut scatter = Mat::<f64>::zeros(m, m);
        let mut energy = 0.0;
        let mut owners = Vec::new();
        let mut deviations: Vec<Mat<f64>> = Vec::new();
        for (index, mode) in modes.iter().enumerate() {
            let rows = self.in_span(factor_rows(mode));
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
        self.scatter = scatter;
        self.stand_ins = StandIns { modes: owners, deviations: all };
        if energy > 0.0 {
            self.mean_variance = energy / self.degrees / d as f64;
        }
    }

    /// Feature directions `[d, n]` in the coordinates of the span.
    pub(super) fn in_span(&self, directions: Mat<f64>) -> Mat<f64> {
        match &self.span {
            Some(span) => span.transpose() * directions,
            None => directions,
        }
    }

    /// Directions of the span `[m, n]` in feature coordinates.
    pub(super) fn out_of_span(&self, directions: &Mat<f64>) -> Mat<f64> {
        match &self.span {
            Some(span) => span * directions,
            None => directions.clone(),
        }
    }

    /// Scores of the modes as scores of the classes: each class is where its nearest mode is.
    pub(super) fn by_class(&self, of_modes: impl Iterator<Item = f64>) -> Vec<f64> {
        let n_classes = self.classes.last().map_or(0, |last| last + 1);
        let mut scores = vec![f64::NEG_INFINITY; n_classes];
        for (&class, score) in self.classes.iter().zip(of_modes) {
            scores[class] = scores[class].max(score);
        }
        scores
    }

    /// Whether shots were ever seen to differ within a mode; without that only the nearest mean exists.
    pub(super) fn has_spread(&self) -> bool {
        self.degrees >= 1.0 && self.scatter.squared_norm_l2() > 0.0
    }

    /// Degrees of freedom with one shot left out: used throughout, so that leaving one out needs no
    /// factorisation of its own.
    pub(super) fn degrees_left(&self) -> f64 {
        (self.degrees - 1.0).max(1.0)
    }

    /// `A(s)`, factorised; `None` if rounding left it indefinite.
    pub(super) fn shrunk(&self, shrinkage: f64) -> Option<Shrunk<'_>> {
        let m = self.means.nrows();
        let (scale, ridge) =
            ((1.0 - shrinkage) / self.degrees_left(), shrinkage * self.mean_variance);
        let a = Mat::from_fn(m, m, |i, j| {
            self.scatter[(i, j)] * scale + if i == j { ridge } else { 0.0 }
        });
        let factor = a.llt(Side::Lower).ok()?;
        let solved_means = factor.solve(&self.means);
        Some(Shrunk { gaussians: self, shrinkage, factor, solved_means })
    }
}

/// The factor rows of a mode: `[d, rank]`.
fn factor_rows(mode: &ClassStatistics) -> Mat<f64> {
    let scatter = mode.scatter();
    let (d, values) = (scatter.d_feature(), scatter.rows());
    Mat::from_fn(d, scatter.rank(), |i, r| f64::from(values[r * d + i]))
}

/// An orthonormal basis of all means and factor rows, if it is much smaller than the whole space.
fn span_of(modes: &[&ClassStatistics], means: &Mat<f64>) -> Option<Mat<f64>> {
    let d = means.nrows();
    let ranks = modes.iter().map(|mode| mode.scatter().rank());
    let n_rows: usize = ranks.sum::<usize>() + means.ncols();
    if n_rows as f64 >= WORTH_COMPRESSING * d as f64 {
        return None;
    }
    let rows: Vec<Mat<f64>> = modes.iter().map(|mode| factor_rows(mode)).collect();
    let parts = rows.iter().chain([means]);
    let columns: Vec<(&Mat<f64>, usize)> =
        parts.flat_map(|part| (0..part.ncols()).map(move |j| (part, j))).collect();
    let all = Mat::from_fn(d, columns.len(), |i, j| columns[j].0[(i, columns[j].1)]);
    Some(all.qr().compute_thin_Q())
}

/// `taken` of the `n` columns that turn `rank` factor rows into deviations: `[rank, taken]`.
///
/// Columns are taken in golden-section steps: evenly spaced ones would all agree in the cosines whose
/// period divides the spacing.
fn turning(rank: usize, taken: usize, n: usize) -> Mat<f64> {
    // A step without a common divisor with n passes every column once.
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

impl Shrunk<'_> {
    /// `A^-1 x` for each column.
    pub(super) fn solve(&self, directions: &Mat<f64>) -> Mat<f64> {
        self.factor.solve(directions)
    }
}
