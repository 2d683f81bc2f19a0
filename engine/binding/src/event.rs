//! Engine events as Python dicts, named as in `_engine.pyi`.
//!
//! Leaves nothing out and adds nothing. Called by `handle` when Python takes events.

use maitred_relay::action::Event;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// One event as a dict with its `kind`.
pub fn to_dict<'py>(py: Python<'py>, event: Event) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    macro_rules! fill {
        ($kind:literal $(, $name:ident)*) => {{
            dict.set_item("kind", $kind)?;
            $(dict.set_item(stringify!($name), $name)?;)*
        }};
    }
    match event {
        Event::Console { client, protocol, user, database, admin, stats, text } => {
            fill!("console", client, protocol, user, database, admin, stats, text);
        }
        Event::AskUser { token, user, database } => fill!("ask_user", token, user, database),
        Event::SlowQuery { duration_us, wait_us, database, user, shape, client } => {
            fill!("slow_query", duration_us, wait_us, database, user, shape, client);
        }
        Event::ClientOpened { client, user, database, address, tls } => {
            fill!("client_opened", client, user, database, address, tls);
        }
        Event::ClientClosed { client, user, database, address, reason } => {
            fill!("client_closed", client, user, database, address, reason);
        }
        Event::ServerOpened { server, endpoint, database, user, login_us } => {
            fill!("server_opened", server, endpoint, database, user, login_us);
        }
        Event::ServerClosed { server, endpoint, database, user, reason, detail } => {
            fill!("server_closed", server, endpoint, database, user, reason, detail);
        }
        Event::ServerFailed { endpoint, database, user, cause, retry_ms } => {
            fill!("server_failed", endpoint, database, user, cause, retry_ms);
        }
        Event::LoginFailed { user, database, address, cause } => {
            fill!("login_failed", user, database, address, cause);
        }
        Event::Drained => fill!("drained"),
    }
    Ok(dict)
}
