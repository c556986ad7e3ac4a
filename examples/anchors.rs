//! Finds anchors for the vectors of a file and prints what they cost, as one line of JSON.
//!
//!     cargo run --release --example anchors -- rows.npy --anchors 256 --iterations 25 --seed 1
//!
//! Rows are taken as they stand. `benches/kmeans.py` compares the energy with FAISS.

use std::{error::Error, str::FromStr, time::Instant};

use vlc::{
    AnnealingConfig, Backend,
    read::{VectorFile, read_all, write_npy_f32},
};

const USAGE: &str = "usage: anchors ROWS [--anchors N] [--iterations N] [--seed N] [--temperature X] [--cooling X] \
                     [--learning-rate X] [--trim X] [--tolerance X] [--output ANCHORS.npy]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or(USAGE)?;
    let (mut output, mut seed) = (None, 1);
    let mut config = AnnealingConfig { anchors: Some(256), ..Default::default() };
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        match name.as_str() {
            "--anchors" => config.anchors = Some(parse(&name, &value)?),
            "--iterations" => config.iterations = parse(&name, &value)?,
            "--seed" => seed = parse(&name, &value)?,
            "--temperature" => config.temperature = parse(&name, &value)?,
            "--cooling" => config.cooling = parse(&name, &value)?,
            "--learning-rate" => config.learning_rate = parse(&name, &value)?,
            "--trim" => config.trim = parse(&name, &value)?,
            "--tolerance" => config.tolerance = parse(&name, &value)?,
            "--output" => output = Some(value),
            _ => return Err(format!("{name} is unknown\n{USAGE}").into()),
        }
    }

    let rows = read_all(&VectorFile::open(&path)?)?;
    let start = Instant::now();
    let (anchors, assigned) = vlc::measure::anneal(rows.view(), &config, seed, Backend::Cpu)?;
    let seconds = start.elapsed().as_secs_f64();

    if let Some(output) = output {
        write_npy_f32(output, anchors.anchors())?;
    }
    let mut sizes = vec![0u32; anchors.anchors().rows()];
    assigned.nearest().for_each(|anchor| sizes[anchor as usize] += 1);
    println!(
        "{{\"rows\":{},\"anchors\":{},\"empty\":{},\"energy\":{},\"seconds\":{seconds:.3}}}",
        rows.rows(),
        sizes.len(),
        sizes.iter().filter(|&&size| size == 0).count(),
        anchors.energy(),
    );
    Ok(())
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} {value}: not a number of the right kind\n{USAGE}"))
}
