//! The pictures: items a second against the width or the bound, each point in the colour of its verdict.

use crate::plants::{Plant, Point, Sizes};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::path::Path;

const GREY: RGBColor = RGBColor(120, 120, 120);
/// The same for all pictures, so that they can be compared.
const RATES: std::ops::Range<f64> = 100.0..20_000.0;

fn colour(label: &str) -> RGBColor {
    match label {
        "source" => RGBColor(31, 119, 180),
        "workers" => RGBColor(44, 160, 44),
        "workers, CPU-bound" => RGBColor(214, 39, 40),
        "head" => RGBColor(148, 103, 189),
        "consumer" => RGBColor(225, 100, 0),
        _ => RGBColor(90, 90, 90),
    }
}

/// Writes an SVG.
pub fn draw(plant: &Plant, points: &[Point], path: &Path) -> Result<(), Box<dyn Error>> {
    let (axis, sizes) = match plant.varies() {
        Sizes::Widths(_) => (
            "workers (n)",
            points.iter().map(|point| point.width).collect(),
        ),
        Sizes::Bounds(_) => {
            let bounds: Vec<_> = points.iter().filter_map(|point| point.bound).collect();
            ("bound: in_flight, in items", bounds)
        }
    };
    let places: Vec<_> = sizes
        .iter()
        .zip(points)
        .map(|(size, point)| {
            (
                *size as f64,
                point.interval.rate().clamp(RATES.start, RATES.end),
            )
        })
        .collect();
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return Ok(());
    };

    let root = SVGBackend::new(path, (800, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(plant.title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(50)
        .y_label_area_size(76)
        .build_cartesian_2d(
            (first.0 / 1.3..last.0 * 1.3).log_scale().base(2.0),
            RATES.log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(axis)
        .y_desc("items a second")
        .x_label_formatter(&|size| thousands(*size))
        .y_label_formatter(&|rate| thousands(*rate))
        .label_style(("sans-serif", 16))
        .axis_desc_style(("sans-serif", 17))
        .draw()?;
    if let Sizes::Widths(_) = plant.varies() {
        let most = (RATES.end / first.1).min(last.0);
        let ends = [*first, (most, first.1 * most)];
        chart.draw_series(LineSeries::new(ends, GREY.stroke_width(1)))?;
        let style = ("sans-serif", 15).into_font().color(&GREY);
        let style = style.pos(Pos::new(HPos::Right, VPos::Bottom));
        let place = (most / 1.5, first.1 * most / 1.5);
        let text = EmptyElement::at(place) + Text::new("one worker's rate × n", (-12, -6), style);
        chart.draw_series([text])?;
    }
    chart.draw_series(LineSeries::new(
        places.iter().copied(),
        BLACK.stroke_width(2),
    ))?;
    let dots = places.iter().zip(points);
    chart.draw_series(
        dots.map(|(place, point)| Circle::new(*place, 6, colour(point.label()).filled())),
    )?;

    // The verdict once for each run of points that have the same one; to the right of and below a line that rises.
    let mut start = 0;
    for run in points.chunk_by(|a, b| a.label() == b.label()) {
        let label = run[0].label();
        let middle = places[start + (run.len() - 1) / 2];
        start += run.len();
        let style = ("sans-serif", 18).into_font().color(&colour(label));
        let style = style.pos(Pos::new(HPos::Left, VPos::Top));
        let text = EmptyElement::at(middle) + Text::new(label, (-6, 14), style);
        chart.draw_series([text])?;
    }
    root.present()?;
    Ok(())
}

/// With a comma.
fn thousands(number: f64) -> String {
    match number.round() as u64 {
        number if number >= 1000 => format!("{},{:03}", number / 1000, number % 1000),
        number => number.to_string(),
    }
}
