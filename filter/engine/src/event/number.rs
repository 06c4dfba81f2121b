//! Decimal numbers as they are written, compared exactly.
//!
//! In: `-12.50e3`. Out: an order, in which spelling does not matter. Bounds: no arithmetic but on exponents, so any number
//! of digits is exact; exponents beyond 64 bits count as the largest. Not read: infinities, hexadecimal digits, signs but
//! `-`.

use core::cmp::Ordering;

/// A number in pieces: its digits are those of `whole` and `fraction` in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    /// Without leading zeros.
    whole: &'a [u8],
    /// Without leading zeros if there is no whole part.
    fraction: &'a [u8],
    /// Where the point stands: the number is `0.DIGITS` times ten to the power of this.
    point: i64,
}

/// How two numbers compare; `None` if one of the texts is not a number.
pub(crate) fn compare(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (Decimal::parse(a)?, Decimal::parse(b)?);
    Some(match (a.negative, b.negative) {
        (false, false) => a.compare_size(&b),
        (true, true) => b.compare_size(&a),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}

impl<'a> Decimal<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Decimal<'a>> {
        let (negative, text) = match text.as_bytes() {
            [b'-', text @ ..] => (true, text),
            text => (false, text),
        };
        let (digits, exponent) = match split_once(text, b'e') {
            Some((digits, exponent)) => (digits, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (mut whole, mut fraction) = split_once(digits, b'.').unwrap_or((digits, b"0"));
        let are_digits = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        while let [b'0', rest @ ..] = whole {
            whole = rest;
        }
        let mut point = whole.len() as i64;
        if whole.is_empty() {
            while let [b'0', rest @ ..] = fraction {
                fraction = rest;
                point -= 1;
            }
        }
        let zero = whole.is_empty() && fraction.is_empty();
        let point = if zero { i64::MIN } else { point.saturating_add(exponent) };
        Some(Decimal { negative: negative && !zero, whole, fraction, point })
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        let count = |number: &Self| number.whole.len() + number.fraction.len();
        self.point.cmp(&other.point).then_with(|| {
            let mut digits = 0..count(self).max(count(other));
            digits
                .find(|at| self.digit(*at) != other.digit(*at))
                .map_or(Ordering::Equal, |at| self.digit(at).cmp(&other.digit(at)))
        })
    }

    /// How many digits stand before the point, of a number that is not negative.
    pub(crate) fn whole_digits(&self) -> Option<usize> {
        if self.negative { None } else { usize::try_from(self.point.max(0)).ok() }
    }

    /// One of the digits, and zeros behind them.
    pub(crate) fn digit(&self, at: usize) -> u8 {
        let digit = self.whole.get(at).or_else(|| self.fraction.get(at - self.whole.len()));
        digit.copied().unwrap_or(b'0')
    }
}

/// What comes before the first such letter, in either case, and what behind it.
fn split_once(text: &[u8], letter: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| byte.eq_ignore_ascii_case(&letter))?;
    Some((&text[..at], &text[at + 1..]))
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let size = digits.iter().try_fold(0i64, |size, digit| {
        digit.is_ascii_digit().then(|| size.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
    })?;
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn spelling_does_not_matter() {
        for (a, b, order) in [
            ("22", "22.0", Ordering::Equal),
            ("22", "220e-1", Ordering::Equal),
            ("022", "2.2E+1", Ordering::Equal),
            ("0", "-0.00e5", Ordering::Equal),
            ("100", "1e2", Ordering::Equal),
            ("0.001", "1e-3", Ordering::Equal),
            ("9", "10", Ordering::Less),
            ("-9", "-10", Ordering::Greater),
            ("-1", "0", Ordering::Less),
            ("0", "1e-999999999999999999999", Ordering::Less),
            ("1e999999999999999999999", "5", Ordering::Greater),
            ("9007199254740993", "9007199254740992", Ordering::Greater),
            ("0.1", "0.09", Ordering::Greater),
            ("1.25", "1.3", Ordering::Less),
        ] {
            assert_eq!(compare(a, b), Some(order), "{a} and {b}");
            assert_eq!(compare(b, a), Some(order.reverse()), "{b} and {a}");
        }
    }

    #[test]
    fn other_text_is_no_number() {
        for text in
            ["", "-", "a", "1a", "1.", ".5", "1e", "1e+", "1e1.5", "inf", "NaN", "0x10", "+1", "--1", " 1", "1_000"]
        {
            assert_eq!(compare(text, "1"), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_floats(a in -1e9f64..1e9, b in -1e9f64..1e9) {
            prop_assert_eq!(compare(&format!("{a}"), &format!("{b:e}")), a.partial_cmp(&b));
            prop_assert_eq!(compare(&format!("{a:e}"), &format!("{a}")), Some(Ordering::Equal));
        }

        #[test]
        fn agrees_with_integers(a: i128, b: i128) {
            prop_assert_eq!(compare(&format!("{a}"), &format!("{b}.0")), Some(a.cmp(&b)));
        }
    }
}
