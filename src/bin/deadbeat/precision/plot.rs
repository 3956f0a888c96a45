//! Two charts for each load: how late at which quantile, and how late when.

use super::series::{Series, Summary};
use super::systems::Kind;
use crate::draw::{Axis, GREY, HEAD, Page, PlotFile, WIDTH, frame, head, nines_label, power_label};
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;

/// Draws `all`, of which some series has a sample.
///
/// # Errors
///
/// The file's.
pub(crate) fn draw(
    file: &PlotFile,
    title: &str,
    subtitle: &str,
    all: &[Series],
) -> Result<(), Box<dyn Error>> {
    file.draw(&Chart::of(title, subtitle, all))
}

const ROW: u32 = 480;
/// Columns of the chart over time: in each, a system shows its median and its worst.
const COLUMNS: usize = 400;

/// Everything that is drawn, brought into plain numbers.
struct Chart<'a> {
    title: &'a str,
    subtitle: &'a str,
    rows: Vec<Row>,
    /// Of lateness, as powers of ten of 1 µs.
    decades: Range<f64>,
}

/// The two charts of one load.
struct Row {
    load: String,
    lines: Vec<Line>,
    nines: f64,
    seconds: f64,
}

/// Along an axis, and the power of ten of the lateness there.
type Points = Vec<(f64, f64)>;

/// What one system shows.
struct Line {
    name: &'static str,
    color: RGBColor,
    /// What hardly a sample is below: where the axis may begin.
    low: f64,
    /// By nines, ascending.
    quantiles: Points,
    /// By seconds.
    medians: Points,
    worst: Points,
}

impl<'a> Chart<'a> {
    fn of(title: &'a str, subtitle: &'a str, all: &[Series]) -> Self {
        let rows: Vec<Row> = all
            .chunk_by(|a, b| a.load == b.load)
            .filter(|of_load| of_load.iter().any(|series| !series.samples.is_empty()))
            .map(Row::of)
            .collect();
        let lines = || rows.iter().flat_map(|row| &row.lines);
        let low = lines().map(|line| line.low).fold(f64::MAX, f64::min).floor();
        let high = lines()
            .flat_map(|line| line.quantiles.last())
            .map(|&(_, worst)| worst)
            .fold(f64::MIN, f64::max);
        // At least one decade, or there is no axis.
        let decades = low..high.ceil().max(low + 1.0);
        Self { title, subtitle, rows, decades }
    }
}

impl Page for Chart<'_> {
    fn size(&self) -> (u32, u32) {
        let rows = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        (WIDTH, HEAD.saturating_add(ROW.saturating_mul(rows)))
    }

    fn draw<B>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B: DrawingBackend,
        B::ErrorType: 'static,
    {
        let charts = head(area, "Task lateness", self.subtitle, self.title)?;
        for (row, area) in self.rows.iter().zip(charts.split_evenly((self.rows.len(), 1))) {
            let (left, right) = area.split_horizontally(WIDTH / 2);
            self.draw_quantiles(row, &left)?;
            self.draw_over_time(row, &right)?;
        }
        Ok(())
    }
}

impl Chart<'_> {
    fn draw_quantiles<B>(
        &self,
        row: &Row,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), Box<dyn Error>>
    where
        B: DrawingBackend,
        B::ErrorType: 'static,
    {
        let mut chart = frame(area, &format!("load {}: by quantile", row.load))
            .build_cartesian_2d(Axis::nines(row.nines), Axis::decades(self.decades.clone()))?;
        mesh(&mut chart)
            .x_desc("share of tasks that were no later, spaced by 1/(1 - p)")
            .x_label_formatter(&nines_label)
            .draw()?;
        for Line { name, color, quantiles, .. } in &row.lines {
            let color = *color;
            chart
                .draw_series(LineSeries::new(quantiles.iter().copied(), color.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 22, y)], color.stroke_width(3))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .margin(10)
            .legend_area_size(28)
            .label_font(("sans-serif", 15))
            .background_style(WHITE.mix(0.85))
            .border_style(GREY.mix(0.5))
            .draw()?;
        Ok(())
    }

    fn draw_over_time<B>(
        &self,
        row: &Row,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), Box<dyn Error>>
    where
        B: DrawingBackend,
        B::ErrorType: 'static,
    {
        let caption = format!("load {}: over time, dark worst, light median", row.load);
        let mut chart = frame(area, &caption)
            .build_cartesian_2d(0.0..row.seconds, Axis::decades(self.decades.clone()))?;
        mesh(&mut chart).x_desc("deadline, s since the start").draw()?;
        for Line { color, medians, worst, .. } in &row.lines {
            for (points, radius, opacity) in [(worst, 3, 1.0), (medians, 2, 0.45)] {
                let style = color.mix(opacity).filled();
                chart.draw_series(points.iter().map(|&at| Circle::new(at, radius, style)))?;
            }
        }
        Ok(())
    }
}

