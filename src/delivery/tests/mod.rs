//! The engine and intake as a whole, behind fakes of the four ports, in virtual time: nothing here waits for a real clock or a network.

mod engine_settles_everything;
mod intake_never_stalls;
mod own_outage;
mod sick_endpoints;
mod simulated;
mod simulation;
