//! Just enough of ELF (elf(5)) to see whether a program finds its libraries by its own place.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What tells an ELF file.
pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// No program has more of these; a file that says so is not worth the time.
const HEADERS_MAX: u64 = 256;
const ENTRIES_MAX: u64 = 4096;

/// Reads numbers of the file's own width and byte order.
struct Elf<'a> {
    file: &'a File,
    wide: bool,
    little: bool,
}

/// One program header.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

impl Elf<'_> {
    fn number(&self, at: u64, bytes: usize) -> Option<u64> {
        let mut buffer = [0u8; 8];
        self.file.read_exact_at(buffer.get_mut(..bytes)?, at).ok()?;
        let number = u64::from_le_bytes(buffer);
        Some(if self.little { number } else { number.swap_bytes() >> (8 * (8 - bytes)) })
    }

    /// An address, an offset or a size.
    fn word(&self, at: u64) -> Option<u64> {
        self.number(at, if self.wide { 8 } else { 4 })
    }

    fn segments(&self) -> Option<Vec<Segment>> {
        let pick = |wide, narrow| if self.wide { wide } else { narrow };
        let table = self.word(pick(0x20, 0x1c))?;
        let size = self.number(pick(0x36, 0x2a), 2)?;
        let count = self.number(pick(0x38, 0x2c), 2)?.min(HEADERS_MAX);
        let segment = |index: u64| {
            let at = table.checked_add(index * size)?;
            let field = |offset: u64| self.word(at.checked_add(offset)?);
            Some(Segment {
                kind: self.number(at, 4)?,
                offset: field(pick(8, 4))?,
                address: field(pick(16, 8))?,
                size: field(pick(32, 16))?,
            })
        };
        (0..count).map(segment).collect()
    }

    /// The text at an address of the program, as the file has it; its first 4 KiB.
    fn text(&self, segments: &[Segment], address: u64) -> Option<Vec<u8>> {
        let holds = |s: &&Segment| s.kind == PT_LOAD && address >= s.address && address - s.address < s.size;
        let segment = segments.iter().find(holds)?;
        let mut text = vec![0; 4096];
        let read =
            self.file.read_at(&mut text, segment.offset.checked_add(address - segment.address)?).ok()?;
        text.truncate(read);
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        text.truncate(end);
        Some(text)
    }
}

/// Whether a library path of the program names $ORIGIN, the folder that the program is in: a copy
/// in another folder would not find its libraries, or would find others. What cannot be read as
/// ELF has no such path.
pub(super) fn depends_on_its_place(file: &File) -> bool {
    paths(file).is_some_and(|paths| {
        let named = |path: &Vec<u8>| {
            path.windows(7).any(|w| w == b"$ORIGIN") || path.windows(9).any(|w| w == b"${ORIGIN}")
        };
        paths.iter().any(named)
    })
}

fn paths(file: &File) -> Option<Vec<Vec<u8>>> {
    let mut identity = [0u8; 6];
    file.read_exact_at(&mut identity, 0).ok()?;
    let elf = Elf { file, wide: identity[4] == 2, little: identity[5] == 1 };
    if !identity.starts_with(&MAGIC) {
        return None;
    }
    let segments = elf.segments()?;
    let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
    let width = if elf.wide { 8 } else { 4 };
    let (mut strings, mut wanted) = (None, Vec::new());
    for index in 0..(dynamic.size / (2 * width)).min(ENTRIES_MAX) {
        let at = dynamic.offset.checked_add(index * 2 * width)?;
        let (tag, value) = (elf.word(at)?, elf.word(at.checked_add(width)?)?);
        match tag {
            0 => break,
            DT_STRTAB => strings = Some(value),
            DT_RPATH | DT_RUNPATH => wanted.push(value),
            _ => {}
        }
    }
    let strings = strings?;
    wanted.into_iter().map(|offset| elf.text(&segments, strings.checked_add(offset)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::{depends_on_its_place, paths};
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// A 64-bit or 32-bit program with nothing but a RUNPATH.
    fn program(wide: bool, little: bool, path: &str) -> File {
        let (file, width) = (tempfile::tempfile().unwrap(), if wide { 8u64 } else { 4 });
        let put = |at: u64, value: u64, bytes: u64| {
            let bytes = usize::try_from(bytes).unwrap();
            let (le, be) = (value.to_le_bytes(), value.to_be_bytes());
            file.write_all_at(if little { &le[..bytes] } else { &be[8 - bytes..] }, at).unwrap();
        };
        file.write_all_at(b"\x7fELF", 0).unwrap();
        file.write_all_at(&[1 + u8::from(wide), 2 - u8::from(little)], 4).unwrap();
        let pick = |a, b| if wide { a } else { b };
        let (table, size) = (0x40, pick(56, 32));
        put(pick(0x20, 0x1c), table, width);
        put(pick(0x36, 0x2a), size, 2);
        put(pick(0x38, 0x2c), 2, 2);
        for (index, kind, offset, address, length) in
            [(0, 1, 0, 0x1000, 0x1000), (1, 2, 0x200, 0x1200, 0x100)]
        {
            let at = table + index * size;
            put(at, kind, 4);
            put(at + pick(8, 4), offset, width);
            put(at + pick(16, 8), address, width);
            put(at + pick(32, 16), length, width);
        }
        for (index, (tag, value)) in (0..).zip([(5u64, 0x1400u64), (29, 8), (0, 0)]) {
            put(0x200 + index * 2 * width, tag, width);
            put(0x200 + index * 2 * width + width, value, width);
        }
        file.write_all_at(path.as_bytes(), 0x408).unwrap();
        file.write_all_at(&[0], 0x408 + path.len() as u64).unwrap();
        file
    }

    #[test]
    fn a_path_by_its_own_place() {
        for wide in [true, false] {
            for little in [true, false] {
                assert!(depends_on_its_place(&program(wide, little, "/opt/lib:$ORIGIN/../lib")));
                assert!(depends_on_its_place(&program(wide, little, "${ORIGIN}")));
                let plain = program(wide, little, "/opt/lib");
                assert_eq!(paths(&plain), Some(vec![b"/opt/lib".to_vec()]));
                assert!(!depends_on_its_place(&plain));
            }
        }
    }

    #[test]
    fn a_real_program_has_none_and_garbage_is_no_program() {
        assert!(!depends_on_its_place(&File::open("/bin/sh").unwrap()));
        assert_eq!(paths(&File::open("/bin/sh").unwrap()), Some(Vec::new()));
        let file = program(true, true, "$ORIGIN");
        // Every byte of the headers broken, one at a time: any answer, no panic.
        for at in 0..0x240 {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap_or_default();
            for broken in [0, 0x7f, 0xff] {
                file.write_all_at(&[broken], at).unwrap();
                let _ = depends_on_its_place(&file);
            }
            file.write_all_at(&byte, at).unwrap();
        }
        assert!(depends_on_its_place(&file));
        file.set_len(0x100).unwrap();
        assert!(!depends_on_its_place(&file));
        assert!(!depends_on_its_place(&tempfile::tempfile().unwrap()));
    }
}
