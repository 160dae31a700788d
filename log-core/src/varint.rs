//! Zig-zag variable-length integers, as Kafka's record format (and Protocol Buffers' `sint`) writes them:
//! seven bits a byte, least significant first, the top bit set on all but the last byte.

/// Bytes that `value` takes.
#[inline]
pub(crate) fn len_i32(value: i32) -> usize {
    let bits = 32 - (zigzag_i32(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
fn zigzag_i32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// Writes `value` at `at`, which must leave five bytes; returns the position after it.
#[inline]
pub(crate) fn put_i32(buffer: &mut [u8], mut at: usize, value: i32) -> usize {
    let mut rest = zigzag_i32(value);
    while rest >= 0x80 {
        buffer[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    buffer[at] = rest as u8;
    at + 1
}

/// Reads an `i32` and moves `at` behind it; `None` when the bytes end or it is longer than five bytes.
#[inline]
pub(crate) fn get_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(i32::from(first >> 1) ^ -i32::from(first & 1));
    }
    let mut value = u32::from(first & 0x7f);
    for shift in [7, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            if shift == 28 && byte > 0x0f {
                return None;
            }
            return Some((value >> 1) as i32 ^ -((value & 1) as i32));
        }
    }
    None
}

/// Reads an `i64` and moves `at` behind it; `None` when the bytes end or it is longer than ten bytes.
#[inline]
pub(crate) fn get_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The examples of the Protocol Buffers encoding guide, and the borders.
        let cases: [(i32, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in cases {
            let mut buffer = [0; 5];
            let end = put_i32(&mut buffer, 0, value);
            assert_eq!(&buffer[..end], bytes);
            assert_eq!(len_i32(value), bytes.len());
            let mut at = 0;
            assert_eq!(get_i32(bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
            at = 0;
            assert_eq!(get_i64(bytes, &mut at), Some(i64::from(value)));
        }
    }

    #[test]
    fn overlong_and_cut_values_are_refused() {
        let mut at = 0;
        assert_eq!(get_i32(&[0x80, 0x80], &mut at), None);
        at = 0;
        assert_eq!(get_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f], &mut at), None);
        at = 0;
        assert_eq!(get_i64(&[0xff; 11], &mut at), None);
        at = 0;
        assert_eq!(get_i64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &mut at), Some(i64::MIN));
    }
}
