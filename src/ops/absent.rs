//! Stands in for every backend that this build does not have.

use super::{
    mlp::FitStep,
    seam::{Device, Learn, Ops},
    types::{Assignments, Cells, CodesRef, EncodeJob, Encoded, ScoreTables, Step},
};
use crate::{
    backend::{Backend, DeviceChoice},
    error::Error,
    matrix::{Mat, MatRef},
    model::mlp::Mlp,
    neighbors::Neighbors,
};

/// Uninhabited: [`open`] always fails, so no method is ever reached.
pub(super) enum Absent {}

pub(super) fn open(backend: Backend, reason: &str, _device: DeviceChoice) -> Result<Absent, Error> {
    Err(Error::Unavailable { backend, reason: reason.into() })
}

impl Device for Absent {
    type Rows = Absent;

    fn backend(&self) -> Backend {
        match *self {}
    }
    fn upload(&self, _: MatRef<'_>) -> Result<Absent, Error> {
        match *self {}
    }
    fn download(&self, _: &Absent) -> Result<Mat, Error> {
        match *self {}
    }
    fn copy(&self, _: &Absent) -> Result<Absent, Error> {
        match *self {}
    }
    fn select(&self, _: &Absent, _: &[u32]) -> Result<Absent, Error> {
        match *self {}
    }
}

impl Learn for Absent {
    type Net = Absent;

    fn upload_net(&self, _: &Mlp) -> Result<Absent, Error> {
        match *self {}
    }
    fn download_net(&self, _: &Absent) -> Result<Mlp, Error> {
        match *self {}
    }
    fn fit(&self, _: &mut Absent, _: &Absent, _: &Absent, _: &[u32], _: FitStep) -> Result<(), Error> {
        match *self {}
    }
    fn errors(&self, _: &Absent, _: &Absent, _: &Absent) -> Result<Vec<f32>, Error> {
        match *self {}
    }
    fn code_targets(&self, _: &Absent, _: &Absent, _: &Absent, _: &[f32]) -> Result<Absent, Error> {
        match *self {}
    }
}

impl Ops for Absent {
    type Assigned = Absent;
    type Stats = Absent;
    type Codes = Absent;

    fn assign(&self, _: &Absent, _: &Absent, _: usize) -> Result<Absent, Error> {
        match *self {}
    }
    fn assignments(&self, _: &Absent) -> Result<Assignments, Error> {
        match *self {}
    }
    fn energy(&self, _: &Absent) -> Result<f64, Error> {
        match *self {}
    }
    fn reduce(&self, _: &Absent, _: &Absent, _: usize, _: f32) -> Result<Absent, Error> {
        match *self {}
    }
    fn cells(&self, _: &Absent) -> Result<Cells, Error> {
        match *self {}
    }
    fn means(&self, _: &Absent) -> Result<Mat, Error> {
        match *self {}
    }
    fn update(&self, _: &mut Absent, _: &Absent, _: Step<'_>) -> Result<(), Error> {
        match *self {}
    }
    fn project(&self, _: &Absent, _: &[f32], _: MatRef<'_>) -> Result<Absent, Error> {
        match *self {}
    }
    fn encode(&self, _: &Absent, _: EncodeJob<'_, Absent>) -> Result<Encoded, Error> {
        match *self {}
    }
    fn load(&self, _: &CodesRef<'_>) -> Result<Absent, Error> {
        match *self {}
    }
    fn score(&self, _: &CodesRef<'_>, _: &Absent, _: &ScoreTables, _: usize) -> Result<Neighbors, Error> {
        match *self {}
    }
}
