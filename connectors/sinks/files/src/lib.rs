//! Writes topics as Parquet files to S3 or disk.
