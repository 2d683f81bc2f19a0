//! Read the golden vectors in `tests/vectors`: headers, then bytes in hex with notes behind `#`.
//!
//! Does not know what bytes mean. Used by the tests of this crate, each of which needs only a part.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One file: some bytes and what they mean.
#[derive(Debug)]
pub struct Vector {
    /// File name without its ending.
    pub name: String,
    headers: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
}

impl Vector {
    /// The value of a header that every vector has.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{} has no header {name}", self.name))
    }

    /// The name of the function that writes these bytes, if we author them.
    pub fn authored(&self) -> Option<&str> {
        self.headers.get("authored").map(String::as_str)
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(name)
}

/// All vectors in a folder, by name.
pub fn read(name: &str) -> Vec<Vector> {
    let mut paths: Vec<_> = std::fs::read_dir(folder(name))
        .expect("the folder of vectors is there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    paths.sort();
    paths.iter().map(|path| parse(path)).collect()
}

fn parse(path: &Path) -> Vector {
    let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).expect("a vector can be read");
    let (head, body) = text.split_once("\nbytes:\n").unwrap_or_else(|| panic!("{name} has no bytes"));
    let headers = head
        .lines()
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{name}: no header in {line:?}")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let bytes = body
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|hex| u8::from_str_radix(hex, 16).unwrap_or_else(|_| panic!("{name}: {hex:?} is not hex")))
        .collect();
    Vector { name, headers, bytes }
}
