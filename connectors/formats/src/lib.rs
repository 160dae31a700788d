//! Change batches to and from records: Debezium's envelope in Avro and JSON.
