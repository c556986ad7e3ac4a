//! Dense products, linear algebra, random numbers and the best k: arithmetic that knows nothing of vectors' meaning.

pub(crate) mod bits;
pub(crate) mod center;
pub(crate) mod linalg;
pub(crate) mod product;
pub(crate) mod rng;
pub(crate) mod topk;
