//! What scripted clients say, and what they understand.
//!
//! Bytes of PostgreSQL's protocol written by hand, from its documentation; knows no relay. Used by
//! scenarios through `World`.

use maitred_wire::CancelKey;

/// One message from the server side, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    LoggedIn,
    Setting(String, String),
    Key(CancelKey),
    Ready(char),
    Row(String),
    Done(String),
    /// A statement was prepared, under this number.
    Prepared(u32),
    Error {
        fatal: bool,
        code: String,
        message: String,
        detail: String,
        hint: String,
    },
    CopyData(Vec<u8>),
    /// Who said it, the channel, what.
    Notification(u32, String, String),
    /// Any other, by its type.
    Other(char),
}

impl Reply {
    /// In a few letters, as scenarios write down what they expect.
    pub fn brief(&self) -> String {
        match self {
            Reply::LoggedIn => "R".into(),
            Reply::Setting(name, value) => format!("S:{name}={value}"),
            Reply::Key(_) => "K".into(),
            Reply::Ready(state) => format!("Z:{state}"),
            Reply::Row(value) => format!("D:{value}"),
            Reply::Done(tag) => format!("C:{tag}"),
            Reply::Prepared(number) => format!("P:{number}"),
            Reply::Error { fatal: true, code, .. } => format!("F:{code}"),
            Reply::Error { code, .. } => format!("E:{code}"),
            Reply::Notification(_, channel, payload) => format!("A:{channel}={payload}"),
            Reply::CopyData(bytes) => format!("d:{}", String::from_utf8_lossy(bytes)),
            Reply::Other(tag) => tag.to_string(),
        }
    }
}

pub fn brief(replies: &[Reply]) -> String {
    replies.iter().map(Reply::brief).collect::<Vec<_>>().join(" ")
}

/// Cut replies from the front of `input`. Panics on bytes that no client could read.
pub fn read_replies(input: &mut Vec<u8>, into: &mut Vec<Reply>) {
    loop {
        let Some(head) = input.first_chunk::<5>() else { return };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        assert!((4..1 << 30).contains(&length), "a client got a broken length: {head:?}");
        if input.len() < length + 1 {
            return;
        }
        let whole: Vec<u8> = input.drain(..=length).collect();
        into.push(read(whole[0], &whole[5..]));
    }
}

fn read(tag: u8, body: &[u8]) -> Reply {
    let texts = |body: &[u8]| -> Vec<String> {
        body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    };
    match tag {
        b'R' => Reply::LoggedIn,
        b'S' => {
            let texts = texts(body);
            Reply::Setting(texts[0].clone(), texts[1].clone())
        }
        b'K' => {
            let pid = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
            Reply::Key(CancelKey { pid, secret: body[4..].to_vec() })
        }
        b'Z' => Reply::Ready(body[0] as char),
        b'D' => Reply::Row(String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into_owned()),
        b'C' => Reply::Done(texts(body)[0].clone()),
        b'E' => {
            let fields = texts(body);
            let field = |tag: char| {
                fields
                    .iter()
                    .find(|text| text.starts_with(tag))
                    .map(|text| text[1..].to_owned())
                    .unwrap_or_default()
            };
            let fatal = field('S') == "FATAL";
            Reply::Error {
                fatal,
                code: field('C'),
                message: field('M'),
                detail: field('D'),
                hint: field('H'),
            }
        }
        b'A' => {
            let pid = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
            let texts = texts(&body[4..]);
            Reply::Notification(pid, texts[0].clone(), texts[1].clone())
        }
        b'd' => Reply::CopyData(body.to_vec()),
        b'1' | b'2' | b'3' | b'n' | b's' | b't' | b'c' | b'G' | b'H' | b'I' | b'N' | b'T' | b'V' | b'W'
        | b'v' => Reply::Other(tag as char),
        _ => panic!("a client got a message of type {}", tag as char),
    }
}

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn untagged(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 4).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for (name, value) in parameters {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    untagged(&body)
}

pub fn cancel_request(key: &CancelKey) -> Vec<u8> {
    let mut body = 80_877_102u32.to_be_bytes().to_vec();
    body.extend_from_slice(&key.pid.to_be_bytes());
    body.extend_from_slice(&key.secret);
    untagged(&body)
}

/// What the scripted database does that no SQL word says; sent as a call, which any text may stand for.
const OWN_WORDS: [&str; 11] =
    ["sleep", "rows", "copyin", "copyout", "notice", "die", "fatal", "garbage", "halfrow", "silent", "fail"];

fn sql_of(text: &str) -> String {
    let statement = |part: &str| match OWN_WORDS.contains(&part.split_whitespace().next().unwrap_or("")) {
        true => format!("call {}", part.trim_start()),
        false => part.to_owned(),
    };
    text.split(';').map(statement).collect::<Vec<_>>().join(";")
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{}\0", sql_of(sql)).as_bytes())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{}\0\0\0", sql_of(sql)).as_bytes())
}

pub fn bind(portal: &str, name: &str, values: &[&str]) -> Vec<u8> {
    let mut body = format!("{portal}\0{name}\0\0\0").into_bytes();
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

pub fn describe(kind: char, name: &str) -> Vec<u8> {
    message(b'D', format!("{kind}{name}\0").as_bytes())
}

pub fn close(kind: char, name: &str) -> Vec<u8> {
    message(b'C', format!("{kind}{name}\0").as_bytes())
}

pub fn execute(portal: &str, limit: u32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend_from_slice(&limit.to_be_bytes());
    message(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

pub fn copy_data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', bytes)
}

pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

pub fn copy_fail() -> Vec<u8> {
    message(b'f', b"no more\0")
}

pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

pub fn function_call() -> Vec<u8> {
    message(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
}

/// Bind, execute and sync of a prepared statement.
pub fn run_prepared(name: &str, values: &[&str]) -> Vec<u8> {
    [bind("", name, values), execute("", 0), sync()].concat()
}
