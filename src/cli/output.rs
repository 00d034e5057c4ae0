//! Standard output, where a reader may be gone or a disk full: what a command does and finds holds all the same.
//!
//! Writing never fails here. The first error is remembered, nothing is written after it, and it is looked at once, when the exit code is
//! known: a verdict must not hang on who reads it. The demo and `receive`, which would go on for nobody, write without this and end.

use super::Exit;
use super::failure::complain;
use std::io::{self, Write};

/// A writer that takes everything.
pub(super) struct Output<W> {
    to: W,
    failed: Option<io::Error>,
}

impl<W: Write> Output<W> {
    pub(super) const fn new(to: W) -> Self {
        Self { to, failed: None }
    }

    /// The exit code of a command that ended with `exit`. A reader that has gone wanted no more; any other error is told, and makes done
    /// a failure, for a result got lost.
    pub(super) fn ended(mut self, exit: Exit) -> Exit {
        let _ = self.flush();
        match self.failed {
            Some(error) if !is_gone(&error) => {
                complain(format_args!("callbackd: standard output: {error}"));
                if exit == Exit::Done { Exit::Failed } else { exit }
            }
            Some(_) | None => exit,
        }
    }

    fn unless_failed<T>(&mut self, instead: T, act: impl FnOnce(&mut W) -> io::Result<T>) -> T {
        if self.failed.is_some() {
            return instead;
        }
        act(&mut self.to).unwrap_or_else(|error| {
            self.failed = Some(error);
            instead
        })
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let all = bytes.len();
        Ok(self.unless_failed(all, |to| to.write_all(bytes).map(|()| all)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_failed((), Write::flush);
        Ok(())
    }
}

/// Whether `error` says that nobody reads what was written.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes some writes, then none.
    struct Closing {
        takes: usize,
        then: io::ErrorKind,
        written: Vec<u8>,
        refused: usize,
    }

    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.takes == 0 {
                self.refused += 1;
                return Err(self.then.into());
            }
            self.takes -= 1;
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(takes: usize, then: io::ErrorKind) -> Output<Closing> {
        Output::new(Closing { takes, then, written: Vec::new(), refused: 0 })
    }

    #[test]
    fn a_writer_that_fails_is_not_asked_again_and_nobody_hears_of_it() {
        let mut out = output(1, io::ErrorKind::BrokenPipe);
        for _ in 0..3 {
            out.write_all(b"line\n").unwrap();
            out.flush().unwrap();
        }
        assert_eq!((out.to.written.as_slice(), out.to.refused), (&b"line\n"[..], 1));
    }

    #[test]
    fn a_reader_that_has_gone_changes_no_exit_code_and_a_full_disk_turns_only_success_into_failure() {
        use Exit::{Done, Failed, Invalid};
        for (then, exit, expected) in [
            (io::ErrorKind::BrokenPipe, Done, Done),
            (io::ErrorKind::BrokenPipe, Failed, Failed),
            (io::ErrorKind::BrokenPipe, Invalid, Invalid),
            (io::ErrorKind::StorageFull, Done, Failed),
            (io::ErrorKind::StorageFull, Failed, Failed),
            (io::ErrorKind::StorageFull, Invalid, Invalid),
        ] {
            let mut out = output(0, then);
            out.write_all(b"line\n").unwrap();
            assert_eq!(out.ended(exit), expected, "{then} {exit:?}");
        }
        assert_eq!(output(0, io::ErrorKind::StorageFull).ended(Done), Done, "nothing was written");
    }
}
