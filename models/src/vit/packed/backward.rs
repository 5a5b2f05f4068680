//! Backward pass of a block: gradients of the pictures' tokens and of the side branches.

use std::ops::Range;

use super::attention::attend_back;
use super::linear::{View, product};
use super::{Activations, PackedBlock};
use crate::VitConfig;
use crate::side_branch::Site;

/// Sites of a block that have branches, and the size of each branch.
#[derive(Debug, Clone, Default)]
pub(in crate::vit) struct BranchSizes {
    /// Site, `d_in`, `r` and `d_out`, in the order of [`Site::ALL`].
    pub(in crate::vit) sites: Vec<(Site, usize, usize, usize)>,
}

/// Side branches as two flat slices: for each site `left`, `[d_in, r]`, and `right`, `[r, d_out]`.
#[derive(Debug, Clone, Copy)]
pub(in crate::vit) struct BranchViews<'a> {
    pub(in crate::vit) sizes: &'a BranchSizes,
    pub(in crate::vit) lefts: &'a [f32],
    pub(in crate::vit) rights: &'a [f32],
}

/// Gradients of the branches, in the layout of the branches. Empty if not requested.
#[derive(Debug, Clone, Default)]
pub(in crate::vit) struct BranchGradients {
    pub(in crate::vit) lefts: Vec<f32>,
    pub(in crate::vit) rights: Vec<f32>,
}

/// Requested gradients.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Range of tokens in each picture.
    pub(super) tokens: Option<Range<usize>>,
    pub(super) lefts: bool,
    pub(super) rights: bool,
}

/// Gradients of the branches, collected site by site during the backward pass.
#[derive(Debug)]
pub(super) struct Found<'a> {
    branches: &'a BranchViews<'a>,
    asked: &'a Asked,
    by_site: Vec<(Site, BranchGradients)>,
}

impl BranchSizes {
    /// Adds a site with a branch of rank `rank`.
    pub(in crate::vit) fn push(&mut self, site: Site, rank: usize, config: &VitConfig) {
        self.sites.push((site, site.d_in(config), rank, site.d_out(config)));
    }

    fn has(&self, wanted: Site) -> bool {
        self.sites.iter().any(|&(site, ..)| site == wanted)
    }
}

impl<'a> BranchViews<'a> {
    /// Iterates over site, `left` and `right` of each branch.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Site, View<'a>, View<'a>)> {
        let mut left = self.lefts;
        let mut right = self.rights;
        self.sizes.sites.iter().map(move |&(site, d_in, rank, d_out)| {
            let (own_left, rest) = left.split_at(d_in * rank);
            left = rest;
            let (own_right, rest) = right.split_at(rank * d_out);
            right = rest;
            (site, View::new(own_left, rank), View::new(own_right, d_out))
        })
    }
}

impl Asked {
    /// Returns the rows with a requested gradient, of the `n_rows` tokens of several pictures.
    fn spans(&self, n_tokens: usize, n_rows: usize) -> Vec<Range<usize>> {
        let Some(wanted) = &self.tokens else { return Vec::new() };
        // If all tokens are requested, one product covers all pictures.
        let all = wanted.len() == n_tokens;
        let (wanted, step) = if all { (0..n_rows, n_rows) } else { (wanted.clone(), n_tokens) };
        let starts = (0..n_rows).step_by(step);
        starts.map(|first| first + wanted.start..first + wanted.end).collect()
    }
}

impl Activations {
    /// Drops the results that the backward pass does not need.
    pub(super) fn slim(&mut self, sizes: &BranchSizes) {
        (self.normed, self.branch, self.head) = Default::default();
        if !sizes.has(Site::Proj) {
            self.heads = Vec::new();
        }
        if !sizes.has(Site::Fc2) {
            self.hidden = Vec::new();
        }
    }
}

impl BranchGradients {
    /// Adds the gradients of other pictures.
    pub(super) fn add(mut self, other: &Self) -> Self {
        for (sum, more) in [(&mut self.lefts, &other.lefts), (&mut self.rights, &other.rights)] {
            if sum.is_empty() {
                sum.clone_from(more);
            } else {
                sum.iter_mut().zip(more).for_each(|(s, m)| *s += m);
            }
        }
        self
    }
}

impl<'a> Found<'a> {
    pub(super) fn new(branches: &'a BranchViews<'a>, asked: &'a Asked) -> Self {
        Self { branches, asked, by_site: Vec::with_capacity(branches.sizes.sites.len()) }
    }

    /// Computes the gradients of the branches of these sites. Their layer has `width` outputs.
    pub(super) fn collect(
        &mut self,
        block: &PackedBlock,
        sites: &[Site],
        inputs: &[f32],
        outputs: &[f32],
        width: usize,
    ) {
        for (site, left, right) in self.branches.iter().filter(|(site, ..)| sites.contains(site)) {
            let (_, column) = block.layer(site);
            let outputs = View::part(outputs, width, column, right.columns);
            self.by_site.push((site, of_branch(inputs, outputs, left, right, self.asked)));
        }
    }

    fn wants(&self, site: Site) -> bool {
        self.branches.sizes.has(site)
    }

