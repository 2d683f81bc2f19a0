//! `Engine`: start, apply, pause, drain, stop; each method delegates to the engine's own.
//!
//! Values are converted here and in `event` and `report`; the GIL is released wherever workers are
//! waited for.

use maitred_reactor::engine;
use maitred_relay::console::ConsoleAnswer;
use maitred_relay::snapshot::{Snapshot, User};
use maitred_wire::dialect::ColumnType;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::refused;
use crate::{event, report};

/// The data path: worker threads, listeners, pools. Thread-safe.
#[pyclass(frozen, module = "maitred._engine")]
pub struct Engine {
    inner: engine::Engine,
}

fn read_snapshot(snapshot: &Bound<'_, PyAny>) -> PyResult<Snapshot> {
    pythonize::depythonize(snapshot)
        .map_err(|error| refused(format!("the snapshot does not fit the engine: {error}")))
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (snapshot, *, workers = 0, backend = "auto"))]
    fn new(py: Python<'_>, snapshot: &Bound<'_, PyAny>, workers: usize, backend: &str) -> PyResult<Self> {
        let snapshot = read_snapshot(snapshot)?;
        let inner = py.detach(|| engine::Engine::start(snapshot, workers, backend)).map_err(refused)?;
        Ok(Self { inner })
    }

    #[getter]
    fn backend(&self) -> &str {
        self.inner.backend()
    }

    #[getter]
    fn backend_note(&self) -> Option<&str> {
        self.inner.backend_note()
    }

    #[getter]
    fn workers(&self) -> usize {
        self.inner.workers()
    }

    fn addresses(&self) -> Vec<String> {
        self.inner.addresses()
    }

    fn apply(&self, py: Python<'_>, snapshot: &Bound<'_, PyAny>) -> PyResult<()> {
        let snapshot = read_snapshot(snapshot)?;
        py.detach(|| self.inner.apply(snapshot)).map_err(refused)
    }

    fn fileno(&self) -> i32 {
        self.inner.events_descriptor()
    }

    fn take_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for one in self.inner.take_events() {
            list.append(event::to_dict(py, one)?)?;
        }
        Ok(list)
    }

    fn answer_console(&self, client: u64, answer: &Bound<'_, PyDict>) -> PyResult<()> {
        self.inner.answer_console(client, read_answer(answer)?);
        Ok(())
    }

    fn answer_user(&self, token: u64, user: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let user: Option<User> = user.map(pythonize::depythonize).transpose()?;
        self.inner.answer_user(token, user.as_ref()).map_err(refused)
    }

    #[pyo3(signature = (database = None))]
    fn pause(&self, database: Option<&str>) {
        self.inner.pause(database);
    }

    #[pyo3(signature = (database = None))]
    fn resume(&self, database: Option<&str>) {
        self.inner.resume(database);
    }

    #[pyo3(signature = (database = None))]
    fn paused(&self, py: Python<'_>, database: Option<&str>) -> bool {
        py.detach(|| self.inner.paused(database))
    }

    #[pyo3(signature = (database = None))]
    fn kill(&self, py: Python<'_>, database: Option<&str>) -> usize {
        py.detach(|| self.inner.kill(database))
    }

    fn kill_client(&self, py: Python<'_>, client: u64) -> bool {
        py.detach(|| self.inner.kill_client(client))
    }

    #[pyo3(signature = (database = None))]
    fn reconnect(&self, database: Option<&str>) {
        self.inner.reconnect(database);
    }

    fn drain(&self) {
        self.inner.drain();
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.inner.stop());
    }

    fn report(&self, py: Python<'_>, what: &str) -> PyResult<Py<PyAny>> {
        let reports = py.detach(|| self.inner.report(report::needs_connections(what)));
        report::to_list(py, what, reports)
    }
}

/// A console answer in the shape of `_engine.pyi`.
fn read_answer(answer: &Bound<'_, PyDict>) -> PyResult<ConsoleAnswer> {
    let text = |name: &str| -> PyResult<Option<String>> {
        answer.get_item(name)?.filter(|value| !value.is_none()).map(|value| value.extract()).transpose()
    };
    if let Some(message) = text("error")? {
        let sqlstate = text("code")?.and_then(|code| code.into_bytes().try_into().ok()).unwrap_or(*b"42601");
        return Ok(ConsoleAnswer::Refused { sqlstate, message, hint: text("hint")? });
    }
    let tag = text("tag")?.unwrap_or_default();
    let Some(columns) = answer.get_item("columns")? else { return Ok(ConsoleAnswer::Done { tag }) };
    let columns: Vec<(String, String)> = columns.extract()?;
    let columns = columns
        .into_iter()
        .map(|(name, kind)| Ok((name, column_type(&kind)?)))
        .collect::<PyResult<Vec<_>>>()?;
    let rows: Vec<Vec<Option<String>>> = match answer.get_item("rows")? {
        Some(rows) => rows.extract()?,
        None => Vec::new(),
    };
    if rows.iter().any(|row| row.len() != columns.len()) {
        return Err(PyValueError::new_err("a row of the answer has not one value for each column"));
    }
    Ok(ConsoleAnswer::Rows { columns, rows, tag })
}

fn column_type(name: &str) -> PyResult<ColumnType> {
    match name {
        "text" => Ok(ColumnType::Text),
        "int4" => Ok(ColumnType::Int4),
        "int8" => Ok(ColumnType::Int8),
        "numeric" => Ok(ColumnType::Numeric),
        other => Err(PyValueError::new_err(format!("there is no column type \"{other}\""))),
    }
}
