//! One file a command. Each takes its arguments and returns the program's exit code.

pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod sample;

/// `1 rule`, `20,000 records`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", grouped(count)),
    }
}

/// `20000` as `20,000`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_in_threes() {
        assert_eq!([0, 999, 1000, 123_456, 1_234_567].map(grouped), ["0", "999", "1,000", "123,456", "1,234,567"]);
        assert_eq!([0, 1, 2000].map(|count| counted(count, "rule")), ["0 rules", "1 rule", "2,000 rules"]);
    }
}
