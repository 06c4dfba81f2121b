//! Numbers as text: decimal digits, without the machinery of `core::fmt`, which is a tenth of a small module.

use alloc::string::String;

/// `1234`.
pub fn decimal(mut number: u64) -> String {
    // 2^64 has 20 digits.
    let mut digits = [b'0'; 20];
    let mut first = digits.len() - 1;
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        first = at;
        if number == 0 {
            break;
        }
    }
    digits.iter().skip(first).map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::decimal;
    use alloc::string::ToString;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 7, 10, 99, 100, 1_000_000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            assert_eq!(decimal(number), number.to_string());
        }
    }
}
