//! Golden vectors of MySQL's logins: bytes of real servers and drivers, and a few that break the protocol.

use maitred_wire::auth::{caching_sha2, mysql_native};
use maitred_wire::mysql::startup::{self, Opening};
use maitred_wire::mysql::{frame, greeting};
use maitred_wire::Fault;

mod vector;
use vector::read;

/// The password of every user in the vectors.
const PASSWORD: &[u8] = b"opensesame";

fn or_dash(text: &str) -> &str {
    if text.is_empty() {
        "-"
    } else {
        text
    }
}

fn greeted(payload: &[u8]) -> Result<String, Fault> {
    let found = greeting::read(payload)?;
    let plugin = or_dash(&found.plugin);
    Ok(format!("{} {} {:x} {plugin}", found.server_version, found.connection_id, found.capabilities))
}

fn opened(payload: &[u8]) -> Result<String, Fault> {
    Ok(match startup::read(payload)? {
        Opening::Tls => "Tls".into(),
        Opening::Old => "Old".into(),
        Opening::Response(found) => {
            let startup = found.startup;
            let program = startup.attributes.iter().find(|(name, _)| name == "program_name");
            let program = program.map_or("-".to_owned(), |(name, value)| format!("{name}={value}"));
            let plugin = found.plugin.unwrap_or_default();
            format!("Response {} {} {plugin} {program}", startup.user, or_dash(&startup.database))
        }
    })
}

#[test]
fn packets_mean_what_they_say() {
    #[allow(clippy::type_complexity)]
    let folders: [(&str, usize, fn(&[u8]) -> Result<String, Fault>); 2] =
        [("mysql/greetings", 6, greeted), ("mysql/responses", 11, opened)];
    for (folder, least, meaning) in folders {
        let vectors = read(folder);
        assert!(vectors.len() >= least);
        for vector in vectors {
            let head = frame::header(&vector.bytes).expect("a whole header");
            assert_eq!(head.total(), vector.bytes.len(), "{}", vector.name);
            assert_eq!(head.sequence, u8::from(vector.header("direction") == "client"), "{}", vector.name);
            let found = meaning(&vector.bytes[frame::HEADER..]);
            match vector.header("expect") {
                "fault" => assert!(found.is_err(), "{}: {found:?}", vector.name),
                expected => assert_eq!(found.as_deref(), Ok(expected), "{}", vector.name),
            }
            assert!(!vector.header("meaning").is_empty() && !vector.header("section").is_empty());
        }
    }
}

#[test]
fn answers_of_drivers_fit_the_password() {
    let mut checked = 0;
    for vector in read("mysql/responses") {
        let Ok(Opening::Response(found)) = startup::read(&vector.bytes[frame::HEADER..]) else { continue };
        let hex = vector.header("nonce");
        let nonce: [u8; 20] =
            std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"));
        let stored = mysql_native::stored(PASSWORD);
        let fits = match found.plugin.as_deref() {
            Some("mysql_native_password") => mysql_native::is_answer(&stored, &nonce, &found.answer),
            _ => caching_sha2::is_answer(&caching_sha2::twice(PASSWORD), &nonce, &found.answer),
        };
        assert!(fits, "{}", vector.name);
        checked += 1;
    }
    assert!(checked >= 6);
}

#[test]
fn what_drivers_send_is_written_back_the_same() {
    for vector in read("mysql/responses") {
        let Ok(Opening::Response(found)) = startup::read(&vector.bytes[frame::HEADER..]) else { continue };
        let mut out = Vec::new();
        startup::write(&mut out, 1, &found);
        assert_eq!(out, vector.bytes, "{}", vector.name);
    }
}
