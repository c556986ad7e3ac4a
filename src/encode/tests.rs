use super::{maps::forward, *};
use crate::{
    backend::{Backend, DeviceChoice},
    math::rng::Random,
    model::{
        Code, Quantized, Side,
        kinds::{CodeKind, Metric},
    },
    ops::{dispatch, seam::WithOps},
};

/// As real rows have: how a dense product is split depends on its shape.
const DIM: usize = 384;
/// Anchors of each chart.
const ANCHORS: usize = 5;

fn normals(random: &mut Random, rows: usize, dim: usize) -> Mat {
    Mat::new((0..rows * dim).map(|_| random.normal()).collect(), rows, dim).unwrap()
}

/// Columns of so many values, with random codes of 7 bits about 0.
fn quantized(random: &mut Random, columns: usize, len: usize, scale: f32) -> Quantized {
    let codes = (0..columns * len).map(|_| random.below(128) as u16).collect();
    let (scale, offset) = (vec![scale; columns], vec![-63.5 * scale; columns]);
    Quantized { len, bits: vec![7; columns], scale, offset, codes }
}

fn model(random: &mut Random, kind: CodeKind, charts: usize, widths: &[u16], anchors: usize) -> Model {
    let active: usize = widths.iter().map(|&w| usize::from(w)).sum();
    let lags = if kind == CodeKind::Chain { 2 } else { 0 };
    let mut chart = || {
        let decoder = quantized(random, active, DIM, 0.01);
        let entries = Code { kind, lags, ..code_without_symbols() }.entries();
        let tables: Vec<f32> = (0..active * entries).map(|_| 0.2 * random.normal()).collect();
        let code = Code::quantize(kind, lags, widths.to_vec(), &tables);
        Chart { decoder, code, anchors: quantized(random, active, anchors, 0.02) }
    };
    let charts: Vec<Chart> = (0..charts).map(|_| chart()).collect();
    Model {
        metric: Metric::Cosine,
        dim: DIM,
        center: vec![0.0; DIM],
        mean: (0..DIM).map(|_| 0.1 * random.normal()).collect(),
        anchor_chart: (0..anchors * charts.len()).map(|k| (k % charts.len()) as u8).collect(),
        charts,
        side: Side { factors: vec![1.0; 16], ..Side::default() },
    }
}

fn code_without_symbols() -> Code {
    Code::quantize(CodeKind::Chain, 0, Vec::new(), &[])
}

/// Codes of `rows` on the CPU.
fn encoded(model: &Model, rows: MatRef<'_>) -> RowCodes {
    struct Job<'a>(&'a Model, MatRef<'a>);
    impl WithOps for Job<'_> {
        type Output = RowCodes;
        fn run<O: Ops>(self, ops: O) -> Result<RowCodes, Error> {
            encode_rows(&ops, &Encoder::of(self.0, &|| Ok(()))?, self.0, &ops.upload(self.1)?)
        }
    }
    dispatch(Backend::Cpu, DeviceChoice::Best, Job(model, rows)).unwrap()
}

fn bits(norms: &[f32]) -> Vec<u32> {
    norms.iter().map(|n| n.to_bits()).collect()
}

