//! The statements that the scripted database understands.
//!
//! Knows no message types but by the words of `database`. Called by it for each statement.

use std::collections::{HashSet, VecDeque};

use super::database::{error_as, message, Prepared, Running, Session};

/// What a session was left with: names that SQL's PREPARE made, advisory locks.
#[derive(Debug, Default)]
pub(super) struct Left {
    prepared: HashSet<String>,
    locks: u32,
    /// What its sequence gave last.
    sequence: Option<u64>,
}

impl Session {
    pub(super) fn carry_out(&mut self, now: u64, statement: &str) {
        let is_simple = self.job.as_ref().is_some_and(|job| job.is_simple);
        let mut words = statement.splitn(2, ' ');
        let verb = words.next().unwrap_or_default().to_ascii_lowercase();
        let rest = words.next().unwrap_or_default().trim();
        if !matches!(verb.as_str(), "sleep" | "copyin" | "silent") {
            self.note(now, false);
        }
        match verb.as_str() {
            "select" if rest.starts_with("pg_catalog.set_config(") => self.set_config(now, rest),
            "select" if rest.starts_with('\'') && rest.contains("pg_catalog.") => self.answer_probe(rest),
            "select" if rest.starts_with("WHERE") => {
                self.columns();
                self.done("SELECT 0");
            }
            "select" => {
                if rest == "nextval" {
                    // Sessions differ, so that a stranger's number is told apart.
                    let next = self.left.sequence.map_or(self.number as u64 * 1000, |last| last + 1);
                    self.left.sequence = Some(next);
                    return self.one_row(&next.to_string());
                }
                if rest == "lastval" {
                    return match self.left.sequence {
                        Some(last) => self.one_row(&last.to_string()),
                        None => self.fail(now, b"55000", "lastval is not yet defined in this session"),
                    };
                }
                if rest.starts_with("pg_advisory_lock(") {
                    self.left.locks += 1;
                } else if rest.starts_with("pg_advisory_unlock(") {
                    self.left.locks -= 1;
                }
                self.one_row(rest);
            }
            "show" => {
                let value = self.setting(rest).unwrap_or_default().to_owned();
                self.one_row(&value);
            }
            "sleep" => {
                let (us, marker) = rest.split_once(' ').unwrap_or((rest, ""));
                let until = now + us.parse::<u64>().expect("microseconds");
                self.running = Some(Running::Sleep { until, marker: marker.to_owned() });
            }
            "rows" => {
                let words: Vec<&str> = rest.split(' ').collect();
                let (count, size) =
                    (words[0].parse().expect("count"), words[1].parse::<usize>().expect("size"));
                let row = format!("{}{}", words[2], "x".repeat(size));
                let rows: VecDeque<String> = std::iter::repeat_n(row, count).collect();
                if is_simple {
                    self.columns();
                    rows.iter().for_each(|row| self.row(row));
                    self.done(&format!("SELECT {count}"));
                } else {
                    let (name, limit) =
                        self.job.as_ref().map(|job| (job.portal.clone(), job.limit)).expect("it runs");
                    self.portal_rows(&name, rows, limit, &format!("SELECT {count}"));
                }
            }
            "copyin" => {
                message(&mut self.buffered, b'G', &[0, 0, 0]);
                self.flush();
                self.running = Some(Running::CopyIn { bytes: Vec::new() });
            }
            "copyout" => {
                let (count, marker) = rest.split_once(' ').expect("count and marker");
                message(&mut self.buffered, b'H', &[0, 0, 0]);
                for _ in 0..count.parse::<usize>().expect("count") {
                    message(&mut self.buffered, b'd', marker.as_bytes());
                }
                message(&mut self.buffered, b'c', &[]);
                self.done(&format!("COPY {count}"));
            }
            "begin" => {
                if self.transaction == b'I' {
                    self.settings_before = Some(self.settings.clone());
                    self.transaction = b'T';
                }
                self.done("BEGIN");
            }
            "commit" | "rollback" => {
                let keeps = verb == "commit" && self.transaction == b'T';
                if let (Some(before), false) = (self.settings_before.take(), keeps) {
                    self.settings = before;
                }
                self.transaction = b'I';
                self.settle_ears(keeps);
                self.done(if keeps { "COMMIT" } else { "ROLLBACK" });
            }
            "set" if rest.starts_with("TRANSACTION") => self.done("SET"),
            "set" => {
                let (name, value) = rest.split_once('=').expect("name=value");
                self.change(name, Some(value));
                self.done("SET");
            }
            "reset" if rest.replace('"', "") == "in_hot_standby" => {
                self.fail(now, b"55P02", "parameter \"in_hot_standby\" cannot be changed");
            }
            "reset" => {
                self.change(&rest.replace('"', ""), None);
                self.done("RESET");
            }
            "prepare" => {
                self.left.prepared.insert(rest.to_owned());
                self.prepared.insert(
                    rest.to_owned(),
                    Prepared { sql: format!("select {rest}"), version: self.version },
                );
                self.done("PREPARE");
            }
            "with" => self.one_row("with"),
            "execute" => {
                let name = rest.replace('"', "");
                match self.prepared.get(&name).map(|prepared| prepared.sql.clone()) {
                    Some(sql) => self.carry_out(now, &sql),
                    None => {
                        self.fail(now, b"26000", &format!("prepared statement \"{name}\" does not exist"));
                    }
                }
            }
            "deallocate" if rest != "all" => {
                let name = rest.replace('"', "");
                self.prepared.remove(&name);
                self.left.prepared.remove(&name);
                self.done("DEALLOCATE");
            }
            "deallocate" => {
                self.prepared.clear();
                self.left.prepared.clear();
                self.done("DEALLOCATE ALL");
            }
            "discard" if rest.eq_ignore_ascii_case("sequences") => {
                self.left.sequence = None;
                self.done("DISCARD SEQUENCES");
            }
            "discard" if self.transaction != b'I' => {
                self.fail(now, b"25001", "DISCARD ALL cannot run inside a transaction block");
            }
            "discard" => {
                self.prepared.clear();
                self.left.prepared.clear();
                self.left.locks = 0;
                self.stop_listening();
                self.left.sequence = None;
                self.settings = self.start.clone();
                self.done("DISCARD ALL");
            }
            "listen" => self.listen(rest, true),
            "unlisten" => self.listen(rest, false),
            "notify" => self.notify(rest),
            "alter" => self.done("ALTER"),
            "notice" => {
                error_as(&mut self.buffered, b'N', "NOTICE", b"00000", rest, "exec");
                self.done("NOTICE");
            }
            "die" => self.end(),
            "fatal" => self.terminate(b"57P01", "terminating connection due to administrator command"),
            "garbage" => {
                self.flush();
                self.out.extend_from_slice(b"\x00\x01garbage");
            }
            "halfrow" => {
                self.columns();
                self.flush();
                let size: usize = rest.parse().expect("size");
                self.out.push(b'D');
                self.out.extend_from_slice(&(size as u32 + 4).to_be_bytes());
                self.out.extend(std::iter::repeat_n(b'h', size / 2));
                self.end();
            }
            "silent" => self.running = Some(Running::Silent),
            "fail" => self.fail(now, b"22012", "division by zero"),
            _ => self.fail(now, b"42601", &format!("syntax error at \"{statement}\"")),
        }
    }

