//! The commit journal of a pipeline: what is committed is what stands here.
//!
//! [`entry`] is what entries say, [`format`] draws and writes their bytes, [`decode`] reads them, [`load`] reads a journal's directory back, [`JournalFile`] appends to it.
//!
//! The order of writes of a commit, and why a crash between any two of them is harmless:
//!
//! 1. Pieces too large to stand in the journal go to their segments. Without step 2 they are bytes behind the committed end:
//!    recovery cuts them off.
//! 2. The entry, with all other pieces inside, is appended to the journal, and these go to the ends of their segments too, in memory at first
//!    ([`crate::segment_tail`]). Half an entry is not one: its
//!    checksums and its trailer fail, and recovery cuts it off; and so it does with an entry if pieces of it are not in their segments and look as
//!    if they never were.
//! 3. The journal and the segments of step 1 are synced at the same time (their directories too, the first time). **This is the commit.**
//!    The segments of step 2 are not: recovery writes what they lack. One sync can do for several entries.
//! 4. Readers see the new ends.
//! 5. From time to time a checkpoint: the segments of step 2 are written and synced, then a new journal file is written under a
//!    temporary name. It begins with all ends as of the checkpoint, and goes on with the entries that came since. It is
//!    synced, renamed, the directory synced, and the old file removed. At every moment there is a journal file that begins
//!    with a whole checkpoint.
//!
//! Each entry says how much before it was not synced when it was begun. So recovery knows which entries a crash can have torn: those that no later
//! one says to be synced. Of these the first that is torn ends the journal, whatever is left of others; nobody was told of any of them. An entry
//! before them is never torn, but damaged.

/// The smallest unit that a disk writes wholly or not at all.
pub(crate) const BLOCK_BYTES: u64 = 512;

pub(crate) mod decode;
pub(crate) mod entry;
mod file;
pub(crate) mod format;
mod load;
#[cfg(test)]
mod tests;

pub(crate) use file::{JournalFile, NewJournal};
#[cfg(feature = "fuzzing")]
pub(crate) use load::read_journal;
pub(crate) use load::{Loaded, LoadedTopics, load, pipelines};