#[test]
fn forward_undoes_the_decoder() {
    let mut random = Random::new(1, 0);
    for active in [1, 2, 19, 200] {
        let decoder = quantized(&mut random, active, DIM, 0.01).to_mat();
        let forward = forward(&decoder, &|| Ok(())).unwrap();
        for i in 0..active {
            for j in 0..active {
                let found: f64 =
                    forward.row(i).iter().zip(decoder.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let error = (found - f64::from(u8::from(i == j))).abs();
                assert!(error < 2e-5, "{active} directions, {i}, {j}: off by {error}");
            }
        }
    }
}

#[test]
fn columns_that_say_the_same_share_what_they_carry() {
    let mut random = Random::new(2, 0);
    let mut decoder = quantized(&mut random, 4, DIM, 0.01).to_mat();
    let first = decoder.row(0).to_vec();
    decoder.row_mut(2).copy_from_slice(&first);
    decoder.row_mut(3).fill(0.0);
    let forward = forward(&decoder, &|| Ok(())).unwrap();
    assert!(forward.row(3).iter().all(|&v| v == 0.0));
    let seen: Vec<f32> = (0..3).map(|i| dot(forward.row(i), &first)).collect();
    assert!((seen[0] - 0.5).abs() < 1e-3 && (seen[2] - 0.5).abs() < 1e-3 && seen[1].abs() < 1e-3, "{seen:?}");
}

#[test]
fn models_without_much_in_them_encode() {
    let mut random = Random::new(3, 0);
    let rows = normals(&mut random, 70, DIM);
    for charts in [1, 3] {
        // Neither symbols nor directions; symbols that are all empty; one anchor; columns that repeat.
        for (widths, anchors) in [(&[][..], 5), (&[0, 0], 5), (&[2, 1], 1), (&[3, 0, 2], 5)] {
            let mut model = model(&mut random, CodeKind::Chain, charts, widths, anchors);
            for chart in &mut model.charts {
                if chart.active() == 5 {
                    let (first, rest) = chart.decoder.codes.split_at_mut(DIM);
                    rest[..DIM].copy_from_slice(first);
                    (chart.decoder.scale[4], chart.decoder.offset[4]) = (0.0, 0.0);
                }
            }
            let found = encoded(&model, rows.view());
            assert_eq!((found.labels.len(), found.norms.len()), (70, 70));
            assert_eq!(found.symbols.len(), 70 * widths.len());
            assert!(found.labels.iter().all(|&k| (k as usize) < model.anchors()));
            assert!(found.symbols.iter().all(|&s| s < 16) && found.norms.iter().all(|n| n.is_finite()));
            assert!(
                Encoder::of(&model, &|| Ok(()))
                    .unwrap()
                    .decode(&model, &found)
                    .as_slice()
                    .iter()
                    .all(|v| v.is_finite())
            );
        }
    }
}

/// Anchors are far apart against the codewords, so that the right one is surely tried.
#[test]
fn an_anchor_plus_a_codeword_is_found() {
    let mut random = Random::new(4, 0);
    for kind in [CodeKind::Chain, CodeKind::Pq8] {
        for charts in [1, 3] {
            let mut model = model(&mut random, kind, charts, &[2, 1, 3, 2], ANCHORS);
            for chart in &mut model.charts {
                for j in 0..chart.active() {
                    (chart.anchors.scale[j], chart.anchors.offset[j]) = (0.2, -12.7);
                }
            }
            let encoder = Encoder::of(&model, &|| Ok(())).unwrap();
            let alphabet = model.charts[0].code.alphabet();
            let n = 200;
            let codes = RowCodes {
                labels: (0..n).map(|_| random.below(model.anchors()) as u32).collect(),
                symbols: (0..4 * n).map(|_| random.below(alphabet) as u8).collect(),
                norms: Vec::new(),
            };
            let rows = encoder.decode(&model, &codes);
            let found = encoded(&model, rows.view());
            let again = encoder.decode(&model, &found);
            assert_eq!(found.labels, codes.labels, "{kind:?}, {charts} charts");
            for i in 0..n {
                let (error, length) = (squared_distance(rows.row(i), again.row(i)), dot(rows.row(i), rows.row(i)));
                assert!(error <= 1e-5 * length, "{kind:?}, {charts} charts, row {i}: {error} of {length}");
                assert!((found.norms[i] - length.sqrt()).abs() <= 1e-3 * length.sqrt());
            }
        }
    }
}

#[test]
fn codes_of_a_row_do_not_depend_on_the_rows_it_comes_with() {
    let mut random = Random::new(5, 0);
    let parts = [1, 7, 255, 256, 1000, 3, 64, 513];
    let rows = normals(&mut random, parts.iter().sum(), DIM);
    for kind in [CodeKind::Chain, CodeKind::Pq8] {
        for charts in [1, 3] {
            let widths: Vec<u16> = (0..60).map(|t| 2 + t % 4).collect();
            let model = model(&mut random, kind, charts, &widths, 300);
            let whole = encoded(&model, rows.view());
            let mut joined = RowCodes { labels: Vec::new(), symbols: Vec::new(), norms: Vec::new() };
            let mut start = 0;
            for count in parts {
                let part = encoded(&model, rows.view().slice(start..start + count));
                joined.labels.extend(part.labels);
                joined.symbols.extend(part.symbols);
                joined.norms.extend(part.norms);
                start += count;
            }
            let place = format!("{kind:?}, {charts} charts");
            assert!(whole.labels.iter().any(|&k| k != whole.labels[0]));
            assert_eq!(joined.labels, whole.labels, "{place}");
            assert_eq!(joined.symbols, whole.symbols, "{place}");
            assert_eq!(bits(&joined.norms), bits(&whole.norms), "{place}");
        }
    }
}

/// Codes hide small differences of what they are made from.
#[test]
fn coordinates_of_a_row_do_not_depend_on_the_rows_it_comes_with() {
    struct Job<'a>(&'a Mat, &'a [f32], &'a Mat);
    impl WithOps for Job<'_> {
        type Output = ();
        fn run<O: Ops>(self, ops: O) -> Result<(), Error> {
            let Job(rows, offset, map) = self;
            let place = |rows: MatRef<'_>| ops.download_owned(ops.project(&ops.upload(rows)?, offset, map.view())?);
            let whole = place(rows.view())?;
            let mut start = 0;
            for count in [1, 2, 3, 7, 16, 255] {
                let part = place(rows.view().slice(start..start + count))?;
                let same = bits(part.as_slice()) == bits(whole.view().slice(start..start + count).as_slice());
                assert!(same, "{count} rows of {} values, {} directions", rows.dim(), map.rows());
                start += count;
            }
            Ok(())
        }
    }
    let mut random = Random::new(6, 0);
    for (dim, directions) in [(5, 3), (384, 1), (384, 270), (1536, 128), (4096, 130)] {
        let (rows, map) = (normals(&mut random, 300, dim), normals(&mut random, directions, dim));
        for offset in [vec![0.0; dim], vec![0.1; dim]] {
            dispatch(Backend::Cpu, DeviceChoice::Best, Job(&rows, &offset, &map)).unwrap();
        }
    }
}

