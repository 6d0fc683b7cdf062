//! Standard input, cut into items.
//!
//! A read can't be interrupted, so it happens on a thread that is left behind when a signal asks for the end.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::signals::Stop;

/// How long a wait for input lasts before it looks for a signal.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of one read, and reads that may wait to be taken.
const PIECE_BYTES: usize = 128 << 10;
const PIECES_AHEAD: usize = 16;

/// Pieces of standard input, as they come.
pub struct Input {
    pieces: Receiver<io::Result<Vec<u8>>>,
    stop: Stop,
}

/// What was there to read.
pub enum Piece {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// Nothing yet.
    Later,
    /// The input has ended.
    End,
    /// The work should end; the input has not.
    Stopped,
}

impl Input {
    /// Starts to read standard input.
    pub fn standard(stop: &Stop) -> Result<Input> {
        let (send, pieces) = sync_channel(PIECES_AHEAD);
        let thread = std::thread::Builder::new().name("lanelog-input".to_owned());
        thread.spawn(move || read_all(&mut io::stdin().lock(), &send)).context("can't start a thread")?;
        Ok(Input { pieces, stop: stop.clone() })
    }

    /// What is there now.
    pub fn poll(&self) -> io::Result<Piece> {
        if self.stop.is_asked() {
            return Ok(Piece::Stopped);
        }
        match self.pieces.try_recv() {
            Ok(piece) => piece.map(Piece::Bytes),
            Err(TryRecvError::Empty) => Ok(Piece::Later),
            Err(TryRecvError::Disconnected) => Ok(Piece::End),
        }
    }

    /// Waits for more: never `Later`.
    pub fn wait(&self) -> io::Result<Piece> {
        while !self.stop.is_asked() {
            match self.pieces.recv_timeout(LOOK) {
                Ok(piece) => return piece.map(Piece::Bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Piece::End),
            }
        }
        Ok(Piece::Stopped)
    }
}

fn read_all(from: &mut impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut bytes = vec![0; PIECE_BYTES];
        let read = match from.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
            Ok(0) => return,
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes)
            }
        };
        let failed = read.is_err();
        if to.send(read).is_err() || failed {
            return;
        }
    }
}

/// Puts items together that may begin in one piece and end in another.
pub struct Items {
    end: u8,
    begun: Vec<u8>,
    bytes_max: usize,
}

/// An item without an end in sight.
#[derive(Debug, PartialEq, Eq)]
pub struct Endless;

impl Items {
    /// Items that `end` ends, of which no more than `bytes_max` bytes are held.
    pub fn new(end: u8, bytes_max: usize) -> Items {
        Items { end, begun: Vec::new(), bytes_max }
    }

    /// Calls `take` with every item that is complete with `piece`, until it fails.
    pub fn cut<E: From<Endless>>(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = piece;
        while !rest.is_empty() {
            let before = rest;
            // A slice can always be read.
            let length = rest.skip_until(self.end).unwrap_or(before.len());
            let item = before.get(..length).unwrap_or(before);
            match item.strip_suffix(&[self.end]) {
                Some(whole) if self.begun.is_empty() => take(whole)?,
                Some(last) => {
                    self.begun.extend_from_slice(last);
                    take(&self.begun)?;
                    self.begun.clear();
                }
                None if self.begun.len() + item.len() > self.bytes_max => return Err(Endless.into()),
                None => self.begun.extend_from_slice(item),
            }
        }
        Ok(())
    }

    /// What came behind the last end.
    pub fn rest(self) -> Option<Vec<u8>> {
        Some(self.begun).filter(|begun| !begun.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::{Endless, Items};

    /// Every way to cut the same bytes into pieces gives the same items.
    #[test]
    fn items_do_not_depend_on_how_reads_cut_them() {
        for (text, items, rest) in [
            ("a\nbc\n\nd", vec!["a", "bc", ""], Some("d")),
            ("", vec![], None),
            ("\n\n", vec!["", ""], None),
            ("no end", vec![], Some("no end")),
            ("a\0b\n", vec!["a\0b"], None),
        ] {
            for piece_bytes in 1..=text.len().max(1) {
                let (mut cutter, mut found) = (Items::new(b'\n', 100), Vec::new());
                for piece in text.as_bytes().chunks(piece_bytes) {
                    let take = |item: &[u8]| {
                        found.push(String::from_utf8(item.to_vec()).unwrap());
                        Ok::<_, Endless>(())
                    };
                    cutter.cut(piece, take).unwrap();
                }
                assert_eq!(
                    (found, cutter.rest()),
                    (items.iter().map(ToString::to_string).collect(), rest.map(Into::into))
                );
            }
        }
    }

    #[test]
    fn an_item_without_end_is_not_held() {
        let mut items = Items::new(b'\n', 10);
        let none = |_: &[u8]| Ok::<_, Endless>(());
        assert_eq!(items.cut(b"0123456789", none), Ok(()));
        assert_eq!(items.cut(b"a", none), Err(Endless));
    }
}
