//! Notifications: reading and writing them, and what a server is told to listen to.
//!
//! Only bytes and texts; who hears what is `relay`'s matter. Called through `Dialect`.
//!
//! Source: PostgreSQL manual, "Asynchronous Operations", "LISTEN", "NOTIFY".

use super::judge::first_word;
use super::spec;
use super::statement::{head, push_quoted};
use super::{frame, reply};
use crate::Notification;

/// Read a whole `NotificationResponse`; None: it is not well formed.
pub fn read(message: &[u8]) -> Option<Notification<'_>> {
    let (pid, rest) = message.get(frame::HEADER..)?.split_first_chunk::<4>()?;
    let (channel, rest) = frame::cstr(rest).ok()?;
    let (payload, _) = frame::cstr(rest).ok()?;
    Some(Notification { pid: u32::from_be_bytes(*pid), channel, payload })
}

/// Write a `NotificationResponse`.
pub fn write(out: &mut Vec<u8>, notification: &Notification<'_>) {
    let Notification { pid, channel, payload } = notification;
    head(out, spec::NOTIFICATION_RESPONSE, 4 + channel.len() + 1 + payload.len() + 1);
    out.extend_from_slice(&pid.to_be_bytes());
    for text in [channel, payload] {
        out.extend_from_slice(text);
        out.push(0);
    }
}

/// Begin (`true`) or stop to listen to channels: one request with one `Ready`, without any as well.
pub fn write_listens<'a>(out: &mut Vec<u8>, changes: impl Iterator<Item = (&'a str, bool)>) {
    let mut sql = String::new();
    for (channel, begins) in changes {
        sql.push_str(if begins { "LISTEN " } else { "UNLISTEN " });
        push_quoted(&mut sql, channel);
        sql.push(';');
    }
    reply::query(out, &sql);
}

/// Stop to listen to anything.
pub const STOP: &str = "UNLISTEN *";

/// Does `text` only read, as far as its first word says?
pub fn only_reads(text: &[u8]) -> bool {
    let words: [&[u8]; 5] = [b"select", b"show", b"values", b"table", b"fetch"];
    first_word(text).is_some_and(|first| words.iter().any(|word| first.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::statement::query_text;

    #[test]
    fn a_notification_reads_as_it_was_written() {
        let notification = Notification { pid: 7, channel: b"jobs", payload: b"\xc3\xa4 5" };
        let mut out = Vec::new();
        write(&mut out, &notification);
        assert_eq!(frame::header(&out, 1000), Ok(Some((spec::NOTIFICATION_RESPONSE, out.len()))));
        assert_eq!(read(&out), Some(notification));
        assert_eq!(read(&out[..out.len() - 1]), None);
        assert_eq!(read(b"A\0\0\0\x06ab"), None);
    }

    #[test]
    fn channels_are_quoted_whatever_they_are_called() {
        let mut out = Vec::new();
        write_listens(&mut out, [("Jobs", true), ("a\"b; drop", false)].into_iter());
        let text = String::from_utf8(query_text(&out).to_vec()).expect("text");
        assert_eq!(text, "LISTEN \"Jobs\";UNLISTEN \"a\"\"b; drop\";");
    }

    #[test]
    fn reading_is_told_by_the_first_word() {
        assert!(only_reads(b" /* a */ SELECT 1") && only_reads(b"(select 1)") && only_reads(b"Show all"));
        for other in
            ["insert into t values (1)", "begin", "", "with a as (delete from t) select 1", "notify a"]
        {
            assert!(!only_reads(other.as_bytes()), "{other}");
        }
    }
}
