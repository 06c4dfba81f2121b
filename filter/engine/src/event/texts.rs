//! Room for decoded texts while a record is read.
//!
//! In: texts that a record holds in escaped or encoded form. Out: the same texts at an address that stays. Bounds: the sum of
//! the texts; all are freed with the record. Not here: what is in a text.

use alloc::boxed::Box;
use alloc::string::String;
use core::cell::OnceCell;

/// Room for the texts of one record.
#[derive(Debug, Default)]
pub struct Texts(OnceCell<Box<Text>>);

#[derive(Debug)]
struct Text {
    text: String,
    next: Texts,
}

impl Texts {
    /// Keeps a text; the text as it is kept, and the room behind it.
    pub(super) fn keep(&self, text: String) -> (&str, &Texts) {
        let kept = self.0.get_or_init(|| Box::new(Text { text, next: Texts::default() }));
        (&kept.text, &kept.next)
    }
}

/// One after the other: a record may hold thousands of texts, and the stack is small.
impl Drop for Texts {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut text) = next {
            next = text.next.0.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn many_texts_stay_where_they_are() {
        let texts = Texts::default();
        let (first, mut room) = texts.keep("first".to_string());
        for number in 0..200_000 {
            let (kept, behind) = room.keep(number.to_string());
            assert_eq!(kept, number.to_string());
            room = behind;
        }
        assert_eq!(first, "first");
    }
}
