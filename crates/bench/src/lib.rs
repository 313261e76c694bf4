//! The harness: plans suites and evaluations, runs them, stores and reports.
//!
//! This crate is the only one that touches terminal, results folder and clock. The way of a run:
//! [`cli`] (what was typed) → [`planner`] (what will happen) → [`runner`] (computes what is
//! missing) → [`results`] (files named by what made them) → [`report`] (pure functions of what is
//! stored). Suites and evaluations of published benchmarks go the same way.

pub mod asking;
pub mod catalogue;
pub mod cli;
pub mod compute;
pub mod external;
pub mod models;
pub mod planner;
pub mod pretrain;
pub mod report;
pub mod results;
pub mod roots;
pub mod runner;
pub mod saving;
pub mod suites;
pub mod terminal;
pub mod tune;

#[cfg(test)]
mod fixture;
