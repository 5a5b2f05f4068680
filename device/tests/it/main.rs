//! `fmlora-edge` as its user runs it: a process, files, exit codes.

mod bad_input;
mod bad_state;
mod daemon;
mod devices;
mod http;
mod readme;
mod round_trip;
mod setting;
mod tasks;