/// The lines and labels of a chart of lateness.
fn mesh<'a, 'b, B, X>(
    chart: &'b mut ChartContext<'a, B, Cartesian2d<X, Axis>>,
) -> MeshStyle<'a, 'b, X, Axis, B>
where
    B: DrawingBackend,
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .y_desc("lateness, µs")
        .y_label_formatter(&power_label)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15));
    mesh
}

impl Row {
    fn of(of_load: &[Series]) -> Self {
        let seconds = of_load
            .iter()
            .flat_map(|series| &series.samples)
            .map(|sample| sample.deadline.as_secs_f64())
            .fold(f64::MIN_POSITIVE, f64::max);
        let lines: Vec<_> = of_load.iter().filter_map(|series| Line::of(series, seconds)).collect();
        let nines = lines
            .iter()
            .filter_map(|line| line.quantiles.last())
            .map(|&(nines, _)| nines)
            .fold(1.0, f64::max);
        Self { load: of_load[0].load.to_string(), lines, nines, seconds }
    }
}

impl Line {
    fn of(series: &Series, seconds: f64) -> Option<Self> {
        let summary = series.summary()?;
        let (medians, worst) = over_time(series, seconds);
        Some(Self {
            name: series.kind.name(),
            color: color(series.kind),
            low: log_us(summary.quantile_us(0.01)),
            quantiles: quantiles(&summary),
            medians,
            worst,
        })
    }
}

/// Quantiles, evenly spaced in nines, up to the worst of all.
fn quantiles(summary: &Summary) -> Points {
    const STEPS: u32 = 240;
    let last = (summary.n as f64).log10();
    (0..=STEPS)
        .map(|step| {
            let nines = last * f64::from(step) / f64::from(STEPS);
            (nines, log_us(summary.quantile_us(1.0 - 10_f64.powf(-nines))))
        })
        .chain([(last, log_us(summary.max_us()))])
        .collect()
}

/// Median and worst of each column of time that has samples.
fn over_time(series: &Series, seconds: f64) -> (Points, Points) {
    let mut columns = vec![Vec::new(); COLUMNS];
    let width = seconds / COLUMNS as f64;
    for sample in &series.samples {
        #[expect(clippy::cast_possible_truncation, reason = "the column of a time is its floor")]
        let column = (sample.deadline.as_secs_f64() / width) as usize;
        columns[column.min(COLUMNS - 1)].push(sample.lateness_ns);
    }
    let points = columns.into_iter().enumerate().filter_map(|(column, mut lateness_ns)| {
        lateness_ns.sort_unstable();
        let worst = *lateness_ns.last()?;
        let median = lateness_ns[lateness_ns.len() / 2];
        let at = (column as f64 + 0.5) * width;
        Some(((at, log_us(median as f64 / 1e3)), (at, log_us(worst as f64 / 1e3))))
    });
    points.unzip()
}

/// The power of ten of a lateness in µs; what is early is drawn as 10 ns late.
fn log_us(lateness_us: f64) -> f64 {
    lateness_us.max(0.01).log10()
}

/// Colours that the colour-blind can tell apart (Okabe and Ito's).
fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Deadbeat => RGBColor(213, 94, 0),
        Kind::DeadbeatSpin => RGBColor(230, 159, 0),
        Kind::Tokio => RGBColor(0, 114, 178),
        #[cfg(tokio_unstable)]
        Kind::TokioAlt => RGBColor(86, 180, 233),
        Kind::AsyncIo => RGBColor(204, 121, 167),
        Kind::StdThread => RGBColor(150, 140, 30),
        Kind::Kernel => RGBColor(0, 0, 0),
        Kind::KernelWake => RGBColor(0, 158, 115),
    }
}
