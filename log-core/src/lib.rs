//! A partitioned, append-only log on local disk, in Kafka's record-batch layout.
