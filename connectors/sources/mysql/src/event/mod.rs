//! Events of the binary log, parsed in place.