/// The shares of rows from their codes are those of what they are decoded to, in the order of the rows.
#[test]
fn shares_are_those_of_decoded_rows() {
    let mut random = Random::new(5, 3);
    for (kind, charts) in [(CodeKind::Chain, 1), (CodeKind::Chain, 3), (CodeKind::Pq8, 2)] {
        let model = model(&mut random, kind, charts, &[3, 0, 7, 2], ANCHORS);
        let mut rows = normals(&mut random, 90, DIM);
        for i in 0..90 {
            let length = dot(rows.row(i), rows.row(i)).sqrt();
            rows.row_mut(i).iter_mut().for_each(|v| *v /= length);
        }
        let codes = encoded(&model, rows.view());
        let encoder = Encoder::of(&model, &|| Ok(())).unwrap();
        let decoded = encoder.decode(&model, &codes);
        let vectors = encoder.anchor_vectors(&model);
        let found = encoder.shares(&model, rows.view(), &codes);
        let reaches = encoder.reaches(&model, rows.view(), &codes.labels);
        assert_eq!((found.len(), reaches.len()), (90, 90));
        for i in 0..90 {
            let share = shares::Share::of(rows.row(i), vectors.row(codes.labels[i] as usize), decoded.row(i));
            assert_eq!((found[i].reach, reaches[i]), (share.reach, share.reach), "row {i}");
            for alpha in [0.0, 0.7, 1.0] {
                let (found, expected) = (found[i].restored(alpha), share.restored(alpha));
                assert!((found.factor / expected.factor - 1.0).abs() < 1e-3, "row {i}: {found:?}, {expected:?}");
                assert!((found.weight / expected.weight - 1.0).abs() < 1e-3, "row {i}: {found:?}, {expected:?}");
            }
        }
    }
}
