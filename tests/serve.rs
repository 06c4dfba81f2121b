//! `firstseen serve`: batches over HTTP, as senders and receivers see them.
//!
//! In: the program on a port of this machine, with a receiver that does as it is told. Out: that what arrives is what `run` would
//! give, that the receiver's answer is the sender's, and that neither bad requests nor a receiver that fails nor `kill -9` lose an
//! event or an alert. Not here: the reading of bodies and encodings by themselves (unit tests of `serve`).

/// The program as a child, a sender that speaks HTTP by hand, and a receiver.
pub(crate) mod parties;

/// What goes through: framings, encodings, answers, `--respond`, `--alerts-only`, HTTP/2, TLS and tokens, health and metrics.
mod exchanged;

/// What it holds and how soon it answers, whatever senders and the module do.
mod bounds;

/// Batches that come slowly, break off, turn out to be too long, or to be no lines after all.
mod arriving;

/// One history for all requests, other rules while it runs, its end, and a module that traps.
mod living;

/// Per-request values in groups: left out, and said of where nobody knows of them.
mod suppressing;

/// Requests that are up to no good.
mod hostile;

/// A receiver that fails, hangs and breaks off, and the program killed again and again.
mod chaos;
