//! The picture on a terminal, drawn over itself.
//!
//! It stands where the cursor was, and stays there when the demo ends. No mode of the terminal is
//! changed and the cursor is never hidden, so there is nothing to restore, whoever ends the demo how.

use super::output::{Closed, Output};
use super::{Room, Scene};
use nix::poll::PollTimeout;
use terminal_size::{Height, Width, terminal_size_of};

/// A terminal that does not say how large it is.
const ROOM: Room = Room { columns: 80, rows: 24 };

/// Begin and end of a frame, for terminals that can show it at once (mode 2026); others ignore it.
const FRAME: &str = "\x1b[?2026h";
const FRAME_END: &str = "\x1b[?2026l";

/// The picture on a terminal.
#[derive(Debug)]
pub(in crate::ctl::demo) struct Live {
    output: Output,
    coloured: bool,
    /// The lines that are on the terminal, and the room they were drawn for.
    drawn: usize,
    room: Room,
}

impl Live {
    pub(in crate::ctl::demo) fn new(output: Output, coloured: bool) -> Self {
        let room = room_of(&output);
        Self { output, coloured, drawn: 0, room }
    }

    /// Draws the scene; leaves it out if the terminal takes nothing now.
    ///
    /// # Errors
    /// [`Closed`]
    pub(in crate::ctl::demo) fn draw(
        &mut self,
        scene: &Scene<'_>,
        ended: &dyn Fn() -> bool,
    ) -> Result<(), Closed> {
        if !self.output.is_ready(PollTimeout::ZERO) {
            return Ok(());
        }
        let room = room_of(&self.output);
        let mut text = FRAME.to_owned();
        match self.drawn {
            // Whatever the terminal made of the lines at its new size: begin anew.
            _ if room != self.room => text += "\x1b[H\x1b[2J",
            0 => {}
            drawn => text += &format!("\x1b[{drawn}F"),
        }
        let lines = scene.draw(room, self.coloured);
        for line in &lines {
            text += &format!("\r{line}\x1b[K\n");
        }
        text += "\x1b[J";
        text += FRAME_END;
        self.output.write(&text, ended)?;
        (self.drawn, self.room) = (lines.len(), room);
        Ok(())
    }

    /// A line under the picture.
    ///
    /// # Errors
    /// [`Closed`]
    pub(in crate::ctl::demo) fn say(&mut self, text: &str, ended: &dyn Fn() -> bool) -> Result<(), Closed> {
        self.drawn = 0;
        self.output.write(&format!("\r\x1b[K{text}\n"), ended)
    }
}

fn room_of(output: &Output) -> Room {
    match terminal_size_of(output) {
        Some((Width(columns @ 1..), Height(rows @ 1..))) => {
            Room { columns: columns.into(), rows: rows.into() }
        }
        _ => ROOM,
    }
}
