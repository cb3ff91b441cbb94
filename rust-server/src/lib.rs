//! The Rust server of the lab: GraphQL with DataLoader over PostgreSQL. See README.md.

pub mod app;
pub mod bench;
pub mod cache;
pub mod config;
pub mod errors;
pub mod floor;
pub mod health;
pub mod http;
pub mod limits;
pub mod loaders;
pub mod logging;
pub mod master;
pub mod profile;
pub mod ranking;
pub mod resolvers;
pub mod schema;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod workers;
