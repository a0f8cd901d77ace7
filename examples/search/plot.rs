//! The plot: the latency at each percentile of the queries, one line a run.

use crate::report::Run;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

/// How many points a line has.
const POINTS: u32 = 400;

/// Draws an SVG. The axis below is logarithmic in what is left above a percentile: from 90 to 99 %
/// it is as far as from 99 to 99.9 %.
pub(crate) fn svg(without: &Run, with: &Run) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (860, 540)).into_drawing_area();
    draw(without, with, &area)?;
    drop(area);
    Ok(svg)
}

fn draw(
    without: &Run,
    with: &Run,
    area: &DrawingArea<SVGBackend<'_>, Shift>,
) -> Result<(), Box<dyn Error>> {
    let last = with.latency.len().max(2) as f64;
    let high = without.millis(1.0).max(with.millis(1.0));
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption("Latency of a query", ("sans-serif", 20))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..last).log_scale(), 0.0..high * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("percentile of the queries")
        .y_desc("milliseconds")
        .x_label_formatter(&|one_in| percentile(*one_in))
        .y_label_formatter(&|millis| format!("{millis:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (run, name, colour) in [
        (without, "without hedging", RGBColor(120, 120, 120)),
        (with, "with hedging", RGBColor(214, 39, 40)),
    ] {
        let points = (0..=POINTS).map(|point| {
            let one_in = last.powf(f64::from(point) / f64::from(POINTS));
            (one_in, run.millis(1.0 - 1.0 / one_in))
        });
        let style = colour.stroke_width(3);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .legend_area_size(28)
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}

/// Below the axis: of 1,000 queries one is above the 99.9th percentile.
fn percentile(one_in: f64) -> String {
    let percent = 100.0 - 100.0 / one_in;
    format!("{} %", (percent * 1e6).round() / 1e6)
}
