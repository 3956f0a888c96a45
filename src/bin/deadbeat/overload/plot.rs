//! How much is done in time of what is asked for: a line for each system.

use super::report::{goodput, headline};
use super::{Run, Settings, System};
use crate::draw::{Axis, GREY, HEAD, Page, PlotFile, WIDTH, frame, head};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

/// Draws those runs, of which there is one.
///
/// # Errors
///
/// The file's.
pub(super) fn draw(
    file: &PlotFile,
    machine: &str,
    settings: &Settings,
    runs: &[Run],
) -> Result<(), Box<dyn Error>> {
    file.draw(&Chart::of(machine, settings, runs))
}

const HEIGHT: u32 = 560;

struct Chart<'a> {
    machine: &'a str,
    setup: String,
    lines: Vec<Line>,
    /// The largest load, in multiples of the capacity.
    most: f64,
    /// The top of the other axis, in percent of the capacity.
    top: f64,
}

/// One system, by ascending load.
struct Line {
    system: System,
    /// What is asked for, in multiples of the capacity, and what is done in time, in percent of it.
    points: Vec<(f64, f64)>,
}

impl<'a> Chart<'a> {
    fn of(machine: &'a str, settings: &Settings, runs: &[Run]) -> Self {
        let lines: Vec<_> = runs
            .chunk_by(|a, b| a.system == b.system)
            .map(|of_system| {
                let point = |run: &Run| (run.offered / settings.capacity(), goodput(settings, run));
                let mut points: Vec<_> = of_system.iter().map(point).collect();
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
                Line { system: of_system[0].system, points }
            })
            .collect();
        let points = || lines.iter().flat_map(|line| &line.points);
        let most = points().map(|&(load, _)| load).fold(0.0, f64::max);
        let best = points().map(|&(_, percent)| percent).fold(100.0, f64::max);
        Self { machine, setup: headline(settings), most, top: (best / 20.0).ceil() * 20.0, lines }
    }
}

impl Page for Chart<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEAD + HEIGHT)
    }

    fn draw<B>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B: DrawingBackend,
        B::ErrorType: 'static,
    {
        let below = head(area, "Overload", &self.setup, self.machine)?;
        let marks = (0..).map(|mark| f64::from(mark) * 20.0);
        let marks = marks.take_while(|&mark| mark <= self.top).collect();
        let mut chart = frame(&below, "what was done in time")
            .build_cartesian_2d(0.0..self.most, Axis::marked(0.0..self.top, marks))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("calls that were made, in multiples of what the server can do")
            .x_label_formatter(&|load| format!("{load:.1}x"))
            .y_desc("calls answered in time, % of what it can do")
            .y_label_formatter(&|percent| format!("{percent:.0} %"))
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 15))
            .draw()?;
        // What nobody can do better than.
        let full = self.most.min(1.0) * 100.0;
        let ideal = [(0.0, 0.0), (self.most.min(1.0), full), (self.most, full)];
        chart.draw_series(LineSeries::new(ideal, GREY.mix(0.5)))?;
        for Line { system, points } in &self.lines {
            let color = color(*system);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(system.name())
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 22, y)], color.stroke_width(3))
                });
            chart.draw_series(points.iter().map(|&at| Circle::new(at, 4, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .margin(10)
            .legend_area_size(28)
            .label_font(("sans-serif", 15))
            .background_style(WHITE.mix(0.85))
            .border_style(GREY.mix(0.5))
            .draw()?;
        Ok(())
    }
}

/// Colours that the colour-blind can tell apart (Okabe and Ito's).
fn color(system: System) -> RGBColor {
    match system {
        System::Tonic => RGBColor(0, 114, 178),
        System::TonicLimit => RGBColor(86, 180, 233),
        System::Deadbeat => RGBColor(213, 94, 0),
        System::DeadbeatNewest => RGBColor(230, 159, 0),
    }
}
