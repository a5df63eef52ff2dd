//! Kills under load: what the child does, what the parent keeps, how a database is judged.
//!
//! Writer `w` commits transactions `1, 2, 3, …`, each after the other. Transaction `n` puts its record under `(w, n)`
//! into every keyspace, removes its record `n - KEPT` from every keyspace (one at a time, or by a deleted range), and
//! sets the writer's counter to `n`. The record names the `Seq` that the transaction read at and, for each writer,
//! the counter that it saw. So the whole content of a database follows from one number for each writer, and a
//! survivor testifies to what had been committed before it.
//!
//! Judged after each kill, over the whole content:
//! - *nothing lost*: each counter is that of the last acknowledged transaction, or of the one after it, which was
//!   under way when the kill came;
//! - *whole*: every record that follows from the counter stands in every keyspace with the right bytes, and nothing
//!   else does;
//! - *in order*: the `Seq`s of the ledger grow with each writer and are given once; a transaction that read at `s`
//!   saw exactly the acknowledged transactions up to `s`; whatever a survivor saw survived, so what is left is a
//!   prefix of the order of commits.

pub mod child;
pub mod judge;
pub mod record;
pub mod session;
