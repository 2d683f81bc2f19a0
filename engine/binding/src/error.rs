//! The one place where the engine's refusals become Python exceptions.
//!
//! Words nothing itself: the text is the engine's. Called by `handle`.

use pyo3::exceptions::PyException;
use pyo3::{create_exception, PyErr};

create_exception!(
    _engine,
    EngineError,
    PyException,
    "A snapshot the engine cannot use, or a start that failed; the text says what to change."
);

/// A refusal in words, as an exception.
pub fn refused(text: String) -> PyErr {
    EngineError::new_err(text)
}
