//! Run every fuzz target briefly on stable Rust: vectors, changed at random, from a seed that is printed.
//!
//! `FUZZ_SECONDS=60` runs that long instead of a fixed number of inputs; `FUZZ_SEED=…` repeats a run;
//! `FUZZ_TARGET=…` runs one target. The targets and their invariants are in `tests/fuzz`.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

#[path = "../../../tests/fuzz/targets.rs"]
mod targets;
mod vector;

/// Inputs per target when no time is given: a second or two in all, without optimisation.
const INPUTS: u64 = 15_000;
const LONGEST: usize = 2_048;

/// xorshift64*: small, and the same everywhere. Spec: Marsaglia 2003, Vigna 2016.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let folders = [
        "postgres/client",
        "postgres/server",
        "postgres/startup",
        "postgres/transcripts",
        "mysql/greetings",
        "mysql/responses",
        "certificates",
    ];
    let mut seeds: Vec<Vec<u8>> =
        folders.iter().flat_map(|folder| vector::read(folder)).map(|vector| vector.bytes).collect();
    let texts = [
        "n,,n=,r=client",
        "p=tls-server-end-point,,n=,r=client",
        "c=biws,r=clientnonce,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "nonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA",
        "SELECT a, 'it''s', E'\\'', $$x$$, $1 -- c\n FROM \"t\" WHERE b IN (1, 2) /* /* */ */;",
        "insert into `t` values (1, \"a\"), (2, \"b\") # c\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        "PROXY UNKNOWN\r\n",
        "\r\n\r\n\0\r\nQUIT\n!\u{11}\0\u{c}aaaabbbbccdd",
        "S",
        "N",
        // Packets of MySQL's logins: OK, full authentication, a switch, the key, an error.
        "\u{7}\0\0\u{2}\0\0\0\u{2}\0\0\0",
        "\u{2}\0\0\u{2}\u{1}\u{4}",
        "\u{2c}\0\0\u{2}\u{7f}mysql_native_password\x000123456789abcdefghij\0",
        "\u{1}\0\0\u{3}\u{2}",
        "\u{7}\0\0\u{3}secret\0",
        "\u{11}app\0\u{4}abcdshop\0\u{2d}\0caching_sha2_password\0",
    ];
    seeds.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
    seeds
}

/// A seed, or several joined, changed in a few places.
fn input(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if random.below(2) == 0 {
        bytes.push(random.next() as u8); // where a target reads its choices
    }
    for _ in 0..1 + random.below(4) {
        bytes.extend_from_slice(&seeds[random.below(seeds.len())]);
    }
    bytes.truncate(LONGEST);
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(8)).min(bytes.len());
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 4, 0x7f, 0x80, 0xff, b'\'', b'\\'][random.below(8)],
            2 => bytes.insert(at, random.next() as u8),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            5 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")))
}

#[test]
fn no_input_breaks_an_invariant() {
    let seeds = seeds();
    let seed = setting("FUZZ_SEED").unwrap_or(0x5eed).max(1);
    let only = std::env::var("FUZZ_TARGET").ok();
    let chosen: Vec<_> =
        targets::ALL.iter().filter(|(name, _)| only.as_deref().unwrap_or(name) == *name).collect();
    assert!(!chosen.is_empty(), "FUZZ_TARGET names no target");
    let share = setting("FUZZ_SECONDS").map(|seconds| Duration::from_secs(seconds) / chosen.len() as u32);
    for (name, body) in chosen {
        let mut random = Random(seed);
        let (started, mut count) = (Instant::now(), 0);
        let mut whole = seeds.iter();
        while share.map_or(count < INPUTS, |share| started.elapsed() < share) {
            // Why: the seeds as they are come first; most say something sensible.
            let bytes = whole.next().cloned().unwrap_or_else(|| input(&mut random, &seeds));
            if catch_unwind(AssertUnwindSafe(|| body(&bytes))).is_err() {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                panic!("{name} broke its invariant (FUZZ_SEED={seed}, input {count}): {hex}");
            }
            count += 1;
        }
        println!("{name}: {count} inputs, seed {seed}");
    }
}

#[test]
fn every_target_has_its_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).expect("the manifest is there");
    let readme = std::fs::read_to_string(format!("{folder}/README.md")).expect("the README is there");
    for (name, _) in targets::ALL {
        let file =
            std::fs::read_to_string(format!("{folder}/fuzz_targets/{name}.rs")).expect("a file per target");
        assert!(file.contains(&format!("targets::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is in Cargo.toml");
        assert!(readme.contains(&format!("`{name}`")), "{name} is in README.md");
    }
}
