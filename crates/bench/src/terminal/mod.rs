//! The person before the screen: what is printed, what went wrong, Ctrl-C, the machine itself.

pub mod exit;
pub mod failure;
pub mod interrupt;
pub mod lines;
pub mod machine;
pub mod printer;
pub mod progress;
