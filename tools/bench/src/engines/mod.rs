//! The engines, one file each, behind [`crate::engine::Engine`]. Nothing here measures anything.

use crate::engine::Engine;

#[cfg(feature = "beanstalkd")]
mod beanstalkd;
#[allow(dead_code, reason = "each engine that is built in uses a part")]
mod bell;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
#[allow(dead_code, reason = "each of the two may be built alone")]
mod cannot;
#[cfg(feature = "commitlog")]
mod commitlog;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(any(
    feature = "fjall",
    feature = "lmdb",
    feature = "redb",
    feature = "rocksdb",
    feature = "sled",
    feature = "sqlite"
))]
mod keyed;
mod lanelog;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "okaywal")]
mod okaywal;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "raft-engine")]
mod raft_engine;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[allow(dead_code, reason = "likewise")]
mod server;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(test)]
mod tests;
#[allow(dead_code, reason = "likewise")]
mod tickets;
#[cfg(feature = "walrus")]
mod walrus;
#[cfg(feature = "yaque")]
mod yaque;

/// Every engine that this program was built with, lanelog first.
pub fn all() -> Vec<&'static dyn Engine> {
    vec![
        &lanelog::Lanelog,
        #[cfg(feature = "commitlog")]
        &commitlog::Commitlog,
        #[cfg(feature = "fjall")]
        &fjall::Fjall,
        #[cfg(feature = "lmdb")]
        &lmdb::Lmdb,
        #[cfg(feature = "okaywal")]
        &okaywal::Okaywal,
        #[cfg(feature = "raft-engine")]
        &raft_engine::RaftEngine,
        #[cfg(feature = "redb")]
        &redb::Redb,
        #[cfg(feature = "rocksdb")]
        &rocksdb::RocksDb,
        #[cfg(feature = "sled")]
        &sled::Sled,
        #[cfg(feature = "sqlite")]
        &sqlite::Sqlite,
        #[cfg(feature = "walrus")]
        &walrus::Walrus,
        #[cfg(feature = "yaque")]
        &yaque::Yaque,
        #[cfg(feature = "beanstalkd")]
        &beanstalkd::Beanstalkd,
        #[cfg(feature = "nats")]
        &cannot::NATS,
        #[cfg(feature = "postgres")]
        &postgres::Postgres,
        #[cfg(feature = "rabbitmq")]
        &cannot::RABBITMQ,
        #[cfg(feature = "redis")]
        &redis::Redis,
    ]
}
