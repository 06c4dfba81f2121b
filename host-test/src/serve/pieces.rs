//! A body in several pieces, which is sent with its length and without being put together.
//!
//! In: pieces in their order, and what is to be held as long as any byte of them is. Out: an HTTP body. What HTTP's machinery has
//! taken and not sent yet is held too: each frame that is not short carries what is to be held. Bounds: a frame has [`FRAME`] bytes at most, so that
//! no more is taken than there is room for. Not here: what the pieces are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

/// How many bytes are given out at once.
const FRAME: usize = 256 << 10;

/// A piece that is shorter is copied behind others, and nothing is held with it once it is given out.
const SHORT: usize = 4 << 10;

/// How long copied pieces become.
const COPIED: usize = 64 << 10;

/// What is held as long as bytes of a body are.
pub trait Hold: std::fmt::Debug + Send + Sync {
    /// The body is given up before all of it was taken to be sent.
    fn cut_short(&self) {}
}

/// A body that is there already.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    /// What was copied last; it may grow.
    copied: Vec<u8>,
    bytes: usize,
    hold: Option<Arc<dyn Hold>>,
}

impl Pieces {
    /// Puts another piece behind the others.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.end_copied();
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The same, but a short piece is copied: frames of a few bytes each would cost more.
    pub fn push_or_copy(&mut self, piece: Bytes) {
        if piece.len() >= SHORT { self.push(piece) } else { self.copy(&piece) }
    }

    /// Puts a copy behind the others.
    pub fn copy(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            if self.copied.len() == self.copied.capacity() {
                self.end_copied();
                self.copied.reserve_exact(COPIED);
            }
            let room = self.copied.capacity() - self.copied.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.copied.extend_from_slice(now);
            bytes = later;
        }
    }

    /// How many bytes it would copy.
    pub fn copies(piece: &[u8]) -> usize {
        if piece.len() < SHORT { piece.len() } else { 0 }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Its pieces.
    pub fn into_pieces(mut self) -> impl Iterator<Item = Bytes> {
        self.end_copied();
        std::mem::take(&mut self.pieces).into_iter()
    }

    /// The same body, with which this is held.
    #[must_use]
    pub fn holding(mut self, hold: Arc<dyn Hold>) -> Pieces {
        self.hold = Some(hold);
        self
    }

    fn end_copied(&mut self) {
        if !self.copied.is_empty() {
            let mut copied = std::mem::take(&mut self.copied);
            copied.shrink_to_fit();
            self.pieces.push_back(Bytes::from(copied));
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if self.bytes > 0
            && let Some(hold) = &self.hold
        {
            hold.cut_short();
        }
    }
}

/// Bytes, and what is held with them.
struct Held {
    bytes: Bytes,
    _hold: Arc<dyn Hold>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.end_copied();
        let Some(first) = self.pieces.front_mut() else { return Poll::Ready(None) };
        let bytes = first.split_to(first.len().min(FRAME));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        self.bytes -= bytes.len();
        let bytes = match &self.hold {
            // A short one is not worth it.
            Some(hold) if bytes.len() >= SHORT => Bytes::from_owner(Held { bytes, _hold: Arc::clone(hold) }),
            _ => bytes,
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes as u64)
    }
}

impl From<Pieces> for axum::body::Body {
    fn from(pieces: Pieces) -> Self {
        axum::body::Body::new(pieces.map_err(|never| match never {}))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Flag(AtomicBool);

    impl Hold for Flag {
        fn cut_short(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn next(pieces: &mut Pieces) -> Option<Bytes> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(pieces).poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(|Ok(frame)| frame.into_data().expect("data")),
            Poll::Pending => panic!("it is there already"),
        }
    }

    #[test]
    fn what_is_held_is_held_until_the_last_byte_is_dropped() {
        let hold = Arc::new(Flag::default());
        let mut pieces = Pieces::default();
        pieces.push_or_copy(Bytes::from_static(b"a"));
        pieces.push_or_copy(Bytes::from_static(b"b"));
        pieces.push_or_copy(Bytes::from(vec![b'c'; FRAME + SHORT]));
        pieces.push_or_copy(Bytes::from_static(b"d"));
        let mut pieces = pieces.holding(Arc::clone(&hold) as Arc<dyn Hold>);
        assert_eq!(pieces.len(), FRAME + SHORT + 3);
        let frames: Vec<Bytes> = std::iter::from_fn(|| next(&mut pieces)).collect();
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), [2, FRAME, SHORT, 1]);
        assert!(pieces.is_end_stream());
        drop(pieces);
        assert_eq!((Arc::strong_count(&hold), hold.0.load(Ordering::Relaxed)), (3, false));
        let part = frames[1].slice(5..6);
        drop(frames);
        assert_eq!(Arc::strong_count(&hold), 2);
        drop(part);
        assert_eq!(Arc::strong_count(&hold), 1);
    }

    #[test]
    fn a_body_that_is_given_up_says_so() {
        let hold = Arc::new(Flag::default());
        let mut pieces = Pieces::default();
        pieces.push(Bytes::from(vec![0; FRAME + 1]));
        let mut pieces = pieces.holding(Arc::clone(&hold) as Arc<dyn Hold>);
        next(&mut pieces);
        assert!(!hold.0.load(Ordering::Relaxed));
        drop(pieces);
        assert!(hold.0.load(Ordering::Relaxed));
    }
}
