//! The extended query protocol of the scripted database: statements, portals, row limits.
//!
//! Knows no relay. Called by `database` for each message.

use std::collections::VecDeque;

use super::database::{message, Job, Portal, Prepared, Session};

/// A text at the front of `body`, and what follows it.
pub(super) fn cut(body: &[u8]) -> (&str, &[u8]) {
    let end = body.iter().position(|byte| *byte == 0).expect("a text that ends");
    (std::str::from_utf8(&body[..end]).expect("text"), &body[end + 1..])
}

impl Session {
    pub(super) fn parse(&mut self, now: u64, body: &[u8]) {
        let (name, rest) = cut(body);
        let (sql, _) = cut(rest);
        let (name, sql) = (name.to_owned(), sql.strip_prefix("call ").unwrap_or(sql).to_owned());
        if name.is_empty() {
            self.prepared.remove("");
        }
        if sql.starts_with("bad") {
            self.fail(now, b"42601", "syntax error");
        } else if self.is_refused(&sql) {
            self.fail(now, b"25P02", "current transaction is aborted");
        } else if self.prepared.contains_key(&name) {
            self.fail(now, b"42P05", &format!("prepared statement \"{name}\" already exists"));
        } else {
            self.prepared.insert(name, Prepared { sql, version: self.version });
            message(&mut self.buffered, b'1', &[]);
        }
    }

    pub(super) fn bind(&mut self, now: u64, body: &[u8]) {
        let (portal, rest) = cut(body);
        let (name, rest) = cut(rest);
        let Some(prepared) = self.prepared.get(name).cloned() else {
            let text = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            self.fail(now, b"26000", &text);
            return;
        };
        if self.is_refused(&prepared.sql) {
            self.fail(now, b"25P02", "current transaction is aborted");
            return;
        }
        if prepared.version != self.version {
            let text = "cached plan must not change result type";
            self.fail_as(now, b"0A000", text, "RevalidateCachedQuery");
            return;
        }
        let formats = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let rest = &rest[2 + 2 * formats..];
        let count = u16::from_be_bytes([rest[0], rest[1]]);
        let mut rest = &rest[2..];
        let mut sql = prepared.sql;
        for at in 1..=count {
            let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let value = std::str::from_utf8(&rest[4..4 + length]).expect("text value");
            sql = sql.replace(&format!("${at}"), value);
            rest = &rest[4 + length..];
        }
        self.portals.insert(portal.to_owned(), Portal { sql, rest: None, tag: String::new() });
        message(&mut self.buffered, b'2', &[]);
    }

    pub(super) fn describe(&mut self, now: u64, body: &[u8]) {
        let (name, _) = cut(&body[1..]);
        let sql = if body[0] == b'S' {
            self.prepared.get(name).map(|prepared| prepared.sql.clone())
        } else {
            self.portals.get(name).map(|portal| portal.sql.clone())
        };
        let Some(sql) = sql else {
            let state = if body[0] == b'S' { b"26000" } else { b"34000" };
            self.fail(now, state, &format!("\"{name}\" does not exist"));
            return;
        };
        if body[0] == b'S' {
            message(&mut self.buffered, b't', &0u16.to_be_bytes());
        }
        if ["select", "sleep", "rows", "show"].iter().any(|word| sql.starts_with(word)) {
            self.columns();
        } else {
            message(&mut self.buffered, b'n', &[]);
        }
    }

    pub(super) fn execute(&mut self, now: u64, body: &[u8]) {
        let (name, rest) = cut(body);
        let limit = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let Some(portal) = self.portals.get(name).cloned() else {
            self.fail(now, b"34000", &format!("portal \"{name}\" does not exist"));
            return;
        };
        if let Some(rest) = portal.rest {
            self.portal_rows(name, rest, limit, &portal.tag);
            return;
        }
        let statements = VecDeque::from([portal.sql]);
        self.job = Some(Job { statements, is_simple: false, limit, portal: name.to_owned() });
        self.run(now);
    }

    pub(super) fn portal_rows(&mut self, name: &str, mut rows: VecDeque<String>, limit: usize, tag: &str) {
        let count = if limit == 0 { rows.len() } else { limit.min(rows.len()) };
        for row in rows.drain(..count) {
            self.row(&row);
        }
        if limit > 0 && count == limit {
            message(&mut self.buffered, b's', &[]);
            let portal = self.portals.get_mut(name).expect("it runs");
            portal.rest = Some(rows);
            portal.tag = tag.to_owned();
        } else {
            self.done(tag);
        }
    }
}

/// Can the message be read at all?
pub(super) fn is_well_formed(tag: u8, body: &[u8]) -> bool {
    let text = |body: &[u8]| -> Option<usize> {
        let end = body.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&body[..end]).ok().map(|_| end + 1)
    };
    let number = |body: &[u8], at: usize| -> Option<usize> {
        Some(usize::from(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?])))
    };
    let is_bind = |body: &[u8]| -> Option<bool> {
        let mut at = text(body)?;
        at += text(body.get(at..)?)?;
        at += 2 + 2 * number(body, at)?;
        let count = number(body, at)?;
        at += 2;
        for _ in 0..count {
            let length: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
            at += 4 + u32::from_be_bytes(length) as usize;
            std::str::from_utf8(body.get(at - u32::from_be_bytes(length) as usize..at)?).ok()?;
        }
        at += 2 + 2 * number(body, at)?;
        Some(at == body.len())
    };
    match tag {
        b'Q' => text(body) == Some(body.len()),
        b'E' => text(body).is_some_and(|end| end + 4 == body.len()),
        b'D' | b'C' => !body.is_empty() && text(&body[1..]) == Some(body.len() - 1),
        b'P' => text(body).is_some_and(|end| text(&body[end..]).is_some()),
        b'B' => is_bind(body).unwrap_or(false),
        _ => true,
    }
}
