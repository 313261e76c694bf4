//! The harness: plans suites, runs them, stores and reports.
//!
//! This crate is the only one that touches terminal, results folder and clock. The way of a run:
//! [`cli`] (what was typed) → [`planner`] (what will happen) → [`runner`] (computes what is
//! missing) → [`store`] (files named by what made them) → [`report`] (pure functions of the store).

pub mod artifacts;
pub mod asking;
pub mod catalogue;
pub mod check_world;
pub mod cli;
pub mod compute;
mod context;
pub mod curve;
pub mod digest;
pub mod eval;
pub mod exit;
pub mod external;
pub mod failure;
pub mod history;
pub mod interrupt;
pub mod lines;
pub mod machine;
pub mod made;
mod measuring;
pub mod merging;
pub mod models;
pub mod planner;
pub mod printer;
pub mod progress;
pub mod provenance;
pub mod recipe;
pub mod report;
pub mod roots;
pub mod runner;
pub mod saving;
pub mod store;
pub mod suites;
pub mod training;

#[cfg(test)]
mod fixture;
