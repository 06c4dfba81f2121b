//! The tests of the whole: what goes into firstseen as records, rules and settings, and what comes out as bytes.
//!
//! Unit tests stand beside the code. These here go through the native engine and through the built module
//! (`target/firstseen.wasm`, or what `FIRSTSEEN_MODULE` names).

/// What every record should come back with, worked out slowly and obviously; shares no code with the engine.
mod oracle;

/// The native engine and the module behind one trait, and how an annotation is told from the record it stands in.
mod subjects;

/// Cases by hand, one file of `cases/` a topic: dialects and envelopes, the AS organisation, each condition of the three
/// queries, new terms in time, suppression, account names, fields and comparisons, settings and own rules, whole alerts.
mod cases;

/// Random streams: the engine equals the oracle, the oracle equals the batch definition, the prefilter loses nothing, a
/// history too small alerts more and never less, and the module equals the engine.
mod properties;

/// VRL, in which conditions for Vector are.
mod vector_language;

/// What `compile --print` prints for Vector and Fluent Bit lets every event through that a rule matches.
mod candidates;

/// No input makes the module trap, loop or lose a record, memory does not grow, and a matching event alerts whatever stands
/// beside what makes it match.
mod hostile;

/// A call that is stopped half-way, at any point, does no harm to the next one in the same instance.
mod after_a_trap;

/// How the module starts: with which rules, when it refuses, and what it says.
mod starting;

/// What becomes of the history when instances come and go, the file or its directory is damaged or taken away, and two write
/// one file; what the alerts and standard error say of it; and what `warming = "hold"` does.
mod surviving;

/// The files of the configuration directory behind links, as pipes, cut; and which pack runs then.
mod files;

/// Hosts whose clock is wrong, and events that are misdated.
mod host_clock;

/// The program killed again and again while it works: no alert is missing, and none is new but on what was delivered again.
mod killed;

/// Seeding and tending: `baseline`, `state show|export|import|forget`, as their user runs them.
mod tending;

/// Logs in every framing and packing: files, pipes and bodies give the same events, what is left out is counted, and nothing that is read
/// takes the machine's memory.
mod reading;

/// The sidecar, `firstseen serve`: what senders and receivers see of it.
mod serve;

/// What the module asks of its host and offers it: imports, exports, features, size.
mod module_contract;

/// Suppression on CloudTrail as STS writes it today, in every command; and what is said of groups that are used once.
mod suppression;

/// Event times in the forms that exports write.
mod times;

/// What is said when records hold no event that is recognised.
mod recognition;

/// Mutated records and bodies: nothing traps, nothing is lost, nothing is hidden.
mod mutations;

/// `--asn`: the AS organisation out of a database, for events that come without one, and what a baseline without one is worth.
mod as_lookup;

/// What is said when upstream enrichment brings no AS organisation, or other ones than before.
mod enrichment;

/// The fuel a record takes, held against a baseline.
mod fuel;

/// Every file below `config-examples/` is loaded and does what its comments say, in a real Fluent Bit or Vector where there is one.
mod config_examples;
