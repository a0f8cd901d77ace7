//! Lines of a terminal that are drawn again in place.

use console::Term;
use std::io;

/// The cursor is hidden until this is dropped. It stands below the lines that were shown.
pub(crate) struct Screen {
    term: Term,
    shown: usize,
}

impl Screen {
    pub(crate) fn open() -> io::Result<Self> {
        let term = Term::buffered_stdout();
        let screen = Screen { term, shown: 0 };
        screen.term.hide_cursor()?;
        screen.term.flush()?;
        Ok(screen)
    }

    /// How many rows and columns there are.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.term.size();
        (rows.into(), columns.into())
    }

    /// Shows these in place of the ones before. The user has entered so many lines meanwhile, each of which has moved
    /// the cursor down.
    pub(crate) fn show(&mut self, lines: &[String], entered: usize) -> io::Result<()> {
        self.term.move_cursor_up(self.shown + entered)?;
        for line in lines {
            self.term.clear_line()?;
            self.term.write_line(line)?;
        }
        self.term.clear_to_end_of_screen()?;
        self.shown = lines.len();
        self.term.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about an error here.
        drop(self.term.show_cursor().and_then(|()| self.term.flush()));
    }
}
