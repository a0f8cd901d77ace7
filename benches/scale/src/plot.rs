//! The plot: efficiency against the number of cores, a panel for each source, a line for each item.

use crate::report::time;
use crate::rows::{CHANGES, CORES, ITEMS, SOURCES, ask};
use crate::sim::Change;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

/// A colour for each item.
const COLOURS: [RGBColor; ITEMS.len()] = [
    RGBColor(148, 103, 189),
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(214, 39, 40),
];

/// Writes an SVG.
pub fn draw(path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (1080, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(
        "Simulated: efficiency as built (solid), and with short pulls and a queue for the source (faint)",
        ("sans-serif", 17),
    )?;
    for (panel, source) in root.split_evenly((1, SOURCES.len())).iter().zip(SOURCES) {
        draw_panel(panel, source)?;
    }
    root.present()?;
    Ok(())
}

/// One panel: a source.
fn draw_panel(
    panel: &DrawingArea<SVGBackend<'_>, Shift>,
    source: f64,
) -> Result<(), Box<dyn Error>> {
    let cores = CORES.map(|cores| cores as f64);
    let mut chart = ChartBuilder::on(panel)
        .caption(
            format!("source: {} an item", time(source)),
            ("sans-serif", 15),
        )
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(44)
        .build_cartesian_2d(
            (cores[0]..cores[cores.len() - 1]).log_scale().base(2.0),
            0.0..1.05,
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("cores")
        .y_desc("speed-up / cores")
        .x_label_formatter(&|cores| format!("{cores:.0}"))
        .y_label_formatter(&|share| format!("{share:.1}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (item, colour) in ITEMS.into_iter().zip(COLOURS) {
        for (change, style) in [
            (CHANGES[3].1, colour.mix(0.3).stroke_width(2)),
            (CHANGES[0].1, colour.stroke_width(3)),
        ] {
            let points = CORES.map(|cores| {
                let speed_up = ask(item, source, cores, change).speed_up;
                (cores as f64, speed_up / cores as f64)
            });
            let line = chart.draw_series(LineSeries::new(points, style).point_size(2))?;
            if change == Change::default() {
                line.label(time(item))
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
            }
        }
    }
    if source != SOURCES[0] {
        return Ok(()); // the legend of the first panel is for all
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.85))
        .legend_area_size(28)
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(())
}
