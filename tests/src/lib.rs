//! Black-box tests: the built binary against real servers.
