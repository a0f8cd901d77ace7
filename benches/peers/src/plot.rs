//! The plot: speed-up over the sequential loop against the cost of an item, one line a way.

use crate::report::Report;
use crate::rivals::Way;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

fn colour(way: Way) -> RGBColor {
    match way {
        Way::Loop => RGBColor(120, 120, 120),
        Way::Split => RGBColor(0, 0, 0),
        Way::Fanfold => RGBColor(214, 39, 40),
        Way::FanfoldFor => RGBColor(255, 152, 150),
        Way::Bridge => RGBColor(31, 119, 180),
        Way::Chunks => RGBColor(23, 190, 207),
        Way::Orx => RGBColor(44, 160, 44),
        Way::Paralight => RGBColor(188, 189, 34),
        Way::Pariter => RGBColor(148, 103, 189),
        Way::Plmap => RGBColor(227, 119, 194),
        Way::Tokio => RGBColor(255, 127, 14),
        Way::Channels => RGBColor(140, 86, 75),
    }
}

/// How a cost is written below the axis.
fn label(nanos: &f64) -> String {
    match *nanos {
        nanos if nanos >= 1e3 => format!("{} µs", nanos / 1e3),
        nanos => format!("{nanos} ns"),
    }
}

/// Writes an SVG.
pub fn draw(report: &Report, path: &Path) -> Result<(), Box<dyn Error>> {
    let nanos = || report.costs.iter().map(|(nanos, _)| *nanos);
    let least = nanos().fold(f64::INFINITY, f64::min);
    let most = nanos().fold(0.0, f64::max);
    let high = report.costs.iter().flat_map(|(_, all)| all);
    let high = high.fold(2.0_f64, |high, (_, speedup)| high.max(*speedup));

    let root = SVGBackend::new(path, (860, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Speed-up over the sequential loop, n = 2",
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(48)
        .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..high * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("cost of an item (log scale)")
        .y_desc("speed-up")
        .x_label_formatter(&label)
        .y_label_formatter(&|speedup| format!("{speedup:.1}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for way in Way::ALL {
        let points = report.costs.iter().filter_map(|(nanos, all)| {
            let found = all.iter().find(|(each, _)| *each == way);
            found.map(|(_, speedup)| (*nanos, *speedup))
        });
        let wide = if way == Way::Fanfold { 4 } else { 2 };
        let style = colour(way).stroke_width(wide);
        chart
            .draw_series(LineSeries::new(points, style).point_size(wide))?
            .label(way.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .legend_area_size(28)
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}
