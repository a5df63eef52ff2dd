//! What each command does: it reads its arguments, shows how far it is, and tells what was found.
//!
//! `Ok(true)` is nothing wrong, `Ok(false)` a violation or a bug that was not caught, and an error wrong use.

pub(crate) mod console;
pub(crate) mod sweep;
pub(crate) mod replay;
pub(crate) mod written;
pub(crate) mod shrink;
pub(crate) mod applications;
pub(crate) mod explore;
pub(crate) mod mutants;
pub(crate) mod bisect;
pub(crate) mod real;
