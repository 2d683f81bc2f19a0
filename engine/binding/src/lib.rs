//! The native module `maitred._engine`: its table of contents.
//!
//! Converts and delegates, decides nothing; `src/maitred/_engine.pyi` is its contract. Imported by
//! `maitred.engine` and nothing else.

mod error;
mod event;
mod handle;
mod report;

use pyo3::prelude::*;

/// The data path of maitred.
#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("EngineError", module.py().get_type::<error::EngineError>())?;
    module.add_class::<handle::Engine>()
}
