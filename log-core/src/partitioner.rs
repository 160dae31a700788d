//! Which partition a key goes to: the rule of Kafka's Java producer, so that a key stays in its partition when
//! the same records are produced by a Kafka client.

use crate::partition::PartitionId;

/// The murmur2 hash with the seed of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;

    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key among `partitions` (at least 1), as Kafka's default partitioner chooses it.
pub fn partition_for(key: &[u8], partitions: PartitionId) -> PartitionId {
    debug_assert!(partitions > 0);
    if partitions <= 1 {
        return 0;
    }
    (murmur2(key) & 0x7fff_ffff) as PartitionId % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_java_client_does() {
        // Values of Kafka's own test of its hash.
        let cases: [(&str, i32); 6] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn partitions_are_in_range() {
        for key in 0..1000u32 {
            for partitions in [1, 2, 3, 7, 1000] {
                assert!((0..partitions).contains(&partition_for(&key.to_be_bytes(), partitions)));
            }
        }
        assert_eq!(partition_for(b"foobar", 1000), ((-790332482i32) & 0x7fff_ffff) % 1000);
    }
}
