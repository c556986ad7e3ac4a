//! All that is learned from the rows before any of them is encoded: read, plan, train.

use super::plan::plan_on;
use crate::{
    config::{Config, all_metadata},
    error::Error,
    format::{self, meta::Meta, write::FileShape},
    learned,
    model::learned::Learned,
    ops::seam::Ops,
    platform::Stopwatch,
    read::source::RowSource,
    refine::{self, train::TrainedRefine},
    report::{Event, stage_report, teller},
    train::{
        sample::{Prepared, prepare},
        sizes::Sizes,
        transform::{Trained, Training, train},
    },
};

/// Everything that a file has but the codes of its rows.
pub(crate) struct Fitted<'a> {
    pub(crate) config: &'a Config<'a>,
    pub(crate) prepared: Prepared<'a>,
    pub(crate) trained: Trained,
    /// What may stand behind the codes.
    pub(crate) refine: Option<TrainedRefine>,
    pub(crate) learned: Option<Learned>,
    pub(crate) plan_seconds: f64,
    pub(crate) train_seconds: f64,
}

/// Reads the sample, plans and trains. `watch` was started with the run.
///
/// # Errors
/// As [`compress`](crate::compress::compress), and [`Error::Config`] for a model that no reader would take.
pub(crate) fn fit<'a, O: Ops>(
    ops: &O,
    rows: &'a dyn RowSource,
    config: &'a Config<'a>,
    watch: &Stopwatch,
) -> Result<Fitted<'a>, Error> {
    let report = stage_report(config.progress);
    let prepared = prepare(rows, config, &report)?;
    let (plan, pilot) = plan_on(ops, &prepared, config, &report)?;
    teller(config.progress)(&Event::Plan(&plan))?;
    let plan_seconds = watch.seconds();

    let mut training = Training {
        unit: prepared.unit.view(),
        gains: &prepared.gains,
        queries: prepared.scored_queries(),
        center: prepared.center.clone(),
        gain_range: prepared.gain_range,
        sizes: Sizes { decoder: plan.decoder, ..prepared.sizes },
        pilot,
        charts: plan.charts,
        symbols: plan.symbols,
        config,
        report: &report,
    };
    let mut trained = train(ops, &training)?;
    if trained.reach_pays {
        // Again with a symbol less, so that there is room.
        training.sizes.reach = true;
        trained = train(ops, &training)?;
    }
    let reach = training.sizes.reach;
    let refine = refine::train(ops, &trained, &prepared, config, &report)?;
    let decoder = plan.decoder.map(|shape| learned::Wanted { shape, reach });
    let learned = learned::train(ops, &mut trained, &prepared, decoder, config, &report)?;
    let train_seconds = watch.seconds() - plan_seconds;

    let fitted = Fitted { config, prepared, trained, refine, learned, plan_seconds, train_seconds };
    fitted.check_readable()?;
    Ok(fitted)
}

impl Fitted<'_> {
    /// The facts of the model, recall not among them.
    pub(crate) fn meta(&self) -> Meta {
        let (prepared, trained) = (&self.prepared, &self.trained);
        let model = &trained.model;
        Meta {
            dim: prepared.sizes.dim as u32,
            metric: self.config.metric,
            kind: model.kind(),
            lags: prepared.sizes.lags as u8,
            anchors: model.anchors() as u32,
            charts: model.charts.len() as u32,
            symbols: model.symbols() as u32,
            factor_nibbles: model.side.factor_nibbles() as u8,
            gain_nibbles: model.side.gain_nibbles,
            energy: trained.energy,
            anchor_energy: trained.anchor_energy,
            recall: f32::NAN,
            recall_k: 0,
            recall_queries: 0,
            query_source: 0,
            seed: self.config.seed,
            training_rows: prepared.unit.rows() as u64,
            alpha: trained.alpha,
            probe_cells: [0; 2],
        }
    }

    /// The head of the file, with facts that are those of [`Fitted::meta`] or more.
    pub(crate) fn shape(&self, meta: &Meta) -> FileShape {
        let layer = self.refine.as_ref().map(|t| &t.refine);
        FileShape::new(meta, &self.trained.model, layer, self.learned.as_ref(), &all_metadata(self.config))
    }

    /// Refuses a model that no reader would take, such as one of millions of weights of one bit.
    fn check_readable(&self) -> Result<(), Error> {
        let message =
            |source| format!("no reader would take the model of these settings ({source}); ask for another");
        format::check_model(&self.shape(&self.meta()).head).map_err(|source| Error::Config(message(source)))
    }
}