    /// What the relay asks about the session.
    fn answer_probe(&mut self, question: &str) {
        self.columns();
        for part in question.split(" UNION ALL SELECT ") {
            let literals: Vec<&str> = part.split('\'').skip(1).step_by(2).collect();
            if part.contains("FROM pg_catalog.pg_settings") {
                let is_asked = |name: &str| {
                    !part.contains(" IN (") || literals[2..].contains(&name.to_ascii_lowercase().as_str())
                };
                let own = self.settings.iter().filter(|(name, value)| {
                    self.start.get(*name) != Some(value) && !name.contains('.') && is_asked(name)
                });
                let own: Vec<_> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
                own.iter().for_each(|(name, value)| self.three("set", Some(name), Some(value)));
            } else if literals[0] == "set" {
                let value = self.setting(literals[1]).map(str::to_owned);
                self.three("set", Some(literals[1]), value.as_deref());
            } else if literals[0] == "statement" {
                let names: Vec<String> = self.left.prepared.iter().cloned().collect();
                for name in names {
                    self.three("statement", Some(&name), Some(&format!("prepare {name}")));
                }
            } else if literals[0] == "channel" {
                self.channels().iter().for_each(|channel| self.three("channel", Some(channel), None));
            } else {
                let is_left = match literals[0] {
                    "locks" => self.left.locks > 0,
                    _ => false,
                };
                if is_left {
                    self.three(literals[0], None, None);
                }
            }
        }
        self.done("SELECT 1");
    }

    fn three(&mut self, one: &str, two: Option<&str>, three: Option<&str>) {
        let mut body = 3u16.to_be_bytes().to_vec();
        for value in [Some(one), two, three] {
            match value {
                Some(value) => {
                    body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                    body.extend_from_slice(value.as_bytes());
                }
                None => body.extend_from_slice(&(-1i32).to_be_bytes()),
            }
        }
        message(&mut self.buffered, b'D', &body);
    }

    fn change(&mut self, name: &str, value: Option<&str>) {
        let name = self
            .settings
            .keys()
            .find(|have| have.eq_ignore_ascii_case(name))
            .cloned()
            .unwrap_or(name.to_owned());
        match value.map(str::to_owned).or_else(|| self.start.get(&name).cloned()) {
            Some(value) => drop(self.settings.insert(name, value)),
            None => drop(self.settings.remove(&name)),
        }
    }

    fn set_config(&mut self, now: u64, call: &str) {
        let parts: Vec<&str> = call.split('\'').collect();
        let (name, value) = (parts[1].to_owned(), parts[3].to_owned());
        if name == "no_such" || name == "in_hot_standby" {
            self.fail(now, b"42704", &format!("unrecognized configuration parameter \"{name}\""));
            return;
        }
        self.change(&name, Some(&value));
        if self.slow_settings_us > 0 {
            self.running = Some(Running::Sleep { until: now + self.slow_settings_us, marker: value });
            return;
        }
        self.one_row(&value);
    }
}
