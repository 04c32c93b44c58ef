//! The end-to-end tests: real libvirtd, real guests, the real agent. One module
//! per behaviour. They need root and what `tests/setup.sh test` installs.
#![allow(missing_docs, reason = "a test is documented by its name")]

mod guest_boots;
