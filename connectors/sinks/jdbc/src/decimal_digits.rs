use arrow_buffer::i256;

/// As many digits as any 128-bit integer can have.
const PART_DIGITS: usize = 38;
const PART: i256 = i256::from_i128(10_i128.pow(PART_DIGITS as u32));

/// The decimal digits of a number of 256 bits, without its sign, in ASCII, parted at the decimal point.
#[derive(Debug)]
pub(crate) struct DecimalDigits {
    /// With zeroes in front.
    digits: [u8; 3 * PART_DIGITS],
    first: usize,
    point: usize,
}

impl DecimalDigits {
    /// The digits of `unscaled` / 10^`scale`.
    pub(crate) fn new(unscaled: &i256, scale: u8) -> Self {
        let mut digits = [b'0'; 3 * PART_DIGITS];
        let mut rest = *unscaled;
        // Three parts hold any number of 256 bits, each small enough for arithmetic of 128. A remainder has the number's sign.
        for part in digits.rchunks_exact_mut(PART_DIGITS) {
            let (quotient, remainder) = rest.wrapping_div_rem(PART);
            let mut remainder = remainder.as_i128().unsigned_abs();
            for digit in part.iter_mut().rev() {
                if remainder == 0 {
                    break;
                }
                *digit = b'0' + (remainder % 10) as u8;
                remainder /= 10;
            }
            rest = quotient;
        }
        let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
        let point = digits.len() - usize::from(scale).min(digits.len());
        Self { digits, first: first.min(point), point }
    }

    /// The digits before the point, without zeroes in front: none if the number is less than 1.
    pub(crate) fn whole(&self) -> &[u8] {
        self.digits.get(self.first..self.point).unwrap_or_default()
    }

    /// All digits of the scale.
    pub(crate) fn fraction(&self) -> &[u8] {
        self.digits.get(self.point..).unwrap_or_default()
    }
}