    pub(super) fn in_order(mut self) -> BranchGradients {
        self.by_site.sort_by_key(|&(site, _)| site);
        let mut all = BranchGradients::default();
        for (_, of_site) in self.by_site {
            all.lefts.extend(of_site.lefts);
            all.rights.extend(of_site.rights);
        }
        all
    }
}

impl PackedBlock {
    /// Computes the gradients of a block that was folded with `branches` and ran forward on
    /// `tokens`: those of the requested tokens and of the branches.
    ///
    /// # Shapes
    ///
    /// - `tokens`, `gradient` and the first result: `[pictures n_tokens, d]`; only the requested
    ///   rows of the result are complete
    pub(super) fn backward(
        &self,
        n_tokens: usize,
        tokens: &[f32],
        saved: &Activations,
        branches: &BranchViews<'_>,
        gradient: &[f32],
        asked: &Asked,
    ) -> (Vec<f32>, BranchGradients) {
        let mut found = Found::new(branches, asked);
        // x2 = middle + s2 fc2(gelu(fc1(norm2(middle))))
        let scaled = times(gradient, self.scale(1));
        found.collect(self, &[Site::Fc2], &saved.hidden, &scaled, self.d_model);
        let mut inner = Vec::new();
        self.fc2.apply_back(&scaled, &mut inner);
        inner.iter_mut().zip(&saved.slope).for_each(|(g, slope)| *g *= slope);
        let mut middle = gradient.to_vec();
        let heads = self.back_to_heads(saved, &inner, &mut middle, &mut found);
        self.back_to_tokens(n_tokens, tokens, saved, &heads, &mut middle, &mut found);
        (middle, found.in_order())
    }

    /// Propagates the gradient from the output of `fc1` to the output of the heads, and returns it.
    /// On entry `middle` is the gradient of the tokens between the two halves without the part
    /// through `fc1`; that part is added.
    ///
    /// # Shapes
    ///
    /// - `inner`: `[tokens, d_mlp]`
    /// - `middle` and the result: `[tokens, d]`
    pub(super) fn back_to_heads(
        &self,
        saved: &Activations,
        inner: &[f32],
        middle: &mut [f32],
        found: &mut Found<'_>,
    ) -> Vec<f32> {
        let mut back = Vec::new();
        if found.wants(Site::Fc1) {
            self.norm2.again(&saved.middle, &saved.standing2, &mut back);
            found.collect(self, &[Site::Fc1], &back, inner, self.fc2.d_in());
        }
        self.fc1.apply_back(inner, &mut back);
        self.norm2.back(&saved.middle, &saved.standing2, &back, middle);

        // middle = x + s1 proj(attend(qkv(norm1(x))))
        let scaled = times(middle, self.scale(0));
        found.collect(self, &[Site::Proj], &saved.heads, &scaled, self.d_model);
        self.proj.apply_back(&scaled, &mut back);
        back
    }

    /// Propagates the gradient from the heads' output to the tokens: `middle` becomes the gradient
    /// of the requested tokens.
    ///
    /// # Shapes
    ///
    /// - `tokens`, `heads` and `middle`: `[pictures n_tokens, d]`
    pub(super) fn back_to_tokens(
        &self,
        n_tokens: usize,
        tokens: &[f32],
        saved: &Activations,
        heads: &[f32],
        middle: &mut [f32],
        found: &mut Found<'_>,
    ) {
        let d = self.d_model;
        let mut inner = Vec::new();
        let mut back = Vec::new();
        attend_back(self.shape(n_tokens), &saved.qkv, &saved.weights, heads, &mut inner);
        let thirds = [Site::Query, Site::Key, Site::Value];
        if thirds.iter().any(|&site| found.wants(site)) {
            self.norm1.again(tokens, &saved.standing1, &mut back);
            found.collect(self, &thirds, &back, &inner, 3 * d);
        }
        for rows in found.asked.spans(n_tokens, tokens.len() / d) {
            self.qkv.apply_back(&inner[3 * d * rows.start..3 * d * rows.end], &mut back);
            let standing = &saved.standing1[rows.clone()];
            let rows = d * rows.start..d * rows.end;
            self.norm1.back(&tokens[rows.clone()], standing, &back, &mut middle[rows]);
        }
    }
}

/// Returns the gradients of `left` and `right` in `y = x left right`: `x^T (g right^T)` and
/// `(x left)^T g`.
fn of_branch(
    inputs: &[f32],
    gradient: View<'_>,
    left: View<'_>,
    right: View<'_>,
    asked: &Asked,
) -> BranchGradients {
    let inputs = View::new(inputs, left.rows);
    let mut through = Vec::new();
    let mut gradients = BranchGradients::default();
    if asked.lefts {
        product(gradient, right.transposed(), 1.0, &mut through);
        let through = View::new(&through, left.columns);
        product(inputs.transposed(), through, 1.0, &mut gradients.lefts);
    }
    if asked.rights {
        product(inputs, left, 1.0, &mut through);
        let through = View::new(&through, left.columns);
        product(through.transposed(), gradient, 1.0, &mut gradients.rights);
    }
    gradients
}

pub(super) fn times(gradient: &[f32], scale: Option<&[f32]>) -> Vec<f32> {
    match scale {
        None => gradient.to_vec(),
        Some(scale) => gradient.iter().zip(scale.iter().cycle()).map(|(g, s)| g * s).collect(),
    }
}
