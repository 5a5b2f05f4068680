//! Sources of pictures.

pub(crate) mod synthetic;
