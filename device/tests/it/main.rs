//! `fmlora-edge` as its user runs it: a process, files, exit codes.

mod bad_clients;
mod bad_input;
mod bad_state;
mod cameras;
mod daemon;
mod devices;
mod documents;
mod http;
mod kills;
mod mqtt;
mod readme;
mod round_trip;
mod served;
mod setting;
mod signals;
mod storage;
mod streams;
mod tasks;
mod tls;
mod update;
mod update_daemon;
mod update_trial;
