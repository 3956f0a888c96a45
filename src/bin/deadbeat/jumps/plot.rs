//! When each timer fired, against when it was due: a panel for each fault, a lane for each system.
//!
//! Timers that keep time make a slope; those that fire at one moment a wall, and those that wait for
//! nothing a gap.

use super::Row;
use super::log::Plan;
use super::report::headline;
use super::scenario::Seen;
use super::systems::System;
use crate::draw::{Axis, GREY, HEAD, Page, PlotFile, WIDTH, frame, head};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

/// Draws those rows, each of which has a system.
///
/// # Errors
///
/// The file's.
pub(super) fn draw(
    file: &PlotFile,
    machine: &str,
    plan: Plan,
    rows: &[&Row],
) -> Result<(), Box<dyn Error>> {
    file.draw(&Chart { machine, plan, panels: rows.iter().map(|row| Panel::of(row)).collect() })
}

const LANE: u32 = 90;
/// What a panel needs besides its lanes.
const MARGINS: u32 = 100;

struct Chart<'a> {
    machine: &'a str,
    plan: Plan,
    panels: Vec<Panel<'a>>,
}

struct Panel<'a> {
    caption: String,
    lanes: Vec<(System, &'a Seen)>,
    /// From the fault on, in seconds.
    from: f64,
    to: f64,
}

impl<'a> Panel<'a> {
    fn of(row: &'a Row) -> Self {
        let with_timers = row.systems.iter().filter(|(system, _)| system.has_timers());
        let lanes: Vec<_> = with_timers.map(|(system, seen)| (*system, seen)).collect();
        let times = || {
            lanes.iter().flat_map(|(_, seen)| {
                seen.fires_us.iter().map(|(_, fired_us)| seconds(fired_us - seen.fault_us))
            })
        };
        Self {
            caption: format!("{}: {}", row.fault.name(), row.fault.injected()),
            from: times().fold(0.0, f64::min) - 0.02,
            to: times().fold(0.1, f64::max) + 0.02,
            lanes,
        }
    }

    fn height(&self) -> u32 {
        LANE * u32::try_from(self.lanes.len()).unwrap_or(u32::MAX) + MARGINS
    }

    fn draw<B>(&self, plan: &Plan, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B: DrawingBackend,
        B::ErrorType: 'static,
    {
        let lanes = self.lanes.len() as f64;
        let middles = (0..self.lanes.len()).map(|lane| lane as f64 + 0.5).collect();
        let mut chart = frame(area, &self.caption)
            .y_label_area_size(96)
            .build_cartesian_2d(self.from..self.to, Axis::marked(0.0..lanes, middles))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(
                "fired, s of true time since the fault; in each lane, those due later are higher",
            )
            .y_label_formatter(&|middle| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the number of a lane is the floor of its middle"
                )]
                let lane = self.lanes.len() - 1 - middle.floor().max(0.0) as usize;
                self.lanes[lane].0.name().into()
            })
            .x_label_formatter(&|seconds| format!("{seconds:.1}"))
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 15))
            .draw()?;
        let fault = [(0.0, 0.0), (0.0, lanes)];
        chart.draw_series(LineSeries::new(fault, GREY.stroke_width(2)))?;
        for (lane, (system, seen)) in self.lanes.iter().rev().enumerate() {
            let style = color(*system).filled();
            let (first, last) = (plan.first.as_secs_f64(), plan.last.as_secs_f64());
            chart.draw_series(seen.fires_us.iter().map(|(due_us, fired_us)| {
                let share = (seconds(*due_us) - first) / (last - first);
                let height = lane as f64 + 0.1 + 0.8 * share;
                Circle::new((seconds(fired_us - seen.fault_us), height), 1, style)
            }))?;
            if lane > 0 {
                let below = [(self.from, lane as f64), (self.to, lane as f64)];
                chart.draw_series(LineSeries::new(below, GREY.mix(0.3)))?;
            }
        }
        Ok(())
    }
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

impl Page for Chart<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEAD + self.panels.iter().map(Panel::height).sum::<u32>())
    }

    fn draw<B>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B: DrawingBackend,
        B::ErrorType: 'static,
    {
        let mut rest = head(area, "Clock jumps", &headline(&self.plan, 1), self.machine)?;
        for panel in &self.panels {
            let (here, below) = rest.split_vertically(panel.height());
            panel.draw(&self.plan, &here)?;
            rest = below;
        }
        Ok(())
    }
}

/// Colours that the colour-blind can tell apart (Okabe and Ito's).
fn color(system: System) -> RGBColor {
    match system {
        System::Deadbeat => RGBColor(213, 94, 0),
        System::Tokio => RGBColor(0, 114, 178),
        System::DelayQueue => RGBColor(86, 180, 233),
        System::StdSleep => RGBColor(150, 140, 30),
        System::StdPark => RGBColor(0, 158, 115),
        System::Quanta => RGBColor(204, 121, 167),
    }
}
